"""Several steps that are one operation to their table.

A table may have rules for three patterns that are no call in the jaxpr:

- `"affine()"`: a linear map and the biases added to it, for rules in which biases take part;
- `"softmax()"`: what `jax.nn.softmax` is computed by;
- `"self_gated()"`: a product of two elementwise functions of one signal: GELU, SiLU, squares.

Found on the jaxpr, so the framework does not matter.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxground.core.program import Program, Step
from jaxground.core.tables import LINEAR_MAPS

PATTERNS = ("affine()", "softmax()", "self_gated()")
_RESHAPING = frozenset(
    "reshape transpose squeeze broadcast_in_dim convert_element_type copy copy_p "
    "reduce_precision".split()
)
_ELEMENTWISE = frozenset(
    """
    mul add sub div neg abs sign max min clamp exp exp2 expm1 log log1p tanh logistic erf erfc
    square sqrt rsqrt cbrt integer_pow pow select_n eq ne lt le gt ge and or not is_finite
    convert_element_type copy copy_p reduce_precision
    """.split()
)


class _Context(NamedTuple):
    """What the patterns are looked for in.

    Attributes:
      active: Slots that depend on the inputs.
      shapes: The shape and dtype of each slot.
      writers: The step that computes each slot.
      order: When each slot is computed.
      reads: How often each slot is read, by the outputs, too.
    """

    active: set[int]
    shapes: dict[int, Any]
    writers: dict[int, Step]
    order: dict[int, int]
    reads: Counter[int]


def fuse(program: Program) -> Program:
    """Returns the program with the patterns that its tables have rules for as single steps."""
    steps = tuple(program.walk())
    if not any(key in table for table in {step.rules for step in steps} for key in PATTERNS):
        return program
    read = [*program.outputs, *_leaving(program.steps)]
    context = _Context(
        program.dependents(program.inputs),
        program.shapes,
        {s: step for step in steps for s in step.outputs},
        {s: i for i, step in enumerate(steps) for s in step.outputs},
        Counter([*read, *(s for step in steps for s in step.inputs)]),
    )
    return program._replace(steps=_fused(program.steps, context))


def _leaving(steps: Sequence[Step]) -> list[int]:
    """Returns the slots that leave rematerialised regions."""
    return [s for step in steps if step.body for s in (*step.outputs, *_leaving(step.body))]


def _fused(steps: Sequence[Step], context: _Context) -> tuple[Step, ...]:
    here = [step for step in steps if not step.body]
    reader = {s: step for step in here for s in step.inputs}
    written = {step.outputs for step in here}
    found = (pattern for step in here for pattern in _patterns(step, reader, context))
    ends = {p.outputs: p for p in found if written.issuperset(part.outputs for part in p.parts)}
    inside = {part.outputs for pattern in ends.values() for part in pattern.parts}
    needed = set((context.reads - Counter(s for step in here for s in step.inputs)).keys())
    kept: list[Step] = []
    for step in reversed(steps):
        step = ends.get(step.outputs, step)
        if step.outputs in inside and needed.isdisjoint(step.outputs):
            continue  # nobody reads it but the pattern
        needed |= step.reads()
        kept.append(step._replace(body=_fused(step.body, context)) if step.body else step)
    return tuple(reversed(kept))


def _patterns(step: Step, reader: Mapping[int, Step], context: _Context) -> Iterator[Step]:
    if step.key in LINEAR_MAPS and "affine()" in step.rules:
        yield from _affine(step, reader, context)
    elif step.key == "div" and "softmax()" in step.rules:
        yield from _softmax(step, context)
    elif step.key == "mul" and "self_gated()" in step.rules and context.active >= {*step.inputs}:
        yield from _pattern(step, "self_gated()", _ELEMENTWISE, context)


def _affine(linear: Step, reader: Mapping[int, Step], context: _Context) -> Iterator[Step]:
    """Yields a linear map with the biases that are added to it, if there are any."""
    parts, biases, end = [linear], [], 1
    slot = linear.outputs[0]
    while context.reads[slot] == 1 and slot in reader:
        step = reader[slot]
        if step.rules != linear.rules or _module(step) != _module(linear):
            break
        others = [s for s in step.inputs if s != slot]
        is_bias = step.key == "add" and len(others) == 1 and _is_bias(others[0], context)
        if not is_bias and (step.key not in _RESHAPING or others):
            break
        parts.append(step)
        biases += others
        end = len(parts) if is_bias else end
        slot = step.outputs[0]
    inputs = (*linear.inputs, *biases)
    if end > 1 and len(set(inputs)) == len(inputs):
        yield linear._replace(
            key="affine()", inputs=inputs, outputs=parts[end - 1].outputs, parts=tuple(parts[:end])
        )


def _module(step: Step) -> list[str]:
    """Returns the path of the module that a step stems from: what leaves one may be tapped."""
    parts = filter(None, step.scope.split("/"))
    return [part for part in parts if not part.startswith("jit(") and "->" not in part]  # einsum's


def _is_bias(slot: int, context: _Context) -> bool:
    """Says whether a slot is a weight, or an argument, which may turn out to be one."""
    while slot in context.active and slot in context.writers:
        step = context.writers[slot]
        if step.key not in _RESHAPING:
            return False
        slot = step.inputs[0]
    return True


def _softmax(step: Step, context: _Context) -> Iterator[Step]:
    """Yields `exp(x - shift) / sum(exp(x - shift))` as one step, if that is what a quotient is."""
    exponential, total = step.inputs
    writers = context.writers
    while total in writers and writers[total].key in _RESHAPING:
        (total,) = writers[total].inputs
    if total not in writers or writers[total].key != "reduce_sum":
        return
    if writers[total].inputs != (exponential,) or exponential not in writers:
        return
    if writers[exponential].key == "exp":
        (x,) = writers[exponential].inputs
        unshifted = writers[x].inputs[0] if x in writers and writers[x].key == "sub" else x
        allowed = _RESHAPING | {"exp", "reduce_sum", "sub", "reduce_max", "max"}
        for source in dict.fromkeys((unshifted, x)):
            for pattern in _pattern(step, "softmax()", allowed, context, source):
                yield pattern
                return


def _pattern(
    last: Step, key: str, allowed: frozenset[str], context: _Context, source: int | None = None
) -> Iterator[Step]:
    """Yields the steps from one slot to `last` as one, if only `allowed` ones lie between.

    That slot is `source` or, if not given, the nearest that `last` depends on through it alone.
    """
    parts = [last]
    ahead = context.active.intersection(last.inputs)
    while ahead != {source} and (source is not None or len(ahead) > 1):
        slot = max(ahead, key=lambda s: context.order.get(s, -1))
        step = context.writers.get(slot)
        if slot == source or step is None or step.key not in allowed or step.rules != last.rules:
            return
        parts.append(step)
        ahead = (ahead - {slot}) | context.active.intersection(step.inputs)
    parts = sorted(parts, key=lambda step: context.order[step.outputs[0]])
    made = {s for part in parts for s in part.outputs}
    others = [s for part in parts for s in part.inputs if s not in made]
    inputs = tuple(dict.fromkeys([*ahead, *others]))
    if context.shapes[inputs[0]].shape == context.shapes[last.outputs[0]].shape:
        yield last._replace(key=key, inputs=inputs, parts=tuple(parts))
