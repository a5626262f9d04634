"""Pictures of time: key frames of a video, and below them the curve of the evidence."""

import os
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxground.data.video import uniform_indices

KEY_FRAMES = 8
FOUND, TRUE = "#e8590c", "0.55"  # colours of the found interval and of the true one
# In inches.
FRAME, CURVE, TITLE, LEFT, GAP = 1.5, 1.2, 0.55, 0.55, 0.06
DPI = 150


class Track(NamedTuple):
    """What is shown of one target.

    Attributes:
      title: Above its key frames; of several lines the first is emphasised.
      frames: `uint8[time, height, width, 3]`, such as by `plots.overlay_video`.
      signal: `float[time]`, the curve.
      window: The frames found, start and end, half open; empty for none.
    """

    title: str
    frames: np.ndarray
    signal: ArrayLike
    window: Sequence[int]


def timeline(
    tracks: Sequence[Track],
    path: str | os.PathLike | BinaryIO,
    *,
    truth: Sequence[int] | None = None,
    first: int = 0,
    every: int = 1,
) -> None:
    r"""Writes a picture of each track: its key frames, and its curve with the found interval.

    Key frames are spread evenly, but that the one nearest to the curve's peak is the peak; those
    in the found interval have a frame in its colour.

    Args:
      tracks: One or more.
      path: Where to write; the suffix chooses the format. An open binary file gets a PNG.
      truth: The true interval, if known: a grey line above the curve.
      first: Number of the first frame in the video.
      every: Step from one frame's number to the next one's.

    Raises:
      ValueError: There is no track, or frames and curve differ in number.

    Example:
      >>> import io
      >>> file, frames = io.BytesIO(), np.zeros((3, 4, 6, 3), np.uint8)
      >>> timeline([Track("dives", frames, [-1.0, 2.0, -1.0], (1, 2))], file)
      >>> file.getvalue()[:4]
      b'\x89PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not tracks:
        raise ValueError("there is no track to draw: give at least one")
    for track in tracks:
        if np.ndim(track.frames) != 4 or np.shape(track.signal) != track.frames.shape[:1]:
            raise ValueError(
                f"frames {np.shape(track.frames)} and signal {np.shape(track.signal)}: expected "
                "[time, height, width, 3] and [time]"
            )
    height, width = tracks[0].frames.shape[1:3]
    tall = min(FRAME * height / width, 2 * FRAME)  # or a thin frame would make a sheet of metres
    shown = tall * width / height, tall  # width and height of a key frame
    block = TITLE + shown[1] + 0.1 + CURVE + 0.45
    size = LEFT + KEY_FRAMES * (FRAME + GAP) + 0.15, len(tracks) * block
    sheet = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(sheet)

    def place(left: float, top: float, width: float, height: float):
        """Axes at a rectangle in inches from the upper left."""
        bottom = size[1] - top - height
        return sheet.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))

    for number, track in enumerate(tracks):
        top = number * block
        head, _, rest = track.title.partition("\n")
        for text, below, weight in [(head, 0.24, "bold"), (rest, 0.44, "normal")]:
            at = LEFT / size[0], 1 - (top + below) / size[1]
            sheet.text(*at, text, size=9.5, weight=weight, va="baseline")
        top += TITLE
        keys = _key_frames(np.asarray(track.signal))
        for column, key in enumerate(keys):
            axes = place(LEFT + column * (FRAME + GAP), top, *shown)
            axes.imshow(track.frames[key], aspect="auto", interpolation="nearest")
            inside = track.window[0] <= key < track.window[1]
            _frame(axes, FOUND if inside else "white")
            label = f"{first + every * key}"
            axes.text(0.04, 0.95, label, color="white", size=8, va="top", transform=axes.transAxes)
        axes = place(LEFT, top + shown[1] + 0.1, KEY_FRAMES * (FRAME + GAP) - GAP, CURVE)
        _curve(axes, track, keys, truth, first, every)
    sheet.savefig(path, dpi=DPI, format="png" if hasattr(path, "write") else None)


def _key_frames(signal: np.ndarray) -> list[int]:
    keys = uniform_indices(len(signal), min(KEY_FRAMES, len(signal)))
    peak = int(np.nanargmax(signal)) if np.isfinite(signal).any() else 0
    keys[np.abs(keys - peak).argmin()] = peak
    return keys.tolist()


def _frame(axes, colour: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2.5)


def _curve(axes, track: Track, keys, truth, first: int, every: int) -> None:
    """Draws a signal over the numbers of the frames, with what was found of it."""
    numbers = first + every * np.arange(len(track.frames))
    signal = np.asarray(track.signal, float)

    def edges(window) -> tuple[float, float]:
        return first + every * (window[0] - 0.5), first + every * (window[1] - 0.5)

    axes.axhline(0, color="0.8", linewidth=0.8)
    if track.window[0] < track.window[1]:
        axes.axvspan(*edges(track.window), color=FOUND, alpha=0.15, linewidth=0)
    axes.plot(numbers, signal, color="0.15", linewidth=1.3)
    axes.plot(numbers[keys], signal[keys], "o", color="0.15", markersize=3.5)
    low, high = axes.get_ylim()
    if truth is not None:
        high += 0.12 * (high - low)
        start, end = edges(truth)
        axes.hlines(high, start, end, color=TRUE, linewidth=5)
        before = truth[0] > len(numbers) - truth[1]  # the label stands where there is more room
        place, side = (start, "right") if before else (end, "left")
        axes.text(place, high, "  true  ", color=TRUE, size=8, va="center", ha=side)
    axes.set_ylim(low, high + 0.08 * (high - low))
    axes.set_xlim(*edges((0, len(numbers))))
    axes.set_xlabel("frame", size=8, labelpad=1)
    axes.tick_params(labelsize=8, length=2)
    axes.locator_params(axis="y", nbins=4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
