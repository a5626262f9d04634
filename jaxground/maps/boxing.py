"""Boxes around what a map keeps above a threshold."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxground.maps.values import as_maps, choose, flatten

Rule = Literal["mean", "min_max", "energy"]


def boxes(
    maps: ArrayLike,
    threshold: ArrayLike,
    rule: Rule = "mean",
    *,
    size: ArrayLike | None = None,
) -> jax.Array:
    r"""Returns the tightest box around what each map keeps above a threshold.

    First the threshold :math:`\alpha`, at the resolution of the map, then the bilinear resize,
    then the box over every positive pixel left; there is no step that looks for a largest
    component.

    * `"mean"` keeps :math:`v \ge \alpha\,\mathrm{mean}(v)`;
    * `"min_max"` keeps :math:`v - \min v \ge \alpha\,(\max v - \min v)`;
    * `"energy"` takes pixels from the largest down and keeps them while their sum is below
      :math:`\alpha \sum v`; the pixel that reaches it is dropped. Equal pixels are taken in
      reading order.

    Args:
      maps: Values `[..., h, w]`. Contrastive maps are meant to be clipped at zero.
      threshold: Value of :math:`\alpha`; a number, or one for each map (any shape that
        broadcasts against the leading axes). May be traced.
      rule: One of the three rules above.
      size: Height and width of the picture the box shall refer to, or of each map's picture,
        `int[..., 2]`; by default the map's own. May be traced.

    Returns:
      Boxes `int32[..., 4]` as `(x0, y0, x1, y1)`, in whole pixels counted from zero and half
      open: columns `x0 <= x < x1` and rows `y0 <= y < y1` belong to it, so it is `x1 - x0` wide.
      Where nothing is left, the whole picture `(0, 0, width, height)`.

    Raises:
      ValueError: `maps` has no two spatial axes, one of them is empty, or `rule` is unknown.

    Example:
      >>> boxes(jnp.array([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]]), 1.5)
      Array([1, 1, 3, 2], dtype=int32)

    References:
      Fong and Vedaldi, `Interpretable Explanations of Black Boxes by Meaningful Perturbation
      <https://arxiv.org/abs/1704.03296>`_, ICCV 2017, section 5.4, and the released code.
    """
    maps = as_maps(maps)
    threshold = jnp.broadcast_to(jnp.asarray(threshold, maps.dtype), maps.shape[:-2])
    rules = {"mean": _above_mean, "min_max": _above_range, "energy": _most_energy}
    kept = choose(rules, rule, "rule")(maps, threshold[..., None, None])
    inside = kept & (maps > 0)
    height, width = inside.shape[-2:]
    sizes = jnp.asarray((height, width) if size is None else size)
    x0, x1 = _extent(inside.any(axis=-2), sizes[..., 1])
    y0, y1 = _extent(inside.any(axis=-1), sizes[..., 0])
    return jnp.stack([x0, y0, x1, y1], axis=-1)


def _above_mean(maps: jax.Array, threshold: jax.Array) -> jax.Array:
    return maps >= threshold * jnp.nanmean(maps, axis=(-2, -1), keepdims=True)


def _above_range(maps: jax.Array, threshold: jax.Array) -> jax.Array:
    low = jnp.nanmin(maps, axis=(-2, -1), keepdims=True)
    high = jnp.nanmax(maps, axis=(-2, -1), keepdims=True)
    return maps - low >= threshold * (high - low)


def _most_energy(maps: jax.Array, threshold: jax.Array) -> jax.Array:
    values = flatten(maps, nan=0)
    ordered = jnp.sort(values, axis=-1, descending=True)
    energy = jnp.cumsum(ordered, axis=-1)
    # Once reached it stays reached, also where negative values make the sum fall again.
    reached = lax.cummax(energy, axis=energy.ndim - 1) >= threshold[..., 0] * energy[..., -1:]
    count = jnp.sum(~reached, axis=-1, keepdims=True)
    last = jnp.take_along_axis(ordered, jnp.maximum(count - 1, 0), axis=-1)
    above, equal = values > last, values == last
    spare = count - jnp.sum(above, axis=-1, keepdims=True)
    kept = (count > 0) & (above | (equal & (jnp.cumsum(equal, axis=-1) <= spare)))
    return kept.reshape(maps.shape)


def _extent(occupied: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First pixel and one past the last of an axis that, resized to `new` pixels, is not zero.

    Bilinear interpolation reaches all that lies less than one old pixel from an occupied one.
    The whole axis where none is occupied. In whole numbers, hence exact.
    """
    old = occupied.shape[-1]
    first = jnp.argmax(occupied, axis=-1)
    last = old - jnp.argmax(occupied[..., ::-1], axis=-1)
    low = ((2 * first - 1) * new - old) // (2 * old) + 1
    high = -((old - (2 * last + 1) * new) // (2 * old))
    some = occupied.any(axis=-1)
    low = jnp.where(some, jnp.clip(low, 0, new - 1), 0)
    return low.astype("int32"), jnp.where(some, jnp.clip(high, low + 1, new), new).astype("int32")
