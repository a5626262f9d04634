"""How alike two maps are."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.maps import normalise, smooth
from jaxground.metrics.asking import contrasted
from jaxground.metrics.ranking import tied_ranks


class Similarity(NamedTuple):
    """How alike maps are, in the shape of their leading axes; 1 is the same.

    Attributes:
      spearman: Rank correlation, -1..1, of the maps as they are.
      absolute_spearman: The same of their absolute values.
      ssim: Structural similarity, each map stretched to 0..1 before.
    """

    spearman: Array
    absolute_spearman: Array
    ssim: Array


def similarity(maps: ArrayLike, others: ArrayLike) -> Similarity:
    """Returns all measures of how alike maps are, those of the sanity checks.

    Args:
      maps: Values `[..., h, w]`.
      others: Values of the same resolution; leading axes broadcast.

    Example:
      >>> import jax
      >>> a = jnp.array([[0.0, 1.0, -2.0]])
      >>> [round(float(value), 3) for value in jax.jit(similarity)(a, -a)]
      [-1.0, 1.0, -0.869]

    References:
      Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 4.1.
    """
    sizes = jnp.abs(jnp.asarray(maps)), jnp.abs(jnp.asarray(others))
    return Similarity(spearman(maps, others), spearman(*sizes), ssim(maps, others))


def spearman(maps: ArrayLike, others: ArrayLike) -> Array:
    """Returns Spearman's rank correlation of maps, -1..1; equal pixels share their mean rank.

    Two flat maps (constant, or without any number) are the same, 1; a flat map and another have
    nothing in common, 0. NaN pixels rank below all others.

    Args:
      maps: Values `[..., h, w]`.
      others: Values of the same resolution; leading axes broadcast.

    Example:
      >>> import jax
      >>> jax.jit(spearman)(jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[0.0, 0.1, 0.5]]))
      Array(1., dtype=float32)
    """
    a, b = _centred_ranks(maps), _centred_ranks(others)
    sizes = jnp.sqrt((a**2).sum(-1)), jnp.sqrt((b**2).sum(-1))
    flat = [size == 0 for size in sizes]
    correlation = (a * b).sum(-1) / jnp.where(flat[0] | flat[1], 1, sizes[0] * sizes[1])
    return jnp.where(flat[0] & flat[1], 1, jnp.clip(correlation, -1, 1))


def ssim(maps: ArrayLike, others: ArrayLike) -> Array:
    """Returns the structural similarity of maps, -1..1, each stretched to 0..1 before.

    A Gaussian window of 1.5 pixels, constants 0.01 and 0.03 of the range, the mean over all pixels;
    borders are replicated (`maps.smooth`). NaN pixels count as the lowest.

    Args:
      maps: Values `[..., h, w]`.
      others: Values of the same resolution; leading axes broadcast.

    Example:
      >>> import jax
      >>> jax.jit(ssim)(jnp.eye(4), 2 * jnp.eye(4) + 1).round(5)
      Array(1., dtype=float32)

    References:
      Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE
      Transactions on Image Processing 2004, equation 13.
    """
    a, b = (jnp.nan_to_num(normalise(contrasted(m))) for m in (maps, others))
    a, b = jnp.broadcast_arrays(a, b)
    mean_a, mean_b, aa, bb, ab = smooth(jnp.stack([a, b, a * a, b * b, a * b]), 1.5)
    variance_a, variance_b = aa - mean_a**2, bb - mean_b**2
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return (luminance * structure).mean((-2, -1))


def _centred_ranks(maps: ArrayLike) -> Array:
    """Returns mean ranks `[..., h * w]` about zero, in -1/2..1/2; exact zeros for a flat map."""
    maps = contrasted(maps)
    first, last = tied_ranks(maps.reshape(*maps.shape[:-2], -1))
    top = first.shape[-1] - 1
    return (first + last - top).astype("float32") / (2 * max(top, 1))
