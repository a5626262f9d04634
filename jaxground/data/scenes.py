"""Scenes drawn on the spot: several objects, distractors, clutter, and the exact mask of each.

An object is a shape in a colour and a texture; which of the three name its category is a choice,
the others vary at random. Distractors are blobs in the same colours and textures, of no category.
Edges are hard and a pixel shows one thing only: the masks are exact.

A scene depends on the seed and its index alone: any subset, in any batches, on any number of
processes, is the same scenes. All is JAX: it may be drawn inside a training step, on the device.
"""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxground.data.annotations import Dataset, Example, Instance
from jaxground.data.figures import ANGLES, DIRECTIONS, FIGURES, HOLES, OUTLINES
from jaxground.data.shapes import encode_runs

COLOURS = {
    "red": (0.86, 0.16, 0.15),
    "yellow": (0.93, 0.80, 0.12),
    "green": (0.20, 0.66, 0.24),
    "cyan": (0.15, 0.74, 0.78),
    "blue": (0.17, 0.30, 0.85),
    "purple": (0.66, 0.22, 0.74),
}
TEXTURES = ("plain", "striped", "checked", "dotted")
ATTRIBUTES = {"texture": TEXTURES, "colour": tuple(COLOURS), "shape": tuple(FIGURES)}

_TRIES = 16  # places tried for an object before it is left out
_CHUNK = 64  # scenes drawn at once for a data set
_WAVES = 6  # of the cluttered background


@dataclass(frozen=True)
class Scenes:
    """What is in the scenes.

    Attributes:
      side: Height and width in pixels.
      attributes: Which of `"texture"`, `"colour"` and `"shape"` name a category.
      objects: Least and most objects; where no place is found for one, it is left out.
      distractors: Least and most blobs of no category.
      diameter: Least and most, as a share of the side.
      overlap: How far circles around two things may overlap, as a share of both radii.
      clutter: Strength of the pattern in the background, from 0.

    Example:
      >>> Scenes().categories
      ('disc', 'ring', 'triangle', 'square', 'bar', 'star', 'cross', 'flower')
      >>> Scenes(attributes=("colour", "shape")).categories[:2]
      ('red disc', 'red ring')
    """

    side: int = 96
    attributes: tuple[str, ...] = ("shape",)
    objects: tuple[int, int] = (2, 4)
    distractors: tuple[int, int] = (0, 2)
    diameter: tuple[float, float] = (0.2, 0.5)
    overlap: float = 0.1
    clutter: float = 0.5

    def __post_init__(self):
        """Raises a ValueError for what cannot be drawn."""
        if not self.attributes or not set(self.attributes) <= set(ATTRIBUTES):
            raise ValueError(f"attributes are some of {', '.join(ATTRIBUTES)}: {self.attributes}")
        for name, least in [("objects", 1), ("distractors", 0)]:
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name} go from at least {least} upwards, got {low} to {high}")
        if self.distractors[1] and "shape" not in self.attributes:
            raise ValueError("blobs differ by shape: without it in attributes, distractors=(0, 0)")
        if not 0 < self.diameter[0] <= self.diameter[1] <= 1 or self.side < 8:
            raise ValueError(f"no diameters of {self.side} pixels: {self.diameter}")

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        chosen = [values for name, values in ATTRIBUTES.items() if name in self.attributes]
        return tuple(" ".join(words) for words in itertools.product(*chosen))


class Drawn(NamedTuple):
    """Scenes as arrays."""

    images: jax.Array  # uint8[n, side, side, 3]
    masks: jax.Array  # bool[n, objects, side, side], the visible pixels of each
    labels: jax.Array  # int[n, objects], -1 where there is none or nothing of it is visible


def draw_scenes(scenes: Scenes, indices: jax.typing.ArrayLike, *, seed: int = 0) -> Drawn:
    """Returns the scenes with the given indices.

    To be used under `jax.jit`: there are many small operations.

    Args:
      scenes: What is in them.
      indices: `int[n]`, which scenes of the endless row that belongs to the seed.
      seed: Of the row.

    Returns:
      Images, and mask and label of each object.

    Example:
      >>> draw = jax.jit(draw_scenes, static_argnums=0)
      >>> drawn = draw(Scenes(side=32), jnp.arange(64), seed=0)
      >>> drawn.images.shape, drawn.masks.shape, drawn.labels.shape
      ((64, 32, 32, 3), (64, 4, 32, 32), (64, 4))
    """
    key = jax.random.key(seed)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(indices, jnp.uint32))
    return jax.vmap(partial(_draw, scenes))(keys)


