"""Trains CNN-LSTMs on J-HMDB, twelve actions, and the frame network they are compared with.

    python -m experiments.spatiotemporal.train_jhmdb --output runs/jhmdb
    python -m experiments.spatiotemporal.train_jhmdb --smoke --output /tmp/smoke

The CNN is not trained: what it makes of the frames, and of pictures of their motion, is computed
once. For every setting three networks are trained without a third of the training sources each,
and measured on that third; the setting that is best there trains three networks on all of them,
which are measured on the test clips, once. A clip is read from any frame on, faster or slower. The
loss is cross-entropy of the label at every step, and the answer to a clip the mean over its steps
of the softmax.

Stopped at any moment, the same command goes on where it was. Weights are no part of this project:
J-HMDB is for research only.
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import save_file

from experiments.spatiotemporal.intervals import interval
from experiments.spatiotemporal.jhmdb_clips import (
    UNITS,
    ActionReader,
    Features,
    Kind,
    Look,
    compute_features,
    read_clips,
    split_sources,
)
from experiments.training import loop
from experiments.training.placement import gather, make_mesh
from experiments.training.records import claim, write_whole
from experiments.training.sources import Resident

OUTPUT = Path(__file__).with_name("jhmdb_training.json")
PARTS = 3  # of the training sources; the test clips are a part of their own, number 3
SEEDS = 0, 1, 2
BATCH, FADE = 32, 0.15  # clips in a step; share of steps in which the rate rises
SPEEDS = 0.5, 1.5  # at which clips are read


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a network is trained."""

    kind: Kind
    keep: float  # share of the LSTM's inputs that dropout leaves
    penalty: float  # of the squares of the weights that read features
    keep_hidden: float = 0.5
    rate: float = 2e-3
    steps: int = 160

    @property
    def name(self) -> str:
        """Returns what its folder is called."""
        return f"{self.kind}-{self.keep:g}-{self.penalty:g}"


KEEPS, PENALTIES = (0.5, 0.3), (0.01, 0.03)
DIFFERENCES = [  # on test clips, means over seeds
    (("motion", "relu"), ("frames", "frame")),
    (("motion", "relu"), ("motion", "frame")),
    (("motion", "relu"), ("frames", "relu")),
    (("frames", "relu"), ("frames", "frame")),
    (("motion", "relu"), ("motion", "tanh")),
]


def list_settings(kind: Kind) -> list[Setting]:
    """Returns the settings of one kind that are compared."""
    return [Setting(kind, *each) for each in itertools.product(KEEPS, PENALTIES)]


def replay(key, features):
    """Returns clips `[batch, time, width]` read from any frame on, each at a speed of its own.

    At its end a clip is read backwards.
    """
    count, time = features.shape[:2]
    start, speed = jax.random.split(key)
    start = jax.random.randint(start, (count, 1), 0, time)
    low, high = SPEEDS
    speed = jax.random.uniform(speed, (count, 1), minval=low, maxval=high)
    there = jnp.floor(start + speed * jnp.arange(time)).astype(int) % (2 * time - 2)
    there = jnp.minimum(there, 2 * time - 2 - there)
    return jnp.take_along_axis(features, there[..., None], 1)


def make_step(graph, setting: Setting, optimiser, mean, deviation):
    """Returns the training step for `loop.make_program`; inputs are standardised."""

    def step(state, features, labels):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        mirror, time, drop_inputs, drop_hidden = jax.random.split(key, 4)
        labels, parts = labels.T
        count = len(labels)
        rows = jnp.arange(count), jax.random.bernoulli(mirror, shape=(count,)).astype(int)
        features = replay(time, features[rows])

        def factors(key, share: float, width: int):
            # One choice for a clip: else what is dropped in one frame is read in the next.
            return jax.random.bernoulli(key, share, (count, 1, width)) / share

        def measure(weights):
            network = nnx.merge(graph, weights)
            inputs = (network.inputs(features) - mean) / deviation
            inputs *= factors(drop_inputs, setting.keep, inputs.shape[-1])
            logits = network.answer(inputs, factors(drop_hidden, setting.keep_hidden, UNITS))
            asked = jnp.broadcast_to(labels[:, None], logits.shape[:2])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, asked).mean(1)
            trained = parts != state.setting
            penalty = setting.penalty * jnp.square(network.reading.kernel[...]).sum()
            return jnp.where(trained, losses, 0).sum() / jnp.maximum(trained.sum(), 1) + penalty

        loss, gradient = jax.value_and_grad(measure)(state.weights)
        return loop.updated(state, optimiser, gradient), {"loss": loss}

    return step


def answers(graph, weights, features: np.ndarray) -> np.ndarray:
    """Returns the probabilities `[runs, clips, time, classes]` of several networks."""
    classify = jax.jit(
        jax.vmap(lambda w, x: jax.nn.softmax(nnx.merge(graph, w).classify(x)), (0, None))
    )
    return np.concatenate(
        [classify(weights, features[i : i + 100]) for i in range(0, len(features), 100)], 1
    )


