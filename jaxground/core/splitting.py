"""A network in two at a tap: what is computed there, and how it goes on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxground.core.names import slot_of
from jaxground.core.program import Program, Step, walk
from jaxground.core.tables import GRADIENT
from jaxground.core.transform import evaluate, trace


class Split(NamedTuple):
    """A forward pass, stopped at a tap.

    Attributes:
      hidden: The value at the tap.
      head: The network from there on: `head(hidden)` is `f(x)`.
    """

    hidden: jax.Array
    head: Callable[[jax.Array], Any]


def split(f: Callable[..., Any], x: Any, *, at: str) -> Split:
    """Returns the value of `f(x)` at a tap, and the network from there on.

    Both may be differentiated, also by what `f` closes over; nothing below the tap runs again when
    the head does. What reaches the outputs around the tap, as a skip connection does, stays what it
    was at `x`. State that `f` updates, such as running statistics, is not updated.

    Args:
      f: Any function that JAX can trace.
      x: The input: an array, or any tree of them.
      at: A tap.

    Raises:
      KeyError: There is no such tap; the message lists those that are there.
      ValueError: From the head, for a value of another shape than at the tap.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(jax.nn.relu(x), "hidden") @ jnp.array([1.0, 2.0])
      >>> hidden, head = split(f, jnp.array([-1.0, 3.0]), at="hidden")
      >>> hidden, head(hidden), head(hidden * 0)
      (Array([0., 3.], dtype=float32), Array(6., dtype=float32), Array(0., dtype=float32))
    """
    program, tree = trace(f, GRADIENT, x)
    slot = slot_of(program, at)
    below, above, reached = [], [], {slot}
    for step in _opened(program.steps, slot):
        changes = not reached.isdisjoint(step.reads())
        (above if changes else below).append(step)
        reached.update(step.outputs if changes else ())
    needed = {s for step in above for s in step.reads()} | set(program.outputs)
    made = {s for step in below for s in step.outputs} | set(program.inputs)
    beside = tuple(sorted(needed & made - {slot}))
    ahead = program._replace(outputs=(slot, *beside), steps=tuple(below))
    rest = program._replace(inputs=(slot, *beside), steps=tuple(above))
    (hidden, *values), _ = evaluate(ahead, jax.tree.leaves(x))

    def head(hidden):
        if jnp.shape(hidden) != program.shapes[slot].shape:
            raise ValueError(
                f"tap {at!r} has shape {program.shapes[slot].shape}, the head was given "
                f"{jnp.shape(hidden)}"
            )
        outputs, _ = evaluate(rest, [hidden, *values])
        return jax.tree.unflatten(tree, outputs)

    return Split(hidden, head)


def from_slot(program: Program, slot: int) -> Program:
    """Returns the program with the value of a slot as one more input, the last.

    Steps that only this value needs are gone; those that pass it by, as a skip connection, stay.
    """
    needed, kept = set(program.outputs), []
    for step in reversed(tuple(_opened(program.steps, slot))):
        if slot not in step.outputs and not needed.isdisjoint(step.outputs):
            kept.append(step)
            needed |= step.reads()
    return program._replace(inputs=(*program.inputs, slot), steps=tuple(reversed(kept)))


def _opened(steps: Sequence[Step], slot: int) -> Iterator[Step]:
    """Yields steps; a rematerialised region that computes `slot` is opened, all others stay."""
    for step in steps:
        if any(slot in inner.outputs for inner in walk(step.body)):
            yield from _opened(step.body, slot)
        else:
            yield step
