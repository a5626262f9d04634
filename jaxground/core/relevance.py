r"""Layer-wise relevance propagation (LRP) as tables of rules.

A relevance starts from the value of an output and is shared among what that value was made of.
The rules for linear maps are one formula (Montavon et al., "Layer-Wise Relevance Propagation: An
Overview", 2019, section 10.2),

.. math:: R_j = \sum_k \frac{a_j \rho(w_{jk})}{\epsilon + \sum_{0,j} a_j \rho(w_{jk})} R_k,

whose denominator sums over the children *and the bias*, :math:`a_0 = 1, w_{0k} = b_k`. What falls
to the bias leaves the map; `mass` reports it. ReLUs and other elementwise functions pass relevance
on as it is, a maximum passes it to its winner. Sums, averages and residual connections are linear
maps of weight one: they share by their values, which is LRP-0 (`z_plus`: by their positive parts).

LRP assumes that batch norm is folded into the weights: explain `fold_batch_norm(f)`. Otherwise its
scaling passes relevance on, and its shift takes the share of a bias.
"""

import functools

import jax.numpy as jnp

from jaxground.core.decomposition import (
    boxed,
    favoured,
    nothing,
    of_weights,
    plain,
    positive,
    proportional,
    share,
    share_apart,
    share_branches,
)
from jaxground.core.operation import Rule
from jaxground.core.rules import pass_through, winner
from jaxground.core.tables import EXCITATION, LINEAR_MAPS, SUMS, Rules


@functools.cache
def epsilon(epsilon: float = 1e-6) -> Rules:
    r"""Returns the table of LRP-:math:`\epsilon`; with `epsilon=0` that of LRP-0.

    .. math:: R_j = \sum_k \frac{a_j w_{jk}}{z_k + \epsilon \operatorname{sign} z_k} R_k, \quad
              z_k = \sum_j a_j w_{jk} + b_k, \quad \operatorname{sign} 0 = 1

    The stabiliser pushes the denominator away from zero and keeps a share of small outputs; it is
    in the units of the outputs. Without it an output of exactly zero drops its relevance.

    Example:
      >>> from jaxground.core import ground
      >>> f = lambda x: x @ jnp.array([[1.0], [2.0]]) + 1
      >>> _, _, pull = ground(f, jnp.array([[1.0, 1.0]]), rules=epsilon(0))
      >>> pull(jnp.array([[4.0]]))  # the bias takes its share
      Array([[1., 2.]], dtype=float32)

    References:
      Bach et al., On Pixel-Wise Explanations ..., PLOS ONE 2015, equation 58; Montavon et al. 2019.
    """
    return _table(functools.partial(share, terms=plain, epsilon=epsilon), epsilon)


@functools.cache
def gamma(gamma: float = 0.25) -> Rules:
    r"""Returns the table of LRP-:math:`\gamma`, which favours positive weights.

    .. math:: R_j = \sum_k \frac{a_j (w_{jk} + \gamma w_{jk}^+)}
                               {\sum_j a_j (w_{jk} + \gamma w_{jk}^+) + b_k + \gamma b_k^+} R_k

    Published for non-negative activations, as ReLUs have them, and applied to all as it stands.

    Example:
      >>> from jaxground.core import ground
      >>> f = lambda x: x @ jnp.array([[2.0], [-1.0]])
      >>> _, _, pull = ground(f, jnp.ones((1, 2)), rules=gamma(0.5))
      >>> pull(jnp.ones((1, 1)))  # 3 : -1
      Array([[ 1.5, -0.5]], dtype=float32)

    References:
      Montavon et al., Layer-Wise Relevance Propagation: An Overview, 2019, equation of LRP-gamma.
    """
    return _table(functools.partial(share, terms=functools.partial(favoured, gamma)))


@functools.cache
def alpha_beta(alpha: float = 2.0, beta: float = 1.0) -> Rules:
    r"""Returns the table of LRP-:math:`\alpha\beta`: positive and negative contributions apart.

    .. math:: R_j = \sum_k \Big(\alpha \frac{(a_j w_{jk})^+}{\sum_j (a_j w_{jk})^+ + b_k^+}
              - \beta \frac{(a_j w_{jk})^-}{\sum_j (a_j w_{jk})^- + b_k^-}\Big) R_k

    An output without positive (negative) contribution drops that part, so that relevance is
    conserved where there are both.

    Raises:
      ValueError: `alpha - beta` is not one.

    Example:
      >>> from jaxground.core import ground
      >>> f = lambda x: x @ jnp.array([[1.0], [3.0], [-1.0]])
      >>> _, _, pull = ground(f, jnp.ones((1, 3)), rules=alpha_beta(2, 1))
      >>> pull(jnp.ones((1, 1)))
      Array([[ 0.5,  1.5, -1. ]], dtype=float32)

    References:
      Bach et al., PLOS ONE 2015, equation 60 (whose beta is the negative of this one); Montavon et
      al. 2019.
    """
    if abs(alpha - beta - 1) > 1e-6:
        raise ValueError(
            f"alpha - beta must be 1 to conserve relevance, got alpha={alpha} and beta={beta}"
        )
    return _table(functools.partial(share_apart, alpha=alpha, beta=beta))