def describe(network, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of each of a network's inputs, `float[inputs]`."""
    inputs = nnx.merge(*network).inputs(features.reshape(-1, *features.shape[2:]))
    deviation = inputs.std((0, 1))
    return np.asarray(inputs.mean((0, 1))), np.asarray(deviation + 0.1 * deviation.mean())


def fold(graph, weights, mean, deviation):
    """Returns the weights of networks that read inputs as they are, not standardised."""

    def of_network(weights):
        network = nnx.merge(graph, weights)
        network.fold(mean, deviation)
        return nnx.state(network)

    return jax.device_get(jax.vmap(of_network)(weights))


def train(setting: Setting, features: Features, parts, held: list[int], folder: Path):
    """Returns what networks trained without one part each say of all clips, and their weights.

    Args:
      setting: How.
      features: Of all clips.
      parts: `int[clips]`, which part each belongs to.
      held: For each network, its part; seeds are 0, 1, ... of those that share one.
      folder: For checkpoints and records; those of another setting are refused.
    """
    claim(folder, dataclasses.asdict(setting) | {"held": held})
    seeds = [held[:i].count(part) for i, part in enumerate(held)]
    classes = int(features.labels.max()) + 1
    networks = [nnx.split(ActionReader(setting.kind, classes, rngs=nnx.Rngs(s))) for s in seeds]
    graph = networks[0][0]
    rate = optax.cosine_onecycle_schedule(setting.steps, setting.rate, pct_start=FADE)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    mesh = make_mesh(len(held), BATCH)
    rows = np.flatnonzero(~features.is_test)
    known = np.stack([features.labels, parts], 1)
    mean, deviation = describe(networks[0], features.values[rows])
    source = Resident(features.values[rows], known[rows], batch=BATCH, seeds=seeds, mesh=mesh)

    state = loop.train(
        loop.make_program(make_step(graph, setting, optimiser, mean, deviation), source, mesh),
        loop.start([w for _, w in networks], optimiser, seeds, [np.int32(p) for p in held], mesh),
        source,
        folder,
        steps=setting.steps,
        dispatch=1,  # on a CPU steps are unrolled, and longer to compile
        every=40,
        names=[f"without {part}, seed {seed}" for part, seed in zip(held, seeds, strict=True)],
        evaluate=lambda state: {},  # nothing is chosen by what is measured on the way
    )
    weights = fold(graph, gather(state.weights, mesh), mean, deviation)
    return answers(graph, weights, features.values[:, 0]), weights


def score(features: Features, said: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Returns which of some clips are answered rightly, and the share of them, with interval."""
    right = (said[rows].mean(1).argmax(-1) == features.labels[rows]).astype(float)
    return right, interval(right, features.groups[rows])


def select(settings: list[Setting], features: Features, parts, folder: Path) -> list[list[float]]:
    """Returns how well each setting answers to training sources that it was not trained on."""
    found = []
    for setting in settings:
        said, _ = train(setting, features, parts, [*range(PARTS)], folder / setting.name)
        unseen = said[np.minimum(parts, PARTS - 1), np.arange(len(parts))]
        found.append(score(features, unseen, np.flatnonzero(~features.is_test))[1])
        print(
            setting.name, "unseen training sources: {} ({} to {}) %".format(*found[-1]), flush=True
        )
    return found


def main() -> None:
    """Parses the command line, trains, and writes weights and accuracies."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="2 steps on 12 clips")
    options = parser.parse_args()
    clips, classes = read_clips(12 if options.smoke else None)
    networks, right = {}, {}
    for look in get_args(Look):
        features = compute_features(clips, look, options.output)
        networks[look], right[look] = train_all(features, look, options.output, options.smoke)
    groups = features.groups[features.is_test]

    def difference(more, less):
        return interval(right[more[0]][more[1]] - right[less[0]][less[1]], groups)

    results = {
        "classes": classes,
        "clips": np.bincount(features.is_test).tolist(),
        "networks": networks,
        "differences": {
            f"{' '.join(more)} less {' '.join(less)}": difference(more, less)
            for more, less in DIFFERENCES
        },
    }
    text = json.dumps(results, indent=1) + "\n"
    write_whole(options.output / "results.json", text)
    if not options.smoke:
        write_whole(OUTPUT, text)


def train_all(features: Features, look: Look, folder: Path, smoke: bool) -> tuple[dict, dict]:
    """Returns what was measured of all kinds of networks, and which test clips each gets right.

    The weights of the first seed of each are written.
    """
    tested = np.flatnonzero(features.is_test)
    parts = np.full(len(features.labels), PARTS)
    training = ~features.is_test
    parts[training] = split_sources(features.labels[training], features.groups[training], PARTS)
    results, right, chosen = {}, {}, {}
    for kind in get_args(Kind):
        settings = list_settings(kind)
        if kind == "tanh":  # compared with the paper's cell: trained alike
            settings = [dataclasses.replace(chosen["relu"], kind=kind)]
        if smoke:
            settings = [dataclasses.replace(settings[0], steps=2)]
        unseen = select(settings, features, parts, folder / look)
        best = chosen[kind] = settings[int(np.argmax([mean for mean, *_ in unseen]))]
        all_of_them = [PARTS] * len(SEEDS)
        said, weights = train(best, features, parts, all_of_them, folder / look / f"{kind}-all")
        scores = [score(features, each, tested) for each in said]
        right[kind] = np.mean([of_clips for of_clips, _ in scores], 0)
        results[kind] = {
            "unseen": {each.name: found for each, found in zip(settings, unseen, strict=True)},
            "chosen": dataclasses.asdict(best),
            "test": [found for _, found in scores],
            "test, mean of seeds": interval(right[kind], features.groups[tested]),
        }
        print(look, kind, "test clips, by seed:", results[kind]["test"], flush=True)
        first = jax.tree.map(lambda x: x[0], weights)
        arrays = {
            ".".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(first)
        }
        save_file(arrays, folder / f"{look}-{kind}.safetensors")
    hits = (said[0][tested].argmax(-1) == features.labels[tested, None]).mean(1)
    results["frame"]["test, each frame by itself"] = interval(hits, features.groups[tested])
    return results, right


if __name__ == "__main__":
    main()
