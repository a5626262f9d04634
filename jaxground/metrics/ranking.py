"""Which pixel comes first: ranks by one sort, and what becomes of ties."""

import jax
import jax.numpy as jnp
from jax import Array, lax


def tied_ranks(values: Array) -> tuple[Array, Array]:
    """Returns the first and the last rank that each value shares with those equal to it.

    Ranks count from zero, ascending. NaN is "no value": all NaN are equal, and below the rest.

    Args:
      values: `[..., n]`.

    Returns:
      Two arrays `int32[..., n]`. They agree where a value is alone; their mean is the usual
      "average rank".

    Example:
      >>> tied_ranks(jnp.array([5.0, 2.0, 5.0, jnp.nan]))
      (Array([2, 1, 2, 0], dtype=int32), Array([3, 1, 3, 0], dtype=int32))
    """
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    places = lax.broadcasted_iota("int32", values.shape, values.ndim - 1)
    ordered, owners = lax.sort((values, places), num_keys=1)
    rises = ordered[..., 1:] != ordered[..., :-1]
    ends = jnp.ones_like(rises, shape=(*rises.shape[:-1], 1))
    axis, most = values.ndim - 1, values.shape[-1] - 1
    first = lax.cummax(jnp.where(jnp.concatenate([ends, rises], -1), places, 0), axis)
    last = lax.cummin(
        jnp.where(jnp.concatenate([rises, ends], -1), places, most), axis, reverse=True
    )
    return _scattered(first, owners), _scattered(last, owners)


def removal_ranks(maps: Array, order: str) -> Array:
    """Returns how many pixels go before each pixel when a map says in which order they go.

    Pixels that a map does not tell apart all rank as the *least relevant* of them: in `"morf"`
    (most relevant first) none goes before all of them are due, in `"lerf"` (least relevant first)
    all go with the first. So no order is made up, the result does not depend on where in the
    image a pixel lies, and a map earns nothing from what it does not say. A constant map says that
    every pixel is the least relevant one.

    Args:
      maps: Relevance `[..., h, w]`; NaN is the least.
      order: `"morf"` or `"lerf"`.

    Returns:
      `int32[..., h, w]`: after `n` removals the pixels of rank below `n` are gone.

    Raises:
      ValueError: There is no such order.

    Example:
      >>> relevance = jnp.array([[0.3, 0.1], [0.1, 0.9]])
      >>> removal_ranks(relevance, "morf").tolist(), removal_ranks(relevance, "lerf").tolist()
      ([[1, 3], [3, 0]], [[2, 0], [0, 3]])
    """
    if order not in ("morf", "lerf"):
        raise ValueError(f'order is {order!r}: "morf" (most relevant first) or "lerf" (least)')
    first, _ = tied_ranks(maps.reshape(*maps.shape[:-2], -1))
    first = first.reshape(maps.shape)
    return first if order == "lerf" else maps.shape[-2] * maps.shape[-1] - 1 - first


def _scattered(ranks: Array, owners: Array) -> Array:
    """Returns sorted ranks in the order of the values they belong to."""
    rows = ranks.reshape(-1, ranks.shape[-1])
    place = jax.vmap(lambda row, owner: jnp.zeros_like(row).at[owner].set(row, unique_indices=True))
    return place(rows, owners.reshape(rows.shape)).reshape(ranks.shape)
