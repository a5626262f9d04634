"""Grounding in time: which frames a signal points to, and whether the action is there.

A signal is one number a frame, such as the sum of each frame's map. A window is its first frame
and the one after its last: `[start, end)`. As for maps (see `validity`), NaN and infinities are no
value, and a flat signal, in which no frame stands out, points nowhere: its window is the empty
`[0, 0)`, which overlaps nothing, so that a constant signal never wins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxground.metrics.pointing import pointing_game
from jaxground.metrics.validity import known, paired, stands_out


def greedy_window(signals: ArrayLike) -> jax.Array:
    """Returns the frames around each signal's peak that are not negative.

    For actions of unknown length: from the peak (the first of equals) the window grows both ways
    up to a frame whose value is negative or is none. For contrastive signals, which sum to zero
    over time; a signal without negative values, such as that of EB-R, fills the whole clip.

    Args:
      signals: One value a frame, `[..., time]`.

    Returns:
      Windows `int32[..., 2]`, half open, in frames. Empty, `[0, 0)`, for a flat signal and for one
      that is negative everywhere. Zero is not negative: this is our choice, the thesis is silent.

    Example:
      >>> greedy_window(jnp.array([[-1.0, 0.5, 2.0, 0.0, -3.0, 1.5], [1.0] * 6])).tolist()
      [[1, 4], [0, 0]]

    References:
      Adel Bargal et al., `Excitation Backprop for RNNs <https://arxiv.org/abs/1711.06778>`_, CVPR
      2018; Adel Bargal, Grounding Deep Models of Visual Data, 2019, section 7.4.
    """
    signals = _as_signals(signals)
    length = signals.shape[-1]
    frames = jnp.arange(length, dtype="int32")
    peak = _first_peak(signals)[..., None]
    stops = ~(signals >= 0)  # also where there is no value
    start = jnp.max(jnp.where(stops & (frames <= peak), frames + 1, 0), axis=-1)
    end = jnp.min(jnp.where(stops & (frames >= peak), frames, length), axis=-1)
    return _window(start, end, points=_points(signals) & (start < end))


def best_window(signals: ArrayLike, *, length: ArrayLike) -> jax.Array:
    """Returns the window of a known length with the largest sum.

    All windows of all signals are compared at once, by differences of running sums.

    Args:
      signals: One value a frame, `[..., time]`. A frame without value counts as the smallest of
        its signal.
      length: Frames of the window, `int`, or one for each signal, `int[...]`. One that is longer
        than the signal is cut to it.

    Returns:
      Windows `int32[..., 2]`, half open, in frames; of equal sums the first. Empty, `[0, 0)`, for
      a flat signal.

    Raises:
      ValueError: A length below 1 that is known when the program is traced.

    Example:
      >>> best_window(jnp.array([0.0, -1.0, 2.0, 1.0, 0.5]), length=2).tolist()
      [2, 4]

    References:
      As `greedy_window`.
    """
    signals = _as_signals(signals)
    if isinstance(length, int) and length < 1:
        raise ValueError(f"a window has at least one frame, got length={length}")
    total = signals.shape[-1]
    lengths = jnp.clip(jnp.asarray(length, "int32"), 1, total)
    lengths = jnp.broadcast_to(lengths, signals.shape[:-1])[..., None]
    usable = ~jnp.isnan(signals)
    low = jnp.min(signals, axis=-1, keepdims=True, initial=jnp.inf, where=usable)
    filled = jnp.where(usable, signals, jnp.where(jnp.isinf(low), 0, low))
    sums = jnp.cumsum(filled, axis=-1)
    sums = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
    starts = jnp.arange(total, dtype="int32")
    ends = jnp.minimum(starts + lengths, total)
    inside = jnp.take_along_axis(sums, ends, axis=-1) - sums[..., :-1]
    start = jnp.argmax(jnp.where(starts + lengths <= total, inside, -jnp.inf), axis=-1)
    return _window(start, start + lengths[..., 0], points=_points(signals))


def temporal_iou(windows: ArrayLike, truths: ArrayLike) -> jax.Array:
    """Returns the intersection over union of windows with what they should be.

    Args:
      windows: `[..., 2]`, start and end, in frames or seconds.
      truths: `[..., 2]`, in the same unit. Leading axes broadcast: `windows[:, None]` against
        `truths[None]` compares each with each.

    Returns:
      `float[...]` in 0..1; 0 for an empty or inverted window, NaN for such a truth.

    Example:
      >>> temporal_iou(jnp.array([[2, 6], [0, 0]]), jnp.array([4, 8])).tolist()
      [0.3333333432674408, 0.0]
    """
    windows, truths = _as_windows(windows), _as_windows(truths)
    start = jnp.maximum(windows[..., 0], truths[..., 0])
    end = jnp.minimum(windows[..., 1], truths[..., 1])
    lengths, wanted = (x[..., 1] - x[..., 0] for x in (windows, truths))
    shared = jnp.maximum(end - start, 0)
    union = lengths + wanted - shared
    usable = (lengths > 0) & (wanted > 0)
    share = jnp.where(usable, shared / jnp.where(usable, union, 1), 0)
    return jnp.where(wanted > 0, share, jnp.nan)


def frames_inside(windows: ArrayLike, *, length: int) -> jax.Array:
    """Returns which frames lie inside any of several windows.

    Args:
      windows: `[..., count, 2]`, start and end in frames; fractions are allowed, and a frame lies
        inside if its middle does. Empty ones pad.
      length: Frames of the video.

    Returns:
      `bool[..., length]`.

    Example:
      >>> frames_inside(jnp.array([[0, 1], [3, 5], [0, 0]]), length=5).astype(int).tolist()
      [1, 0, 0, 1, 1]
    """
    windows = _as_windows(windows)[..., None, :]
    middles = jnp.arange(length) + 0.5
    return ((windows[..., 0] <= middles) & (middles < windows[..., 1])).any(axis=-2)


def temporal_pointing_game(signals: ArrayLike, inside: ArrayLike) -> jax.Array:
    """Returns which signals hit: their peak lies in a frame in which the action happens.

    Args:
      signals: One value a frame, `[..., time]`. Of equal maxima the first is the peak.
      inside: `bool[..., time]`, the frames of the action, see `frames_inside`. Leading axes
        broadcast.

    Returns:
      `float[...]`: 1 for a hit, 0 for a miss, NaN where the action never happens. A flat signal
      misses, also where the action lasts from the first frame to the last.

    Raises:
      ValueError: Signals and frames differ in number.

    Example:
      >>> inside = jnp.array([False, True, True])
      >>> temporal_pointing_game(jnp.array([[0.0, 0.0, 1.0], [2.0, 2.0, 2.0]]), inside).tolist()
      [1.0, 0.0]

    References:
      As `greedy_window`; table 7.3 of the thesis.
    """
    signals, inside = _as_signals(signals), jnp.asarray(inside, bool)
    if signals.shape[-1] != inside.shape[-1:][0]:
        raise ValueError(f"signals {signals.shape} and frames {inside.shape} differ in time")
    peak = jnp.arange(signals.shape[-1]) == _first_peak(signals)[..., None]
    hit = (peak & inside).any(axis=-1) & _points(signals)
    return jnp.where(inside.any(axis=-1), hit.astype(signals.dtype), jnp.nan)


class VideoPointing(NamedTuple):
    """The pointing game of a video, three ways."""

    frames: jax.Array
    """Hit or miss of each frame, `float[..., time]`; NaN where the object is in no pixel."""
    mean: jax.Array
    """Share of hits among the frames with the object, `float[...]`: what the thesis averages."""
    peak: jax.Array
    """Whether the largest value of all frames hits, in its own frame, `float[...]`."""


def video_pointing_game(
    maps: ArrayLike, masks: ArrayLike, *, tolerance: ArrayLike = 15
) -> VideoPointing:
    """Returns whether the peaks of a video's maps lie on the object, frame by frame and overall.

    Args:
      maps: Values `[..., time, h, w]`, at the resolution of the frames.
      masks: `bool[..., time, h, w]`, true inside the object; empty in frames without it. Leading
        axes broadcast.
      tolerance: In pixels, as in `pointing_game`.

    Returns:
      Hits by frame, their share, and the hit of the peak in space and time. A flat map misses.
      `mean` and `peak` are NaN where no frame has the object; a peak in a frame without it misses.

    Example:
      >>> masks = jnp.zeros((2, 3, 3), bool).at[0, 1, 1].set(True)
      >>> maps = jnp.zeros((2, 3, 3)).at[0, 1, 1].set(1.0).at[1, 0, 0].set(2.0)
      >>> scores = video_pointing_game(maps, masks, tolerance=1)
      >>> scores.frames.tolist(), scores.mean.tolist(), scores.peak.tolist()
      ([1.0, nan], 1.0, 0.0)

    References:
      As `greedy_window`; table 7.1 of the thesis.
    """
    maps, masks = paired(maps, masks)
    if maps.ndim < 3:
        raise ValueError(f"maps have shape {maps.shape}: expected [..., time, height, width]")
    frames = pointing_game(maps, masks, tolerance=tolerance)
    there = ~jnp.isnan(frames)
    count = there.sum(axis=-1)
    hits = jnp.where(there, frames, 0)
    mean = jnp.where(count > 0, hits.sum(axis=-1) / jnp.maximum(count, 1), jnp.nan)
    highest = jnp.max(jnp.where(jnp.isnan(maps), -jnp.inf, maps), axis=(-2, -1))
    lowest = jnp.min(jnp.where(jnp.isnan(maps), jnp.inf, maps), axis=(-3, -2, -1))
    when = jnp.arange(maps.shape[-3]) == jnp.argmax(highest, axis=-1)[..., None]
    # A frame that is flat by itself may stand out of a video: it shows when, not where.
    hit = jnp.where(when, hits, 0).sum(axis=-1)
    peak = jnp.where(stands_out(highest.max(axis=-1), lowest), hit, 0)
    return VideoPointing(frames, mean, jnp.where(count > 0, peak, jnp.nan))


def _as_signals(signals: ArrayLike) -> jax.Array:
    """Returns signals in float32 or wider, NaN for what is no number, or says what is wrong."""
    signals = jnp.asarray(signals)
    if signals.ndim < 1 or signals.shape[-1] == 0:
        raise ValueError(
            f"signals have shape {signals.shape}: expected [..., time], a frame or more"
        )
    return known(signals[..., None, :])[..., 0, :]


def _as_windows(windows: ArrayLike) -> jax.Array:
    windows = jnp.asarray(windows)
    if windows.shape[-1:] != (2,):
        raise ValueError(f"windows have shape {windows.shape}: expected start and end [..., 2]")
    return windows if windows.dtype == jnp.float64 else windows.astype("float32")


def _first_peak(signals: jax.Array) -> jax.Array:
    return jnp.argmax(jnp.where(jnp.isnan(signals), -jnp.inf, signals), axis=-1)


def _points(signals: jax.Array) -> jax.Array:
    """Returns which signals are not flat."""
    usable = ~jnp.isnan(signals)
    high = jnp.max(signals, axis=-1, initial=-jnp.inf, where=usable)
    return stands_out(high, jnp.min(signals, axis=-1, initial=jnp.inf, where=usable))


def _window(start: jax.Array, end: jax.Array, *, points: jax.Array) -> jax.Array:
    window = jnp.stack([start, end], axis=-1).astype("int32")
    return jnp.where(points[..., None], window, 0)
