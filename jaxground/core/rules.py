"""What each kind of operation does with the mass that reaches its output.

A *rule* is a function `rule(operation, mass)`. It sees one operation of the network (the primitive,
its operands, which of them are active) and the mass at its output, and returns the mass of each
operand, `None` for those that take none. A saliency method is a table of rules, `Rules`.

Words, as in Zhang et al. (ECCV 2016): a *parent* is a unit nearer the output, a *child* one nearer
the input; the mass of a unit is its marginal winning probability; the *prior* is the mass at the
output. `active` operands depend on what is being grounded; the others are weights.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial


class MissingRuleError(NotImplementedError):
    """Mass reached an operation for which the table has no rule."""


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
    """

    apply: Callable[..., Any]
    operands: tuple[Any, ...]
    active: tuple[bool, ...]
    gates: tuple[bool, ...]
    contributions: tuple[Callable[[], Array] | None, ...]
    description: str

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


def transpose(operation: Operation, mass: Array) -> Masses:
    """Returns what JAX's own transpose would: for reshapes, slices, winners of a maximum.

    The tables hold this function to say "leave the operation alone"; it is never called there.
    """
    return _pull(operation.apply, operation.operands, operation.active, mass)


def refuse(operation: Operation, mass: Array) -> Masses:
    """Raises `MissingRuleError`, before anything is computed."""
    del mass
    raise MissingRuleError(
        f"no rule for {operation.description}\nIt lies between what is being grounded and the "
        "output. Give it a rule, e.g. rules=EXCITATION | {lax.tan_p: pass_through}, or hide it "
        "from the mass with jax.lax.stop_gradient."
    )


def share(operation: Operation, mass: Array) -> Masses:
    r"""Returns the mass of the children of a linear map: each parent shares among them.

    .. math:: P(j \mid i) = \frac{x_j^+ w_{ij}^+}{\sum_k x_k^+ w_{ik}^+}

    (Zhang et al., ECCV 2016, equation 3, with the activations clamped at zero.) A parent without
    excitatory child drops its mass. One function serves dense maps, convolutions of any dimension,
    stride, dilation and grouping, sums and average pooling. Biases never enter.

    Raises:
      MissingRuleError: Two operands are active (attention): neither is the weight.
    """
    positive = [jnp.maximum(x, 0) for x in operation.operands]
    return _share(operation, positive, positive[operation.signal()], mass)


def share_signed(operation: Operation, mass: Array) -> Masses:
    """Returns what `share` does, with the activations as they are, negative ones too.

    Caffe-ExcitationBP (`conv_layer`, `inner_product_layer`, average `pooling_layer`): only the
    weights are clamped, and a normaliser of exactly zero drops its mass.
    """
    signal = operation.signal()
    x = operation.operands[signal]
    positive = [jnp.maximum(w, 0) if i != signal else x for i, w in enumerate(operation.operands)]
    return _share(operation, positive, x, mass)


def _share(operation: Operation, operands: list, x: Array, mass: Array) -> Masses:
    signal = operation.signal()

    def linear(t):
        return operation.apply(*operands[:signal], t, *operands[signal + 1 :])

    total, pull = jax.vjp(linear, x)
    (received,) = pull(divide(mass, total))
    return [x * received if i == signal else None for i in range(len(operands))]


