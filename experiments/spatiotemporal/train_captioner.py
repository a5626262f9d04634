"""Trains the captioner that ships with the package, on drawn clips with sentences about them.

    python -m experiments.spatiotemporal.train_captioner --output runs/compact_captioner
    python -m experiments.spatiotemporal.train_captioner --smoke --output /tmp/smoke

First the CNN, on single frames: which figures in which colours there are is read from its maxima
over positions, and where each colour is from its map of positions; both readers are thrown away.
Then, on the mean of features of the CNN as it is, both LSTMs and the words, to say the next word
of a true sentence: sentences do not say where or when. Training is on seed 1; held out is seed 0,
from which evaluations draw. Stopped at any moment, the same command goes on.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import load_file, save_file

from experiments.spatiotemporal.drawn_sentences import (
    DRAWN,
    KINDS,
    LENGTH,
    OF_FRAMES,
    draw,
    draw_once,
    read_frame,
    read_sentence,
)
from experiments.spatiotemporal.train_moving_scenes import normalise, unpack
from experiments.training import loop
from experiments.training.placement import gather, make_mesh
from experiments.training.sources import Resident
from jaxground import models
from jaxground.data.figures import FIGURES
from jaxground.data.scenes import COLOURS
from jaxground.models.compact_captioner import CompactCaptioner

SEED, HELD_OUT_SEED = 1, 0
PLACES = 4 * len(COLOURS)  # centre and size of the figure in each colour
BATCH, PEAK = 64, 3e-3


def make_network(weights: dict) -> CompactCaptioner:
    """Returns the network with weights by name."""
    graph, state = nnx.split(nnx.eval_shape(lambda: CompactCaptioner(rngs=nnx.Rngs(0))))
    filled = [
        (path, each.replace(weights[".".join(map(str, path))]))
        for path, each in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def initial_weights() -> dict:
    """Returns weights by name: of three convolutions and fc those of compact_lrcn, else random.

    The published fillers are for LSTMs ten times as wide.
    """
    weights = unpack(nnx.state(CompactCaptioner(rngs=nnx.Rngs(0))))
    glorot = nnx.initializers.glorot_uniform()
    for number, (name, value) in enumerate(sorted(weights.items())):
        if name.startswith(("sight.", "words.")) and value.ndim == 2:
            weights[name] = glorot(jax.random.key(number), value.shape)
    for layer in ("sight", "words"):
        keep = weights[f"{layer}.bias"].reshape(4, -1).at[1].set(1)  # remembers from the start
        weights[f"{layer}.bias"] = keep.reshape(-1)
    seen = load_file(models.weights_file("compact_lrcn", "embedded"))
    weights |= {name: value for name, value in seen.items() if name in weights and "cnn" in name}
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


def make_readers() -> dict:
    """Returns random weights of what reads the CNN's features while it is trained, by name."""
    normal = nnx.initializers.normal(0.05)
    wanted = {
        "reader.names": (48, KINDS + len(COLOURS) + len(FIGURES)),
        "reader.places": (64, PLACES),
    }
    return {
        f"{name}.{part}": np.asarray(normal(jax.random.key(0), size) if part == "kernel" else
                                     np.zeros(size[1:]), np.float32)
        for name, size in wanted.items() for part in ("kernel", "bias")
    }  # fmt: skip


def make_frame_step(optimiser, frozen: dict):
    """Returns the training step of the CNN for `loop.make_program`: a frame of each clip."""

    def step(state, frames, figures):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        rows = jnp.arange(len(frames))
        when = jax.random.randint(key, (len(frames),), 0, frames.shape[1])
        frames = normalise(frames[rows, when])
        names, places, known = jax.vmap(read_frame)(figures[rows, when])

        def measure(weights):
            features = make_network(weights | frozen).features(frames)
            where, what = features[:, :64], features[:, 64:]
            logits = what @ weights["reader.names.kernel"] + weights["reader.names.bias"]
            found = where @ weights["reader.places.kernel"] + weights["reader.places.bias"]
            away = jnp.abs(found.reshape(places.shape) - places).mean(-1)
            losses = optax.sigmoid_binary_cross_entropy(logits, names)
            right = (logits[:, :KINDS] > 0) == (names[:, :KINDS] > 0)
            away = jnp.where(known, away, 0).sum() / known.sum()
            return losses.sum(1).mean() + 30 * away, (away, right.all(1).mean())

        (loss, (away, right)), gradient = jax.value_and_grad(measure, has_aux=True)(state.weights)
        return loop.updated(state, optimiser, gradient), {
            "loss": loss,
            "away": away,
            "names": right,
        }

    return step


def make_sentence_step(optimiser, frozen: dict):
    """Returns the training step of the LSTMs and the words, on features of the frozen CNN."""

    def step(state, features, words):
        def measure(weights):
            model = make_network(weights | frozen)
            logits = model.decode(features[:, None], model.embed(words))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, words)
            said = jnp.cumsum(words == 0, 1) <= 1  # the first 0 is the end of the sentence
            right = (logits.argmax(-1) == words) | ~said
            return (losses * said).sum() / said.sum(), right.all(1).mean()

        (loss, right), gradient = jax.value_and_grad(measure, has_aux=True)(state.weights)
        return loop.updated(state, optimiser, gradient), {"loss": loss, "sentences": right}

    return step


