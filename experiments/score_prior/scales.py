"""Plays the pointing game with the score prior at several sizes and with mirror images.

    python experiments/score_prior/scales.py --output experiments/score_prior/scales.json
    python experiments/score_prior/scales.py --photographs 4     # a smoke test

Excitation Backprop of SqueezeNet 1.1 on `coco_mini`, in the protocol of
`experiments/pointing_game.py`, for scores (the logit, the log-probability at several
temperatures), sizes and combinations of sizes. A combination is what `attribution.multi_scale`
computes, except that Pillow makes every size from the photograph as stored. Intervals are a
bootstrap over photographs; the columns of even and odd photographs are there so that a setting can
be chosen on one half and judged on the other. Half an hour on two idle cores.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from PIL import Image

from jaxground import data, metrics, models
from jaxground.attribution import excitation_backprop
from jaxground.scores import score_values

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pointing_game import (
    Batch,
    Config,
    Pair,
    canvases,
    draw,
    pairs_of,
    point,
    squeezenet_on_canvases,
    valid_part,
)

SIZES = (224, 352, 480)
COMBINATIONS = ((224,), (352,), (480,), (224, 352), (352, 480), SIZES)
TEMPERATURES = {"logit": None, "T=1": 1.0, "T=2": 2.0, "T=4": 4.0}
Maps = list[dict[str, np.ndarray]]  # of each pair, by setting: [2, h, w], as seen and mirrored


def explain(model: Any, batch: Batch, *, at: str) -> dict[str, Array]:
    """Returns maps `[batch, h, w]` on the canvas by score.

    At temperature `t` the prior is `onehot - softmax(logits / t)`: up to a factor the gradient of
    the log-probability of a classifier made less sure, `log_softmax(logits / t)`.
    """

    def f(images: Array) -> Array:
        return squeezenet_on_canvases(model, images, batch.shapes)

    logits = f(batch.images)
    scores, _ = score_values(logits, batch.candidates)
    best = jnp.where(batch.candidates < 0, -jnp.inf, scores).argmax(axis=1, keepdims=True)
    targets = jnp.take_along_axis(batch.candidates, best, axis=1)[:, 0]
    one_hot = jax.nn.one_hot(targets, logits.shape[1])
    priors = [
        one_hot if t is None else one_hot - jax.nn.softmax(logits / t)
        for t in TEMPERATURES.values()
    ]
    found = excitation_backprop(f, batch.images, jnp.stack(priors, axis=1), at=at)
    return {name: found[:, i] for i, name in enumerate(TEMPERATURES)}


def maps_of(pairs: list[Pair], config: Config, at: str) -> Maps:
    """Returns the maps of every pair at one size, each photograph as seen and mirrored."""
    model = models.create(config.model, config.weights)
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, batch: explain(nnx.merge(graph, state), batch, at=at))
    preprocess = replace(model.preprocess, size=config.short_side, crop=config.short_side)
    found: Maps = [{} for _ in pairs]
    for rows, canvas in canvases([pair.example.size for pair in pairs], config.short_side):
        for start in range(0, len(rows), config.batch_size):
            now = rows[start : start + config.batch_size]
            batch = draw([pairs[row] for row in now], preprocess, canvas, config.batch_size)
            sides = [batch, batch._replace(images=mirrored(batch))]
            both = [jax.device_get(run(state, side)) for side in sides]
            for name in TEMPERATURES:
                for i, row in enumerate(now):
                    whole = np.stack([side[name][i] for side in both])
                    found[row][name] = valid_part(whole, canvas, batch.shapes[i])
    return found


def mirrored(batch: Batch) -> np.ndarray:
    """Returns the photographs of a batch left for right, each where it was on its canvas."""
    images = np.array(batch.images)
    for image, (height, width) in zip(images, np.asarray(batch.shapes), strict=True):
        image[:height, :width] = image[:height, :width][:, ::-1].copy()
    return images


def combined(found: dict[int, dict[str, np.ndarray]], name: str, *, mirror: bool) -> np.ndarray:
    """Returns the mean of unit maps of one pair, as `multi_scale` defines it."""
    height, width = found[max(found)][name].shape[1:]
    total = np.zeros((height, width))
    for maps in found.values():
        seen, other = (m / max(np.abs(m).mean(), 1e-30) for m in maps[name])
        mean = (seen + other[:, ::-1]) / 2 if mirror else seen
        picture = Image.fromarray(mean.astype(np.float32))
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
    parser.add_argument("--at", default="fire7", help="tap of Excitation Backprop")
    parser.add_argument("--photographs", type=int, help="how many; all by default")
    options = parser.parse_args()
    config = Config()
    dataset = data.read_coco(config.data)
    pairs = pairs_of(replace(dataset, examples=dataset.examples[: options.photographs]))
    hitting = [near(pair, config.tolerance) for pair in pairs]
    found = {size: maps_of(pairs, replace(config, short_side=size), options.at) for size in SIZES}
    results = {}
    for sizes in COMBINATIONS:
        for name in TEMPERATURES:
            for mirror in (False, True):
                hits = np.zeros(len(pairs))
                for row, pair in enumerate(pairs):
                    one = combined({s: found[s][row] for s in sizes}, name, mirror=mirror)
                    peak = point(one, one.shape, one.shape, pair.example.size)
                    hits[row] = hitting[row][tuple(peak)]
                label = f"{'+'.join(map(str, sizes))}{', mirror' * mirror}, {name}"
                results[label] = summary(hits, pairs)
                print(label, *(f"{k} {v:.2f}" for k, v in results[label].items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps({"at": options.at, "scores": results}, indent=1))


if __name__ == "__main__":
    main()
