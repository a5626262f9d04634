"""Plays the pointing game on real photographs and compares with an independent run.

    python -m experiments.pointing_game                       # all methods, coco_mini, SqueezeNet
    python -m experiments.pointing_game --methods eb/ grad_cam --short-side 352

The protocol is that of `golden/pointing_coco_mini.json`, which holds the scores of a PyTorch
program written from the papers: whole photographs of any shape, their shorter side at 224 pixels;
of a category's classes the one with the largest logit; maps resized to the photograph; a hit within
15/640 of its longer side, on it included.

Resized photographs have 81 shapes, and to compile the methods for each takes an hour. So several
shapes share a canvas (`shared_canvases.py`): the same numbers from six programs. (`jaxground
evaluate` takes any network, one shape a program.)
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from experiments.shared_canvases import canvases, point, squeezenet_on_canvases
from jaxground import attribution, data, metrics, models
from jaxground.scores import score_values

DATA = Path(os.environ.get("JAXGROUND_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
MOST_CLASSES = 118  # of a category: dog


class Recipe(NamedTuple):
    """An explainer, where it is read, and its other options."""

    explainer: Callable[..., Array]
    options: Mapping[str, object]


def _at(explainer: Callable[..., Array], at: str | None, **options: object) -> Recipe:
    return Recipe(explainer, {"at": at, **options})


LOG = {"score": "log_probability"}
RECIPES = {
    "eb/features.5": _at(attribution.excitation_backprop, "pool3"),
    "ceb/features.5": _at(attribution.contrastive_excitation_backprop, "pool3"),
    "eb/features.8": _at(attribution.excitation_backprop, "pool5"),
    "ceb/features.8": _at(attribution.contrastive_excitation_backprop, "pool5"),
    "eb/features.10": _at(attribution.excitation_backprop, "fire7"),
    "ceb/features.10": _at(attribution.contrastive_excitation_backprop, "fire7"),
    "grad_cam": _at(attribution.grad_cam, "fire9"),
    "gradient": _at(attribution.gradient, None),
    "guided_backprop": _at(attribution.guided_backprop, None),
    "eb/features.10 + log_probability": _at(attribution.excitation_backprop, "fire7", **LOG),
    "grad_cam + log_probability": _at(attribution.grad_cam, "fire9", **LOG),
}


@dataclass(frozen=True)
class Config:
    """What is played, on what.

    Attributes:
      data: Folder in COCO's form, with `coco_to_imagenet_index.json`.
      weights: Weights of the network.
      reference: Scores to compare with, none if it does not exist.
      model: A network with the taps of `RECIPES`.
      short_side: Pixels of the photographs' shorter side as the network sees them.
      tolerance: Of a hit, in parts of the photograph's longer side.
      batch_size: Pairs of photograph and category per call.
      methods: Beginnings of names in `RECIPES`; the centre of the photograph always plays.
    """

    data: Path = DATA / "coco_mini"
    weights: Path = DATA / "weights" / "squeezenet1_1.safetensors"
    reference: Path = DATA.parent / "golden" / "pointing_coco_mini.json"
    model: str = "squeezenet1_1"
    short_side: int = 224
    tolerance: float = 15 / 640
    batch_size: int = 8
    methods: tuple[str, ...] = ("",)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The methods that play."""
        return {name: r for name, r in RECIPES.items() if name.startswith(self.methods)}


class Pair(NamedTuple):
    """A photograph, a category in it, and the classes of the network that mean it."""

    example: data.Example
    category: str
    classes: tuple[int, ...]


def pairs_of(dataset: data.Dataset) -> list[Pair]:
    """Returns every photograph with every category in it that the network knows."""
    known = dataset.class_indices or {}
    return [
        Pair(example, category, tuple(known[category]))
        for example in dataset.examples
        for category in example.categories
        if known.get(category)
    ]


class Batch(NamedTuple):
    """Pairs on canvases of one size.

    Attributes:
      images: `float[batch, height, width, 3]`, each in the top left corner.
      shapes: Their heights and widths there, `int[batch, 2]`.
      candidates: Classes `int[batch, n]`, -1 for none; the one with the largest logit is meant.
    """

    images: Any
    shapes: Any
    candidates: Any


def explain(model: Any, batch: Batch, *, recipes: Mapping[str, Recipe]) -> dict[str, Array]:
    """Returns the maps of every method, on canvases."""

    def f(images: Array) -> Array:
        return squeezenet_on_canvases(model, images, batch.shapes)

    candidates = batch.candidates
    logits, _ = score_values(f(batch.images), candidates)
    best = jnp.where(candidates < 0, -jnp.inf, logits).argmax(axis=1, keepdims=True)
    targets = jnp.take_along_axis(candidates, best, axis=1)[:, 0]
    return {
        name: recipe.explainer(f, batch.images, targets, **recipe.options)
        for name, recipe in recipes.items()
    }