def draw_dataset(scenes: Scenes, *, count: int, seed: int = 0) -> Dataset:
    """Returns the first scenes of a seed as a data set, which holds the pictures in memory.

    Args:
      scenes: What is in them.
      count: Number of scenes.
      seed: Of the draw.

    Returns:
      Examples with an exact mask (`Instance.runs`) per visible object. The classes of a network
      trained on the labels of `draw_scenes` are the categories, in order.

    Example:
      >>> data = draw_dataset(Scenes(side=32), count=2)
      >>> data.examples[0].categories, data.examples[0].image().shape
      (('triangle', 'bar', 'cross', 'ring'), (32, 32, 3))
    """
    draw = jax.jit(draw_scenes, static_argnums=0)
    starts = range(0, count, _CHUNK)
    drawn = [jax.device_get(draw(scenes, np.arange(i, i + _CHUNK), seed=seed)) for i in starts]
    names = scenes.categories
    examples = []
    rows = (row for chunk in drawn for row in zip(*chunk, strict=True))
    for number, (image, masks, labels) in zip(range(count), rows, strict=False):
        instances = tuple(
            Instance(names[label], _box(mask), runs=encode_runs(mask))
            for mask, label in zip(masks, labels, strict=True)
            if label >= 0
        )
        key, size = f"scene-{seed}-{number}", (scenes.side, scenes.side)
        examples.append(Example(key, None, size, instances, partial(np.copy, image)))
    indices = {name: (index,) for index, name in enumerate(names)}
    return Dataset(f"scenes/{scenes.side}", examples, names, indices)


class _Numbers:
    """Uniform random numbers of one scene, dealt out from one draw.

    One call of jax.random costs as much compilation as all the drawing: this is the only one.
    """

    def __init__(self, key: jax.Array, count: int):
        self._rest = jax.random.uniform(key, (count,))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> jax.Array:
        size = int(np.prod(shape))
        assert size <= len(self._rest), "the draw was too small"
        dealt, self._rest = self._rest[:size], self._rest[size:]
        return low + (high - low) * dealt.reshape(shape)

    def below(self, end: int, *shape: int) -> jax.Array:
        return jnp.minimum(jnp.floor(self.uniform(*shape, high=end)), end - 1).astype(int)


def _draw(scenes: Scenes, key: jax.Array) -> Drawn:
    """Returns one scene; the first things are objects, the others distractors."""
    most, side = scenes.objects[1], scenes.side
    things = most + scenes.distractors[1]
    numbers = _Numbers(key, side * side + (2 * _TRIES + 24) * things + 8 * _WAVES + 8)
    centres, radii, there = _place(scenes, numbers)
    shape = numbers.below(len(FIGURES), most)
    colour, texture = numbers.below(len(COLOURS), things), numbers.below(len(TEXTURES), things)
    outlines = jnp.concatenate([jnp.asarray(OUTLINES)[shape], _blobs(things - most, numbers)])
    holes = jnp.concatenate([jnp.asarray(HOLES)[shape], jnp.zeros(things - most)])

    y, x = jnp.meshgrid(*[jnp.arange(side) + 0.5] * 2, indexing="ij")
    aways = jax.vmap(partial(_turned, y, x))(centres, numbers.uniform(things, high=2 * np.pi))
    covers = jax.vmap(_covers)(aways, radii, outlines, holes) & there[:, None, None]
    height = jnp.where(covers, 1 + numbers.uniform(things)[:, None, None], 0)
    top, seen = height.argmax(0), height.max(0) > 0  # what each pixel shows, if anything

    period, shift = numbers.uniform(things, low=0.45, high=0.75), numbers.uniform(2, things)
    upon = jax.vmap(_upon)(aways, texture, period * radii, *shift)
    upon = (upon & (top == jnp.arange(things)[:, None, None])).any(0)
    painted = _colours(colour, numbers)[top, upon.astype(int)]
    image = jnp.where(seen[..., None], painted, _ground(scenes, numbers))
    image = jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8)
    masks = seen & (top == jnp.arange(most)[:, None, None])
    indices = {"texture": texture[:most], "colour": colour[:most], "shape": shape}
    label = jnp.zeros(most, int)
    for name in ATTRIBUTES:
        if name in scenes.attributes:
            label = label * len(ATTRIBUTES[name]) + indices[name]
    return Drawn(image, masks, jnp.where(masks.any((1, 2)), label, -1))


