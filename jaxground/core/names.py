"""How the names of intermediate activations are found in a program."""

import re
from collections import Counter
from collections.abc import Iterator

import jax.numpy as jnp

from jaxground.core.program import Program, names_in_loops


def find(program: Program) -> dict[str, int]:
    """Returns the slot of every tap of a program, in order of evaluation."""
    order = {s: i for i, step in enumerate(program.walk()) for s in step.outputs}
    named = _numbered(_named(program))
    slots = {**dict(_module_outputs(program)), **dict(named)}
    # A module and its last sub-module may put out the same value: the inner one comes first.
    return dict(sorted(slots.items(), key=lambda item: (order[item[1]], -item[0].count("/"))))


def slot_of(program: Program, name: str) -> int:
    """Returns the slot of one tap.

    Raises:
      KeyError: There is no tap of that name; the message lists those that are there.
    """
    slots = find(program)
    if name in slots:
        return slots[name]
    hidden = names_in_loops(program)
    if name in hidden:
        raise KeyError(
            f"tap {name!r} lies inside a scan, cond or while loop, where it has one value per "
            f"turn; return the value from the loop and tap it there. Taps in reach: {list(slots)}"
        )
    there = (
        f"taps from input to output: {list(slots)}"
        if slots
        else ("none was found: name values with jaxground.tap, or wrap an NNX model in with_taps")
    )
    raise KeyError(f"no tap named {name!r}; {there}")


def _named(program: Program) -> Iterator[tuple[str, int]]:
    for step in program.walk():
        if step.equation.primitive.name == "name":
            yield step.equation.params["name"], step.outputs[0]


def _numbered(named: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    seen: Counter[str] = Counter()
    for name, slot in named:
        yield (f"{name}[{seen[name]}]" if seen[name] else name), slot
        seen[name] += 1


def _module_outputs(program: Program) -> Iterator[tuple[str, int]]:
    """Yields the one array that leaves each module scope, if it is one."""
    writers: dict[str, list[int]] = {}
    readers: dict[int, list[str]] = {slot: [""] for slot in program.outputs}
    for step in program.walk():
        parts = re.sub(r"\w+\((.*?)\)", r"\1", step.scope).split("/")
        path = "/".join(filter(None, parts))
        for slot in step.inputs:
            readers.setdefault(slot, []).append(path)
        for depth, _ in enumerate(filter(None, parts), 1):
            prefix = "/".join(path.split("/")[:depth])
            writers.setdefault(prefix, []).extend(step.outputs)
    for prefix, slots in writers.items():
        leaving = [s for s in slots if _leaves(prefix, readers.get(s, [])) and _smooth(program, s)]
        if len(leaving) == 1:
            yield prefix, leaving[0]


def _leaves(prefix: str, paths: list[str]) -> bool:
    return any(p != prefix and not p.startswith(prefix + "/") for p in paths)


def _smooth(program: Program, slot: int) -> bool:
    return jnp.issubdtype(program.shapes[slot].dtype, jnp.inexact)
