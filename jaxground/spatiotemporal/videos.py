"""Videos, and their frames' way through the CNN, up and down."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground.core import Composite, Rules, ground
from jaxground.passes import chunks

FrameNetwork: TypeAlias = Callable[[Array], Array]


def check_video(video: ArrayLike) -> Array:
    """Returns a video as an array `[batch, time, height, width, channel]`, or says what is wrong.

    Raises:
      TypeError: It is no array, or not of floating point.
      ValueError: A wrong shape, no frames, frames of different sizes, NaN or infinite pixels.
    """
    if isinstance(video, list | tuple):
        sizes = {np.shape(frame) for clip in video for frame in clip}
        if len(sizes) > 1:
            raise ValueError(
                f"frames have different sizes: {sorted(sizes)}; resize them to one, and pad "
                "videos of different lengths, with lengths=..."
            )
    if not isinstance(video, jax.Array | np.ndarray):
        raise TypeError(
            "a video must be an array [batch, time, height, width, channel], not "
            f"{type(video).__name__}"
        )
    if video.ndim != 5:
        hint = "; for one video write video[None]" if video.ndim == 4 else ""
        raise ValueError(
            f"a video must be [batch, time, height, width, channel], got shape {video.shape}{hint}"
        )
    if 0 in video.shape[:2]:
        raise ValueError(f"a video must have at least one frame, got shape {video.shape}")
    if not jnp.issubdtype(video.dtype, jnp.floating):
        raise TypeError(
            f"a video must be floating point and preprocessed for the network, got {video.dtype}"
        )
    if not isinstance(video, Tracer):
        with jax.ensure_compile_time_eval():
            finite = np.asarray(jnp.isfinite(jnp.asarray(video)).all(axis=(2, 3, 4)))
        if not finite.all():
            broken = [tuple(map(int, at)) for at in np.argwhere(~finite)[:8]]
            raise ValueError(f"frames {broken}, by video and time, have NaN or infinite pixels")
    return jnp.asarray(video)


def check_lengths(lengths: ArrayLike | None, batch: int, time: int) -> Array | np.ndarray:
    """Returns how many frames each video has, all of them where `lengths` is `None`.

    Raises:
      TypeError: They are not integers.
      ValueError: Not one per video, or not between 1 and `time`.
    """
    if lengths is None:
        return np.full(batch, time)
    known = lengths if isinstance(lengths, Tracer) else np.asarray(lengths)
    if not jnp.issubdtype(known.dtype, jnp.integer):
        raise TypeError(f"lengths are numbers of frames, got {known.dtype}")
    if known.shape != (batch,):
        raise ValueError(f"lengths {known.shape} do not match the batch of {batch} videos")
    if isinstance(known, np.ndarray) and not ((known >= 1) & (known <= time)).all():
        raise ValueError(f"lengths must lie in 1 ... {time}, got {known.tolist()}")
    return known


class Frames(NamedTuple):
    """What the CNN sees in the frames of a video.

    Attributes:
      features: `[batch, time, ...]`, its outputs.
      pull: Takes masses at the features, `[batch, k, time, ...]`, to those at the tap, which
        `reduce` has made maps of: `[batch, k, time, h, w]`.
    """

    features: Array
    pull: Callable[[Array], Array]


def through_frames(
    cnn: FrameNetwork,
    video: Array,
    *,
    at: str | None,
    rules: Rules | Composite,
    batch_size: int | None,
    reduce: Callable[[Array], Array],
) -> Frames:
    """Returns the features of all frames, and the way from there down to a tap.

    Args:
      cnn: Takes frames `[n, height, width, channel]` to features `[n, ...]`.
      video: `[batch, time, height, width, channel]`.
      at: A tap of `cnn`, `[n, h, w, channel]`, or `None` for the frames themselves.
      rules: The table of the method.
      batch_size: Frames in a pass, `None` for all in one. In several passes, what is kept of each
        is the tap's value, from which the way up is run again before the way down.
      reduce: Takes `[..., h, w, channel]` to maps `[..., h, w]`.
    """
    batch, time = video.shape[:2]

    def passed(frames: Array, given: Array | None = None) -> tuple[Array, Array, Callable]:
        rows = frames.shape[:2]
        grounding = ground(
            cnn, frames.reshape(-1, *frames.shape[2:]), at=at, rules=rules, given=given
        )
        features, activations = grounding.outputs, grounding.activations
        _check_features(features, activations, rows[0] * rows[1], at)

        def pull(masses: Array) -> Array:
            masses = jnp.moveaxis(masses, 1, 0).astype(features.dtype)  # [k, batch, time, ...]
            values = jax.vmap(grounding.pull)(masses.reshape(len(masses), *features.shape))
            maps = reduce(values)  # [k, batch * time, h, w]
            return jnp.moveaxis(maps.reshape(len(masses), *rows, *maps.shape[2:]), 0, 1)

        return features.reshape(*rows, *features.shape[1:]), activations, pull

    if batch_size is None:
        features, _, pull = passed(video)
        return Frames(features, pull)

    numbers = chunks(time, batch, batch_size)  # [passes, n]

    def of_pass(array: Array, number: Array, axis: int) -> Array:
        return jnp.take(array, number, axis, mode="clip")

    def joined(passes: Array, axis: int) -> Array:  # [passes, ..., n, ...], n at `axis` of a pass
        together = jnp.moveaxis(passes, 0, axis)
        shape = together.shape
        together = together.reshape(*shape[:axis], -1, *shape[axis + 2 :])
        return jax.lax.slice_in_dim(together, 0, time, axis=axis)

    def up(number: Array) -> tuple[Array, Array | None]:
        features, activations, _ = passed(of_pass(video, number, 1))
        return features, None if at is None else activations

    features, given = lax.map(up, numbers)

    def pull_in_passes(masses: Array) -> Array:
        def down(number_and_given) -> Array:
            number, given = number_and_given
            _, _, pull = passed(of_pass(video, number, 1), given)
            return pull(of_pass(masses, number, 2))

        return joined(lax.map(down, (numbers, given)), 2)

    return Frames(joined(features, 1), pull_in_passes)


def _check_features(features: Array, activations: Array, frames: int, at: str | None) -> None:
    is_array = isinstance(features, jax.Array) and features.ndim > 1
    if not is_array or len(features) != frames or not jnp.issubdtype(features.dtype, jnp.floating):
        found = jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", features)
        raise ValueError(f"cnn must return floats [{frames}, ...], one row per frame, got {found}")
    if activations.ndim != 4:
        raise ValueError(
            f"tap {at!r} has shape {activations.shape}; a map needs [frames, h, w, channel]"
        )
