"""Names for intermediate activations, and how they are found in a program."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxground.core.program import Program, describe, names_in_loops
from jaxground.core.tables import EXCITATION, LINEAR_MAPS
from jaxground.core.transform import trace


def tap(x: jax.Array, name: str) -> jax.Array:
    """Returns `x` unchanged, known as `name` to everything that reads the jaxpr.

    This is stock `jax.ad_checkpoint.checkpoint_name`: invisible to values and to compiled code.

    >>> f = lambda x: tap(x * 2, "doubled") + 1
    >>> taps(f, jnp.ones(3))
    {'doubled': ShapeDtypeStruct(shape=(3,), dtype=float32)}
    """
    return checkpoint_name(x, name)


def taps(f: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the taps of `f` from input to output, with the shape and dtype of each.

    Named are the values marked by `tap` and, for Linen and Haiku models, the output of every
    module by its path (`"resnet/block_0/conv_1"`). A name met again gets a number: `"pool[1]"`.
    Nothing is computed: arguments may be `jax.ShapeDtypeStruct`s.

    Args:
      f: Any function that JAX can trace.
      *args: Its arguments.
      **kwargs: Its keyword arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> taps(lambda x: tap(x[:, ::2], "half").sum(), jnp.ones((1, 4)))
      {'half': ShapeDtypeStruct(shape=(1, 2), dtype=float32)}
    """
    program, _ = trace(f, EXCITATION, *args, **kwargs)
    avals = {name: program.shapes[slot] for name, slot in find(program).items()}
    return {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in avals.items()}


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


_AFFINE = frozenset(
    "dot_general conv_general_dilated jaxground_linear_map() reduce_sum reduce_window_sum add "
    "add_any sub neg mul div reshape transpose squeeze broadcast_in_dim concatenate pad slice "
    "split rev gather convert_element_type copy copy_p name".split()
)


def check_affine(f: Callable[..., Any], x: Any, at: str) -> None:
    """Checks that the outputs of `f` are affine in the tap `at`.

    Raises:
      ValueError: They are not; the message names the first operation at fault.
      KeyError: There is no such tap.
    """
    program, _ = trace(f, EXCITATION, x)
    active = program.dependents([slot_of(program, at)])
    for step in program.walk():
        signals = [s for s in step.inputs if s in active]
        if signals and (
            step.key not in _AFFINE
            or (len(signals) > 1 and step.key in ("mul", "div", *LINEAR_MAPS))
            or (step.key == "div" and step.inputs[0] not in active)
        ):
            raise ValueError(
                f"the outputs are not linear in tap {at!r}: {describe(step.equation)}. A class "
                "activation map needs global average pooling and one linear layer above the tap; "
                "use grad_cam."
            )
