"""What each kind of operation does with the mass that reaches its output.

A *rule* is a function `rule(operation, mass)`. It sees one operation of the network (the primitive,
its operands, which of them are active) and the mass at its output, and returns the mass of each
operand, `None` for those that take none. A saliency method is a table of rules (`tables.Rules`).

Words, as in Zhang et al. (ECCV 2016): a *parent* is a unit nearer the output, a *child* one nearer
the input; the mass of a unit is its marginal winning probability; the *prior* is the mass at the
output. `active` operands depend on what is being grounded; the others are weights.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array

from jaxground.core.operation import Masses, MissingRuleError, Operation, Rule


def transpose(operation: Operation, mass: Array) -> Masses:
    """Returns what JAX's own transpose would: for reshapes, slices, winners of a maximum.

    The tables hold this function to say "leave the operation alone"; it is never called there.
    """
    return _pull(operation.apply, operation.operands, operation.active, mass)


def stop(operation: Operation, mass: Array) -> Masses:
    """Returns no mass: the result is a weight to whatever reads it, as under `stop_gradient`.

    For normalisers and for attention weights that are to be taken as they are. The tables hold
    this function to say so; it is never called there.
    """
    del mass
    return [None] * len(operation.operands)


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
    if x.dtype == jnp.float16:  # its range is small; the shares do not change with the scale of x
        wide = x.astype(jnp.float32)
        peak = jnp.max(jnp.abs(wide))
        x = (wide / jnp.where(peak == 0, 1, peak)).astype(x.dtype)

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


def rectify(operation: Operation, mass: Array) -> Masses:
    """Returns the mass of a maximum: a rectifier passes it where its input exceeds the constant.

    Strictly: at zero a ReLU passes none, as in Caffe, where JAX's transpose of a maximum passes
    half. A maximum of two signals goes to the winner.
    """
    if sum(operation.active) != 1:
        return transpose(operation, mass)
    signal = operation.signal()
    threshold = operation.operands[1 - signal]  # of a clamp, whose signal is in the middle, too
    return pass_through(operation, jnp.where(operation.operands[signal] > threshold, mass, 0))


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
    return _if_rectifier(operation, mass, kept)


def rectified(operation: Operation, mass: Array) -> Masses:
    """Returns the deconvnet's signal at a ReLU: `p * 1[p > 0]`, whatever the activation.

    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 2.1.
    """
    if sum(operation.active) != 1:
        return transpose(operation, mass)
    return _if_rectifier(operation, mass, jnp.maximum(mass, 0))


def _if_rectifier(operation: Operation, mass: Array, kept: Array) -> Masses:
    """Returns `kept`, but the transpose where a maximum is with another constant than zero."""
    signal = operation.signal()
    plain = list(transpose(operation, mass))
    constant = operation.operands[1 - signal] if len(plain) == 2 else 0
    return [m if m is None else jnp.where(constant == 0, kept, m) for m in plain]


def dual(rule: Rule) -> Rule:
    """Returns `rule` with the weights negated, for the output-adjacent linear maps.

    It passes the mass of the dual unit, which contrastive grounding subtracts (Zhang et al., ECCV
    2016, section 3.3). Every rule below is linear in the mass, so one pass follows either way.
    """

    @functools.wraps(rule)
    def of_dual(operation: Operation, mass: Array) -> Masses:
        negated = tuple(
            x if a else -x for x, a in zip(operation.operands, operation.active, strict=True)
        )
        return rule(dataclasses.replace(operation, operands=negated), mass)

    return of_dual


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
