"""Clips drawn on the spot: one figure does something, and where and when is known exactly.

The *actor* is a figure in a colour that moves, grows, shrinks, appears or disappears in some of
the frames; before and after it stands still. *Bystanders* are other figures and stand still all
the time, *distractors* are blobs of no category that sway. What happens is the class: one frame
does not tell it, nor do all frames in wrong order, since every event is another one backwards.

Edges are hard and a pixel shows one thing only, so that masks and boxes are exact. A clip depends
on the seed and its index alone. All is NumPy: no compiler rounds, a clip is the same bits always.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxground.data.figures import FIGURES
from jaxground.data.scenes import COLOURS
from jaxground.data.shapes import mask_boxes
from jaxground.data.sprites import Numbers, covered, draw_ground, draw_levels, draw_paint, stamp

# What an event changes while it lasts: row, column, size, presence.
EVENTS = {
    "moves left": (0, -1, 0, 0),
    "moves right": (0, 1, 0, 0),
    "moves up": (-1, 0, 0, 0),
    "moves down": (1, 0, 0, 0),
    "grows": (0, 0, 1, 0),
    "shrinks": (0, 0, -1, 0),
    "appears": (0, 0, 0, 1),
    "disappears": (0, 0, 0, -1),
}

_TRIES = 16  # places tried for a thing before it is left out
_TRAVEL = 0.3, 0.55  # of a moving actor, as a share of the side
_SMALL = 0.5  # radius before growing, as a share of that after
_SWAY = 0.03, 0.08  # of a blob, as a share of the side
_SCALARS = 64  # numbers for a clip that no size determines, at most


@dataclass(frozen=True)
class MovingScenes:
    """What is in the clips.

    Attributes:
      side: Height and width in pixels.
      frames: Length of a clip.
      attributes: Which of `"colour"`, `"shape"` (of the actor) and `"event"` name a class.
      events: What may happen, some of `EVENTS`.
      objects: Least and most figures, the actor among them; where no place is found for a
        bystander, it is left out.
      distractors: Least and most blobs.
      diameter: Least and most, as a share of the side; of what grows or shrinks, at its largest.
      duration: Least and most frames of an event; fewer than the clip has.
      clutter: Strength of the pattern in the background, from 0.

    Example:
      >>> MovingScenes().categories[:3]
      ('moves left', 'moves right', 'moves up')
      >>> len(MovingScenes(attributes=("shape", "event")).categories)
      64
    """

    side: int = 64
    frames: int = 16
    attributes: tuple[str, ...] = ("event",)
    events: tuple[str, ...] = tuple(EVENTS)
    objects: tuple[int, int] = (1, 3)
    distractors: tuple[int, int] = (0, 1)
    diameter: tuple[float, float] = (0.2, 0.35)
    duration: tuple[int, int] = (4, 10)
    clutter: float = 0.3

    def __post_init__(self):
        """Raises a ValueError for what cannot be drawn."""
        names = self._values()
        if not self.attributes or not set(self.attributes) <= set(names):
            raise ValueError(f"attributes are some of {', '.join(names)}: {self.attributes}")
        if not self.events or not set(self.events) <= set(EVENTS):
            raise ValueError(f"events are some of {', '.join(EVENTS)}: {self.events}")
        for name, least in [("objects", 1), ("distractors", 0), ("duration", 1)]:
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name} go from at least {least} upwards, got {low} to {high}")
        if self.objects[1] > (kinds := len(COLOURS) * len(FIGURES)):
            raise ValueError(f"there are {kinds} kinds of figures, not {self.objects[1]}")
        if self.duration[1] >= self.frames:
            raise ValueError(
                f"an event of {self.duration[1]} frames needs a clip that is longer than it: "
                f"frames={self.frames}"
            )
        if not 0 < self.diameter[0] <= self.diameter[1] <= 0.5 or self.side < 16:
            raise ValueError(f"no room to move in {self.side} pixels: diameter={self.diameter}")

    def _values(self) -> dict[str, tuple[str, ...]]:
        return {"colour": tuple(COLOURS), "shape": tuple(FIGURES), "event": self.events}

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        chosen = [values for name, values in self._values().items() if name in self.attributes]
        return tuple(" ".join(words) for words in itertools.product(*chosen))


class Clips(NamedTuple):
    """Clips as arrays, and what is true of them. Figure 0 is the actor."""

    frames: np.ndarray  # uint8[n, time, side, side, 3]
    labels: np.ndarray  # int[n], the class
    times: np.ndarray  # int[n, 2]: in frames start..end-1 the actor differs from one frame before
    masks: np.ndarray  # bool[n, objects, time, side, side], the visible pixels of each figure
    boxes: np.ndarray  # int[n, objects, time, 4]: x0, y0, x1, y1, half open; zeros if not visible
    colours: np.ndarray  # int[n, objects], index into COLOURS, -1 where there is none
    shapes: np.ndarray  # int[n, objects], index into FIGURES, -1 where there is none
    events: np.ndarray  # int[n], index into the events of the scenes


def draw_clips(scenes: MovingScenes, indices: ArrayLike, *, seed: int = 0) -> Clips:
    """Returns the clips with the given indices.

    Some 300 clips of 16 x 64 x 64 a second on a CPU core; a clip takes 3 + `objects` bytes a pixel.

    Args:
      scenes: What is in them.
      indices: `int[n]`, which clips of the endless row that belongs to the seed.
      seed: Of the row.

    Returns:
      The frames, and what happens in them when and where. No two figures of a clip have both
      colour and shape in common.

    Example:
      >>> clips = draw_clips(MovingScenes(), range(8))
      >>> clips.frames.shape, clips.masks.shape
      ((8, 16, 64, 64, 3), (8, 3, 16, 64, 64))
      >>> MovingScenes().categories[clips.labels[0]], clips.times[0].tolist()
      ('moves up', [7, 15])
    """
    indices = np.asarray(list(indices) if isinstance(indices, range) else indices, np.int64)
    most, things = scenes.objects[1], scenes.objects[1] + scenes.distractors[1]
    reach = int(np.ceil(scenes.diameter[1] * scenes.side / 2))  # of a thing from its centre
    numbers = Numbers(indices, seed, scenes.side**2 + 4 * reach**2 + 100 * things + _SCALARS)

    kinds = np.argsort(numbers.uniform(len(COLOURS) * len(FIGURES)), axis=1)[:, :most]
    colours, shapes = kinds // len(FIGURES), kinds % len(FIGURES)
    events, times, progress = _events(scenes, numbers)
    radii, centres, there = _place(scenes, numbers, events, progress)

    levels, holes = draw_levels(numbers, shapes, things, reach)
    change = np.array([EVENTS[name] for name in scenes.events])[events]
    growth, presence = change[:, 2:].T[..., None]
    left = [np.where(sign > 0, 1 - progress, progress) * (sign != 0) for sign in (growth, presence)]
    sizes, shown = radii[:, :1] * (1 - (1 - _SMALL) * left[0]), 1 - left[1]
    dissolve = numbers.uniform(2 * reach, 2 * reach)

    canvas = np.zeros((len(indices), scenes.frames, *[scenes.side + 2 * reach] * 2), np.uint8)
    for thing in reversed(range(things)):  # the actor is in front of all
        size = radii[:, thing, None] if thing else sizes
        covers = covered(levels[:, thing], holes[:, thing], size)
        if thing == 0:
            covers &= dissolve[:, None] < shown[..., None, None]
        covers = covers & there[:, thing, None, None, None]
        stamp(canvas, covers, centres[:, thing], thing + 1)
    canvas = np.ascontiguousarray(canvas[:, :, reach:-reach, reach:-reach])

    frames = np.repeat(draw_ground(numbers, scenes.side, scenes.clutter)[:, None], scenes.frames, 1)
    where, paint = np.flatnonzero(canvas), draw_paint(numbers, colours, things)
    clip = where // (scenes.frames * scenes.side**2)
    frames.reshape(-1, 3)[where] = paint[clip, canvas.ravel()[where] - 1]
    masks = canvas[:, None] == np.arange(1, most + 1, dtype=np.uint8)[:, None, None, None]
    named = {"colour": colours[:, 0], "shape": shapes[:, 0], "event": events}
    labels = np.zeros(len(indices), int)
    for name, values in scenes._values().items():
        if name in scenes.attributes:
            labels = labels * len(values) + named[name]
    absent = ~there[:, :most]
    colours, shapes = (np.where(absent, -1, values) for values in (colours, shapes))
    return Clips(frames, labels, times, masks, mask_boxes(masks), colours, shapes, events)


def _events(scenes: MovingScenes, numbers: Numbers) -> tuple[np.ndarray, ...]:
    """Returns what happens, its first frame and the one after its last, and how much is done."""
    events = numbers.below(len(scenes.events))
    low, high = scenes.duration
    lasts = low + numbers.below(high + 1 - low)
    # Also frame 0 may not show a change, as there is no frame before: backwards all is the same.
    start = 1 + numbers.below(scenes.frames - lasts)
    done = (np.arange(scenes.frames) - start[:, None] + 1) / lasts[:, None]
    return events, np.stack([start, start + lasts], 1), np.clip(done, 0, 1)


def _place(
    scenes: MovingScenes, numbers: Numbers, events: np.ndarray, progress: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns radii `[n, things]`, centres `[n, things, time, 2]`, and what is there at all."""
    side, (most, blobs) = scenes.side, (scenes.objects[1], scenes.distractors[1])
    count = [
        np.arange(number) < least + numbers.below(number + 1 - least)[:, None]
        for least, number in (scenes.objects, scenes.distractors)
    ]
    there = np.concatenate(count, 1)
    things = most + blobs
    radii = numbers.uniform(things, low=scenes.diameter[0], high=scenes.diameter[1]) * side / 2
    along = np.array([EVENTS[name][:2] for name in scenes.events])[events]
    travel = np.minimum(
        numbers.uniform(low=_TRAVEL[0], high=_TRAVEL[1]) * side, side - 2 * radii[:, 0]
    )
    way = travel[:, None] * along
    room = side - 2 * radii[:, :1] - np.abs(way)
    middle = side / 2 + (numbers.uniform(2) - 0.5) * room
    paths = np.zeros((len(events), things, scenes.frames, 2))
    paths[:, 0] = middle[:, None] + (progress[..., None] - 0.5) * way[:, None]

    sways = numbers.uniform(things, low=_SWAY[0], high=_SWAY[1]) * side
    sways = sways * (np.arange(things) >= most)  # blobs only
    angle, phase, rate = (numbers.uniform(things, high=2 * np.pi) for _ in range(3))
    swing = np.sin(phase[..., None] + (0.4 + rate[..., None] / 8) * np.arange(scenes.frames))
    swing = (sways[..., None] * swing)[..., None]
    swing = swing * np.stack([np.sin(angle), np.cos(angle)], -1)[:, :, None]
    tries = numbers.uniform(things, _TRIES, 2)
    rows = np.arange(len(events))
    for i in range(1, things):
        reach = radii[:, i] + sways[:, i]
        places = reach[:, None, None] + tries[:, i] * (side - 2 * reach[:, None, None])
        fits = np.ones((*tries.shape[:1], _TRIES), bool)
        for j in range(i):
            away = places[:, :, None] - paths[:, j, None]
            near = np.square(away).sum(-1).min(-1) < np.square(reach + radii[:, j])[:, None]
            fits &= ~(near & there[:, j, None])
        there[:, i] &= fits.any(1)
        paths[:, i] = places[rows, fits.argmax(1)][:, None] + swing[:, i]
    return radii, np.round(paths).astype(int), there
