"""Maps as arrays of values: smooth, show, point."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike


def smooth(maps: ArrayLike, sigma: float | None = None) -> jax.Array:
    """Returns the maps after a Gaussian, the usual finish of maps made at the image.

    The kernel ends four standard deviations out and sums to one; the edge is replicated.

    Args:
      maps: Values `[..., h, w]`.
      sigma: Standard deviation in pixels of the map, a Python number; by default 0.02 of the
        longer side, the choice of TorchRay for gradients, guided backprop and deconvnets.

    Returns:
      Values in the same shape, float32 or wider. Zero `sigma` changes nothing.

    Raises:
      ValueError: `sigma` is negative or not finite.

    Example:
      >>> [f"{value:.2f}" for value in smooth(jnp.eye(5)[2:3], 0.5)[0]]
      ['0.00', '0.11', '0.79', '0.11', '0.00']
    """
    maps = as_maps(maps)
    sigma = 0.02 * max(maps.shape[-2:]) if sigma is None else float(sigma)
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma is {sigma}: give a standard deviation in pixels, zero or more")
    if sigma == 0:
        return maps
    radius = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = jnp.asarray(kernel / kernel.sum(), maps.dtype)
    for axis in (maps.ndim - 2, maps.ndim - 1):
        maps = _filter(maps, kernel, axis)
    return maps


def normalise(maps: ArrayLike) -> jax.Array:
    """Returns the maps stretched to 0..1, each by its own minimum and maximum, for display.

    The stretch hides how large a map is: compare maps before it, look at them after it.

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      Values in 0..1 in the same shape. A constant map becomes zero everywhere: nothing stands
      out. NaN stays NaN, an infinity goes to its end of the range.

    Example:
      >>> normalise(jnp.array([[[2.0, 4.0]], [[3.0, 3.0]]]))
      Array([[[0., 1.]],
      <BLANKLINE>
             [[0., 0.]]], dtype=float32)
    """
    maps = as_maps(maps)
    finite = jnp.isfinite(maps)
    low = jnp.min(maps, axis=(-2, -1), keepdims=True, initial=jnp.inf, where=finite)
    high = jnp.max(maps, axis=(-2, -1), keepdims=True, initial=-jnp.inf, where=finite)
    spread = jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, jnp.clip((maps - low) / spread, 0, 1), jnp.where(finite, 0, maps))


def peak(maps: ArrayLike) -> jax.Array:
    """Returns the row and column of each map's maximum, the point of the pointing game.

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      Indices `int32[..., 2]`, row first. Of equal maxima the first in reading order wins, so a
      flat map, such as a contrastive map without evidence, points at (0, 0): ask
      `maps.max() > maps.min()` before believing it.

    Example:
      >>> peak(jnp.array([[0.0, 1.0], [2.0, 2.0]]))
      Array([1, 0], dtype=int32)
    """
    maps = as_maps(maps)
    values = jnp.where(jnp.isnan(maps), -jnp.inf, maps)
    # The first row that holds the maximum, then its first place in it: both are reductions that
    # XLA vectorises on CPU, where argmax over all pixels takes ten times as long.
    row = jnp.argmax(values.max(axis=-1), axis=-1, keepdims=True)
    best = jnp.take_along_axis(values, row[..., None], axis=-2)[..., 0, :]
    column = jnp.argmax(best, axis=-1, keepdims=True)
    return jnp.concatenate([row, column], axis=-1).astype("int32")


def choose(table: dict[str, Callable], name: str, what: str) -> Callable:
    """Returns the function of that name, or says which names there are."""
    if name not in table:
        raise ValueError(f"{what} is {name!r}: choose one of {', '.join(table)}")
    return table[name]


def as_maps(maps: ArrayLike) -> jax.Array:
    """Returns maps as an array `[..., h, w]` of float32 or float64, or says what is wrong."""
    maps = jnp.asarray(maps)
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ValueError(f"maps have shape {maps.shape}: expected [..., height, width]")
    return maps if maps.dtype == jnp.float64 else maps.astype(jnp.float32)


def flatten(maps: jax.Array, *, nan: float) -> jax.Array:
    """Returns maps as `[..., h * w]`, with another value for NaN."""
    return jnp.where(jnp.isnan(maps), nan, maps).reshape(
        *maps.shape[:-2], math.prod(maps.shape[-2:])
    )


def _filter(maps: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    """Shifted multiply-adds: on CPU, XLA's convolutions of one channel are 50 times slower."""
    radius, length = kernel.size // 2, maps.shape[axis]
    padding = [(radius, radius) if i == axis else (0, 0) for i in range(maps.ndim)]
    padded = jnp.pad(maps, padding, mode="edge")

    def add(i, total):
        return total + kernel[i] * lax.dynamic_slice_in_dim(padded, i, length, axis)

    return lax.fori_loop(0, kernel.size, add, jnp.zeros_like(maps), unroll=8)
