"""How much of a map lies where it should: energy, grid cells, the top pixels.

All three are shares in 0..1, of the positive values alone or of the largest ones. A flat map gets
chance, the share that the region has of the picture, or 0 where it has no positive value.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxground.metrics.validity import is_flat, known, paired


def energy_pointing_game(maps: ArrayLike, masks: ArrayLike) -> jax.Array:
    r"""Returns the share of each map's positive mass that lies inside the mask.

    .. math:: \sum_{p \in M} L^+_p \Big/ \sum_p L^+_p

    With boxes for masks it is the energy-based pointing game; with the outlines of objects the
    mass inside the mask, also called relevance mass accuracy.

    Args:
      maps: Values `[..., h, w]`, at the resolution of the masks. Negative values count as zero;
        NaN and infinities are no value.
      masks: `bool[..., h, w]`, true inside the object. Leading axes broadcast.

    Returns:
      `float[...]` in 0..1. A constant positive map gets the share of the picture that the mask
      covers, so one for a mask that fills it; a map without positive value gets 0; an empty mask
      gives NaN.

    Example:
      >>> maps = jnp.array([[3.0, 1.0, -5.0, 0.0]])
      >>> energy_pointing_game(maps, jnp.array([[True, False, True, False]])).tolist()
      0.75

    References:
      Wang et al., `Score-CAM <https://arxiv.org/abs/1910.01279>`_, CVPR workshops 2020, section
      4.3; Arras, Osman and Samek, `CLEVR-XAI <https://arxiv.org/abs/2003.07258>`_, 2022.
    """
    maps, masks = paired(maps, masks)
    mass = _mass(maps)
    inside = jnp.where(masks, mass, 0).sum(axis=(-2, -1))
    share = _over(inside, mass.sum(axis=(-2, -1)))
    return jnp.where(masks.any(axis=(-2, -1)), share, jnp.nan)


def grid_pointing_game(maps: ArrayLike, cells: ArrayLike, *, grid: tuple[int, int]) -> jax.Array:
    """Returns the share of each map's positive mass that lies in the right cell of a mosaic.

    A pixel that cell borders cut counts for each of the cells by area, so that maps need not have
    the resolution of the picture, nor one that the grid divides.

    Args:
      maps: Values `[..., h, w]` over the whole mosaic. Negative values count as zero; NaN and
        infinities are no value.
      cells: Which cell holds the picture of the map's target, `int[...]`, counted in reading
        order; a number outside the grid for a target that the mosaic does not hold. Leading axes
        broadcast.
      grid: Rows and columns of the mosaic.

    Returns:
      `float[...]` in 0..1. A constant positive map gets chance, one over the number of cells; a
      map without positive value gets 0; a target that is not there gives NaN.

    Raises:
      ValueError: A grid without rows or columns.

    Example:
      >>> maps = jnp.array([[[1.0, 3.0, 0.0], [0.0, 0.0, -1.0]]])
      >>> grid_pointing_game(maps, jnp.array([0]), grid=(1, 2)).tolist()
      [0.625]

    References:
      Böhle, Fritz and Schiele, `Convolutional Dynamic Alignment Networks
      <https://arxiv.org/abs/2104.00032>`_, CVPR 2021, section 4.
    """
    if min(grid) < 1:
        raise ValueError(f"a grid of {grid[0]}x{grid[1]} has no cells")
    mass, cells = _mass(known(maps)), jnp.asarray(cells)
    rows, columns = (
        jnp.asarray(_cover(length, number), mass.dtype)
        for length, number in zip(mass.shape[-2:], grid, strict=True)
    )
    inside = jnp.einsum("ih,...hw,jw->...ij", rows, mass, columns, precision="highest")
    inside = inside.reshape(*inside.shape[:-2], grid[0] * grid[1])
    right = cells[..., None] == jnp.arange(inside.shape[-1])
    share = _over(jnp.where(right, inside, 0).sum(axis=-1), inside.sum(axis=-1))
    return jnp.where(right.any(axis=-1), share, jnp.nan)


def top_k_intersection(
    maps: ArrayLike, masks: ArrayLike, *, k: ArrayLike | None = None
) -> jax.Array:
    """Returns the share of each map's `k` largest values that lie inside the mask.

    Args:
      maps: Values `[..., h, w]`, at the resolution of the masks. NaN and infinities are no value.
      masks: `bool[..., h, w]`, true inside the object. Leading axes broadcast.
      k: Number of pixels, one for all maps or one for each; at most those with a value are taken.
        By default the pixels of the mask: then this is relevance rank accuracy.

    Returns:
      `float[...]` in 0..1. Equal values share the places that are left among them, so that a
      constant map gets the share of the picture that the mask covers, whatever `k`. A map without
      any value gets 0, an empty mask gives NaN.

    Example:
      >>> maps, masks = jnp.array([[4.0, 3.0, 2.0, 1.0]]), jnp.array([[True, False, True, False]])
      >>> top_k_intersection(maps, masks).tolist(), top_k_intersection(maps, masks, k=1).tolist()
      (0.5, 1.0)

    References:
      Theiner et al., `Interpretable Semantic Photo Geolocation
      <https://arxiv.org/abs/2104.14995>`_, WACV 2022; for the default Arras et al. 2022.
    """
    maps, masks = paired(maps, masks)
    usable = ~jnp.isnan(maps)
    size, present = (m.sum(axis=(-2, -1)) for m in (masks, usable))
    places = jnp.clip(size if k is None else jnp.asarray(k), 1, jnp.maximum(present, 1))
    values = jnp.where(is_flat(maps)[..., None, None] | (maps == 0), 0, maps)  # no negative zero
    order = _order(jnp.where(usable, values, -jnp.inf))
    least = _largest(order, places)[..., None, None]
    above, equal = usable & (order > least), usable & (order == least)
    taken, found, tied, good = (
        m.sum(axis=(-2, -1)) for m in (above, above & masks, equal, equal & masks)
    )
    hits = found + (places - taken) * _over(good.astype(maps.dtype), tied)
    return jnp.where(size > 0, hits / places, jnp.nan)


def _mass(maps: jax.Array) -> jax.Array:
    """Returns positive values as shares of the largest, so that no sum overflows; else zero."""
    mass = jnp.where(maps > 0, maps, 0)
    return _over(mass, mass.max(axis=(-2, -1), keepdims=True))


def _over(part: jax.Array, whole: jax.Array) -> jax.Array:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def _cover(length: int, number: int) -> np.ndarray:
    """Returns the share of each of `length` pixels that lies in each of `number` equal cells."""
    borders = np.arange(number + 1)[:, None] * length / number
    pixels = np.arange(length)
    return np.clip(np.minimum(pixels + 1, borders[1:]) - np.maximum(pixels, borders[:-1]), 0, None)


def _order(values: jax.Array) -> jax.Array:
    """Returns unsigned integers in the order of the values: their bits, negative ones inverted."""
    bits = lax.bitcast_convert_type(values, f"uint{8 * values.dtype.itemsize}")
    sign = _sign(bits)
    return jnp.where(bits & sign > 0, ~bits, bits | sign)


def _largest(order: jax.Array, k: jax.Array) -> jax.Array:
    """Returns the `k`-th largest of each map, bit by bit: a sort takes 30 times as long on CPU."""
    sign = _sign(order)

    def refine(bit, least):
        candidate = least | (sign >> bit.astype(order.dtype))
        enough = (order >= candidate[..., None, None]).sum(axis=(-2, -1)) >= k
        return jnp.where(enough, candidate, least)

    zero = jnp.zeros(order.shape[:-2], order.dtype)
    return lax.fori_loop(0, 8 * order.dtype.itemsize, refine, zero)


def _sign(bits: jax.Array) -> jax.Array:
    return jnp.asarray(1 << (8 * bits.dtype.itemsize - 1), bits.dtype)
