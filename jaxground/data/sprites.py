"""What moving scenes are drawn with: random numbers, figures in a patch, backgrounds.

A thing stands with its centre on a corner of pixels, so that moving it is exact: in each frame it
is a patch of `2 reach` pixels a side, stamped somewhere else.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from jaxground.data.figures import ANGLES, DIRECTIONS, HOLES, OUTLINES
from jaxground.data.scenes import COLOURS

_WAVES = 4  # of the cluttered background


class Numbers:
    """Uniform random numbers of each clip, dealt out from one draw."""

    def __init__(self, indices: np.ndarray, seed: int, count: int):
        """Draws `count` numbers for each clip."""
        draws = [np.random.default_rng([seed, i]).random(count, np.float32) for i in indices]
        self._rest = np.stack(draws) if draws else np.zeros((0, count), np.float32)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Returns numbers `[n, *shape]` not dealt out before."""
        size = int(np.prod(shape))
        assert size <= self._rest.shape[1], "the draw was too small"
        dealt, self._rest = self._rest[:, :size], self._rest[:, size:]
        return low + (high - low) * dealt.reshape(len(dealt), *shape)

    def below(self, end: ArrayLike, *shape: int) -> np.ndarray:
        """Returns whole numbers `[n, *shape]` from 0 to below an end."""
        return np.minimum(np.floor(self.uniform(*shape) * end), np.asarray(end) - 1).astype(int)


def draw_levels(
    numbers: Numbers, shapes: np.ndarray, things: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the radius from which on each pixel around a thing belongs to it, and holes."""
    blobs = things - shapes.shape[1]
    sizes, phases = numbers.uniform(blobs, 4, low=0.05, high=0.25), numbers.uniform(blobs, 4)
    waves = np.arange(1, 5)[:, None] * ANGLES.astype(np.float32) + 2 * np.pi * phases[..., None]
    outlines = 1 + (sizes[..., None] * np.cos(waves)).sum(2)
    outlines = np.concatenate([OUTLINES[shapes], outlines / outlines.max(2, keepdims=True)], 1)
    holes = np.concatenate([HOLES[shapes], np.zeros((len(shapes), blobs))], 1)

    y, x = np.meshgrid(*[np.arange(-reach, reach, dtype=np.float32) + 0.5] * 2, indexing="ij")
    turn = numbers.uniform(things, high=2 * np.pi)[..., None, None]
    y, x = y * np.cos(turn) - x * np.sin(turn), x * np.cos(turn) + y * np.sin(turn)
    direction = y / (np.abs(y) + np.abs(x))  # see figures
    direction = np.where(x < 0, 2 - direction, direction)
    nearest = np.round(direction * (DIRECTIONS / 4)).astype(int) % DIRECTIONS
    outline = np.take_along_axis(outlines, nearest.reshape(*nearest.shape[:2], 4 * reach**2), 2)
    return np.sqrt(y * y + x * x) / outline.reshape(x.shape), holes


def covered(levels: np.ndarray, holes: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Returns which pixels a thing covers in each frame, `bool[n, time, 2 reach, 2 reach]`."""
    reach = levels.shape[-1] // 2
    offsets = np.arange(-reach, reach) + 0.5
    distance = np.sqrt(np.square(offsets)[:, None] + np.square(offsets)).astype(np.float32)
    radii = radii.astype(np.float32)[..., None, None]
    return (levels[:, None] <= radii) & (distance >= holes[:, None, None, None] * radii)


def stamp(canvas: np.ndarray, covers: np.ndarray, centres: np.ndarray, number: int):
    """Writes a number where a thing covers a canvas, in place; it may stick out by its reach."""
    axes: Any = (2, 3)  # the stubs of NumPy 2.1 know no tuple
    patches = sliding_window_view(canvas, covers.shape[2:], axis=axes, writeable=True)
    clip, time = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    where = clip, time, centres[..., 0], centres[..., 1]
    patches[where] = np.where(covers, np.uint8(number), patches[where])


def draw_paint(numbers: Numbers, colours: np.ndarray, things: int) -> np.ndarray:
    """Returns the colour of each thing, `uint8[n, things, 3]`."""
    some = np.concatenate([colours, numbers.below(len(COLOURS), things - colours.shape[1])], 1)
    paint = np.array(list(COLOURS.values()))[some]
    paint = paint * numbers.uniform(things, 1, low=0.8, high=1.1)
    paint = paint + numbers.uniform(things, 3, low=-0.06, high=0.06)
    return np.round(np.clip(paint, 0, 1) * 255).astype(np.uint8)


def draw_ground(numbers: Numbers, side: int, clutter: float) -> np.ndarray:
    """Returns a greyish background, `uint8[n, side, side, 3]`: plane waves, and noise."""
    angle, phase = (numbers.uniform(_WAVES, high=2 * np.pi)[..., None] for _ in range(2))
    cycles = 8 ** numbers.uniform(_WAVES)[..., None]  # across the picture
    place = np.arange(side, dtype=np.float32) * (2 * np.pi / side) * cycles
    y, x = place * np.sin(angle) + phase, place * np.cos(angle)
    tint = 0.1 * numbers.uniform(_WAVES, 1, low=-1) + 0.04 * numbers.uniform(_WAVES, 3, low=-1)
    rows = np.concatenate([np.sin(y), np.cos(y)], 1)  # sin(y + x) = sin y cos x + cos y sin x
    columns = np.concatenate([np.cos(x), np.sin(x)], 1)[..., None]
    columns = columns * np.tile(tint, (1, 2, 1))[:, :, None]
    columns = columns.reshape(*columns.shape[:2], 3 * side)
    pattern = np.matmul(rows.transpose(0, 2, 1), columns).reshape(len(tint), side, side, 3)
    noise = numbers.uniform(side, side, 1, low=-0.15, high=0.15)
    grey = numbers.uniform(1, 1, 1, low=0.3, high=0.7)
    image = grey + clutter * (pattern + noise)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
