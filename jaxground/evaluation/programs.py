"""The compiled part: from a batch of photographs to what is recorded of each."""

import base64
import functools
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxground import maps as array_maps
from jaxground import prepare
from jaxground.evaluation.explainers import Explainer, per_image
from jaxground.evaluation.quantities import OF, Quantity
from jaxground.evaluation.work import Batch, Loaded
from jaxground.scores import score_values

THUMBNAIL = 56  # pixels of the longer side of the maps that are kept for the gallery


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
    sizes: Array,
    *,
    explainers: Sequence[Explainer],
    quantities: Mapping[str, Quantity],
) -> Answers:
    """Returns the maps of all explainers and what is measured of them against masks.

    One forward pass serves all explainers and all targets of an image.

    Args:
      f: The network.
      images: `float[batch, height, width, channel]`.
      candidates: `int[batch, k, classes]`: the target is the one with the largest logit, -1 none.
      keys: One for each image.
      masks: `bool[batch, k, *canvas]`, each in the upper left corner.
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

    def measure(row):
        found, mask, size = row
        large = array_maps.resize_each(found, size, mask.shape[1:])
        values = {name: q.measure(large, mask, size) for name, q in quantities.items()}
        return array_maps.peak(large), values

    shapes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for label, found in maps.items():
        shapes[found.shape].append(label)
    points, values = {}, {}
    for labels in shapes.values():  # maps of one size share one loop, compiled once
        stacked = jnp.stack([maps[label] for label in labels])
        every = lax.map(lambda found: lax.map(measure, (found, masks, sizes)), stacked)
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
    """Returns what is measured of one explainer's maps by asking the network again."""

    def one(quantity: Quantity) -> Array:
        if quantity.random:
            return per_image(functools.partial(quantity.measure, f), keys, images, maps, targets)
        return quantity.measure(f, images, maps, targets)

    return {name: one(quantity) for name, quantity in quantities.items()}


class Program:
    """Everything compiled, once for each shape of batch."""

    def __init__(
        self,
        f: Callable[[Array], Array],
        explainers: Sequence[Explainer],
        quantities: Mapping[str, Quantity],
        key: Array,
    ) -> None:
        """Prepares `f`; compiles nothing yet.

        Args:
          f: The network.
          explainers: Which maps are made.
          quantities: What is measured of them.
          key: Of everything random; each image's key is derived from it.
        """
        of = {kind: {n: q for n, q in quantities.items() if q.of == kind} for kind in OF}
        self._answer = prepare(answer, f, explainers=explainers, quantities=of["mask"])
        self._ask = prepare(ask, f, quantities=of["network"]) if of["network"] else None
        self._key = key

    def records(self, loaded: Loaded, keep: frozenset[str]) -> list[dict[str, Any]]:
        """Returns one record of each photograph of a batch, ready for JSON.

        Args:
          loaded: The batch.
          keep: Keys of the photographs whose maps are kept, small, for the gallery.
        """
        keys = _image_keys(self._key, loaded.batch)
        images = jnp.asarray(loaded.images)
        rest = map(jnp.asarray, (loaded.masks, loaded.sizes))
        found = self._answer(images, jnp.asarray(loaded.candidates), keys, *rest)
        if self._ask:
            for label, maps in found.maps.items():
                found.values[label].update(self._ask(images, maps, found.targets, keys))
        kept = [task.example.key in keep for task in loaded.batch.tasks]
        found = jax.device_get(found if any(kept) else found._replace(maps={}))
        records = []
        for row, (example, categories, difficult) in enumerate(loaded.batch.tasks):
            error = loaded.errors.get(row)
            if error is None and not found.finite[row]:
                error = f"{example.key}: the network's output is not finite"
            if error is not None:
                records.append({"key": example.key, "error": error})
                continue
            rows = slice(0, len(categories))
            record = {
                "key": example.key,
                "categories": categories,
                "difficult": difficult,
                "targets": found.targets[row, rows].tolist(),
                "points": {name: every[row, rows].tolist() for name, every in found.points.items()},
                "values": {
                    label: {name: _numbers(every[row, rows]) for name, every in measured.items()}
                    for label, measured in found.values.items()
                },
            }
            if kept[row]:
                record["maps"] = {
                    label: [thumbnail(one) for one in every[row, rows]]
                    for label, every in found.maps.items()
                }
            records.append(record)
        return records


def _image_keys(key: Array, batch: Batch) -> Array:
    """Returns a key for each row, which depends on the photograph alone."""
    names = [task.example.key for task in batch.tasks] + [""] * (batch.length - len(batch.tasks))
    digests = np.array([zlib.crc32(name.encode()) for name in names], np.uint32)
    return jax.vmap(lambda digest: jax.random.fold_in(key, digest))(digests)


def _numbers(values: np.ndarray) -> list[float | None]:
    """Returns values as JSON has them; what is not finite counts as undefined."""
    return [float(value) if np.isfinite(value) else None for value in values]


def thumbnail(values: np.ndarray) -> dict[str, Any]:
    """Returns a map as small bytes: `{"size": [h, w], "bytes": base64}`, from minimum to maximum.

    A map without contrast has no bytes.
    """
    from PIL import Image

    values = np.asarray(values, np.float32)
    finite = np.isfinite(values)
    if not finite.any() or values[finite].min() == values[finite].max():
        return {"size": list(values.shape), "bytes": ""}
    low, high = values[finite].min(), values[finite].max()
    image = Image.fromarray(np.where(finite, (values - low) / (high - low), 0).astype(np.float32))
    scale = min(1.0, THUMBNAIL / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    data = (small * 255).round().clip(0, 255).astype(np.uint8)
    return {"size": list(data.shape), "bytes": base64.b64encode(data.tobytes()).decode()}
