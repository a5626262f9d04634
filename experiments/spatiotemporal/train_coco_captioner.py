"""Trains captioners of photographs on little: 197 images of `coco_mini`, 24,238 other captions.

    python -m experiments.spatiotemporal.train_coco_captioner --output runs/coco_captioner
    python -m experiments.spatiotemporal.train_coco_captioner --smoke --output /tmp/smoke

The factored two-layer captioner on the mean of frozen features of the trained SqueezeNet (fire9).
First it learns language, from captions whose images are not there: it sees nothing but zeros. Then
five of them, in one program, learn to see: of five parts of the images each leaves out one for
the table and one to choose by, and every second caption has no image still. Rates and steps were
chosen by the parts to choose by: captions about as likely as blindly, and likelier than with those
of another image.
"""

import argparse
import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import save_file

from experiments.spatiotemporal import coco_captions
from experiments.spatiotemporal.train_moving_scenes import unpack
from experiments.training import loop
from experiments.training.placement import gather, make_mesh
from experiments.training.sources import Resident
from jaxground import models
from jaxground.core import tap

DATA = Path(os.environ.get("JAXGROUND_DATA", Path(__file__).parents[3] / "shared/data"))
TAP, WIDTH, SIZE = "fire9", 512, 128
PARTS, BATCH = 5, 64
PEAKS = {"language": 3e-3, "sight": 3e-4}
BLIND = -1  # the part of captions without an image
DROPPED = 0.5  # of the features, while it learns to see
DECAY = 1e-3


def make_captioner(cnn, vocabulary: int) -> models.MeanPoolCaptioner:
    """Returns the network, its words drawn at random."""
    return models.MeanPoolCaptioner(
        cnn, TAP, vocabulary, embedding=SIZE, units=SIZE, rngs=nnx.Rngs(0)
    )


def load_cnn():
    """Returns the trained SqueezeNet."""
    return models.create("squeezenet1_1", DATA / "weights" / "squeezenet1_1.safetensors")


def initial_weights(vocabulary: int) -> dict:
    """Returns random weights of all but the CNN, by name."""
    model = make_captioner(_blank, vocabulary)
    weights = unpack(nnx.state(model))
    kept = {name: value for name, value in weights.items() if not name.startswith("cnn.")}
    for layer in ("words", "sight"):
        gates = kept[f"{layer}.bias"].reshape(4, -1).at[1].set(1)  # remembers from the start
        kept[f"{layer}.bias"] = gates.reshape(-1)
    kept["sight.static_kernel"] *= 0  # it begins to see from what it says blindly
    return {name: np.asarray(value) for name, value in kept.items()}


def make_network(weights: dict, cnn=None) -> models.MeanPoolCaptioner:
    """Returns the network with weights by name, and a CNN where it is to see."""
    count = weights["classifier.bias"].shape[0]
    model = nnx.eval_shape(lambda: make_captioner(_blank, count))
    if cnn is not None:
        model.cnn = nnx.data(cnn)
    for path, value in weights.items():
        *owners, name = path.split(".")
        setattr(functools.reduce(getattr, owners, model), name, nnx.Param(jnp.asarray(value)))
    return model


def _blank(frames):
    """Stands for the CNN where features are given: it has their width."""
    return tap(jnp.broadcast_to(frames.mean((1, 2, 3))[:, None], (len(frames), WIDTH)), TAP)


def losses(weights: dict, features, words) -> tuple:
    """Returns the loss of each caption in nats, and how many words it has with its end."""
    model = make_network(weights)
    logits = model.decode(features[:, None], model.embed(words))
    each = optax.softmax_cross_entropy_with_integer_labels(logits, words)
    said = jnp.cumsum(words == 0, 1) <= 1
    return (each * said).sum(1), said.sum(1)


def make_step(optimiser, *, seeing: bool):
    """Returns the training step for `loop.make_program`; a run's setting is its part."""

    def step(state, features, labels):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        words, part = labels[:, :-1], labels[:, -1]
        seen = jax.random.bernoulli(key, 1 - DROPPED, features.shape) / (1 - DROPPED)
        features = features.astype(jnp.float32) * seen
        out = (part == state.setting) | (part == (state.setting + 1) % PARTS)
        used = jnp.where(out, 0, 1) if seeing else jnp.ones(len(words))

        def measure(weights):
            loss, count = losses(weights, features, words)
            return (loss * used).sum() / (count * used).sum()

        loss, gradient = jax.value_and_grad(measure)(state.weights)
        return loop.updated(state, optimiser, gradient), {"loss": loss}

    return step


def read_features(images) -> np.ndarray:
    """Returns `float16[n, 2, 512]`, of each image as it is and mirrored."""
    cnn = load_cnn()
    model = make_captioner(cnn, 2)
    read = jax.jit(model.features)
    rows = []
    for image in images:
        pixels = coco_captions.read_pixels(image)
        rows.append(read(np.stack([cnn.preprocess(x) for x in (pixels, pixels[:, ::-1])])))
    return np.asarray(rows, np.float16)