@functools.cache
def z_plus() -> Rules:
    r"""Returns the table of the :math:`z^+` rule: positive contributions alone, biases left out.

    .. math:: R_j = \sum_k \frac{(a_j w_{jk})^+}{\sum_j (a_j w_{jk})^+} R_k

    On non-negative activations these are the probabilities of Excitation Backprop. Without biases
    it is `alpha_beta(1, 0)`.

    Example:
      >>> from jaxground.core import ground
      >>> f = lambda x: x @ jnp.array([[1.0], [3.0], [-1.0]])
      >>> _, _, pull = ground(f, jnp.ones((1, 3)), rules=z_plus())
      >>> pull(jnp.ones((1, 1)))
      Array([[0.25, 0.75, 0.  ]], dtype=float32)

    References:
      Montavon et al., Explaining nonlinear classification decisions with deep Taylor decomposition,
      Pattern Recognition 2017.
    """
    rule = functools.partial(share, terms=functools.partial(positive, bias=nothing))
    linear = dict.fromkeys(LINEAR_MAPS - {"affine()"}, rule)
    return EXCITATION | (linear | _ELEMENTWISE)


@functools.cache
def z_box(low: float | tuple[float, ...], high: float | tuple[float, ...]) -> Rules:
    r"""Returns the table of the :math:`z^B` rule, for the layer that reads the pixels.

    .. math:: R_j = \sum_k \frac{a_j w_{jk} - l_j w_{jk}^+ - h_j w_{jk}^-}
                               {\sum_j a_j w_{jk} - l_j w_{jk}^+ - h_j w_{jk}^-} R_k

    Args:
      low: The smallest value of a pixel, one or one for each channel (the last axis): of a network
        whose preprocessing is `(x - mean) / std`, `-mean / std`.
      high: The largest, `(1 - mean) / std`.

    Example:
      >>> from jaxground.core import ground
      >>> f = lambda x: x @ jnp.array([[1.0], [-1.0]])
      >>> _, _, pull = ground(f, jnp.array([[0.0, 0.0]]), rules=z_box(-1, 3))
      >>> pull(jnp.ones((1, 1)))  # as far as each is from where it would excite least
      Array([[0.25, 0.75]], dtype=float32)

    References:
      Montavon et al., Pattern Recognition 2017; Montavon et al. 2019, table 10.1.
    """
    return _table(functools.partial(share, terms=functools.partial(boxed, low, high)))


@functools.cache
def w_squared() -> Rules:
    r"""Returns the table of the :math:`w^2` rule, for a first layer of unbounded inputs.

    .. math:: R_j = \sum_k \frac{w_{jk}^2}{\sum_j w_{jk}^2} R_k

    Example:
      >>> from jaxground.core import ground
      >>> _, _, pull = ground(lambda x: x @ jnp.array([[1.0], [-1.0]]), jnp.zeros((1, 2)),
      ...                     rules=w_squared())
      >>> pull(jnp.ones((1, 1)))
      Array([[0.5, 0.5]], dtype=float32)

    References:
      Montavon et al., Pattern Recognition 2017; Montavon et al. 2019, table 10.1.
    """
    return _table(functools.partial(share, terms=functools.partial(of_weights, jnp.square)))


@functools.cache
def flat() -> Rules:
    r"""Returns the table of the flat rule: children share evenly, a coarser first layer.

    .. math:: R_j = \sum_k \frac{1}{\sum_j 1} R_k

    Example:
      >>> from jaxground.core import ground
      >>> _, _, pull = ground(lambda x: x @ jnp.ones((2, 1)), jnp.zeros((1, 2)), rules=flat())
      >>> pull(jnp.ones((1, 1)))
      Array([[0.5, 0.5]], dtype=float32)

    References:
      Lapuschkin et al., Unmasking Clever Hans predictors ..., Nature Communications 2019.
    """
    return _table(functools.partial(share, terms=functools.partial(of_weights, jnp.ones_like)))


_ELEMENTWISE = dict.fromkeys(("max", "min", "clamp"), winner) | {"neg": pass_through}


def _table(linear: Rule, epsilon: float = 0.0) -> Rules:
    shared = functools.partial(proportional, epsilon=epsilon)
    sums = dict.fromkeys((*SUMS, "add", "add_any", "sub"), shared)
    affine = functools.partial(share_branches, linear=linear, sums=shared)
    return EXCITATION | (
        dict.fromkeys(LINEAR_MAPS, linear) | {"affine()": affine} | sums | _ELEMENTWISE
    )
