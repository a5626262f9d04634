"""What a map must sum to: conservation and completeness.

A method that distributes a quantity promises a total: integrated gradients the score less that of
the baseline (completeness), layer-wise relevance propagation the logit, excitation backprop one,
the mass of its prior (conservation). `scores.score_values` answers the scores. NaN and infinities
in a map count as zero.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxground.metrics.validity import is_flat, known


def conservation(maps: ArrayLike, totals: ArrayLike) -> jax.Array:
    """Returns what share of the total each map holds.

    Args:
      maps: Values `[..., h, w]`, as the explainer gave them: resizing does not keep sums.
      totals: What each map promises to sum to, `float[...]`; one number for all will do.

    Returns:
      `float[...]`: 1 if the total is conserved, less where some is lost, 0 for a map of zeros;
      NaN where the total is zero, of which there are no shares. No score: a constant map of the
      right sum conserves it as well.

    Example:
      >>> conservation(jnp.array([[[0.25, 0.5]], [[0.0, 0.0]]]), 1.0).tolist()
      [0.75, 0.0]
    """
    maps, totals = known(maps), jnp.asarray(totals)
    totals = jnp.where(totals == 0, jnp.nan, totals).astype(maps.dtype)
    return jnp.nansum(maps, axis=(-2, -1)) / totals


def completeness_gap(maps: ArrayLike, totals: ArrayLike) -> jax.Array:
    r"""Returns by what part of the total each map misses it.

    .. math:: \left|\sum_p v_p - T\right| / |T|

    Args:
      maps: Values `[..., h, w]`, as the explainer gave them: resizing does not keep sums.
      totals: What each map promises to sum to, `float[...]`: for integrated gradients the score
        of the image less that of the baseline; for a conserving method see `conservation`.

    Returns:
      `float[...]` from 0, complete; NaN where the total is zero. A flat map gives 1 like one of
      zeros, and so does one with a single pixel: even with the right sum it attributes nothing.

    Example:
      >>> completeness_gap(jnp.array([[[1.0, 2.0]], [[2.0, 2.0]]]), jnp.array([4.0, 4.0])).tolist()
      [0.25, 1.0]

    References:
      Sundararajan, Taly and Yan, `Axiomatic Attribution for Deep Networks
      <https://arxiv.org/abs/1703.01365>`_, ICML 2017, section 3.
    """
    held = conservation(maps, totals)
    return jnp.where(is_flat(maps) & ~jnp.isnan(held), 1, jnp.abs(held - 1))
