"""What of a program depends on weights alone, found in loops and rematerialised regions, too."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from jaxground.core.program import Program, Step, link, rewrite
from jaxground.core.tables import GRADIENT
from jaxground.core.transform import evaluate


class Hoisted(NamedTuple):
    """A program in two.

    Attributes:
      early: Takes the weights to what depends on them alone and is read by the rest.
      weights: What `early` takes.
      late: Takes what `early` returns, and then the inputs of the program.
    """

    early: Program
    weights: list[Any]
    late: Program


def hoist(program: Program) -> Hoisted:
    """Returns the steps that need weights alone, and the rest with what it takes from them.

    Those are found, too, in rematerialised regions and in the body of a scan, among what is the
    same at every turn: backward through time, or in passes over frames. XLA moves them out of its
    loops as well, but into each call.

    A step that enlarges its operands (a bias broadcast over an image) stays with the rest, where
    it costs nothing: it would be fused. Of early steps that compute the same only one is kept:
    across the two programs XLA could not see that they, and all that follows from them, agree.

    Args:
      program: Linked with the empty table.
    """
    sieve = _Sieve()
    sieve.take_in(program)
    late = sieve.sift(program.steps)
    outputs = tuple(sieve.kept.get(s, s) for s in program.outputs)
    taken = tuple(sorted(sieve.weights & _read(late, outputs)))
    sources = {s: c for s, c in sieve.constants.items() if s in sieve.weights}
    inputs = (*taken, *program.inputs)
    return Hoisted(
        sieve.program(tuple(sources), taken, tuple(sieve.early)),
        list(sources.values()),
        sieve.program(inputs, outputs, late),
    )


class _Sieve:
    """Takes early steps out of a program and, over its slots, out of the loops in it.

    Attributes:
      shapes: The shape and dtype of each slot.
      constants: The constants by their slots, those of loops among them.
      weights: The slots of arrays, and of what is computed from them alone.
      early: The steps that compute it.
      kept: For a slot another that has the same value, and stands for it.
    """

    def __init__(self):
        self.shapes: dict[int, Any] = {}
        self.constants: dict[int, Any] = {}
        self.weights: set[int] = set()
        self.early: list[Step] = []
        self.kept: dict[int, int] = {}
        self._literals: set[int] = set()
        self._computed: dict[Any, tuple[int, ...]] = {}

    def take_in(self, program: Program) -> None:
        """Takes note of shapes and constants."""
        self.shapes.update(program.shapes)
        for slot, constant in program.constants.items():
            literal = np.ndim(constant) == 0 and not isinstance(constant, jax.Array)
            # By their bytes: 0.0 equals -0.0.
            value = (np.asarray(constant).tobytes(), self.shapes[slot].dtype) if literal else None
            self.kept[slot] = self._computed.setdefault(value or id(constant), (slot,))[0]
            self._literals.update([slot] if literal else [])
            if self.kept[slot] == slot:
                self.constants[slot] = constant
                self.weights.update([slot] if np.ndim(constant) > 0 else [])

    def program(
        self, inputs: tuple[int, ...], outputs: tuple[int, ...], steps: tuple[Step, ...]
    ) -> Program:
        """Returns a program with the constants that are no weights."""
        scalars = {s: c for s, c in self.constants.items() if s not in self.weights}
        return Program(inputs, outputs, steps, scalars, self.shapes)

    def sift(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Returns the late ones among steps; the others join `early`."""
        late: list[Step] = []
        for step in steps:
            step = step.renamed(self.kept)
            if self._is_early(step):
                same = (step.key, step.inputs, str(step.equation.params))
                before = self._computed.setdefault(same, step.outputs)
                self.kept.update(zip(step.outputs, before, strict=True))
                if before is step.outputs:
                    self.early.append(step)
                    self.weights.update(step.outputs)
            elif step.body:
                late.append(self._sifted_region(step))
            elif step.key == "scan":
                late += self._sifted_loop(step)
            else:
                late.append(step)
        return tuple(late)

    def _is_early(self, step: Step) -> bool:
        size = sum(self.shapes[s].size for s in step.inputs)
        grown = sum(self.shapes[s].size for s in step.outputs)
        fixed = all(s in self.weights or s in self.constants for s in step.inputs)
        pure = fixed and not step.equation.effects
        return pure and not self.weights.isdisjoint(step.inputs) and grown <= size

    def _sifted_region(self, step: Step) -> Step:
        """Returns a rematerialised region that reads what its early steps compute.

        It stays the equation that it was, of which JAX knows whether it is differentiated.
        """
        late = self.sift(step.body)
        if _same_equations(late, step.body):
            return step._replace(body=())
        inside, read = self._closed((), step.outputs, late)

        def rewritten(_):
            shapes = [self.shapes[s] for s in read]
            return jax.make_jaxpr(lambda *values: evaluate(inside, values)[0])(*shapes).jaxpr

        params = rewrite(step.equation.params, rewritten)
        params["prevent_cse"] = bool(np.any(params["prevent_cse"]))  # no more input by input
        equation = step.equation.replace(params=params)
        return step._replace(equation=equation, inputs=read, body=())

    def _sifted_loop(self, step: Step) -> tuple[Step, ...]:
        """Returns a scan that reads what the early steps of its body compute of its constants."""
        params = step.equation.params
        inner = params["jaxpr"].jaxpr
        # By their shapes: what is scanned or stacked has one axis more outside than inside.
        whole = sum(map(_same_rank, inner.invars, step.equation.invars))
        carried = sum(map(_same_rank, inner.outvars, step.equation.outvars))
        fixed, varying = step.inputs[: whole - carried], step.inputs[whole - carried :]
        body = self._own(link(params["jaxpr"], GRADIENT), fixed)
        late = self.sift(body.steps)
        if _same_equations(late, body.steps):
            return (step,)
        inside, read = self._closed(body.inputs[len(fixed) :], body.outputs, late)

        def loop(values, start, scanned):
            def turn(carry, rows):
                results, _ = evaluate(inside, [*values, *carry, *rows])
                return results[:carried], results[carried:]

            again = {name: params[name] for name in ("length", "reverse", "unroll")}
            carry, stacked = lax.scan(turn, start, scanned, **again)
            return [*carry, *stacked]

        groups = read, varying[:carried], varying[carried:]
        shapes = [[self.shapes[s] for s in group] for group in groups]
        outside = self._own(link(jax.make_jaxpr(loop)(*shapes), GRADIENT), (*read, *varying))
        self.kept.update(zip(step.outputs, outside.outputs, strict=True))
        return outside.steps

    def _closed(
        self, inputs: tuple[int, ...], outputs: tuple[int, ...], steps: tuple[Step, ...]
    ) -> tuple[Program, tuple[int, ...]]:
        """Returns a program of late steps, and what it takes from outside, before its inputs."""
        outputs = tuple(self.kept.get(s, s) for s in outputs)
        made = {s for step in steps for s in step.outputs}.union(inputs, self._literals)
        read = tuple(sorted(_read(steps, outputs) - made))
        return self.program((*read, *inputs), outputs, steps), read

    def _own(self, program: Program, inputs: Sequence[int]) -> Program:
        """Returns a program over new slots, but for its first inputs, which are the given ones."""
        offset = 1 + max(self.shapes)
        slots = {s: s + offset for s in program.shapes} | dict(
            zip(program.inputs, inputs, strict=False)
        )
        own = Program(
            tuple(slots[s] for s in program.inputs),
            tuple(slots[s] for s in program.outputs),
            tuple(step.renamed(slots) for step in program.steps),
            {slots[s]: c for s, c in program.constants.items()},
            {slots[s]: shape for s, shape in program.shapes.items()},
        )
        self.take_in(own)
        return own


def _read(steps: Sequence[Step], outputs: Sequence[int]) -> set[int]:
    return {s for step in steps for s in step.reads()}.union(outputs)


def _same_rank(inside: Any, outside: Any) -> bool:
    return len(inside.aval.shape) == len(outside.aval.shape)


def _same_equations(steps: Sequence[Step], others: Sequence[Step]) -> bool:
    return [id(s.equation) for s in steps] == [id(s.equation) for s in others]
