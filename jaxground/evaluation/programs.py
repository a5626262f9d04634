"""The compiled part: from a batch of photographs to what is recorded of each."""

import base64
import functools
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxground import prepare
from jaxground.evaluation.explainers import Explainer
from jaxground.evaluation.measurements import answer, ask, ask_together, repeat, split
from jaxground.evaluation.quantities import INFINITE, Quantity
from jaxground.evaluation.work import Batch, Loaded

LOG = logging.getLogger("jaxground.evaluation")  # what is being done; shown by the command line
THUMBNAIL = 56  # pixels of the longer side of the maps that are kept for the gallery


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
        parts = split(quantities)
        self._answer = prepare(answer, f, explainers=explainers, quantities=parts.answer)
        self._ask = prepare(ask, f, quantities=parts.ask) if parts.ask else None
        together = functools.partial(prepare, ask_together, f, quantities=parts.together)
        self._ask_together = together() if parts.together else None
        self._repeat = {
            explainer.label: prepare(repeat, f, explainer=explainer, quantities=parts.repeat)
            for explainer in (explainers if parts.repeat else ())
        }
        self._key = key
        self._labels = [explainer.label for explainer in explainers]
        self._told: set[Any] = set()

    def records(self, loaded: Loaded, keep: frozenset[str]) -> list[dict[str, Any]]:
        """Returns one record of each photograph of a batch, ready for JSON.

        Args:
          loaded: The batch.
          keep: Keys of the photographs whose maps are kept, small, for the gallery.
        """
        keys = _image_keys(self._key, loaded.batch)
        images = jnp.asarray(loaded.images)
        rest = map(jnp.asarray, (loaded.masks, loaded.boxes, loaded.sizes))
        tell = functools.partial(self._tell, loaded.batch)
        tell(f"maps of {len(self._labels)} method{'s' * (len(self._labels) > 1)}")
        found = self._answer(images, jnp.asarray(loaded.candidates), keys, *rest)
        if self._ask:
            for label, maps in found.maps.items():
                tell("metrics that ask the network", maps.shape)
                found.values[label].update(self._ask(images, maps, found.targets, keys))
        if self._ask_together:
            tell("metrics of all methods together")
            together = self._ask_together(images, found.maps, found.targets, keys)
            for label, values in together.items():
                found.values[label].update(values)
        for label, explain_again in self._repeat.items():
            tell(f"metrics that repeat {label}")
            found.values[label].update(explain_again(images, found.targets, keys))
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

    def _tell(self, batch: Batch, what: str, shape: tuple[int, ...] = ()) -> None:
        new = (what, shape, batch.program) not in self._told
        self._told.add((what, shape, batch.program))
        size = " x ".join(map(str, batch.size))
        if new:
            LOG.info("compiling %s at %s", what, size)
        else:
            LOG.debug("computing %s at %s", what, size)


def _image_keys(key: Array, batch: Batch) -> Array:
    """Returns a key for each row, which depends on the photograph alone."""
    names = [task.example.key for task in batch.tasks] + [""] * (batch.length - len(batch.tasks))
    digests = np.array([zlib.crc32(name.encode()) for name in names], np.uint32)
    return jax.vmap(lambda digest: jax.random.fold_in(key, digest))(digests)


def _numbers(values: np.ndarray) -> list[float | str | None]:
    """Returns values as JSON has them: `None` for what is undefined, a word for infinity."""
    return [
        float(value) if np.isfinite(value) else None if np.isnan(value) else INFINITE
        for value in values
    ]


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
