"""Tables for transformers."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from jaxground.core.decomposition import proportional
from jaxground.core.operation import Masses, Operation, Rule
from jaxground.core.relevance import epsilon
from jaxground.core.rules import divide, pass_through, stop
from jaxground.core.tables import Rules

ATTENTION = {"softmax()": stop, "rsqrt": stop, "sqrt": stop, "self_gated()": pass_through}
"""Attention weights and normalisers as weights, GELU and SiLU as elementwise functions.

To be added to any table: `excitation_backprop(vit, ..., rules=EXCITATION | ATTENTION)`. On
`epsilon()` it is the LRP of Ali et al., "XAI for Transformers", ICML 2022 (AH rule and LN rule). On
`EXCITATION` it is ours, not published: the values of a head share by their excitatory part, a
layer norm passes all mass to the minuend of its centring.
"""


@functools.cache
def attn_lrp(linear: Rules | None = None, *, stabiliser: float = 1e-6) -> Rules:
    r"""Returns the table of AttnLRP: LRP for transformers, through the attention weights, too.

    - Softmax :math:`s(x)`: its Taylor decomposition, :math:`R_i = x_i (R_i - s_i \sum_j R_j)`.
    - Products of two signals, matrices :math:`O = AV` as elementwise ones: half to each, shared by
      :math:`R_{A,ji} = \sum_p A_{ji} V_{ip} R_{jp} / (2 O_{jp} + \epsilon)`.
    - Layer norm, RMS norm: the normaliser is a weight, so that scaling passes relevance on as it
      is; centring and the bias share as sums do.
    - GELU, SiLU and other elementwise functions pass relevance on as it is.
    - All else as `linear` has it.

    Args:
      linear: The table for linear maps and sums, `epsilon()` by default, which the authors use
        for language models; for vision transformers they use `gamma()`.
      stabiliser: The :math:`\epsilon` of products.

    Example:
      >>> from jaxground.core import ground
      >>> f = lambda x: jax.nn.softmax(x @ x.T) @ x
      >>> _, _, pull = ground(f, jnp.eye(2), rules=attn_lrp())
      >>> pull(jnp.eye(2)).round(3)
      Array([[0.634, 0.   ],
             [0.   , 0.634]], dtype=float32)

    References:
      Achtibat et al., AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers,
      ICML 2024, propositions 3.1 to 3.4. That patterns are found on the jaxpr is ours.
    """
    linear = epsilon() if linear is None else linear
    return linear | (
        ATTENTION
        | {
            "softmax()": decompose,
            "dot_general": functools.partial(_product, linear["dot_general"], stabiliser),
            "mul": halve,
        }
    )


def decompose(operation: Operation, mass: Array) -> Masses:
    r"""Returns the relevance of the arguments of a softmax, :math:`x_i (R_i - s_i \sum_j R_j)`.

    It is the argument times the gradient that belongs to :math:`R / s`. An argument of minus
    infinity, which masks a position, takes none.
    """
    index = operation.signal()
    x = operation.operands[index]

    def softmax(x):
        return operation.apply(*operation.operands[:index], x, *operation.operands[index + 1 :])

    values, pull = jax.vjp(softmax, x)
    (received,) = pull(divide(mass, values))
    relevance = jnp.where(jnp.isfinite(x), jnp.where(jnp.isfinite(x), x, 0) * received, 0)
    return [relevance if i == index else None for i in range(len(operation.operands))]


def halve(operation: Operation, mass: Array) -> Masses:
    """Returns the relevance of the factors of an elementwise product: two signals take half each.

    A weight or a gate takes none.
    """
    signals = [a and not g for a, g in zip(operation.active, operation.gates, strict=True)]
    if sum(signals) != 2:
        return pass_through(operation, mass)

    def spread(*operands):
        return tuple(jnp.broadcast_to(x, jnp.shape(mass)) for x in operands)

    return jax.linear_transpose(spread, *operation.operands)((mass / 2, mass / 2))


def _product(linear: Rule, stabiliser: float, operation: Operation, mass: Array) -> Masses:
    if sum(operation.active) == 1:
        return linear(operation, mass)
    shares = proportional(operation, mass, epsilon=stabiliser / 2)
    return [None if r is None else r / 2 for r in shares]
