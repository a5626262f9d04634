"""Localisation by boxes: the error at an overlap of one half, and how its threshold is chosen."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxground.maps import Rule, boxes
from jaxground.metrics.validity import is_flat

# Where Fong and Vedaldi looked for a threshold for each rule (released code).
THRESHOLDS: dict[Rule, np.ndarray] = {
    "mean": np.arange(21) / 2,
    "min_max": np.arange(21) / 20,
    "energy": np.arange(21) / 20,
}


def box_iou(first: ArrayLike, second: ArrayLike) -> jax.Array:
    """Returns the intersection over union of boxes.

    Args:
      first: `(x0, y0, x1, y1)`, half open, `[..., 4]`; whole pixels or fractions.
      second: The other boxes. Leading axes broadcast.

    Returns:
      `float[...]` in 0..1; 0 if one of the two is empty.

    Example:
      >>> boxes = jnp.array([[2, 0, 6, 2], [9, 9, 9, 9]])
      >>> jax.jit(box_iou)(jnp.array([0, 0, 4, 2]), boxes).round(3)
      Array([0.333, 0.   ], dtype=float32)
    """
    first, second = (_as_boxes(given) for given in (first, second))
    low = jnp.maximum(first[..., :2], second[..., :2])
    high = jnp.minimum(first[..., 2:], second[..., 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    union = _area(first) + _area(second) - common
    return jnp.where(common > 0, common / jnp.where(common > 0, union, 1), 0)


def localisation_error(
    maps: ArrayLike,
    truth: ArrayLike,
    *,
    threshold: ArrayLike,
    rule: Rule = "mean",
    sizes: ArrayLike | None = None,
    iou: float = 0.5,
) -> jax.Array:
    """Returns which maps fail to localise: the box around a map overlaps no true box by half.

    Args:
      maps: Values `[..., h, w]`, at their own resolution: the threshold comes first, then the
        resize, then the box, see `maps.boxes`. NaN is no value.
      truth: Boxes of the object's instances, `(x0, y0, x1, y1)` half open, `[..., n, 4]`. One of
        them is enough. Boxes without area are padding.
      threshold: As for `maps.boxes`; `search_threshold` finds one on held-out pictures.
      rule: `"mean"`, `"min_max"` or `"energy"`, see `maps.boxes`.
      sizes: Height and width of the pictures in which the true boxes lie, `int[2]` or
        `int[..., 2]`; by default the maps' own.
      iou: The intersection over union that is enough; equality counts.

    Returns:
      `float[...]`: 1 for an error, 0 for a box that overlaps, NaN where there is no true box. A
      flat map is an error, although the box around it, the whole picture, may overlap enough.

    Example:
      >>> maps = jnp.zeros((2, 4, 4)).at[0, 1:3, 1:3].set(1.0)
      >>> jax.jit(localisation_error)(maps, jnp.array([[1, 1, 3, 4]]), threshold=1.0).tolist()
      [0.0, 1.0]

    References:
      Fong and Vedaldi, `Interpretable Explanations of Black Boxes by Meaningful Perturbation
      <https://arxiv.org/abs/1704.03296>`_, ICCV 2017, section 5.4; Russakovsky et al., ImageNet
      Large Scale Visual Recognition Challenge, IJCV 2015.
    """
    maps, truth = jnp.asarray(maps), _as_boxes(truth)
    found = boxes(maps, threshold, rule, size=sizes)
    best = box_iou(found[..., None, :], truth).max(axis=-1, initial=0)
    there = jnp.any(_area(truth) > 0, axis=-1)
    error = is_flat(maps) | (best < iou)
    return jnp.where(there, error.astype(best.dtype), jnp.nan)


class ThresholdSearch(NamedTuple):
    """The threshold that errs least, and what the others gave."""

    threshold: jax.Array
    """The first of the best thresholds, `float[]`."""
    thresholds: jax.Array
    """All that were tried, `float[t]`."""
    errors: jax.Array
    """Mean error of each, `float[t]`."""


def search_threshold(
    maps: ArrayLike,
    truth: ArrayLike,
    *,
    rule: Rule = "mean",
    sizes: ArrayLike | None = None,
    iou: float = 0.5,
    batch_size: int = 32,
) -> ThresholdSearch:
    """Returns the threshold with the least localisation error on held-out pictures.

    Report the error on other pictures: the one found here is optimistic. Thresholds are tried
    all at once, maps `batch_size` at a time, in constant memory.

    Args:
      maps: Values `[n, h, w]`, as for `localisation_error`.
      truth: Boxes `[n, m, 4]`.
      rule: The rule, which also chooses the grid: multiples of 0.5 up to 10 for `"mean"`, of
        0.05 up to 1 for the others (`THRESHOLDS`), as in the code of Fong and Vedaldi.
      sizes: Height and width of the pictures, `int[2]` or `int[n, 2]`; by default the maps' own.
      iou: The overlap that is enough.
      batch_size: Maps that are judged at a time.

    Returns:
      The threshold, and the mean error of each on the grid. Pictures without a true box do not
      count.

    Raises:
      ValueError: An unknown rule, or `maps` that are not `[n, h, w]`.

    Example:
      >>> maps = jnp.array([[[9.0, 4.0, 1.0, 0.0]]])
      >>> search = jax.jit(search_threshold, static_argnames="rule")
      >>> search(maps, jnp.array([[[0, 0, 1, 1]]]), rule="min_max").threshold
      Array(0.15, dtype=float32)
    """
    maps, truth = jnp.asarray(maps), jnp.asarray(truth)
    if rule not in THRESHOLDS:
        raise ValueError(f"rule is {rule!r}: choose one of {', '.join(THRESHOLDS)}")
    if maps.ndim != 3:
        raise ValueError(f"maps have shape {maps.shape}: expected [n, height, width]")
    thresholds = jnp.asarray(THRESHOLDS[rule], jnp.float32)
    sizes = jnp.asarray(maps.shape[1:] if sizes is None else sizes)
    each = (maps, truth, jnp.broadcast_to(sizes, (len(maps), 2)))

    def errors(one):
        values, true, size = one
        return jax.vmap(
            lambda threshold: localisation_error(
                values, true, threshold=threshold, rule=rule, sizes=size, iou=iou
            )
        )(thresholds)

    means = jnp.nanmean(lax.map(errors, each, batch_size=batch_size), axis=0)
    return ThresholdSearch(thresholds[jnp.argmin(means)], thresholds, means)


def _as_boxes(given: ArrayLike) -> jax.Array:
    given = jnp.asarray(given)
    if given.shape[-1:] != (4,):
        raise ValueError(f"boxes must be (x0, y0, x1, y1) [..., 4], got shape {given.shape}")
    return given.astype(jnp.promote_types(given.dtype, jnp.float32))


def _area(given: jax.Array) -> jax.Array:
    return jnp.prod(jnp.maximum(given[..., 2:] - given[..., :2], 0), axis=-1)
