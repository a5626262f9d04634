"""One operation of the network, as a rule sees it."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jax import Array


class MissingRuleError(NotImplementedError):
    """Mass reached an operation without a rule, in the line of the user's file that is named.

    Example:
      >>> import jax, jaxground
      >>> import jax.numpy as jnp
      >>> jax.vjp(jaxground.excite(jnp.sin), jnp.ones(3))  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      jaxground.core.operation.MissingRuleError: no rule for `sin` (float32[3]), ...
    """


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the network, as a rule sees it.

    Attributes:
      apply: The primitive with its parameters: operands in, output out.
      operands: The values of this forward pass.
      active: Which operands depend on what is being grounded.
      gates: Which operands are gates: computed from a `logistic` by reshaping and scaling alone.
      contributions: For each operand that is a sum of linear maps (and inactive biases) its
        excitatory part, the sum of `op(x+, w+)`, to be called; else `None`.
      description: Primitive, operand shapes, and the user's file and line.
      biases: How many of the last operands are added to a linear map of the others.
    """

    apply: Callable[..., Any]
    operands: tuple[Any, ...]
    active: tuple[bool, ...]
    gates: tuple[bool, ...]
    contributions: tuple[Callable[[], Array] | None, ...]
    description: str
    biases: int = 0

    def signal(self) -> int:
        """Returns the index of the only active operand that is no gate.

        Raises:
          MissingRuleError: There are two or more; the message names them.
        """
        active = [i for i, a in enumerate(self.active) if a]
        if len(active) == 1:
            return active[0]
        signals = [i for i in active if not self.gates[i]]
        if len(signals) == 1:
            return signals[0]
        raise MissingRuleError(
            f"ambiguous operands {' and '.join(map(str, active))} of {self.description}\n"
            "Both depend on what is being grounded, so which of them is the signal cannot be told. "
            "Put the gate or normaliser under jax.lax.stop_gradient, or pass a table with a rule "
            "for it."
        )


Masses: TypeAlias = Iterable[Array | None]
Rule: TypeAlias = Callable[[Operation, Array], Masses]
