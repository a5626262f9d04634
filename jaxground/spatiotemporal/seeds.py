"""What is asked of a video: which target, at which step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground.scores import Score, prior


class Seeds(NamedTuple):
    """Where the backward pass starts.

    Attributes:
      priors: `float[batch, k, steps, classes]`.
      single: Whether the caller asked one thing per video, and wants no axis `k` back.
    """

    priors: Array
    single: bool


def seeds(
    outputs: Array,
    targets: ArrayLike,
    *,
    step: ArrayLike,
    ends: Array | np.ndarray,
    score: Score = "logit",
) -> Seeds:
    """Returns the priors of targets at steps.

    Args:
      outputs: `float[batch, steps, classes]`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior in the shape of the outputs, or
        with an axis `k` after the first.
      step: `int`, `int[k]` or `int[batch, k]`; negative ones count from the end.
      ends: `int[batch]`, how many steps each video has.
      score: See `jaxground.scores`.

    Raises:
      TypeError: Targets that are neither integers nor floats, steps that are no integers.
      ValueError: A class or a step out of range, shapes that do not fit.
    """
    asked, steps = _known(targets), _known(step)
    if jnp.issubdtype(asked.dtype, jnp.floating):
        return _own_prior(outputs, jnp.asarray(asked), steps)
    if not jnp.issubdtype(steps.dtype, jnp.integer):
        raise TypeError(f"steps are integers, got {steps.dtype}")
    batch, count, classes = outputs.shape
    if asked.ndim not in (1, 2) or len(asked) != batch:
        raise ValueError(
            f"targets must be int[batch] or int[batch, k] for {batch} videos, got {asked.shape}"
        )
    single = asked.ndim == 1 and steps.ndim == 0
    asked = asked[:, None] if asked.ndim == 1 else asked
    try:
        shape = np.broadcast_shapes(asked.shape, steps.shape)
    except ValueError:
        shape = ()
    if len(shape) != 2 or len(shape) < steps.ndim or shape[0] != batch or not shape[1]:
        raise ValueError(
            f"steps {steps.shape} do not pair with targets {asked.shape}: one step, one for each "
            "target, or one for each target of each video"
        )
    asked, steps = _repeated(asked, shape), _repeated(steps, shape)
    if isinstance(steps, np.ndarray) and isinstance(ends, np.ndarray):
        last = ends[:, None]
        if not ((steps >= -last) & (steps < last)).all():
            raise ValueError(
                f"a step is out of range: there are {np.unique(ends).tolist()} steps, asked for "
                f"were {np.unique(steps).tolist()}"
            )
    steps = jnp.where(steps < 0, steps + jnp.asarray(ends)[:, None], steps)
    rows = jnp.take_along_axis(outputs, steps[..., None], axis=1, mode="clip")
    ones, _ = prior(rows.reshape(-1, classes), asked.reshape(-1), score)
    at = jax.nn.one_hot(steps, count, dtype=outputs.dtype)  # zeros where out of range
    return Seeds(at[..., None] * ones.reshape(batch, -1, 1, classes), single)


def _known(values: ArrayLike) -> Array | np.ndarray:
    """Returns an array, of NumPy where the values are known, so that they can be checked."""
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(values)):
        return jnp.asarray(values)
    return np.asarray(values)


def _repeated(values: Array | np.ndarray, shape: tuple[int, ...]) -> Array | np.ndarray:
    return (jnp if isinstance(values, Tracer) else np).broadcast_to(values, shape)


def _own_prior(outputs: Array, own: Array, steps: Array | np.ndarray) -> Seeds:
    if isinstance(steps, Tracer) or steps.ndim or steps != -1:
        raise ValueError("a prior of one's own says at which steps it starts: leave out `step`")
    single = own.shape == outputs.shape
    if not single and (own.ndim != 4 or own.shape[:1] + own.shape[2:] != outputs.shape):
        raise ValueError(
            f"a prior must have the shape of the outputs, {outputs.shape}, or an axis of targets "
            f"after the first; got {own.shape}"
        )
    return Seeds((own[:, None] if single else own).astype(outputs.dtype), single)
