"""A training of seconds, as a program of its own: tests kill it and start several of it."""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
import optax

from experiments.training import loop
from experiments.training.placement import gather, join, make_mesh
from experiments.training.sources import Resident

SEEDS, STEPS, BATCH, EVERY = (0, 1), 12, 8, 3
OPTIMISER = optax.sgd(0.1, momentum=0.9)


def step(state, images, labels):
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)

    def loss(weights):
        hidden = jax.nn.relu(images.reshape(len(images), -1) / 255.0 @ weights["first"])
        hidden *= jax.random.bernoulli(key, state.setting, hidden.shape)
        logits = hidden @ weights["second"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradient = jax.value_and_grad(loss)(state.weights)
    updates, momentum = OPTIMISER.update(gradient, state.momentum, state.weights)
    weights = optax.apply_updates(state.weights, updates)
    return state._replace(step=state.step + 1, weights=weights, momentum=momentum), {"loss": value}


def train(folder: Path, *, devices=None, seeds=SEEDS, pause=0.0):
    """Returns the last state; with `pause` seconds between a measurement and its checkpoint."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 4, 4, 3), np.uint8)
    labels = images.mean((1, 2)).argmax(-1)
    mesh = make_mesh(len(seeds), BATCH, devices)
    source = Resident(images, labels, batch=BATCH, seeds=seeds, mesh=mesh)

    def weights(seed):
        draw = np.random.default_rng(seed).normal
        return {"first": np.float32(draw(0, 0.2, (48, 16))), "second": np.zeros((16, 3), "f4")}

    def evaluate(state):
        time.sleep(pause)
        weights = gather(state.weights, mesh)
        squares = sum((leaf**2).reshape(len(leaf), -1).sum(1) for leaf in weights.values())
        return {"norm": squares**0.5}

    settings = [np.float32(0.5) for _ in seeds]
    return loop.train(
        loop.make_program(step, source, mesh),
        loop.start([weights(seed) for seed in seeds], OPTIMISER, seeds, settings, mesh),
        source,
        folder,
        steps=STEPS,
        dispatch=3,
        every=EVERY,
        names=[f"seed {seed}" for seed in seeds],
        evaluate=evaluate,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--coordinator")
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    join(options.coordinator, 2, options.process)
    train(options.folder, pause=options.pause)
