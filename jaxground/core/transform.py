"""The interpreter: `excite(f)` is `f` with another transpose.

Evaluating a program re-emits every step *forward*, some of them as `custom_vjp` twins whose
backward pass is a rule of the table. JAX's own reverse mode then does fan-out sums, scan, cond,
remat, vmap and sharding. There is no backward interpreter here. No private parameter of a primitive
is read: a jaxpr is rewritten wherever it is found in `params`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, MethodType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from jaxground.core.fusion import fuse
from jaxground.core.program import Program, Step, at_source, called, describe, link, rewrite, walk
from jaxground.core.regions import assign
from jaxground.core.rules import Rule, stop, transpose
from jaxground.core.tables import EXCITATION, LINEAR_MAPS, Composite, Rules
from jaxground.core.twins import Linear, twin

_LOOPS = frozenset({"scan", "cond"})
# What keeps a gate a gate and a sum of linear maps one: reshaping; a gate may be scaled, too.
RESHAPING = frozenset(
    "reshape transpose squeeze broadcast_in_dim slice dynamic_slice gather split unstack rev "
    "convert_element_type copy copy_p reduce_precision name".split()
)
_SCALING = frozenset({"add", "sub", "mul", "div", "neg"})


class _Value(NamedTuple):
    """A value on its way forward, with the part of its history that a rule may ask for."""

    array: Any
    gate: bool = False
    linear: Linear | None = None
    weight: bool = False  # computed from constants alone


def evaluate(
    program: Program,
    inputs: Sequence[Any],
    *,
    probes: Mapping[int, Array] = MappingProxyType({}),
    overrides: Mapping[int, Rule] = MappingProxyType({}),
    read: Sequence[int] = (),
) -> tuple[list[Any], list[Any]]:
    """Returns the outputs of a program, and the values of the slots `read`.

    Args:
      program: From `trace` or `link`; its steps carry their tables.
      inputs: One array per input slot.
      probes: Arrays, one per tapped slot, whose cotangent is to be the mass at that slot.
      overrides: Rules for single steps, by their first output slot.
      read: Slots whose values are returned too.
    """
    values = {slot: _Value(constant, weight=True) for slot, constant in program.constants.items()}
    values.update(
        {
            slot: _Value(_probed(x, probes.get(slot)))
            for slot, x in zip(program.inputs, inputs, strict=True)
        }
    )
    _run(program.steps, values, probes, overrides)
    return [values[s].array for s in program.outputs], [values[s].array for s in read]


def _run(steps, values, probes, overrides):
    for step in steps:
        if step.body:
            _run_rematerialised(step, values, probes, overrides)
            continue
        with at_source(step):
            results = _emit(step, [values[s] for s in step.inputs], overrides)
        for slot, value in zip(step.outputs, results, strict=True):
            values[slot] = value._replace(array=_probed(value.array, probes.get(slot)))


def _run_rematerialised(step, values, probes, overrides):
    """Evaluates a rematerialised region inside `jax.checkpoint`; probes come in as arguments."""
    body = tuple(walk(step.body))
    produced = {s for inner in body for s in inner.outputs}
    needed = {s for inner in body for s in inner.inputs} - produced
    needed = tuple(sorted(needed | (set(step.outputs) - produced)))
    inside = {s: probe for s, probe in probes.items() if s in produced}
    exposed = tuple(dict.fromkeys((*step.outputs, *inside)))
    produces = {}  # what the values are, beside their arrays; a gate stays a gate

    def region(arrays, inside):
        local = {s: values[s]._replace(array=a) for s, a in zip(needed, arrays, strict=True)}
        _run(step.body, local, inside, overrides)
        produces.update({s: local[s]._replace(linear=None) for s in exposed})
        return [local[s].array for s in exposed]

    checkpointed = jax.checkpoint(
        region,
        policy=step.equation.params["policy"],
        prevent_cse=step.equation.params["prevent_cse"],
    )
    arrays = checkpointed([values[s].array for s in needed], inside)
    values.update({s: produces[s]._replace(array=a) for s, a in zip(exposed, arrays, strict=True)})


def _emit(step: Step, operands: list[_Value], overrides) -> list[_Value]:
    equation, arrays = step.equation, [v.array for v in operands]
    rule = overrides.get(step.outputs[0], step.rule) if step.outputs else transpose
    smooth = any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.outvars)
    if step.key in _LOOPS and step.rules.table:
        results = step.bind(*arrays, params=_excited_params(equation, step.rules))
    elif rule is stop:
        results = [jax.lax.stop_gradient(x) for x in step.bind(*arrays)]
    elif _is_call(step) and not step.rules.keeps(step.key):  # another table of the composite does
        results, _ = evaluate(_linked(called(equation), step.rules, equation.source_info), arrays)
    elif step.key in (*_LOOPS, "name") or rule is transpose or not smooth:
        results = step.bind(*arrays)
    else:
        histories = tuple(v.linear for v in operands)
        several = len(step.outputs) > 1
        results = twin(
            (lambda *xs: step.bind(*xs)) if several else (lambda *xs: step.bind(*xs)[0]),
            rule,
            gates=tuple(v.gate for v in operands),
            linears=histories if None not in histories else (),
            description=describe(equation),
            biases=len(arrays) - len(equation.invars) if step.key == "affine()" else 0,
        )(*arrays)
        results = results if several else [results]
    gate, weight = _is_gate(step.key, operands), all(v.weight for v in operands)
    return [_Value(r, gate, _linear(step, operands, i), weight) for i, r in enumerate(results)]


def _is_call(step: Step) -> bool:
    return step.key.endswith("()") and not step.parts


def _is_gate(key: str, operands: list[_Value]) -> bool:
    """Says whether a result is a gate: a sigmoid, reshaped or scaled by weights alone."""
    if key == "logistic":
        return True
    gates = [v.gate for v in operands]
    if key in RESHAPING:
        return bool(gates) and gates[0]
    fixed = [v.gate or v.weight or not isinstance(v.array, Tracer) for v in operands]
    return key in _SCALING and sum(gates) == 1 and all(fixed)


def _linear(step: Step, operands: list[_Value], output: int) -> Linear | None:
    """Returns the history of a result that is a sum of linear maps, else `None`."""
    histories = [v.linear for v in operands]
    arrays = [v.array for v in operands]
    if step.parts:
        return None
    if step.key in LINEAR_MAPS and not all(v.weight for v in operands):
        return Linear(Partial(functools.partial(_excitation, step), *arrays), ())
    if step.key in RESHAPING and histories and histories[0] is not None:
        reshaped = functools.partial(_reshaped, step, output)
        return Linear(Partial(reshaped, histories[0].excitation, *arrays[1:]), histories[0].addends)
    if step.key == "sub" and histories[0] is not None and histories[1] is None:
        return histories[0]._replace(addends=(*histories[0].addends, arrays[1]))
    gates = [i for i, v in enumerate(operands) if v.gate]
    if step.key == "mul" and len(gates) == 1 and (history := histories[1 - gates[0]]) is not None:
        scaled = Partial(_gated, history.excitation, arrays[gates[0]])  # GRU: r * (h @ U)
        return Linear(scaled, history.addends)
    if step.key == "add" and any(histories):
        known = [h for h in histories if h is not None]
        addends = [a for a, h in zip(arrays, histories, strict=True) if h is None]
        total = functools.partial(_total, step.equation.outvars[0].aval.shape)
        return Linear(
            Partial(total, *(h.excitation for h in known)),
            (*addends, *(a for h in known for a in h.addends)),
        )
    return None


def _excitation(step, *operands):
    return step.bind(*[jnp.maximum(x, 0) for x in operands])[0]


def _reshaped(step, output, excitation, *operands):
    return step.bind(excitation(), *operands)[output]


def _gated(excitation, gate):  # a gate is a weight, and only positive weights excite
    return jnp.maximum(gate, 0) * excitation()


def _total(shape, *excitations):  # a bias may be larger than the map it is added to
    return jnp.broadcast_to(functools.reduce(jnp.add, (e() for e in excitations)), shape)


@jax.custom_vjp
def _probe(x, probe):
    del probe
    return x


_probe.defvjp(lambda x, probe: (x, None), lambda _, mass: (mass, mass))


def _probed(x, probe):
    return x if probe is None else _probe(x, probe)


def _excited_params(equation: Any, rules: Rules) -> dict[str, Any]:
    """Returns the parameters of a loop with its bodies excited."""

    def excited(jaxpr):
        program = _linked(jaxpr, rules, equation.source_info)
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in jaxpr.jaxpr.invars]
        return jax.make_jaxpr(lambda *xs: evaluate(program, xs)[0])(*shapes)

    return rewrite(equation.params, excited)


def excite(f: Callable[..., Any], rules: Rules | Composite = EXCITATION) -> Callable[..., Any]:
    """Returns `f` with the same values and the transpose of `rules`.

    `jax.vjp(excite(f), x)[1](prior)` is Excitation Backprop down to `x`; so is `jax.vjp` of
    anything that calls it, under `jit`, `vmap`, `pmap`, `shard_map`, `scan`, `cond` and `remat`.

    Args:
      f: Any function that JAX can trace. What it closes over is weight, not signal.
      rules: The table of the method.

    Returns:
      A function with the arguments and, bit for bit, the values of `f`. It retraces `f` at every
      call: put it under `jax.jit`.

    Raises:
      MissingRuleError: When differentiated, if an operation without rule lies between the input
        and the output; the message has the user's file and line.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> weights = jnp.array([[1.0, -1.0], [3.0, 2.0]])
      >>> f = excite(lambda x: x @ weights)
      >>> values, pull = jax.vjp(f, jnp.array([1.0, 1.0]))
      >>> pull(jnp.array([1.0, 0.0]))  # the first unit shares among both children, 1 : 3
      (Array([0.25, 0.75], dtype=float32),)

    References:
      Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016.
    """

    @functools.wraps(f)
    def excited(*args, **kwargs):
        program, tree = trace(f, rules, *args, **kwargs)
        outputs, _ = evaluate(program, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(tree, outputs)

    return excited


def trace(
    f: Callable[..., Any], rules: Rules | Composite, *args: Any, **kwargs: Any
) -> tuple[Program, Any]:
    """Returns the program of `f` at these arguments, and the tree of its outputs."""
    closed, shape = jax.make_jaxpr(rebuilt(f), return_shape=True)(*args, **kwargs)
    return _linked(closed, rules), jax.tree.structure(shape)


def _linked(jaxpr: Any, rules: Rules | Composite, source: Any = None) -> Program:
    return fuse(assign(link(jaxpr, rules, source), rules))


def rebuilt(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a model that is a pytree (NNX, Equinox) as a function that rebuilds it when called.

    A method of such a model, too. State that it touches, such as the counters of random streams,
    then belongs to the trace.
    """
    if isinstance(f, MethodType):
        f = Partial(f.__func__, f.__self__)
    leaves, tree = jax.tree.flatten(f)
    if jax.tree_util.treedef_is_leaf(tree):
        return f
    return lambda *args, **kwargs: jax.tree.unflatten(tree, leaves)(*args, **kwargs)
