"""What of a map counts, and when a map says nothing: one definition for every metric of maps.

* NaN and infinities are "no value here": they win nothing, carry no mass, and need no place to
  be counted. `maps.resize_each` puts NaN beyond the border of a picture.
* A map is *flat* if no value stands out: constant, all zero, all NaN, or of one pixel. A flat map
  points nowhere. It misses where a metric says hit or miss, and gets no more than chance where a
  metric is a share.
* A question without an answer, such as whether a point lies in an empty mask, is NaN. It belongs
  in no average; `by_category` leaves it out and does not count it.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxground.maps import values as map_values

# Resizing and smoothing a constant map in float32 leaves it constant to about 1e-6.
_FLAT = 1e-5


def is_flat(maps: ArrayLike) -> jax.Array:
    """Returns which maps say nothing, because no value of theirs stands out.

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      `bool[...]`: true where the values that are numbers differ by at most 1e-5 of the largest
      size among them (what resizing leaves of a constant map), and where there are none.

    Example:
      >>> is_flat(jnp.array([[[0.0, 1.0]], [[2.0, 2.0]], [[jnp.nan, 1.0]]])).tolist()
      [False, True, True]
    """
    maps = map_values.as_maps(maps)
    finite = jnp.isfinite(maps)
    low = jnp.min(maps, axis=(-2, -1), initial=jnp.inf, where=finite)
    high = jnp.max(maps, axis=(-2, -1), initial=-jnp.inf, where=finite)
    return ~stands_out(high, low)


def protocol(metric: Callable, **given: Any) -> dict[str, Any]:
    """Returns the protocol of a metric: every keyword-only argument with the value it takes.

    Args:
      metric: A function of this package; what follows the `*` in its signature is its protocol.
      **given: Arguments that differ from the defaults.

    Returns:
      The name of the metric as `metric`, then each argument and its value.

    Raises:
      TypeError: An argument that the metric has not, or one without default that is not given.

    Example:
      >>> from jaxground.metrics import pointing_game
      >>> protocol(pointing_game)
      {'metric': 'pointing_game', 'tolerance': 15}
    """
    signature = inspect.signature(metric)
    asked = {name: p for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    if unknown := given.keys() - asked.keys():
        raise TypeError(f"{metric.__name__} has no {', '.join(unknown)}: it has {', '.join(asked)}")
    values = {name: p.default for name, p in asked.items()} | given
    if missing := [name for name, value in values.items() if value is inspect.Parameter.empty]:
        raise TypeError(f"{metric.__name__} needs {', '.join(missing)}")
    return {"metric": metric.__name__} | values


def stands_out(high: jax.Array, low: jax.Array) -> jax.Array:
    """Returns where a maximum is more than rounding above its minimum."""
    size = jnp.maximum(jnp.abs(low), jnp.abs(high))
    return high / size - low / size > _FLAT  # false for NaN: no number, or zeros alone


def known(maps: ArrayLike) -> jax.Array:
    """Returns maps in float32 or float64, with NaN for every value that is no number."""
    maps = map_values.as_maps(maps)
    return jnp.where(jnp.isfinite(maps), maps, jnp.nan)


def paired(maps: ArrayLike, masks: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns maps and masks, at one resolution and true inside the object, or says what is wrong.

    Leading axes broadcast.
    """
    maps, masks = known(maps), as_masks(masks)
    if maps.shape[-2:] != masks.shape[-2:]:
        raise ValueError(
            f"maps {maps.shape} and masks {masks.shape} differ in resolution: bring the maps to "
            "the picture with maps.resize, or maps.resize_each where pictures differ in size"
        )
    shape = jnp.broadcast_shapes(maps.shape, masks.shape)
    return jnp.broadcast_to(maps, shape), jnp.broadcast_to(masks, shape)


def as_masks(masks: ArrayLike) -> jax.Array:
    """Returns masks `bool[..., h, w]`, or says what is wrong."""
    masks = jnp.asarray(masks)
    if masks.ndim < 2 or 0 in masks.shape[-2:]:
        raise ValueError(f"masks have shape {masks.shape}: expected [..., height, width]")
    if jnp.issubdtype(masks.dtype, jnp.floating):
        raise TypeError(f"masks are {masks.dtype}: give bool or 0 and 1, true inside the object")
    return masks.astype(bool)
