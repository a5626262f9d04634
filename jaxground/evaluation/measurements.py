"""What is measured in a batch of photographs: functions of arrays, to be compiled."""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxground import maps as array_maps
from jaxground.evaluation.explainers import Explainer, per_image
from jaxground.evaluation.quantities import Quantity
from jaxground.metrics.asking import on_images
from jaxground.scores import score_values


class Answers(NamedTuple):
    """What a network and its explainers say of a batch: JAX arrays.

    Attributes:
      finite: `bool[batch]`, whether the network's output is.
      targets: `int32[batch, k]`, the classes explained.
      maps: By explainer, `float[batch, k, h, w]`, raw but for the smoothing.
      points: By explainer, `int32[batch, k, 2]`, row and column of the peak in the photograph.
      values: By explainer and quantity, `float[batch, k]`.
    """

    finite: Any
    targets: Any
    maps: dict[str, Any]
    points: dict[str, Any]
    values: dict[str, dict[str, Any]]


def answer(
    f: Callable[[Array], Array],
    images: Array,
    candidates: Array,
    keys: Array,
    masks: Array,
    boxes: Array,
    sizes: Array,
    *,
    explainers: Sequence[Explainer],
    quantities: Mapping[str, Quantity],
) -> Answers:
    """Returns the maps of all explainers and what is measured of them against masks and boxes.

    One forward pass serves all explainers and all targets of an image.

    Args:
      f: The network.
      images: `float[batch, height, width, channel]`.
      candidates: `int[batch, k, classes]`: the target is the one with the largest logit, -1 none.
      keys: One for each image.
      masks: `bool[batch, k, *canvas]`, each in the upper left corner.
      boxes: Of the objects, `float[batch, k, objects, 4]`; those without area are none.
      sizes: Height and width of the photographs, `int[batch, 2]`.
      explainers: Which.
      quantities: What is measured.
    """
    outputs = f(images)
    batch, k, most = candidates.shape
    logits, _ = score_values(outputs, candidates.reshape(batch, k * most))
    logits = jnp.where(candidates < 0, -jnp.inf, logits.reshape(candidates.shape))
    best = jnp.argmax(logits, axis=-1, keepdims=True)
    targets = jnp.take_along_axis(jnp.maximum(candidates, 0), best, axis=-1)[..., 0]
    finite = jnp.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    maps = {explainer.label: explainer(f, images, targets, keys) for explainer in explainers}

    def measure(threshold, row):
        found, mask, box, size = row
        large = array_maps.resize_each(found, size, mask.shape[1:])
        return array_maps.peak(large), {
            name: quantity.measure(large, mask, size)
            if quantity.of == "mask"
            else quantity.measure(found, box, size, threshold)
            for name, quantity in quantities.items()
        }

    def measure_all(given):
        found, threshold = given
        return lax.map(functools.partial(measure, threshold), (found, masks, boxes, sizes))

    shapes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for label, found in maps.items():
        shapes[found.shape].append(label)
    points, values = {}, {}
    thresholds = {explainer.label: explainer.threshold for explainer in explainers}
    for labels in shapes.values():  # maps of one size share one loop, compiled once
        stacked = jnp.stack([maps[label] for label in labels])
        every = lax.map(measure_all, (stacked, jnp.array([thresholds[one] for one in labels])))
        for index, label in enumerate(labels):
            points[label], values[label] = jax.tree.map(lambda a, i=index: a[i], every)
    return Answers(finite, targets, maps, points, values)


def ask(
    f: Callable[[Array], Array],
    images: Array,
    maps: Array,
    targets: Array,
    keys: Array,
    *,
    quantities: Mapping[str, Quantity],
) -> dict[str, Array]:
    """Returns what is measured of maps by asking the network again, `float[batch, k]` each."""

    def one(quantity: Quantity) -> Array:
        if quantity.random:
            return per_image(functools.partial(quantity.measure, f), keys, images, maps, targets)
        return quantity.measure(f, images, maps, targets)

    return {name: one(quantity) for name, quantity in quantities.items()}


def ask_together(
    f: Callable[[Array], Array],
    images: Array,
    maps: Mapping[str, Array],
    targets: Array,
    keys: Array,
    *,
    quantities: Mapping[str, Quantity],
) -> dict[str, dict[str, Array]]:
    """Returns the same of the maps of all explainers, by explainer: they share the passes."""
    k = targets.shape[1]
    every = jnp.concatenate([on_images(found, images)[0] for found in maps.values()], axis=1)
    found = ask(f, images, every, jnp.tile(targets, len(maps)), keys, quantities=quantities)
    return {
        label: {name: values[:, i * k : (i + 1) * k] for name, values in found.items()}
        for i, label in enumerate(maps)
    }


def repeat(
    f: Callable[[Array], Array],
    images: Array,
    targets: Array,
    keys: Array,
    *,
    explainer: Explainer,
    quantities: Mapping[str, Quantity],
) -> dict[str, Array]:
    """Returns what is measured of an explainer by explaining again, `float[batch, k]` each."""

    def one(images, targets, keys, *, key, quantity):
        def explain(images, targets):  # what it draws itself is the same every time
            return explainer(f, images, targets, keys)

        return quantity.measure(explain, images, targets, key=key)

    return {
        name: per_image(functools.partial(one, quantity=quantity), keys, images, targets, keys)
        for name, quantity in quantities.items()
    }


class Parts(NamedTuple):
    """Quantities by the function that measures them."""

    answer: Mapping[str, Quantity]
    ask: Mapping[str, Quantity]
    together: Mapping[str, Quantity]
    repeat: Mapping[str, Quantity]


def split(quantities: Mapping[str, Quantity]) -> Parts:
    """Returns quantities by the function that measures them."""

    def those(fits: Callable[[Quantity], bool]) -> dict[str, Quantity]:
        return {name: quantity for name, quantity in quantities.items() if fits(quantity)}

    return Parts(
        answer=those(lambda q: q.of in ("mask", "box")),
        ask=those(lambda q: q.of == "network" and not q.shared),
        together=those(lambda q: q.of == "network" and q.shared),
        repeat=those(lambda q: q.of == "explainer"),
    )
