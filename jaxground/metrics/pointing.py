"""The pointing game: does the peak of a map lie on the object?

The protocol of Zhang et al. (ECCV 2016) and of TorchRay: a map is resized to the picture as it is
stored, its first maximum in reading order is the point, and the point hits if it is nearer than
15 pixels to the object: the union of the masks of a category's instances (COCO) or of their boxes
(VOC). Scores are means over categories of the share of hits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxground.maps import peak
from jaxground.metrics.validity import as_masks, paired, stands_out


def nearest_distance(points: ArrayLike, masks: ArrayLike) -> jax.Array:
    """Returns how far each point lies from the nearest pixel of a mask.

    Args:
      points: Row and column `[..., 2]`, such as a peak or the centre of the picture; fractions
        are allowed.
      masks: `bool[..., h, w]`, true inside the object. Leading axes broadcast.

    Returns:
      Euclidean distance in pixels, `float32[...]` (float64 where points are); zero on the object,
      NaN for an empty mask or a point that is NaN.

    Example:
      >>> mask = jnp.zeros((5, 5), bool).at[4, 3].set(True)
      >>> nearest_distance(jnp.array([[0, 0], [4, 3]]), mask).tolist()
      [5.0, 0.0]
    """
    masks, points = as_masks(masks), jnp.asarray(points)
    if points.shape[-1:] != (2,):
        raise ValueError(f"points must be row and column [..., 2], got shape {points.shape}")
    points = points if points.dtype == jnp.float64 else points.astype("float32")
    rows, columns = (jnp.arange(size, dtype=points.dtype) for size in masks.shape[-2:])
    down, right = rows - points[..., :1], columns - points[..., 1:]
    squared = jnp.square(down)[..., :, None] + jnp.square(right)[..., None, :]
    least = jnp.where(masks, squared, jnp.inf).min(axis=(-2, -1))
    return jnp.where(jnp.isinf(least), jnp.nan, jnp.sqrt(least))


def pointing_distance(maps: ArrayLike, masks: ArrayLike) -> jax.Array:
    """Returns how far the peak of each map lies from the object.

    What the pointing game compares with its tolerance; keep it to play with other tolerances.

    Args:
      maps: Values `[..., h, w]` at the resolution of the picture, see `maps.resize` and
        `maps.resize_each`. NaN and infinities are no value.
      masks: `bool[..., h, w]`, true inside the object. Leading axes broadcast.

    Returns:
      Distance in pixels, `float[...]`; infinite for a flat map, which points nowhere (see
      `is_flat`); NaN for an empty mask, whatever the map.

    Example:
      >>> mask = jnp.zeros((5, 5), bool).at[4, 3].set(True)
      >>> pointing_distance(jnp.zeros((2, 5, 5)).at[1, 0, 0].set(1.0), mask).tolist()
      [inf, 5.0]
    """
    maps, masks = paired(maps, masks)
    point = peak(maps)
    # `is_flat`, but for a maximum that is already found: a third of the cost on CPU.
    row = jnp.take_along_axis(maps, point[..., :1, None], axis=-2)[..., 0, :]
    high = jnp.take_along_axis(row, point[..., 1:], axis=-1)[..., 0]
    low = jnp.where(jnp.isnan(maps), jnp.inf, maps).min(axis=(-2, -1))
    distance = nearest_distance(point, masks)
    return jnp.where(stands_out(high, low) | jnp.isnan(distance), distance, jnp.inf)


def pointing_game(maps: ArrayLike, masks: ArrayLike, *, tolerance: ArrayLike = 15) -> jax.Array:
    """Returns which maps hit: their peak lies on the object, or nearer to it than the tolerance.

    The inequality is strict, as in TorchRay: a peak 15 pixels away misses. A protocol that counts
    it compares `pointing_distance` by itself.

    Args:
      maps: Values `[..., h, w]` at the resolution of the picture. Of equal maxima the first in
        reading order is the peak. NaN and infinities are no value.
      masks: `bool[..., h, w]`, true inside the object: the union of a category's instances.
        Leading axes broadcast.
      tolerance: In pixels of the maps, so of the picture as stored if the maps have its
        resolution; a number, or one for each map. Zero leaves the object itself.

    Returns:
      `float[...]`: 1 for a hit, 0 for a miss, NaN for an empty mask. A flat map misses, also an
      object that fills the picture.

    Example:
      >>> mask = jnp.zeros((5, 5), bool).at[4, 3].set(True)
      >>> pointing_game(jnp.zeros((2, 5, 5)).at[1, 0, 0].set(1.0), mask, tolerance=6).tolist()
      [0.0, 1.0]

    References:
      Zhang et al., `Top-down Neural Attention by Excitation Backprop
      <https://arxiv.org/abs/1608.00507>`_, ECCV 2016, section 5.1.
    """
    distance = pointing_distance(maps, masks)
    hit = (distance == 0) | (distance < jnp.asarray(tolerance, distance.dtype))
    return jnp.where(jnp.isnan(distance), jnp.nan, hit.astype(distance.dtype))


class CategoryMeans(NamedTuple):
    """A score averaged as the field does, and what it was averaged from."""

    mean_over_categories: jax.Array
    """Mean of the categories' means, `float[]`: the score that papers report."""
    micro: jax.Array
    """Mean over all pairs of picture and category, `float[]`."""
    means: jax.Array
    """Mean of each category, `float[count]`; NaN where it has no pair."""
    counts: jax.Array
    """Pairs of each category, `int32[count]`."""