def join(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of the summands: a bias takes none, branches share by their values.

    Where both branches are linear maps, `x @ W + h @ U` is one linear map of `(x, h)`: they share
    by their excitatory contributions, so that the result is that of the concatenated map.
    """
    if sum(operation.active) == 1:
        return pass_through(operation, mass)
    if all(operation.contributions):
        values = [c() for c in operation.contributions if c is not None]
    else:
        values = [jnp.maximum(x, 0) for x in operation.operands]
    return _join(operation, values, mass)


def join_signed(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of the summands in signed proportion to their values.

    Caffe-ExcitationBP since April 2017 (`eltwise_layer`): a negative summand takes negative mass
    and the other more than all of it; a sum of exactly zero drops the mass.
    """
    if sum(operation.active) == 1:
        return pass_through(operation, mass)
    return _join(operation, list(operation.operands), mass)


def _join(operation: Operation, values: list, mass: Array) -> Masses:
    total, pull = jax.vjp(operation.apply, *values)
    return [v * r for v, r in zip(values, pull(divide(mass, total)), strict=True)]


def subtract(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of a difference: all of it to the minuend, whose weight is +1.

    The subtrahend has weight -1 and excites nobody. With the subtrahend alone active there is no
    excitatory child at all, which is refused, except for the complement `1 - gate` of a gate.
    """
    minuend, subtrahend = operation.active
    if minuend and subtrahend:
        values = [jnp.maximum(operation.operands[0], 0), jnp.zeros_like(operation.operands[1])]
        total = operation.apply(*values)
        return _pull(
            operation.apply, operation.operands, (True, False), jnp.where(total > 0, mass, 0)
        )
    if subtrahend and not operation.gates[1]:
        return refuse(operation, mass)
    return pass_through(operation, mass)


def pass_through(operation: Operation, mass: Array) -> Masses:
    """Returns the mass unchanged: each parent of an elementwise map has one child.

    Scaling by a weight, as in batch norm, passes mass whatever the weight's sign, as the authors'
    code does; `fold_batch_norm` gives the composed rule. A gate takes no mass.
    """
    signal = operation.signal()
    x = operation.operands[signal]

    def spread(t):  # the transpose of broadcasting sums the mass over broadcast axes
        return jnp.broadcast_to(t, jnp.shape(mass))

    (received,) = jax.linear_transpose(spread, x)(mass)
    return [received if i == signal else None for i in range(len(operation.operands))]


def negate(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of a negated gate; a negated signal excites nobody and is refused."""
    return pass_through(operation, mass) if operation.gates[0] else refuse(operation, mass)


def quotient(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of a quotient: all of it to the numerator, if that alone is active."""
    if operation.active != (True, False):
        operation.signal()  # two active operands: the message that names both
        return refuse(operation, mass)
    return pass_through(operation, mass)


def winner(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of a minimum: saturation at a constant (relu6) passes, else the winner."""
    if sum(operation.active) == 1:
        return pass_through(operation, mass)
    return transpose(operation, mass)


def gradient_of_positive(operation: Operation, mass: Array) -> Masses:
    """Returns guided backprop's signal at a ReLU: `p * 1[p > 0] * 1[x > 0]`.

    Springenberg et al., Striving for Simplicity, ICLR 2015 workshop, section 3.4.
    """
    if sum(operation.active) != 1:
        return transpose(operation, mass)
    signal = operation.signal()
    kept = jnp.where(operation.operands[signal] > 0, jnp.maximum(mass, 0), 0)
    return [kept if i == signal else None for i in range(len(operation.operands))]


def rectified(operation: Operation, mass: Array) -> Masses:
    """Returns the deconvnet's signal at a ReLU: `p * 1[p > 0]`, whatever the activation.

    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 2.1.
    """
    if sum(operation.active) != 1:
        return transpose(operation, mass)
    signal = operation.signal()
    kept = jnp.maximum(mass, 0)
    return [kept if i == signal else None for i in range(len(operation.operands))]


def contrast(rule: Rule) -> Rule:
    """Returns the contrastive form of `rule`, for the output-adjacent linear maps.

    The mass through the weights minus the mass through the negated weights (the dual unit). Every
    rule below is linear in the mass, so the one signed pass that follows is the difference of the
    two maps (Zhang et al., ECCV 2016, section 3.3).
    """

    @functools.wraps(rule)
    def contrasted(operation: Operation, mass: Array) -> Masses:
        negated = tuple(
            x if a else -x for x, a in zip(operation.operands, operation.active, strict=True)
        )
        plain = rule(operation, mass)
        dual = rule(dataclasses.replace(operation, operands=negated), mass)
        return [p if p is None else p - d for p, d in zip(plain, dual, strict=True)]  # type: ignore[operator]

    return contrasted


def divide(mass: Array, total: Array) -> Array:
    """Returns `mass / total` in float32 or wider, exactly zero where `total` is zero.

    Never an epsilon: Caffe-ExcitationBP compares with zero and drops the mass.

    >>> divide(jnp.array([1.0, 1.0]), jnp.array([4.0, 0.0]))
    Array([0.25, 0.  ], dtype=float32)
    """
    wide = jnp.promote_types(mass.dtype, jnp.float32)
    safe = jnp.where(total == 0, 1, total).astype(wide)
    return jnp.where(total == 0, 0, mass.astype(wide) / safe).astype(mass.dtype)


def _pull(apply, operands, active, mass) -> Masses:
    """Returns the transpose of `apply` for the active operands."""
    chosen = [x for x, a in zip(operands, active, strict=True) if a]

    def of_active(*xs):
        xs = iter(xs)
        return apply(*[next(xs) if a else x for x, a in zip(operands, active, strict=True)])

    received = iter(jax.vjp(of_active, *chosen)[1](mass))
    return [next(received) if a else None for a in active]


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
) -> Callable[..., Any]:
    """Returns `apply` with `rule` in place of its transpose.

    JAX itself says which operands are active: they are those perturbed by the differentiation.

    Args:
      apply: A function of arrays.
      rule: See the head of this module.
      gates: Which operands are gates; none if omitted.
      linears: Per operand its `Linear` history or `None`; filled in by `excite`.
      description: What to call the operation in errors.

    Returns:
      A function with the values of `apply`.

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
        pullback = functools.partial(_pullback, rule, apply, active, flags, description)
        return apply(*values), Partial(pullback, values, excitation)

    twinned.defvjp(
        forward,
        lambda pullback, mass: (tuple(pullback(mass)), None),
        symbolic_zeros=True,
    )
    return lambda *operands: twinned(operands, linears)


def _pullback(rule, apply, active, gates, description, values, excitation, mass):
    operation = Operation(apply, values, active, gates, tuple(excitation), description)
    return rule(operation, mass)


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

    def linear_map(*operands):
        return f(*operands)

    return functools.wraps(f)(jax.jit(linear_map))


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

    def __contains__(self, key: str) -> bool:
        """Says whether `key` has a rule of its own."""
        return key in self.table


LINEAR_MAPS = frozenset({"dot_general", "conv_general_dilated", "linear_map()"})
_SUMS = ("reduce_sum", "reduce_window_sum", "cumsum")
_ELEMENTWISE = """
    mul tanh logistic erf erf_inv exp exp2 expm1 log log1p rsqrt sqrt cbrt square integer_pow pow
    abs clamp
""".split()
_STRUCTURE = """
    reshape transpose squeeze broadcast_in_dim concatenate pad slice dynamic_slice gather
    dynamic_update_slice scatter rev split stack unstack tile select_n convert_element_type copy
    copy_p reduce_precision stop_gradient optimization_barrier device_put sharding_constraint
    reshard mesh_cast pvary pcast max reduce_max reduce_window_max cummax sort sign floor ceil round
""".split()

EXCITATION = Rules(
    dict.fromkeys(_STRUCTURE, transpose)
    | dict.fromkeys(_ELEMENTWISE, pass_through)
    | dict.fromkeys((*LINEAR_MAPS, *_SUMS), share)
    | {
        "add": join,
        "add_any": join,
        "sub": subtract,
        "neg": negate,
        "div": quotient,
        "min": winner,
    },
    default=refuse,
)
"""Excitation Backprop (Zhang et al., ECCV 2016), children clamped at zero: a sub-probability."""

CAFFE = EXCITATION | (
    dict.fromkeys((*LINEAR_MAPS, *_SUMS), share_signed)
    | {"add": join_signed, "add_any": join_signed}
)
"""Excitation Backprop as the authors' Caffe code computes it: children of either sign."""

GRADIENT = Rules({}, default=transpose)
"""The gradient: JAX's own transpose of everything (Simonyan et al., ICLR 2014 workshop)."""

GUIDED = GRADIENT | {"relu()": gradient_of_positive, "max": gradient_of_positive}
"""Guided backprop (Springenberg et al., ICLR 2015 workshop): `jax.nn.relu` or `max(x, 0)`."""

DECONVNET = GRADIENT | {"relu()": rectified, "max": rectified}
"""The deconvnet (Zeiler and Fergus, ECCV 2014), with the forward winners of max-pooling."""
