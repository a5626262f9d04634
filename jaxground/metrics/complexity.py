"""How few pixels a map speaks of: sparseness and entropy.

Both look at the size of values, not their sign, are invariant to scale, and are taken at the map's
own resolution: resizing a map makes neighbours alike. NaN and infinities are no value. Effective
complexity (Nguyen and Martínez 2020) asks the network which values can be dropped, and is no
property of a map; counts of values above a fixed epsilon, sold under that name, change with scale.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jax.typing import ArrayLike

from jaxground.metrics.validity import is_flat, known


def sparseness(maps: ArrayLike) -> jax.Array:
    r"""Returns the Gini index of each map's values: the more of it few pixels hold, the larger.

    .. math:: G = 1 - 2 \sum_{k=1}^{n} \frac{|v|_{(k)}}{\|v\|_1} \cdot \frac{n - k + 1/2}{n}

    with values ordered from the smallest to the largest.

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      `float[...]` in `0..1 - 1/n`, where `n` counts the values; one pixel alone gives the
      largest. A flat map, all zeros and all NaN included, gives 0, the worst.

    Example:
      >>> maps = jnp.array([[[0.0, 0.0, 0.0, -2.0]], [[1.0, 1.0, 1.0, 1.0]]])
      >>> jax.jit(sparseness)(maps).tolist()
      [0.75, 0.0]

    References:
      Chalasani et al., `Concise Explanations of Neural Networks using Adversarial Training
      <https://arxiv.org/abs/1810.06583>`_, ICML 2020; Hurley and Rickard, Comparing Measures of
      Sparsity, 2009.
    """
    sizes = _shares(maps)
    ordered = jnp.sort(sizes.reshape(*sizes.shape[:-2], -1), axis=-1)  # NaN comes last
    number = jnp.sum(~jnp.isnan(ordered), axis=-1, keepdims=True)
    rank = jnp.arange(1, ordered.shape[-1] + 1)
    weight = (number - rank + 0.5) / jnp.maximum(number, 1)
    gini = 1 - 2 * jnp.sum(jnp.where(rank <= number, ordered * weight, 0), axis=-1)
    return jnp.where(is_flat(maps), 0, jnp.maximum(gini, 0))


def entropy(maps: ArrayLike) -> jax.Array:
    r"""Returns the entropy of each map's values in nats: the fewer pixels hold it, the smaller.

    .. math:: H = -\sum_p P_p \ln P_p, \qquad P_p = |v_p| / \|v\|_1

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      `float[...]` in `0..ln(n)`, where `n` counts the values; one pixel alone gives 0. A flat map,
      all zeros included, gives `ln(n)`, the worst; without any value `n` is that of the pixels.

    Example:
      >>> maps = jnp.array([[[0.0, 3.0]], [[1.0, -1.0]], [[0.0, 0.0]]])
      >>> jax.jit(entropy)(maps).round(3).tolist()
      [0.0, 0.6930000185966492, 0.6930000185966492]

    References:
      Bhatt, Weller and Moura, `Evaluating and Aggregating Feature-based Model Explanations
      <https://arxiv.org/abs/2005.00631>`_, IJCAI 2020, definition 6 ("complexity").
    """
    shares = _shares(maps)
    number = jnp.sum(~jnp.isnan(shares), axis=(-2, -1)).astype(shares.dtype)
    number = jnp.where(number > 0, number, shares.shape[-2] * shares.shape[-1])
    value = jnp.nansum(entr(shares), axis=(-2, -1))
    return jnp.where(is_flat(maps), jnp.log(number), value)


def _shares(maps: ArrayLike) -> jax.Array:
    """Returns the sizes of values, divided by their sum where that is not zero."""
    sizes = jnp.abs(known(maps))
    for total in (jnp.nanmax, jnp.nansum):  # the largest first, so that the sum cannot overflow
        whole = total(sizes, axis=(-2, -1), keepdims=True)
        sizes = sizes / jnp.where(whole > 0, whole, 1)
    return sizes
