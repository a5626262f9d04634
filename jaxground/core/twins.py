"""Functions with a rule in place of their transpose."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import Partial

from jaxground.core.rules import Operation, Rule, refuse, share


class Linear(NamedTuple):
    """The history of a sum of linear maps.

    Attributes:
      excitation: Computes the sum of `op(x+, w+)` over the maps.
      addends: What else was added: harmless if inactive (a bias).
    """

    excitation: Partial
    addends: tuple[Array, ...]


def twin(
    apply: Callable[..., Any],
    rule: Rule,
    *,
    gates: tuple[bool, ...] | None = None,
    linears: tuple[Linear | None, ...] = (),
    description: str = "this function",
    biases: int = 0,
) -> Callable[..., Any]:
    """Returns `apply` with `rule` in place of its transpose.

    JAX itself says which operands are active: they are those perturbed by the differentiation.

    Args:
      apply: A function of arrays.
      rule: See `jaxground.core.rules`.
      gates: Which operands are gates; none if omitted.
      linears: Per operand its `Linear` history or `None`; filled in by `excite`.
      description: What to call the operation in errors.
      biases: How many of the last operands are added to a linear map of the others.

    Returns:
      A function with the values of `apply`.

    >>> from jaxground.core.rules import rectified
    >>> relu = twin(jax.nn.relu, rectified)
    >>> jax.vjp(relu, jnp.array([-1.0, 2.0]))[1](jnp.array([1.0, -1.0]))
    (Array([1., 0.], dtype=float32),)
    """

    @jax.custom_vjp
    def twinned(operands, linears):
        del linears
        return apply(*operands)

    def forward(operands, linears):
        active = tuple(x.perturbed for x in operands)
        linears = tuple(linears) or (None,) * len(operands)
        pure = [x if x is not None and not _perturbed(x.addends) else None for x in linears]
        excitation = [x if x is None else _values(x.excitation) for x in pure]
        values = tuple(x.value for x in operands)
        flags = gates or (False,) * len(active)
        if rule is refuse and any(active):
            rule(Operation(apply, values, active, flags, (), description), values[0])
        pullback = functools.partial(_pullback, rule, apply, active, flags, (description, biases))
        return apply(*values), Partial(pullback, values, excitation)

    def backward(pullback, mass):
        return tuple(pullback(jax.tree.map(_instantiated, mass, is_leaf=_is_zero))), None

    twinned.defvjp(forward, backward, symbolic_zeros=True)
    return lambda *operands: twinned(operands, linears)


def _pullback(rule, apply, active, gates, about, values, excitation, mass):
    operation = Operation(apply, values, active, gates, tuple(excitation), *about)
    return rule(operation, mass)


def _is_zero(mass) -> bool:
    return isinstance(mass, SymbolicZero)


def _instantiated(mass):
    return jnp.zeros(mass.shape, mass.dtype) if _is_zero(mass) else mass


def _perturbed(leaves) -> bool:
    return any(
        x.perturbed for x in jax.tree.leaves(leaves, is_leaf=lambda x: hasattr(x, "perturbed"))
    )


def _values(tree):
    return jax.tree.map(lambda x: x.value, tree, is_leaf=lambda x: hasattr(x, "perturbed"))


def linear_map(f: Callable[..., Array]) -> Callable[..., Array]:
    """Returns `f`, known to the tables as one linear map of its operands.

    For a function that is linear in its signal and in its weights but is computed by many
    primitives (shifted sums, a Fourier transform, a kernel): the rules then see one operation.

    >>> @linear_map
    ... def mix(x, w):
    ...     return x * w[0] + jnp.roll(x, 1) * w[1]
    >>> mix(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
    Array([3., 3.], dtype=float32)
    """

    def jaxground_linear_map(*operands):
        return f(*operands)

    return functools.wraps(f)(jax.jit(jaxground_linear_map))


def excitation_dense(x: Array, kernel: Array) -> Array:
    """Returns `x @ kernel`, with Excitation Backprop as its transpose.

    For model authors who want a layer that grounds under plain `jax.vjp`, without `excite`.

    Args:
      x: `[..., in]`, non-negative (negative children take no mass).
      kernel: `[in, out]`.

    >>> f = lambda x: excitation_dense(x, jnp.array([[1.0], [3.0]]))
    >>> values, pull = jax.vjp(f, jnp.ones(2))
    >>> pull(jnp.ones(1))[0]
    Array([0.25, 0.75], dtype=float32)
    """
    return twin(lambda x, kernel: x @ kernel, share)(x, kernel)


def excitation_conv(x: Array, kernel: Array, **parameters: Any) -> Array:
    """Returns `lax.conv_general_dilated`, with Excitation Backprop as its transpose.

    Args:
      x: The signal, in the layout named by `dimension_numbers`.
      kernel: The weights.
      **parameters: Those of `jax.lax.conv_general_dilated`: `window_strides`, `padding`, ...

    >>> f = lambda x: excitation_conv(x, jnp.ones((1, 1, 2)), window_strides=[1], padding="VALID")
    >>> values, pull = jax.vjp(f, jnp.array([[[1.0, 3.0]]]))
    >>> pull(jnp.ones((1, 1, 1)))
    (Array([[[0.25, 0.75]]], dtype=float32),)
    """
    return twin(functools.partial(lax.conv_general_dilated, **parameters), share)(x, kernel)