def make_measure(features, words):
    """Returns a function from weights to what of the sentences said is true, in percent."""
    write = jax.jit(lambda weights, rows: models.greedy_words(make_network(weights), rows, LENGTH))
    truth = [read_sentence(row) for row in words]

    def measure(weights) -> dict[str, float]:
        parts = [write(weights, features[i : i + DRAWN, None])
                 for i in range(0, len(features), DRAWN)]  # fmt: skip
        said = [read_sentence(row) for row in np.concatenate(parts)]
        pairs = list(zip(said, truth, strict=True))
        right = {name: [a[name] == b[name] for a, b in pairs] for name in truth[0]}
        right["all"] = [a == b for a, b in pairs]
        return {name: 100 * float(np.mean(values)) for name, values in right.items()}

    return measure


def read_features(weights, frames: np.ndarray) -> np.ndarray:
    """Returns mean features `float32[n, 112]` of clips `uint8[n, time, 32, 32, 3]`."""
    read = jax.jit(lambda frames: make_network(weights).video_features(normalise(frames)).mean(1))
    parts = [read(frames[i : i + DRAWN]) for i in range(0, len(frames), DRAWN)]
    return np.concatenate(parts)


def train(name, make_step, weights, source, folder, *, steps, evaluate, every) -> dict:
    """Returns trained weights by name: one stage, which goes on where it stopped."""
    mesh = make_mesh(1, BATCH)
    rate = optax.cosine_onecycle_schedule(steps, PEAK, pct_start=0.1)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def recorded(state):
        found = evaluate(jax.tree.map(lambda x: x[0], gather(state.weights, mesh)))
        print(name, int(state.step[0]), {k: round(v, 1) for k, v in found.items()}, flush=True)
        return {key: np.array([value]) for key, value in found.items()}

    state = loop.train(
        loop.make_program(make_step(optimiser), source, mesh),
        loop.start([weights], optimiser, [SEED], [np.float32(0)], mesh),
        source,
        folder / name,
        steps=steps,
        dispatch=1,  # on a CPU steps are unrolled, and longer to compile
        every=every,
        names=[name],
        evaluate=recorded,
    )
    return jax.tree.map(lambda x: x[0], gather(state.weights, mesh))


def main() -> None:
    """Parses the command line, trains in two stages, and writes the weights in float16."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--frame-steps", type=int, default=2500, help="of the CNN")
    parser.add_argument("--steps", type=int, default=2000, help="of the LSTMs")
    parser.add_argument("--smoke", action="store_true", help="4 steps of each on 100 clips")
    options = parser.parse_args()
    smoke, folder = options.smoke, options.output
    count, held = (100, 100) if smoke else (options.clips, 400)
    folder.mkdir(parents=True, exist_ok=True)
    mesh, weights = make_mesh(1, BATCH), initial_weights()
    cnn = {name: value for name, value in weights.items() if name.startswith("cnn.")}
    rest = {name: value for name, value in weights.items() if name not in cnn}

    def resident(*arrays):
        return Resident(*arrays, batch=BATCH, seeds=[SEED], mesh=mesh)

    frames, figures, _ = draw_once(folder / "frame_clips", count, SEED, scenes=OF_FRAMES)
    trained = train(
        "frames",
        lambda optimiser: make_frame_step(optimiser, rest),
        cnn | make_readers(),
        resident(frames, figures),
        folder,
        steps=4 if smoke else options.frame_steps,
        every=2 if smoke else 250,
        evaluate=lambda weights: {},
    )
    cnn = {name: trained[name] for name in cnn}
    frames, _, words = draw_once(folder / "clips", count, SEED)
    features = folder / "features.npy"
    if not features.exists():
        np.save(features, read_features(cnn | rest, frames))
    held_frames, _, held_words = draw_once(folder / "held_out", held, HELD_OUT_SEED)
    measure = make_measure(read_features(cnn | rest, held_frames), held_words)
    trained = train(
        "sentences",
        lambda optimiser: make_sentence_step(optimiser, cnn),
        rest,
        resident(np.load(features), words),
        folder,
        steps=4 if smoke else options.steps,
        every=2 if smoke else 250,
        evaluate=lambda weights: measure(weights | cnn),
    )
    halves = {name: np.asarray(value, np.float16) for name, value in (cnn | trained).items()}
    save_file(halves, folder / "compact_captioner.safetensors")
    rounded = {name: np.float32(value) for name, value in halves.items()}
    frames, _, words = draw(100 if smoke else 1000, HELD_OUT_SEED, first=400)
    print(json.dumps(make_measure(read_features(rounded, frames), words)(rounded)))


if __name__ == "__main__":
    main()