def play(pairs: Sequence[Pair], config: Config) -> dict[str, np.ndarray]:
    """Returns the points of every method and of the centre, `float[pairs, 2]` each."""
    model = models.create(config.model, config.weights)
    graph, state = nnx.split(model)
    run = jax.jit(
        lambda state, batch: explain(nnx.merge(graph, state), batch, recipes=config.recipes)
    )
    preprocess = replace(model.preprocess, size=config.short_side, crop=config.short_side)
    points = {name: np.zeros((len(pairs), 2)) for name in config.recipes}
    points = {"center": np.array([pair.example.size for pair in pairs]) / 2, **points}
    began, done = time.perf_counter(), 0
    for rows, canvas in canvases([pair.example.size for pair in pairs], config.short_side):
        for start in range(0, len(rows), config.batch_size):
            now = rows[start : start + config.batch_size]
            batch = draw([pairs[row] for row in now], preprocess, canvas, config.batch_size)
            for name, found in jax.device_get(run(state, batch)).items():
                for row, one, shape in zip(now, found, batch.shapes, strict=False):
                    points[name][row] = point(one, canvas, shape, pairs[row].example.size)
            done += len(now)
            seconds = time.perf_counter() - began
            print(f"\r{done}/{len(pairs)} pairs, {seconds:.0f} s", end="", flush=True)
    print()
    return points


def draw(
    pairs: Sequence[Pair], preprocess: models.Preprocess, canvas: tuple[int, int], length: int
) -> Batch:
    """Returns pairs as a batch of a length, the last of them repeated to fill it."""
    padded = [*pairs, *[pairs[-1]] * (length - len(pairs))]
    images = np.zeros((length, *canvas, 3), np.float32)
    shapes = np.zeros((length, 2), np.int32)
    candidates = np.full((length, MOST_CLASSES), -1, np.int32)
    for i, pair in enumerate(padded):
        image = preprocess(pair.example.image(), crop=False)
        shapes[i] = image.shape[:2]
        images[i, : shapes[i, 0], : shapes[i, 1]] = image
        candidates[i, : len(pair.classes)] = pair.classes
    return Batch(images, shapes, candidates)


def score(
    points: Mapping[str, np.ndarray], pairs: Sequence[Pair], tolerance: float
) -> dict[str, dict[str, float]]:
    """Returns percentages of hits by method: over categories and pairs, of all and difficult."""
    names = sorted({pair.category for pair in pairs})
    categories = jnp.array([names.index(pair.category) for pair in pairs])
    difficult = jnp.array([is_difficult(pair) for pair in pairs])
    distance = jax.jit(metrics.nearest_distance)
    canvas = np.max([pair.example.size for pair in pairs], axis=0)
    hits = {name: np.zeros(len(pairs)) for name in points}
    for row, pair in enumerate(pairs):
        mask = np.zeros(canvas, bool)
        mask[: pair.example.size[0], : pair.example.size[1]] = pair.example.mask(pair.category)
        far = distance(np.stack([found[row] for found in points.values()]), mask)
        for name, pixels in zip(points, far.tolist(), strict=True):
            hits[name][row] = pixels <= tolerance * max(pair.example.size)
    table = {}
    for name, found in hits.items():
        mean = functools.partial(metrics.by_category, categories=categories, count=len(names))
        every, hard = mean(found), mean(jnp.where(difficult, found, jnp.nan))
        table[name] = {
            "mean_over_categories": 100 * float(every.mean_over_categories),
            "micro": 100 * float(every.micro),
            "difficult_mean": 100 * float(hard.mean_over_categories),
            "difficult_micro": 100 * float(hard.micro),
            "n": len(pairs),
            "n_difficult": int(difficult.sum()),
        }
    return table


def is_difficult(pair: Pair) -> bool:
    """Returns whether the category covers under a quarter of a picture of two things or more."""
    instances = pair.example.instances
    names = list(pair.example.categories)
    return bool(
        metrics.in_difficult_subset(
            np.array([instance.box for instance in instances]),
            np.array([names.index(instance.category) for instance in instances]),
            names.index(pair.category),
            sizes=np.array(pair.example.size),
        )
    )


def report(table: Mapping[str, Mapping[str, float]], reference: Path) -> None:
    """Prints the scores, and how far they are from the reference where that has them."""
    kinds = ("mean_over_categories", "micro", "difficult_mean", "difficult_micro")
    known = json.loads(reference.read_text())["reference"] if reference.is_file() else {}
    print(f"{'percent of hits (difference to the reference)':36}", *(f"{k:>21}" for k in kinds))
    for name, scores in table.items():
        cells = []
        for kind in kinds:
            difference = scores[kind] - known[name][kind] if name in known else None
            beside = "" if difference is None else f"({difference:+.2f})"
            cells.append(f"{scores[kind]:12.2f} {beside:>8}")
        print(f"{name:45}", *cells)


def main() -> None:
    """Plays, prints and, if asked, writes the scores."""
    default = Config()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=default.data)
    parser.add_argument("--weights", type=Path, default=default.weights)
    parser.add_argument("--short-side", type=int, default=default.short_side)
    parser.add_argument("--methods", nargs="+", default=default.methods)
    parser.add_argument("--output", type=Path, help="JSON file of the scores")
    options = parser.parse_args()
    config = replace(
        default,
        data=options.data,
        weights=options.weights,
        short_side=options.short_side,
        methods=tuple(options.methods),
    )
    pairs = pairs_of(data.read_coco(config.data))
    table = score(play(pairs, config), pairs, config.tolerance)
    report(table, config.reference if config.short_side == 224 else Path())
    if options.output:
        options.output.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