def by_category(values: ArrayLike, categories: ArrayLike, *, count: int) -> CategoryMeans:
    """Returns a score as the mean over categories, over all pairs, and for each category.

    Args:
      values: Score of each pair of picture and category, any shape. NaN is left out and not
        counted: so `jnp.where(in_difficult_subset(...), values, jnp.nan)` averages a subset.
      categories: Category of each pair, `int` in the same shape, in `0..count - 1`; a pair with
        another one is left out.
      count: Number of categories; static under `jax.jit`.

    Returns:
      The averages. NaN where there is nothing to average.

    Example:
      >>> hits, categories = jnp.array([1.0, 0.0, 0.0, 1.0, jnp.nan]), jnp.array([0, 0, 0, 1, 1])
      >>> scores = by_category(hits, categories, count=3)
      >>> [round(float(score), 3) for score in scores[:2]], scores.counts.tolist()
      ([0.667, 0.5], [3, 1, 0])
    """
    values, categories = jnp.ravel(jnp.asarray(values)), jnp.ravel(jnp.asarray(categories))
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    if values.shape != categories.shape:
        raise ValueError(f"{values.size} values have {categories.size} categories")
    used = ~jnp.isnan(values) & (categories >= 0) & (categories < count)
    place = jnp.where(used, categories, count)  # one more, for what is left out
    totals = jnp.zeros(count + 1, values.dtype).at[place].add(jnp.where(used, values, 0))[:-1]
    counts = jnp.zeros(count + 1, "int32").at[place].add(1)[:-1]
    means = totals / counts  # 0 / 0 is NaN
    return CategoryMeans(jnp.nanmean(means), totals.sum() / counts.sum(), means, counts)


def in_difficult_subset(
    boxes: ArrayLike, categories: ArrayLike, targets: ArrayLike, *, sizes: ArrayLike
) -> jax.Array:
    """Returns which pairs of picture and category the EB authors' difficult subset holds.

    Those in which the boxes of the category's objects cover, added up, less than a quarter of
    the picture, and at least one object of another category is there. (The authors publish lists;
    this is the rule of their paper as we remember it, not checked against those.)

    Args:
      boxes: `(x0, y0, x1, y1)` of every object, half open, `[..., n, 4]`.
      categories: Category of every object, `int[..., n]`; negative where there is none, so that
        pictures with fewer objects can be padded.
      targets: Category asked for, `int[...]`.
      sizes: Height and width of the picture, `[..., 2]`.

    Returns:
      `bool[...]`.

    Example:
      >>> boxes = jnp.array([[0, 0, 4, 4], [5, 5, 9, 10]])
      >>> in_difficult_subset(boxes, jnp.array([7, 3]), 7, sizes=jnp.array([10, 10])).tolist()
      True
    """
    boxes, categories, sizes = jnp.asarray(boxes), jnp.asarray(categories), jnp.asarray(sizes)
    ours = categories == jnp.asarray(targets)[..., None]
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    small = 4 * jnp.where(ours, areas, 0).sum(axis=-1) < sizes[..., 0] * sizes[..., 1]
    return small & (~ours & (categories >= 0)).any(axis=-1)


def is_skipped(categories: ArrayLike, difficult: ArrayLike, targets: ArrayLike) -> jax.Array:
    """Returns which pairs VOC's pointing game skips: every object of the category is `difficult`.

    Where one is not, the pair counts and the union of boxes holds the difficult ones too.

    Args:
      categories: Category of every object, `int[..., n]`; negative where there is none.
      difficult: PASCAL's flag of every object, `bool[..., n]`.
      targets: Category asked for, `int[...]`.

    Returns:
      `bool[...]`, true also where the picture has no object of the category.

    Example:
      >>> is_skipped(jnp.array([7, 7, 3]), jnp.array([True, False, True]), jnp.array(7)).tolist()
      False
    """
    ours = jnp.asarray(categories) == jnp.asarray(targets)[..., None]
    return ~(ours & ~jnp.asarray(difficult)).any(axis=-1)
