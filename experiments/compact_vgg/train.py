r"""Trains CompactVGG, the network that ships with jaxground, from scratch.

    python -m experiments.compact_vgg.train --output runs/compact_vgg/first
    python -m experiments.compact_vgg.train --output runs/compact_vgg/second \
        --start runs/compact_vgg/first/compact_vgg.safetensors --seed 1 \
        --steps 800 --peak-learning-rate 0.12 --warmup 0.06 --mosaics 0.45 --photographs 0.2

Of the first run's 3,000 steps the shipped weights took 1,200. Both took 73 minutes on part of two
shared CPU cores; idle, a step should take about 0.55 s. Expect 82 % on the held-out photographs,
and 93 % of the peaks in `evaluate.py`. Two runs, because the first would not have ended in time.
`--smoke` is four steps.

Grounding is trained in. Every canvas is a known composition of photographs (`canvases.py`), and
three losses are summed: cross-entropy of the features averaged over each visible photograph
(what is here?), of the features averaged over the whole canvas (what is in the picture?), and
minus the log of the Excitation Backprop mass that lands on the right photographs at the last
convolution (where is it?). The mass has a closed form there: the share of `sum_c x_c W+_ck`.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import load_file, save_file

from experiments.compact_vgg.canvases import LAYERS, Canvases, lay_out, paint
from experiments.compact_vgg.evaluate import measure_accuracy
from experiments.compact_vgg.network import CLASSES, Network, create, extract, fold, unfold
from experiments.compact_vgg.photographs import (
    HELD_OUT,
    OTHER,
    Photographs,
    load_cifar10,
    load_tiny_imagenet,
)
from jaxground import models

TERMS = ("region_loss", "canvas_loss", "grounding_loss", "region_accuracy", "mass")


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run; shares of the batch sum to at most one, the rest are scenes."""

    steps: int = 3000
    batch: int = 64
    peak_learning_rate: float = 0.2
    warmup: float = 0.15
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    region_loss: float = 1.0
    canvas_loss: float = 0.3
    grounding_loss: float = 0.3
    other_weight: float = 0.3
    mosaics: float = 0.55
    splits: float = 0.1
    photographs: float = 0.16
    seed: int = 0
    report_every: int = 100
    images: int | None = None  # first CIFAR-10 training images only
    start: str | None = None  # weights to continue from


def measure_loss(weights, canvases: Canvases, config: Config):
    """Returns the training loss, and `(batch statistics, its three terms and accuracy)`."""
    features, statistics = extract(weights, canvases.images)
    masks, labels = canvases.masks, canvases.labels
    area = masks.sum((2, 3))
    seen = (area > 3.0).astype(jnp.float32)
    sums = jnp.einsum("bryx,byxc->brc", masks, features)
    targets = jnp.where(
        (labels == OTHER)[..., None],
        1 / CLASSES,
        optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), config.label_smoothing),
    )
    kernel, bias = weights["head.kernel"], weights["head.bias"]

    # What is here: one answer per visible photograph.
    weight = seen * jnp.where(labels == OTHER, config.other_weight, 1.0)
    logits = (sums / jnp.maximum(area, 1.0)[..., None]) @ kernel + bias
    region = (weight * optax.softmax_cross_entropy(logits, targets)).sum() / weight.sum()
    named = seen * (labels != OTHER)
    accuracy = (named * (logits.argmax(-1) == labels)).sum() / named.sum()

    # What is in the picture: the average answer of its named photographs.
    share = named / jnp.maximum(named.sum(1, keepdims=True), 1.0)
    mixture = jnp.einsum("br,brk->bk", share, targets)
    mixture += jnp.where(named.sum(1) == 0, 1 / CLASSES, 0.0)[:, None]
    canvas_logits = features.mean((1, 2)) @ kernel + bias
    canvas = optax.softmax_cross_entropy(canvas_logits, mixture).mean()

    # Where is it: the share of the excitatory evidence for a class within its photographs.
    evidence = sums @ jnp.maximum(kernel, 0)  # [batch, layer, class]
    mine = jax.nn.one_hot(labels, CLASSES)  # OTHER is no class: a row of zeros
    right = jnp.einsum("brk,brk->bk", evidence, mine)
    wanted = (jnp.einsum("br,brk->bk", named, mine) > 0).astype(jnp.float32)
    mass = (right + 1e-6) / (evidence.sum(1) + 1e-6)
    several = wanted * ((area > 0).sum(1) > 1)[:, None]
    grounding = -(several * jnp.log(mass)).sum() / several.sum()
    loss = (
        config.region_loss * region
        + config.canvas_loss * canvas
        + config.grounding_loss * grounding
    )
    hit = (several * mass).sum() / several.sum()
    return loss, (statistics, jnp.stack([region, canvas, grounding, accuracy, hit]))


