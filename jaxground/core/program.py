"""A jaxpr as a flat list of steps, so that it can be searched and re-emitted.

Every call (`jit`, custom derivatives) is inlined, so that taps, the last weighted linear map and
histories of values are found by walking a list. This is the only module that imports `jax.extend`,
which JAX does not promise to keep.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxground.core.rules import Rule, stop
from jaxground.core.tables import CUSTOM_DERIVATIVES, Composite, Rules

_CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"})
_REMAT = frozenset({"remat2", "checkpoint"})


class Step(NamedTuple):
    """One operation of a program.

    Attributes:
      equation: The equation of the jaxpr: primitive, parameters, source.
      key: Its key in a table: the primitive's name, or `name()` for a call or pattern kept whole.
      inputs: Slots read.
      outputs: Slots written.
      scope: Path of the modules it stems from (Linen and Haiku name their scopes).
      rules: The table in force here.
      body: The steps of a rematerialised region, over the same slots.
      parts: The steps of a pattern that is one operation to its table, over the same slots.
    """

    equation: Any
    key: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scope: str
    rules: Rules
    body: "tuple[Step, ...]" = ()
    parts: "tuple[Step, ...]" = ()

    @property
    def rule(self) -> Rule:
        """Returns the rule of its table."""
        return self.rules[self.key]

    def reads(self) -> set[int]:
        """Returns the slots read, those of a rematerialised region's steps among them."""
        return {*self.inputs, *(s for inner in walk(self.body) for s in inner.inputs)}

    def renamed(self, slots: Mapping[int, int]) -> "Step":
        """Returns the step over other slots; those that are not in `slots` keep their number."""
        return self._replace(
            inputs=tuple(slots.get(s, s) for s in self.inputs),
            outputs=tuple(slots.get(s, s) for s in self.outputs),
            body=tuple(inner.renamed(slots) for inner in self.body),
            parts=tuple(inner.renamed(slots) for inner in self.parts),
        )

    def bind(self, *arrays: Any, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Returns the outputs for `arrays`, with other parameters if given."""
        if self.parts:
            values = dict(zip(self.inputs, arrays, strict=True))
            for part in self.parts:
                results = part.bind(*[values[s] for s in part.inputs])
                values.update(zip(part.outputs, results, strict=True))
            return [values[s] for s in self.outputs]
        primitive = self.equation.primitive
        results = primitive.bind(
            *arrays, **primitive.get_bind_params(self.equation.params if params is None else params)
        )
        return list(results) if primitive.multiple_results else [results]


class Program(NamedTuple):
    """A jaxpr as a flat list of steps over numbered slots."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]
    constants: dict[int, Any]
    shapes: dict[int, Any]

    def walk(self) -> Iterator[Step]:
        """Yields every step in order, those of rematerialised regions in place of the region."""
        yield from walk(self.steps)

    def dependents(self, slots: Sequence[int]) -> set[int]:
        """Returns `slots` and all slots computed from them, `stop_gradient` apart."""
        reached = set(slots)
        for step in self.walk():
            stopped = step.key == "stop_gradient" or step.rule is stop
            if not stopped and not reached.isdisjoint(step.inputs):
                reached.update(step.outputs)
        return reached

    def ancestors(self, slot: int) -> set[int]:
        """Returns `slot` and all slots that it is computed from."""
        reached = {slot}
        for step in reversed(tuple(self.walk())):
            if not reached.isdisjoint(step.outputs):
                reached.update(step.inputs)
        return reached


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Yields steps in order, those of rematerialised regions in place of the region."""
    for step in steps:
        if step.body:
            yield from walk(step.body)
        else:
            yield step


def link(jaxpr: Any, rules: Rules | Composite, source: Any = None) -> Program:
    """Returns the program of a closed jaxpr; calls with a rule of their own stay whole.

    Args:
      jaxpr: From `jax.make_jaxpr`, or the body of a loop.
      rules: The table. Of a composite, that above all its taps is put in force everywhere.
      source: The source of the loop, for operations of its body that have none.
    """
    slots = itertools.count()
    program = Program((), (), (), {}, {})
    table = rules.above if isinstance(rules, Composite) else rules

    def allot(variable) -> int:
        slot = next(slots)
        program.shapes[slot] = variable.aval
        return slot

    def inline(jaxpr, constants, inputs, source):
        where = dict(zip(jaxpr.invars, inputs, strict=True))

        def constant(variable, value):
            slot = allot(variable)
            program.constants[slot] = value
            return slot

        def read(atom):
            return constant(atom, atom.val) if isinstance(atom, Literal) else where[atom]

        where.update({v: constant(v, c) for v, c in zip(jaxpr.constvars, constants, strict=True)})
        steps = []
        for equation in jaxpr.eqns:
            equation = _located(equation, source)
            origin = equation.source_info
            read_slots = tuple(map(read, equation.invars))
            path = str(origin.name_stack)
            call, key = called(equation), _key(equation, rules)
            remat = equation.primitive.name in _REMAT
            if call is not None and not key.endswith("()"):
                inner, outputs = inline(call.jaxpr, call.consts, read_slots, origin)
            elif remat:
                body = equation.params["jaxpr"]
                consts = getattr(body, "consts", ())
                body = getattr(body, "jaxpr", body)
                inner, outputs = inline(body, consts, read_slots, origin)
                inner = [Step(equation, key, read_slots, outputs, path, table, tuple(inner))]
            else:
                outputs = tuple(map(allot, equation.outvars))
                inner = [Step(equation, key, read_slots, outputs, path, table)]
            steps += inner
            where.update(zip(equation.outvars, outputs, strict=True))
        return steps, tuple(map(read, jaxpr.outvars))

    inputs = tuple(map(allot, jaxpr.jaxpr.invars))
    steps, outputs = inline(jaxpr.jaxpr, jaxpr.consts, inputs, source)
    return program._replace(inputs=inputs, outputs=outputs, steps=tuple(steps))


def _located(equation, call_source):
    """Returns an equation with the scope of its call and, if it has none, its source, too."""
    if call_source is None:
        return equation
    found = equation.source_info
    if not source_info_util.summarize(found):  # library code in a `jit`
        found = found.replace(traceback=call_source.traceback)
    found = found.replace(name_stack=call_source.name_stack + found.name_stack)
    return equation.replace(source_info=found)


def called(equation) -> Any:
    """Returns the closed jaxpr of a call whose boundary carries no meaning, else `None`."""
    if equation.primitive.name == "call_hi_primitive":  # behind jax_custom_jvp3 in JAX 0.12
        return equation.params["_prim"].traced.jaxpr
    if equation.primitive.name in _CALLS:
        return equation.params.get("call_jaxpr", equation.params.get("jaxpr"))
    return None


def _key(equation, rules: Rules | Composite) -> str:
    """Returns the key of an equation in the table: `name()` for a call that stays whole."""
    name, call = equation.primitive.name, called(equation)
    if call is None:
        return name
    function = equation.params.get("name") or call.jaxpr.debug_info.func_name
    keys = (f"{function}()", f"{name}()") if name in CUSTOM_DERIVATIVES else (f"{function}()",)
    return next((key for key in keys if rules.keeps(key)), name)


def names_in_loops(program: Program) -> list[str]:
    """Returns the names of taps inside scan, cond and while, where no probe can reach them."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "name":
                yield equation.params["name"]
            for value in equation.params.values():
                for inner in _jaxprs(value):
                    yield from names(inner)

    loops = (step for step in program.walk() if step.equation.primitive.name != "name")
    found = (
        name
        for step in loops
        for value in step.equation.params.values()
        for inner in _jaxprs(value)
        for name in names(inner)
    )
    return list(dict.fromkeys(found))


def describe(equation) -> str:
    """Returns an equation in words: primitive, operand shapes, the user's file and line."""
    shapes = ", ".join(v.aval.str_short() for v in equation.invars)
    where = source_info_util.summarize(equation.source_info)
    return f"`{equation.primitive.name}` ({shapes}), at {where or 'library code'}"


def _jaxprs(value) -> list:
    values = value if type(value) is tuple else (value,)
    return [v for v in values if isinstance(v, (Jaxpr, ClosedJaxpr))]


def rewrite(params: Mapping[str, Any], rewritten: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns the parameters of a loop with every jaxpr in them rewritten; reads no other one."""

    def each(value):
        if type(value) is tuple:
            return tuple(map(each, value))
        return rewritten(value) if isinstance(value, Jaxpr | ClosedJaxpr) else value

    return {k: each(v) if _jaxprs(v) else v for k, v in params.items()}


def at_source(step: Step):
    """Returns a context in which new equations carry the file, line and scope of `step`."""
    source = step.equation.source_info
    scope = source_info_util.current_name_stack() + source.name_stack
    return source_info_util.user_context(source.traceback, name_stack=scope)