def train(name, weights, arrays, folder, *, steps, every, settings, evaluate) -> dict:
    """Returns the weights of all runs of one stage, which goes on where it stopped."""
    mesh = make_mesh(len(settings), BATCH)
    rate = optax.cosine_onecycle_schedule(steps, PEAKS[name], pct_start=0.1)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=DECAY))
    seeds = [1 + i for i in range(len(settings))]
    source = Resident(*arrays, batch=BATCH, seeds=seeds, mesh=mesh)

    def recorded(state):
        found = evaluate(int(state.step[0]), gather(state.weights, mesh))
        print(name, int(state.step[0]), {k: np.round(v, 3) for k, v in found.items()}, flush=True)
        return found

    state = loop.train(
        loop.make_program(make_step(optimiser, seeing=name == "sight"), source, mesh),
        loop.start([weights] * len(settings), optimiser, seeds, settings, mesh),
        source,
        folder / name,
        steps=steps,
        dispatch=1,
        every=every,
        names=[f"{name}{i}" for i in range(len(settings))],
        evaluate=recorded,
    )
    return gather(state.weights, mesh)


def make_measure(features, labels):
    """Returns a function from the weights of all runs to nats a word of the parts left out.

    On features of the captions' own images, of others, and on nothing.
    """
    of_all = jax.jit(jax.vmap(losses, in_axes=(0, None, None)))
    words, part = labels[:, :-1], labels[:, -1]
    other = np.roll(np.arange(len(features)), len(features) // 2 + 1)

    def measure(weights) -> dict[str, np.ndarray]:
        found = {}
        seen = {"own": features, "other": features[other], "nothing": 0 * features}
        for name, rows in seen.items():
            loss, count = jax.device_get(of_all(weights, np.float32(rows), words))
            runs = np.arange(PARTS)[:, None]
            for kind, mine in {"choose": (runs + 1) % PARTS == part, "test": runs == part}.items():
                found[f"{kind}_{name}"] = (loss * mine).sum(1) / (count * mine).sum(1)
        return found

    return measure


def main() -> None:
    """Parses the command line, trains in two stages, and keeps the best weights of each run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--language-steps", type=int, default=900)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--smoke", action="store_true", help="2 steps of each on 20 images")
    options = parser.parse_args()
    smoke, folder = options.smoke, options.output
    folder.mkdir(parents=True, exist_ok=True)
    images, others = coco_captions.read_images(DATA / "coco_mini")
    vocabulary = coco_captions.make_vocabulary(others)
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    images, others = (images[:20], others[:200]) if smoke else (images, others)
    cache = folder / "features.npy"
    if not cache.exists():
        np.save(cache, read_features(images))
    features = np.load(cache)

    blind = coco_captions.encode(others, vocabulary)
    blind = np.concatenate([blind, np.full((len(blind), 1), BLIND, np.int32)], 1)
    nothing = np.zeros((len(blind), WIDTH), np.float16)
    kept = folder / "language.npz"

    def keep(step, weights):
        np.savez(kept, **{name: value[0] for name, value in weights.items()})
        return {}

    train("language", initial_weights(len(vocabulary)), (nothing, blind), folder,
          steps=2 if smoke else options.language_steps, every=1 if smoke else 150,
          settings=[np.int32(0)], evaluate=keep)  # fmt: skip

    rows = [(i, caption) for i, image in enumerate(images) for caption in image.captions]
    numbers = np.array([i for i, _ in rows])
    seeing = coco_captions.encode([caption for _, caption in rows], vocabulary)
    seeing = np.concatenate([seeing, (numbers % PARTS)[:, None].astype(np.int32)], 1)
    measure = make_measure(features[numbers, 0], seeing)
    times = max(1, len(blind) // (2 * len(seeing)))
    mixed = np.concatenate([nothing, *[features[numbers, i] for i in (0, 1)] * times])
    labels = np.concatenate([blind, *[seeing] * 2 * times])
    with np.load(kept) as blind_weights:
        trained = train("sight", dict(blind_weights), (mixed, labels), folder,
                        steps=2 if smoke else options.steps, every=1 if smoke else 50,
                        settings=[np.int32(i) for i in range(PARTS)],
                        evaluate=lambda step, weights: measure(weights))  # fmt: skip
    for part in range(PARTS):
        mine = {name: np.asarray(value[part]) for name, value in trained.items()}
        save_file(mine, folder / f"part{part}.safetensors")
    nats = {name: round(float(value.mean()), 3) for name, value in measure(trained).items()}
    (folder / "trained.json").write_text(json.dumps(nats))
    print(nats)


if __name__ == "__main__":
    main()
