"""Plays the pointing game with three questions, at several sizes and taps.

    python -m experiments.score_prior.scales --output experiments/score_prior/scales.json
    python -m experiments.score_prior.scales --photographs 4     # a smoke test

Excitation Backprop of SqueezeNet 1.1 on `coco_mini`, in the protocol of
`experiments/pointing_game.py`. The questions: the logit of the category's likeliest class, its
log-probability, and the log-probability of any of the category's classes (`scores.any_of`). Sizes
are combined as `attribution.multi_scale` does, except that Pillow makes every size from the
photograph as stored. Intervals are a bootstrap over photographs; the columns of even and odd
photographs are there so that a setting can be chosen on one half and judged on the other. A
quarter of an hour on two idle cores.
"""

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from PIL import Image

from experiments.pointing_game import Batch, Config, Pair, draw, pairs_of
from experiments.shared_canvases import canvases, point, squeezenet_on_canvases, valid_part
from jaxground import data, metrics, models
from jaxground.attribution import excitation_backprop
from jaxground.scores import any_of, prior, score_values

SIZES = (224, 352, 480, 640)
COMBINATIONS = tuple(c for n in (1, 2, 3) for c in itertools.combinations(SIZES, n))
TAPS = ("fire6", "fire7")
QUESTIONS = ("logit", "log_probability", "any_of")
Maps = list[dict[str, np.ndarray]]  # of each pair, by setting: [h, w]


def explain(
    model: Any, batch: Batch, categories: Array, *, known: Sequence[Sequence[int]]
) -> dict[str, Array]:
    """Returns maps `[batch, h, w]` on the canvas by question and tap.

    Args:
      model: SqueezeNet.
      batch: Photographs on canvases.
      categories: Of each pair the index in `known`, `int[batch]`.
      known: The classes of each category.
    """

    def f(images: Array) -> Array:
        return squeezenet_on_canvases(model, images, batch.shapes)

    logits = f(batch.images)
    scores, _ = score_values(logits, batch.candidates)
    best = jnp.where(batch.candidates < 0, -jnp.inf, scores).argmax(axis=1, keepdims=True)
    targets = jnp.take_along_axis(batch.candidates, best, axis=1)[:, 0]
    priors = [
        prior(logits, targets)[0],
        prior(logits, targets, "log_probability")[0],
        prior(logits, categories, any_of(known))[0],
    ]
    found = {}
    for tap in TAPS:
        maps = excitation_backprop(f, batch.images, jnp.concatenate(priors, axis=1), at=tap)
        found |= {f"{tap}, {name}": maps[:, i] for i, name in enumerate(QUESTIONS)}
    return found


def maps_of(pairs: list[Pair], config: Config) -> Maps:
    """Returns the maps of every pair at one size."""
    model = models.create(config.model, config.weights)
    graph, state = nnx.split(model)
    classes = {pair.category: pair.classes for pair in pairs}
    names = list(classes)

    @jax.jit
    def run(state, batch, categories):
        return explain(nnx.merge(graph, state), batch, categories, known=list(classes.values()))

    preprocess = replace(model.preprocess, size=config.short_side, crop=config.short_side)
    found: Maps = [{} for _ in pairs]
    for rows, canvas in canvases([pair.example.size for pair in pairs], config.short_side):
        for start in range(0, len(rows), config.batch_size):
            now = rows[start : start + config.batch_size]
            batch = draw([pairs[row] for row in now], preprocess, canvas, config.batch_size)
            categories = np.zeros(config.batch_size, int)
            categories[: len(now)] = [names.index(pairs[row].category) for row in now]
            for name, maps in jax.device_get(run(state, batch, categories)).items():
                for i, row in enumerate(now):
                    found[row][name] = valid_part(maps[i], canvas, batch.shapes[i])
    return found


def combined(found: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean of unit maps of one pair, as `multi_scale` defines it."""
    height, width = found[-1].shape
    total = np.zeros((height, width))
    for one in found:
        picture = Image.fromarray((one / max(np.abs(one).mean(), 1e-30)).astype(np.float32))
        total += np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return total / len(found)


def near(pair: Pair, tolerance: float) -> np.ndarray:
    """Returns which pixels of the photograph hit: those within the tolerance of the object."""
    mask = pair.example.mask(pair.category)
    radius = tolerance * max(mask.shape)
    reach = int(radius)
    grown = np.zeros_like(mask)
    padded = np.pad(mask, reach)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx <= radius * radius:
                y, x = reach + dy, reach + dx
                grown |= padded[y : y + mask.shape[0], x : x + mask.shape[1]]
    return grown


def summary(hits: np.ndarray, pairs: list[Pair], samples: int = 1000) -> dict[str, float]:
    """Returns the mean over categories in percent, its interval, and that of both halves."""
    names = sorted({pair.category for pair in pairs})
    categories = np.array([names.index(pair.category) for pair in pairs])
    photographs: dict[str, list[int]] = defaultdict(list)
    for row, pair in enumerate(pairs):
        photographs[pair.example.key].append(row)
    groups = list(photographs.values())

    def mean(rows) -> float:
        rows = np.asarray(rows, int)
        found = metrics.by_category(hits[rows], categories[rows], count=len(names))
        return 100 * float(found.mean_over_categories)

    rng = np.random.default_rng(0)
    drawn = [
        mean(np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))]))
        for _ in range(samples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    even, odd = (mean(np.concatenate(groups[start::2])) for start in (0, 1))
    return {
        "value": mean(range(len(pairs))),
        "low": float(low),
        "high": float(high),
        "even": even,
        "odd": odd,
    }


def main() -> None:
    """Makes the maps, combines them, prints a table and writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--photographs", type=int, help="how many; all by default")
    options = parser.parse_args()
    config = replace(Config(), batch_size=4)
    dataset = data.read_coco(config.data)
    pairs = pairs_of(replace(dataset, examples=dataset.examples[: options.photographs]))
    hitting = [near(pair, config.tolerance) for pair in pairs]
    found = {}
    for size in SIZES:
        found[size] = maps_of(pairs, replace(config, short_side=size))
        print(f"maps at {size} pixels are made", flush=True)
    results = {}
    for sizes, tap, question in itertools.product(COMBINATIONS, TAPS, QUESTIONS):
        hits = np.zeros(len(pairs))
        for row, pair in enumerate(pairs):
            one = combined([found[size][row][f"{tap}, {question}"] for size in sizes])
            peak = point(one, one.shape, one.shape, pair.example.size)
            hits[row] = hitting[row][tuple(peak)]
        label = f"{'+'.join(map(str, sizes))}, {tap}, {question}"
        results[label] = summary(hits, pairs)
        print(label, *(f"{k} {v:.2f}" for k, v in results[label].items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
