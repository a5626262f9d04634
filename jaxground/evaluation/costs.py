"""What explainers and metrics cost, counted before anything is computed.

The unit is a forward pass of the network on one image. Counted are the multiplications of
convolutions and matrix products in the traced program, loops included, so that options, wrappers
and metrics need no formulas of their own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax


class Costs(NamedTuple):
    """Forward passes for each image.

    Attributes:
      maps: By explainer, to make its maps.
      metrics: By explainer, to measure them.
      shared: To measure those of all explainers together.
      targets: Classes of an image that are reckoned with.
    """

    maps: Mapping[str, float]
    metrics: Mapping[str, float]
    shared: float
    targets: int

    @property
    def by_method(self) -> dict[str, float]:
        """Maps and their measurement, the most expensive first."""
        found = {label: self.maps[label] + self.metrics[label] for label in self.maps}
        return dict(sorted(found.items(), key=lambda each: -each[1]))

    @property
    def total(self) -> float:
        """All of it."""
        return self.shared + sum(self.by_method.values())


def in_passes(f: Callable[..., Any], images: Any) -> Callable[..., float]:
    """Returns what counts the multiplications of a function in forward passes of `f`.

    Args:
      f: The network.
      images: What it reads, or the shape of it.

    Example:
      >>> import jax.numpy as jnp
      >>> network = lambda x: x @ jnp.ones((3, 3))
      >>> in_passes(network, jnp.ones((1, 3)))(lambda x: network(network(x)), jnp.ones((1, 3)))
      2.0
    """
    one = max(multiplications(f, images), 1.0)
    return lambda function, *arguments: multiplications(function, *arguments) / one


def multiplications(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns how often a function multiplies in convolutions and matrix products.

    A loop of unknown length counts as one turn, a branch as the most expensive. What the compiler
    then leaves out or shares is counted as well, so this is rather too much than too little.

    Args:
      function: Traced, not computed.
      *arguments: Arrays, or their shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> matrix = jnp.ones((3, 3))
      >>> multiplications(lambda x: jax.lax.fori_loop(0, 5, lambda i, y: y @ matrix, x), matrix)
      135.0
    """
    return float(_count(jax.make_jaxpr(function)(*arguments).jaxpr))


def _count(jaxpr: Any) -> float:
    return sum(map(_of_equation, jaxpr.eqns))


def _of_equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        each = kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        spread = math.prod(params["lhs_dilation"])  # with zeros: of a transposed convolution
        return equation.outvars[0].aval.size * each / spread
    inner = [_count(jaxpr) for value in params.values() for jaxpr in _jaxprs(value)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(value: Any) -> list[Any]:
    """Returns the jaxprs in a parameter, whatever its name and however they are wrapped."""
    values: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    opened = [getattr(each, "jaxpr", each) for each in values]
    return [each for each in opened if hasattr(each, "eqns")]
