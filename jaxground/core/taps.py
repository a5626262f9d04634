"""Names for intermediate activations."""

from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxground.core.names import find, slot_of
from jaxground.core.program import describe
from jaxground.core.tables import EXCITATION, LINEAR_MAPS
from jaxground.core.transform import trace


def tap(x: jax.Array, name: str) -> jax.Array:
    """Returns `x` unchanged, known as `name` to everything that reads the jaxpr.

    This is stock `jax.ad_checkpoint.checkpoint_name`: invisible to values and to compiled code.

    >>> import jax.numpy as jnp
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
