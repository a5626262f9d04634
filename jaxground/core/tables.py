"""Tables of rules: a saliency method is one of these."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxground.core.rules import (
    Rule,
    gradient_of_positive,
    join,
    join_signed,
    negate,
    pass_through,
    quotient,
    rectified,
    rectify,
    refuse,
    share,
    share_signed,
    subtract,
    transpose,
    winner,
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """A saliency method: a rule per operation, and one for all others.

    A key is a primitive (`lax.tanh_p`), its name (`"tanh"`), or the name of a jitted function or
    one with a derivative of its own, followed by brackets (`"silu()"`): such a call is then one
    operation. Tables are data: `table | {key: rule}` is a table.

    >>> from jax import lax
    >>> sorted(Rules({lax.tanh_p: pass_through}, refuse) | {"silu()": pass_through})
    ['silu()', 'tanh']
    """

    table: Mapping[str, Rule]
    default: Rule

    def __init__(self, table: Mapping[Any, Rule], default: Rule):
        """Normalises the keys of `table` to names."""
        named = {key if isinstance(key, str) else key.name: rule for key, rule in table.items()}
        object.__setattr__(self, "table", MappingProxyType(named))
        object.__setattr__(self, "default", default)

    def __or__(self, other: Mapping[Any, Rule]) -> "Rules":
        """Returns this table with the entries of `other` in place of its own."""
        return Rules({**self.table, **Rules(other, self.default).table}, self.default)

    def __iter__(self):
        """Iterates over the keys."""
        return iter(self.table)

    def __getitem__(self, key: str) -> Rule:
        """Returns the rule of `key`, the default if it has none."""
        return self.table.get(key, self.default)

    def __hash__(self) -> int:
        """Hashes the entries, so that a table may be a static argument of `jax.jit`."""
        return hash((frozenset(self.table.items()), self.default))

    def __contains__(self, key: str) -> bool:
        """Says whether `key` has a rule of its own."""
        return key in self.table

    def keeps(self, key: str) -> bool:
        """Says whether calls with this key stay whole, instead of being looked into."""
        # A derivative that its author wrote by hand belongs to JAX's transpose.
        own = self.default is transpose and key.removesuffix("()") in CUSTOM_DERIVATIVES
        return own or key in self.table


@dataclasses.dataclass(frozen=True)
class Composite:
    """Tables by depth: each in force up to its tap, the last one above all taps.

    An operation belongs to the first tap, in the order of evaluation, that depends on it; those
    that no tap depends on belong to `above`. Wherever a table is asked for, a composite will do.

    Attributes:
      below: The table for what computes each tap, from the tap before it or the input on.
      above: The table for the rest, up to the output.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxground.core import ground, tap
      >>> weights = jnp.array([[1.0], [-1.0]])
      >>> f = lambda x: tap(x @ weights, "hidden") @ jnp.array([[2.0]])
      >>> rules = Composite({"hidden": EXCITATION}, above=GRADIENT)
      >>> _, _, pull = ground(f, jnp.ones((1, 2)), rules=rules)
      >>> pull(jnp.ones((1, 1)))  # twice the gradient above, the winner takes it all below
      Array([[2., 0.]], dtype=float32)
    """

    below: Mapping[str, Rules]
    above: Rules

    def __post_init__(self):
        """Freezes the mapping."""
        object.__setattr__(self, "below", MappingProxyType(dict(self.below)))

    def __hash__(self) -> int:
        """Hashes the tables, so that a composite may be a static argument of `jax.jit`."""
        return hash((frozenset(self.below.items()), self.above))

    def keeps(self, key: str) -> bool:
        """Says whether any of the tables keeps calls with this key whole."""
        return any(table.keeps(key) for table in (*self.below.values(), self.above))


CUSTOM_DERIVATIVES = frozenset({"custom_jvp_call", "custom_vjp_call", "call_hi_primitive"})
_WEIGHTED = ("dot_general", "conv_general_dilated", "jaxground_linear_map()")
LINEAR_MAPS = frozenset({*_WEIGHTED, "affine()"})  # "affine()": with its bias, see `fusion`
SUMS = ("reduce_sum", "reduce_window_sum", "cumsum")
_ELEMENTWISE = """
    mul tanh logistic erf erf_inv exp exp2 expm1 log log1p rsqrt sqrt cbrt square integer_pow pow
    abs
""".split()
_STRUCTURE = """
    reshape transpose squeeze broadcast_in_dim concatenate pad slice dynamic_slice gather
    dynamic_update_slice scatter rev split stack unstack tile select_n convert_element_type copy
    copy_p reduce_precision stop_gradient optimization_barrier device_put sharding_constraint
    reshard mesh_cast pvary pcast reduce_max reduce_window_max cummax sort sign floor ceil round
""".split()

EXCITATION = Rules(
    dict.fromkeys(_STRUCTURE, transpose)
    | dict.fromkeys(_ELEMENTWISE, pass_through)
    | dict.fromkeys((*_WEIGHTED, *SUMS), share)
    | {
        "add": join,
        "add_any": join,
        "sub": subtract,
        "neg": negate,
        "div": quotient,
        "max": rectify,
        "clamp": rectify,
        "min": winner,
        "log_softmax()": refuse,  # a difference of signals that would drop all mass: use logits
    },
    default=refuse,
)
"""Excitation Backprop (Zhang et al., ECCV 2016), children clamped at zero: a sub-probability."""

CAFFE = EXCITATION | (
    dict.fromkeys((*_WEIGHTED, *SUMS), share_signed) | {"add": join_signed, "add_any": join_signed}
)
"""Excitation Backprop as the authors' Caffe code computes it: children of either sign."""

GRADIENT = Rules({}, default=transpose)
"""The gradient: JAX's own transpose of everything (Simonyan et al., ICLR 2014 workshop)."""

GUIDED = GRADIENT | dict.fromkeys(("relu()", "relu6()", "max"), gradient_of_positive)
"""Guided backprop (Springenberg et al., ICLR 2015 workshop): ReLU, ReLU6 or `max(x, 0)`."""

DECONVNET = GRADIENT | dict.fromkeys(("relu()", "relu6()", "max"), rectified)
"""The deconvnet (Zeiler and Fergus, ECCV 2014), with the forward winners of max-pooling."""