def make_optimiser(config: Config) -> optax.GradientTransformation:
    """Returns SGD with Nesterov momentum, decay of the kernels, linear warm-up, cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        config.peak_learning_rate / 20,
        config.peak_learning_rate,
        int(config.warmup * config.steps),
        config.steps,
    )
    decay = optax.add_decayed_weights(
        config.weight_decay, mask=lambda weights: {n: n.endswith(".kernel") for n in weights}
    )
    return optax.chain(
        optax.clip_by_global_norm(5.0), decay, optax.sgd(schedule, config.momentum, nesterov=True)
    )


def make_step(config: Config, optimiser: optax.GradientTransformation):
    """Returns the compiled training step."""
    counts = {
        "mosaics": int(config.mosaics * config.batch),
        "splits": int(config.splits * config.batch),
        "photographs": int(config.photographs * config.batch),
    }

    @jax.jit
    def step(network, state, key, tiny, cifar, labels):
        layout_key, paint_key = jax.random.split(key)
        boxes, soft = lay_out(layout_key, labels, **counts)
        sources = [tiny, *(cifar[:, layer] for layer in range(LAYERS - 1))]
        sources = [source.astype(jnp.float32) / 255 for source in sources]
        canvases = paint(paint_key, sources, labels, boxes, soft)
        gradient, (seen, terms) = jax.grad(measure_loss, has_aux=True)(
            network.weights, canvases, config
        )
        updates, state = optimiser.update(gradient, state, network.weights)
        weights = optax.apply_updates(network.weights, updates)
        statistics = jax.tree.map(
            lambda old, new: 0.98 * old + 0.02 * new, network.statistics, seen
        )
        return Network(weights, statistics), state, terms

    return step


def draw_batches(config: Config, cifar_labels, tiny_labels):
    """Yields `(tiny rows [batch], cifar rows [batch, 4])`: CIFAR-10 in shuffled epochs."""
    rng = np.random.default_rng(config.seed)
    named, other = np.flatnonzero(tiny_labels != OTHER), np.flatnonzero(tiny_labels == OTHER)
    upon = int((config.mosaics + config.splits + config.photographs) * config.batch)
    need, queue = config.batch * (LAYERS - 1), np.zeros(0, np.int64)
    for _ in range(config.steps):
        while len(queue) < need:
            queue = np.concatenate([queue, rng.permutation(len(cifar_labels))])
        rows, queue = queue[:need], queue[need:]
        # Layer 0: behind objects always something else; elsewhere a named photograph or not.
        tiny = rng.choice(other, config.batch)
        shows = (rng.random(config.batch) < 0.6) & (np.arange(config.batch) < upon)
        tiny[shows] = rng.choice(named, shows.sum())
        yield tiny, rows.reshape(config.batch, LAYERS - 1)


def train(config: Config, output: Path) -> dict:
    """Trains one network; returns the last metrics. All go to `output`, with the weights."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))
    cifar, tiny = load_cifar10("train", config.images), load_tiny_imagenet("train")
    held_out = Photographs(cifar.images[-HELD_OUT:], cifar.labels[-HELD_OUT:])
    cifar = Photographs(cifar.images[:-HELD_OUT], cifar.labels[:-HELD_OUT])
    key = jax.random.key(config.seed)
    if config.start is None:
        network = create(key)
    else:
        network = unfold(load_file(config.start), jnp.float32(cifar.images[:500]) / 255)
    optimiser = make_optimiser(config)
    state, step = optimiser.init(network.weights), make_step(config, optimiser)
    started, history, recent = time.time(), [], []
    batches = draw_batches(config, cifar.labels, tiny.labels)
    for number, (tiny_rows, rows) in enumerate(batches, start=1):
        labels = np.concatenate([tiny.labels[tiny_rows][:, None], cifar.labels[rows]], 1)
        network, state, terms = step(
            network, state, jax.random.fold_in(key, number),
            tiny.images[tiny_rows], cifar.images[rows], labels,
        )  # fmt: skip
        recent.append(terms)
        if number % config.report_every == 0 or number == config.steps:
            folded = fold(network)
            save_file(folded, output / "compact_vgg.safetensors")
            trained = models.create("compact_vgg", weights=folded)
            terms = dict(zip(TERMS, np.mean(recent, 0).round(4).tolist(), strict=True))
            seconds = round(time.time() - started, 1)
            accuracy = measure_accuracy(trained, held_out)
            history.append(
                {"step": number, "seconds": seconds, "held_out_accuracy": accuracy} | terms
            )
            recent = []
            print(json.dumps(history[-1]), flush=True)
            (output / "metrics.json").write_text(json.dumps(history, indent=1))
    return history[-1]


def main():
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for weights and metrics")
    parser.add_argument("--smoke", action="store_true", help="four steps on a few photographs")
    parser.add_argument("--start", help="weights (.safetensors) to continue from")
    for field in dataclasses.fields(Config):
        if field.name not in ("start", "images"):
            flag = "--" + field.name.replace("_", "-")
            parser.add_argument(flag, type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    if arguments.pop("smoke"):
        arguments |= {"steps": 4, "batch": 16, "report_every": 2, "images": HELD_OUT + 500}
    train(Config(**arguments), output)


if __name__ == "__main__":
    main()
