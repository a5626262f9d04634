"""How the rules of LRP share a relevance: the formulas that the tables of `relevance` name."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from jaxground.core.operation import Masses, Operation, Rule
from jaxground.core.rules import divide, transpose


def proportional(operation: Operation, mass: Array, *, epsilon: float) -> Masses:
    r"""Returns the relevance of all active operands in proportion to their part of the value.

    For a multilinear operation :math:`z`, :math:`R_x = x \, \partial z / \partial x \cdot R / z`.
    """
    total = operation.apply(*operation.operands)
    received = transpose(operation, divide(mass, stabilised(total, epsilon)))
    return [None if r is None else x * r for x, r in zip(operation.operands, received, strict=True)]


def stabilised(total: Array, epsilon: float) -> Array:
    """Returns a denominator moved away from zero by `epsilon`."""
    if epsilon == 0:
        return total
    return total + jnp.where(total >= 0, epsilon, -epsilon).astype(total.dtype)


class Term(NamedTuple):
    """One product of a linear rule.

    Attributes:
      signal: What stands for the activations.
      weight: Makes of the weights what stands for them.
      bias: The same for what is added.
    """

    signal: Array
    weight: Callable[[Array], Array]
    bias: Callable[[Array], Array]


Terms: TypeAlias = Callable[[Array], Sequence[Term]]


def share(operation: Operation, mass: Array, *, terms: Terms, epsilon: float = 0.0) -> Masses:
    """Returns the relevance of the children of a linear map.

    Their contributions are the sum of the `terms` of the activations; the denominator is the sum of
    contributions and biases, and drops its relevance where it is exactly zero.
    """
    index = operation.signal()
    weights = len(operation.operands) - operation.biases
    asked = terms(operation.operands[index])
    pairs = []
    for term in asked:
        operands = [
            x if i == index else (term.weight if i < weights else term.bias)(x)
            for i, x in enumerate(operation.operands)
        ]

        def linear(x, operands=operands):
            return operation.apply(*operands[:index], x, *operands[index + 1 :])

        pairs.append(jax.vjp(linear, term.signal))
    total = functools.reduce(jnp.add, (value for value, _ in pairs))
    shares = divide(mass, stabilised(total, epsilon))
    parts = (term.signal * pull(shares)[0] for term, (_, pull) in zip(asked, pairs, strict=True))
    received = functools.reduce(jnp.add, parts)
    return [received if i == index else None for i in range(len(operation.operands))]


def share_apart(operation: Operation, mass: Array, *, alpha: float, beta: float) -> Masses:
    """Returns `alpha` times the shares of positive contributions less `beta` of negative ones."""
    above = share(operation, mass, terms=functools.partial(positive, bias=_above))
    if beta == 0:
        return above
    below = share(operation, mass, terms=negative)
    pairs = zip(above, below, strict=True)
    return [None if p is None or n is None else alpha * p - beta * n for p, n in pairs]


def share_branches(operation: Operation, mass: Array, *, linear: Rule, sums: Rule) -> Masses:
    """Returns the relevance of a linear map and its biases, some of which may be branches.

    Only differentiation tells which of what is added are weights. A branch that is grounded itself
    takes its share of the sum; then the linear map shares what is left among its children.
    """
    first = len(operation.operands) - operation.biases
    if not any(operation.active[first:]):
        return linear(operation, mass)
    biases = operation.operands[first:]
    nothings = tuple(map(nothing, biases))
    value = operation.apply(*operation.operands[:first], *nothings)

    def total(value, *biases):
        alone = operation.apply(*map(nothing, operation.operands[:first]), *biases)
        return value + alone

    is_signal = any(operation.active[:first])
    joined = Operation(
        total,
        (value, *biases),
        (is_signal, *operation.active[first:]),
        (False,) * (1 + len(biases)),
        (),
        operation.description,
    )
    left, *branches = sums(joined, mass)
    children: Masses = [None] * first
    if is_signal and left is not None:
        mapped = dataclasses.replace(
            operation,
            operands=(*operation.operands[:first], *nothings),
            active=(*operation.active[:first], *(False for _ in biases)),
        )
        children = list(linear(mapped, left))[:first]
    return [*children, *branches]


def plain(x: Array) -> list[Term]:
    """Returns the contributions as they are."""
    return [Term(x, _same, _same)]


def favoured(gamma: float, x: Array) -> list[Term]:
    """Returns those with the positive part of weights and biases added `gamma` times."""

    def raised(w):
        return w + gamma * _above(w)

    return [Term(x, raised, raised)]


def positive(x: Array, *, bias: Callable[[Array], Array]) -> list[Term]:
    """Returns the positive contributions, of both signs of activations."""
    return [Term(_above(x), _above, bias), Term(_below(x), _below, nothing)]


def negative(x: Array) -> list[Term]:
    """Returns the negative contributions, of both signs of activations."""
    return [Term(_above(x), _below, _below), Term(_below(x), _above, nothing)]


def boxed(low: float | Sequence[float], high: float | Sequence[float], x: Array) -> list[Term]:
    """Returns those of bounded inputs, as they exceed the least that the bounds allow."""
    lows, highs = (jnp.broadcast_to(-jnp.asarray(v, x.dtype), x.shape) for v in (low, high))
    return [Term(x, _same, nothing), Term(lows, _above, nothing), Term(highs, _below, nothing)]


def of_weights(weight: Callable[[Array], Array], x: Array) -> list[Term]:
    """Returns those of weights alone."""
    return [Term(jnp.ones_like(x), weight, nothing)]


def nothing(x: Array) -> Array:
    """Returns zeros: what takes no part."""
    return jnp.zeros_like(x)


def _above(x: Array) -> Array:
    return jnp.maximum(x, 0)


def _below(x: Array) -> Array:
    return jnp.minimum(x, 0)


def _same(x: Array) -> Array:
    return x
