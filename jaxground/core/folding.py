"""Batch norm folded into the linear map before it, for any model."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxground.core.program import Program, Step, at_source
from jaxground.core.tables import EXCITATION
from jaxground.core.transform import trace


def fold_batch_norm(f: Callable[..., Any]) -> Callable[..., Any]:
    r"""Returns `f` with every scaling and shifting after a linear map folded into its weights.

    At inference batch norm is :math:`\gamma (Wx - \mu) / \sigma + \beta`, one linear map with the
    weights :math:`\gamma W / \sigma`. Excitation Backprop as published passes mass through batch
    norm unchanged and shares by the raw :math:`W^+`; on the folded function it shares by the
    composed weights' positive part. The two agree where every :math:`\gamma` is positive and
    differ, sometimes by most of the map, where signs mix. LRP assumes folded networks.

    Found on the jaxpr, so the framework does not matter: products, quotients, sums and differences
    with weights that vary along the channels alone, after a dense layer or a convolution, as long
    as nothing else reads the values between and no tap stands there. Depthwise convolutions
    written as `linear_map` are left as they are; rematerialisation is dropped.

    Args:
      f: A model in inference mode, or any function that JAX can trace.

    Returns:
      A function with the values of `f` up to rounding. It retraces `f` at every call.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxground.core import excite
      >>> weights, scale = jnp.array([[1.0], [-3.0]]), jnp.array([-2.0])
      >>> f = lambda x: (x @ weights - 1) * scale
      >>> jax.vjp(excite(f), jnp.ones(2))[1](jnp.ones(1))  # by the positive part of W
      (Array([1., 0.], dtype=float32),)
      >>> jax.vjp(excite(fold_batch_norm(f)), jnp.ones(2))[1](jnp.ones(1))  # of scale * W
      (Array([0., 1.], dtype=float32),)
    """

    @functools.wraps(f)
    def folded(*args, **kwargs):
        program, tree = trace(f, EXCITATION, *args, **kwargs)
        values = dict(program.constants)
        values.update(zip(program.inputs, jax.tree.leaves((args, kwargs)), strict=True))
        chains = _chains(program)
        ends = {chain.links[-1].step.outputs: chain for chain in chains}
        inside = {c.linear.outputs for c in chains}
        inside |= {link.step.outputs for c in chains for link in c.links[:-1]}
        for step in program.walk():
            if step.outputs and step.outputs in inside:
                continue
            with at_source(step):
                if step.outputs in ends:
                    results = [_folded(ends[step.outputs], values)]
                else:
                    results = step.bind(*[values[s] for s in step.inputs])
            values.update(zip(step.outputs, results, strict=True))
        return jax.tree.unflatten(tree, [values[s] for s in program.outputs])

    return folded


class _Link(NamedTuple):
    """One affine step: which operand is the signal, and the slot of the other one."""

    step: Step
    signal: int
    other: int


class _Chain(NamedTuple):
    """A weighted linear map and the affine steps that follow it.

    Attributes:
      linear: The linear map.
      weight: Which of its operands is the weight.
      axes: For each axis of the output that the weight has, the weight's axis.
      links: The affine steps, at least one of which scales.
    """

    linear: Step
    weight: int
    axes: dict[int, int]
    links: tuple[_Link, ...]


def _chains(program: Program) -> list[_Chain]:
    active = program.dependents(program.inputs)
    steps = list(program.walk())
    reads = Counter(s for step in steps for s in step.inputs) + Counter(program.outputs)
    reader = {s: step for step in steps for s in step.inputs}
    writer = {s: step for step in steps for s in step.outputs}
    chains = []
    for step in steps:
        signals = [i for i, s in enumerate(step.inputs) if s in active]
        if step.key not in ("dot_general", "conv_general_dilated") or len(signals) != 1:
            continue
        weight = 1 - signals[0]
        axes = _weight_axes(step, weight)
        links, slot = [], step.outputs[0]
        while reads[slot] == 1 and slot in reader:
            link = _link(program, reader[slot], slot, active, axes, writer)
            if link is None:
                break
            links.append(link)
            slot = link.step.outputs[0]
        if any(link.step.key in ("mul", "div", "sub") for link in links):
            chains.append(_Chain(step, weight, axes, tuple(links)))
    return chains


def _weight_axes(step: Step, weight: int) -> dict[int, int]:
    numbers = step.equation.params["dimension_numbers"]
    if step.key == "conv_general_dilated":
        return {numbers.out_spec[1]: numbers.rhs_spec[0]} if weight == 1 else {}
    contracted, batched = numbers
    ranks = [len(v.aval.shape) for v in step.equation.invars]
    free = [
        [i for i in range(rank) if i not in (*contracted[side], *batched[side])]
        for side, rank in enumerate(ranks)
    ]
    first = len(batched[0]) + (len(free[0]) if weight == 1 else 0)
    return {first + i: axis for i, axis in enumerate(free[weight])}


def _link(program, step, slot, active, axes, writer) -> _Link | None:
    """Returns an affine step with weights that vary along `axes` alone, else `None`."""
    if step.key not in ("add", "sub", "mul", "div") or step.inputs.count(slot) != 1:
        return None
    signal = step.inputs.index(slot)
    other = step.inputs[1 - signal]
    if other in active or (step.key == "div" and signal == 1):
        return None
    if program.shapes[step.outputs[0]].shape != program.shapes[slot].shape:
        return None
    varying = [i for i, n in enumerate(program.shapes[other].shape) if n != 1]
    spread = writer.get(other)
    if spread is not None and spread.key == "broadcast_in_dim":  # written out in full
        source = program.shapes[spread.inputs[0]].shape
        placed = spread.equation.params["broadcast_dimensions"]
        varying = [axis for axis, n in zip(placed, source, strict=True) if n != 1]
    return _Link(step, signal, other) if set(varying) <= set(axes) else None


def _folded(chain: _Chain, values: dict[int, Any]) -> Array:
    """Returns the linear map with folded weights, plus the folded shift."""
    scale: Any = 1.0
    shift: Any = 0.0
    for link in chain.links:
        other = _along(values[link.other], chain.axes)
        if link.step.key == "mul":
            scale, shift = scale * other, shift * other
        elif link.step.key == "div":
            scale, shift = scale / other, shift / other
        elif link.step.key == "add":
            shift = shift + other
        elif link.signal == 0:
            shift = shift - other
        else:
            scale, shift = -scale, other - shift
    operands = [values[s] for s in chain.linear.inputs]
    weight = operands[chain.weight]
    operands[chain.weight] = weight * _onto(scale, weight, chain.axes)
    (result,) = chain.linear.bind(*operands)
    return result + shift


def _along(other: Any, axes: dict[int, int]) -> Any:
    """Returns a weight of the chain with one entry along every axis but those of the map's."""
    if not getattr(other, "ndim", 0):
        return other
    return other[tuple(slice(None) if i in axes else slice(0, 1) for i in range(other.ndim))]


def _onto(scale: Any, weight: Array, axes: dict[int, int]) -> Any:
    """Returns the scale of the outputs, laid along the axes of the weight that make them."""
    if not getattr(scale, "ndim", 0):
        return scale
    order = sorted(axes, key=lambda axis: axes[axis])
    others = [i for i in range(scale.ndim) if i not in axes]
    shape = [1] * weight.ndim
    for axis in axes:
        shape[axes[axis]] = scale.shape[axis]
    return scale.transpose([*others, *order]).reshape(shape)
