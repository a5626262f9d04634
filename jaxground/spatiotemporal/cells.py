"""What an LSTM cell does with the mass: two tables."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import jax

from jaxground.core import EXCITATION, Composite, Rules
from jaxground.core.rules import stop, transpose

Cell: TypeAlias = Literal["paper", "caffe"] | Rules | Composite

CAFFE_CELL = EXCITATION | {
    **dict.fromkeys(("mul", "logistic", "tanh", "add", "add_any", "sub"), transpose),
    "recurrent_map()": stop,
}
"""What the released Caffe code propagates: see `cell_rules`."""

CELLS = MappingProxyType({"paper": EXCITATION, "caffe": CAFFE_CELL})


def cell_rules(cell: Cell, rnn: Callable[..., Any], inputs: Any) -> Rules | Composite:
    """Returns the table by which mass passes through a recurrent network.

    `"paper"` is the general table: gates are weights, and a product of a gate and a signal passes
    its mass to the signal; the cell state shares between what it keeps and what it takes in, in
    proportion to the two; these share among their excitatory children, the input and the hidden
    state of the step before. Mass is conserved. Nothing of it is particular to LSTMs: GRUs, their
    convolutional and bidirectional forms, and loops written by hand go through unchanged. But tanh
    units below zero take no mass, and what they say is not seen. In narrow layers mass is lost, as
    `kept` tells, in the extreme all of it; in wide ones none: at random weights, 512 features of 16
    frames and 256 units, `kept` was 1.000 for tanh LSTMs and GRUs, too, of 8 videos and two draws.

    `"caffe"` is what the authors' code does. Within the cell it is the ordinary gradient: gates
    take mass, and nothing is conserved. Of the sum of linear maps before the gates the recurrent
    one takes nothing, and each of the others takes all of it: time is crossed by the cell state
    alone. That is no property of any operation, so that the cell must be known: a recurrent map is
    the jitted function `jaxground.models.recurrent_map`, or one of that name.

    Args:
      cell: One of the two, or a table of one's own.
      rnn: The recurrent network.
      inputs: Its arguments.

    Raises:
      ValueError: There is no such cell, or it is `"caffe"` and the network has no recurrent map.

    Example:
      >>> cell_rules("paper", jax.numpy.cumsum, (jax.numpy.ones(3),)) is EXCITATION
      True
    """
    if not isinstance(cell, str):
        return cell
    if cell not in CELLS:
        raise ValueError(f"cell must be {' or '.join(map(repr, CELLS))} or a table, got {cell!r}")
    if cell == "caffe" and "name=recurrent_map" not in str(jax.make_jaxpr(rnn)(*inputs)):
        raise ValueError(
            'cell="caffe" cuts the path through the hidden state, which it finds by name, and '
            "found none: compute it by jaxground.models.recurrent_map(hidden, kernel), as "
            "jaxground.models.LSTM does"
        )
    return CELLS[cell]