def _place(scenes: Scenes, numbers: _Numbers) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns centres, radii, and whether there is such a thing at all."""
    wanted = [
        jnp.arange(most) < least + numbers.below(most + 1 - least)
        for least, most in (scenes.objects, scenes.distractors)
    ]
    wanted = jnp.concatenate(wanted)
    low, high = (share * scenes.side / 2 for share in scenes.diameter)
    radii = numbers.uniform(len(wanted), low=low, high=high)
    tries = numbers.uniform(len(wanted), _TRIES, 2)
    tries = tries * (scenes.side - 2 * radii[:, None, None]) + radii[:, None, None]
    nowhere = -4.0 * scenes.side  # where what is not there is out of the way

    def place(centres, i):
        distances = jnp.linalg.norm(tries[i][:, None] - centres, axis=-1)
        fits = (distances >= (1 - scenes.overlap) * (radii[i] + radii)).all(1)
        there = wanted[i] & fits.any()
        return centres.at[i].set(jnp.where(there, tries[i, fits.argmax()], nowhere)), there

    centres = jnp.full((len(wanted), 2), nowhere)
    centres, there = jax.lax.scan(place, centres, jnp.arange(len(wanted)))
    return centres, radii, there


def _blobs(count: int, numbers: _Numbers) -> jax.Array:
    """Returns outlines of circles with four random waves along them."""
    sizes, phases = numbers.uniform(count, 4, 1, low=0.05, high=0.25), numbers.uniform(count, 4, 1)
    waves = jnp.cos(jnp.arange(1, 5)[:, None] * ANGLES.astype(np.float32) + 2 * np.pi * phases)
    blobs = 1 + (sizes * waves).sum(1)
    return blobs / blobs.max(1, keepdims=True)


def _turned(y, x, centre, turn):
    """Returns where each pixel is as seen from a thing: along its axes, in pixels."""
    y, x = y - centre[0], x - centre[1]
    return y * jnp.cos(turn) - x * jnp.sin(turn), x * jnp.cos(turn) + y * jnp.sin(turn)


def _covers(away, radius, outline, hole) -> jax.Array:
    """Returns which pixels a thing covers."""
    y, x = away
    direction = y / jnp.maximum(jnp.abs(y) + jnp.abs(x), 1e-6)  # see figures
    direction = jnp.where(x < 0, 2 - direction, direction)
    nearest = jnp.round(direction * (DIRECTIONS / 4)).astype(int) % DIRECTIONS
    distance = jnp.sqrt(y * y + x * x) / radius
    return (distance <= outline[nearest]) & (distance >= hole)


def _upon(away, texture, period, *shift) -> jax.Array:
    """Returns which pixels have the second colour of a texture."""
    u, v = ((axis / period + offset) % 1 for axis, offset in zip(away, shift, strict=True))
    dots = (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.1
    patterns = [jnp.zeros_like(dots), u < 0.5, (u < 0.5) ^ (v < 0.5), dots]  # as in TEXTURES
    return jnp.select([texture == i for i in range(len(TEXTURES))], patterns)


def _colours(colour: jax.Array, numbers: _Numbers) -> jax.Array:
    """Returns the colours `[things, 2, 3]` of things and of the textures upon them."""
    things = len(colour)
    first = jnp.array(list(COLOURS.values()))[colour]
    first *= numbers.uniform(things, 1, low=0.8, high=1.1)
    first += numbers.uniform(things, 3, low=-0.06, high=0.06)
    light = numbers.uniform(things, 1) < 0.5
    return jnp.stack([first, jnp.where(light, 0.35 * first + 0.6, 0.4 * first)], 1)


def _ground(scenes: Scenes, numbers: _Numbers) -> jax.Array:
    """Returns a greyish background: plane waves of all directions, and noise."""
    angle, phase = (numbers.uniform(_WAVES, high=2 * np.pi) for _ in range(2))
    cycles = 12 ** numbers.uniform(_WAVES)  # across the picture
    place = (jnp.arange(scenes.side) * (2 * np.pi / scenes.side))[:, None] * cycles
    y, x = place * jnp.sin(angle) + phase, place * jnp.cos(angle)
    grey, tint = numbers.uniform(_WAVES, 1, low=-1), numbers.uniform(_WAVES, 3, low=-1)
    # sin(y + x) = sin y cos x + cos y sin x, in full precision: an accelerator's default shows.
    rows = jnp.concatenate([jnp.sin(y), jnp.cos(y)], 1)
    columns = jnp.concatenate([jnp.cos(x), jnp.sin(x)], 1)[..., None]
    columns *= jnp.tile(0.2 * grey + 0.06 * tint, (2, 1))
    pattern = jnp.einsum("yw,xwc->yxc", rows, columns, precision=jax.lax.Precision.HIGHEST)
    noise = numbers.uniform(scenes.side, scenes.side, 1, low=-0.2, high=0.2)
    return numbers.uniform(low=0.3, high=0.7) + scenes.clutter * (pattern + noise)


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    x0, y0, x1, y1 = map(float, ends)
    return x0, y0, x1, y1
