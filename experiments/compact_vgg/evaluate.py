"""Measures CompactVGG: what it recognises, and whether Excitation Backprop points at it.

    python -m experiments.compact_vgg.evaluate --output runs/compact_vgg/evaluation

About a minute on two idle CPU cores; writes metrics.json, whose numbers the README repeats.

Protocol of the mosaics: `--seed` draws `--count` pictures of 64x64 pixels, each of four CIFAR-10
(JPEG) photographs of four different classes as they are, 32x32; each of the four classes is a
target in turn. The map is resized to 64x64 (`maps.resize`, cubic); a hit is a peak
(`maps.peak`) in the quadrant of the target. A map that is zero everywhere is a miss. Chance is
25 %. Intervals are 1.96 standard errors over mosaics, not over peaks: the four of one mosaic hang
together. `--held-out` takes the 2,000 training photographs that were never trained on, on which
the default tap was chosen; without it the test photographs are used.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.compact_vgg.photographs import (
    HELD_OUT,
    OTHER,
    Photographs,
    load_cifar10,
    load_tiny_imagenet,
)
from jaxground import maps, models
from jaxground.attribution import contrastive_excitation_backprop, excitation_backprop
from jaxground.data.mosaics import draw_mosaics
from jaxground.models.network import Network

TAPS = ("pool1", "conv2_2", "pool2", "conv3_1", "conv3_2", "pool3", "conv4_1", "conv4_2")
METHODS: dict[str, Callable] = {
    "excitation_backprop": excitation_backprop,
    "contrastive_excitation_backprop": contrastive_excitation_backprop,
}
BATCH = 100


def normalise(network: Network, images: np.ndarray) -> np.ndarray:
    """Returns images as the network reads them, at the size they have."""
    side = images.shape[1]
    return dataclasses.replace(network.preprocess, size=side, crop=side)(images)


def measure_accuracy(network: Network, photographs: Photographs) -> float:
    """Returns the share of photographs whose largest logit is that of their class."""
    predict = jax.jit(lambda network, images: network(images).argmax(-1))
    starts = range(0, len(photographs.labels), BATCH)
    batches = [normalise(network, photographs.images[i : i + BATCH]) for i in starts]
    found = np.concatenate([predict(network, batch) for batch in batches])
    return float((found == photographs.labels).mean())


def point(network: Network, method: Callable, mosaics, classes, *, at: str) -> np.ndarray:
    """Returns `bool[count, 4]`: whether the peak for each class lies in its quadrant."""
    graph, state = nnx.split(network)

    @jax.jit
    def quadrants(state, images, targets):
        found = method(nnx.merge(graph, state), images, targets, at=at)
        row, column = jnp.moveaxis(maps.peak(maps.resize(found, (64, 64))), -1, 0)
        return jnp.where(found.max((-2, -1)) > 0, 2 * (row // 32) + column // 32, -1)

    peaks = [
        quadrants(state, normalise(network, mosaics[i : i + BATCH]), classes[i : i + BATCH])
        for i in range(0, len(mosaics), BATCH)
    ]  # fmt: skip
    return np.concatenate(peaks) == np.arange(4)


def summarise(hits: np.ndarray) -> dict[str, float | int]:
    """Returns the share of hits with its interval."""
    interval = 1.96 * hits.mean(1).std(ddof=1) / np.sqrt(len(hits))
    return {"hits": float(hits.mean()), "interval": float(interval), "peaks": hits.size}


def evaluate(network: Network, *, held_out: bool, count: int, seed: int, taps) -> dict:
    """Returns accuracies and the mosaic scores of both methods at the taps."""
    cifar = load_cifar10("train" if held_out else "test")
    if held_out:
        cifar = Photographs(cifar.images[-HELD_OUT:], cifar.labels[-HELD_OUT:])
    tiny = load_tiny_imagenet("val")
    named = Photographs(*(array[tiny.labels != OTHER] for array in tiny))
    metrics: dict = {
        "photographs": "held-out part of train" if held_out else "test",
        "accuracy_cifar10": measure_accuracy(network, cifar),
        "accuracy_tiny_imagenet_64": measure_accuracy(network, named),
        "tiny_imagenet_photographs": len(named.labels),
        "mosaics": count,
        "seed": seed,
    }
    print(json.dumps(metrics), flush=True)
    mosaics, classes = draw_mosaics(cifar.images, cifar.labels, count=count, seed=seed)
    for tap in taps:
        for name, method in METHODS.items():
            score = summarise(point(network, method, mosaics, classes, at=tap))
            metrics.setdefault(name, {})[tap] = score
            print(f"{tap:8} {name:32} {score['hits']:.4f} +- {score['interval']:.4f}", flush=True)
    return metrics


def main():
    """Parses the command line and evaluates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for metrics.json")
    parser.add_argument("--weights", default="embedded", help="a file; default: those shipped")
    parser.add_argument("--held-out", action="store_true", help="choose taps here, not on test")
    parser.add_argument("--taps", nargs="+", help="default: the tap of the model's card")
    parser.add_argument("--count", type=int, default=1000, help="mosaics")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="20 mosaics")
    arguments = parser.parse_args()
    network = models.create("compact_vgg", weights=arguments.weights)
    metrics = evaluate(
        network,
        held_out=arguments.held_out,
        count=20 if arguments.smoke else arguments.count,
        seed=arguments.seed,
        taps=arguments.taps or [network.card.ground_at],
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "metrics.json").write_text(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
