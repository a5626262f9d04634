"""Pointing games from any labelled images: mosaics whose every cell is known to show its class.

After the grid pointing game (Böhle et al., CVPR 2021): the map of a class belongs into its cell.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxground.data.annotations import Dataset, Example, Instance


class Mosaics(NamedTuple):
    """Pictures and what their cells show, row by row."""

    images: np.ndarray  # [count, grid * height, grid * width, 3], of the type of the sources
    classes: np.ndarray  # int[count, grid * grid]


def draw_mosaics(
    images: np.ndarray, labels: np.ndarray, *, count: int, grid: int = 2, seed: int = 0
) -> Mosaics:
    """Returns mosaics of images of different classes.

    Classes are drawn uniformly, then an image of each: rare classes are seen as often as others.

    Args:
      images: `[n, height, width, channel]`, all of one size.
      labels: `int[n]`, the class of each.
      count: Number of mosaics.
      grid: Cells along each side.
      seed: Of the draw; the first mosaics of a longer draw are not those of a shorter one.

    Raises:
      ValueError: There are fewer classes than cells, or not one label an image.

    Example:
      >>> white, black = np.full((2, 1, 1, 3), [[[[255]]], [[[0]]]], np.uint8)
      >>> images = np.stack([white, black, black + 9, black + 99])
      >>> mosaics = draw_mosaics(images, np.arange(4), count=1)
      >>> mosaics.images.shape, mosaics.classes
      ((1, 2, 2, 3), array([[2, 0, 1, 3]]))
      >>> mosaics.images[0, 0, 1]  # the second cell
      array([255, 255, 255], dtype=uint8)
    """
    labels = np.asarray(labels)
    if labels.shape != (len(images),):
        raise ValueError(f"{len(images)} images need as many labels, got shape {labels.shape}")
    known, cells = np.unique(labels), grid * grid
    if len(known) < cells:
        raise ValueError(f"{cells} cells need as many classes, the labels have {len(known)}")
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(labels == label) for label in known]
    picked = np.array([rng.permutation(len(known))[:cells] for _ in range(count)], int)
    picked = picked.reshape(count, cells)
    chosen = np.array([[rng.choice(rows[label]) for label in mosaic] for mosaic in picked], int)
    height, width, channels = images.shape[1:]
    tiles = images[chosen.reshape(count, cells)].reshape(count, grid, grid, height, width, channels)
    tiled = tiles.transpose(0, 1, 3, 2, 4, 5)
    return Mosaics(tiled.reshape(count, grid * height, grid * width, channels), known[picked])


def cell_boxes(grid: int, height: int, width: int) -> list[tuple[float, float, float, float]]:
    """Returns the boxes (x0, y0, x1, y1) of the cells of a mosaic in pixels, row by row.

    Args:
      grid: Cells along each side.
      height: Height of the mosaic.
      width: Width of the mosaic.

    Example:
      >>> cell_boxes(2, 4, 6)[1]
      (3.0, 0.0, 6.0, 2.0)
    """
    ys, xs = np.linspace(0, height, grid + 1), np.linspace(0, width, grid + 1)
    return [
        (float(xs[j]), float(ys[i]), float(xs[j + 1]), float(ys[i + 1]))
        for i in range(grid)
        for j in range(grid)
    ]


def cell_masks(grid: int, height: int, width: int) -> np.ndarray:
    """Returns the pixels of each cell of a mosaic.

    Args:
      grid: Cells along each side.
      height: Height of the mosaic.
      width: Width of the mosaic.

    Returns:
      `bool[grid * grid, height, width]`, row by row.

    Example:
      >>> cell_masks(2, 2, 4)[1].astype(int)
      array([[0, 0, 1, 1],
             [0, 0, 0, 0]])
    """
    cells = [Instance("", box) for box in cell_boxes(grid, height, width)]
    return np.stack([cell.mask((height, width)) for cell in cells])


def draw_dataset(
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    count: int,
    grid: int = 2,
    seed: int = 0,
) -> Dataset:
    """Returns mosaics as a data set: each cell is an instance, its box the cell.

    Args:
      images: `uint8[n, height, width, 3]`, all of one size.
      labels: `int[n]`, the class of each: an index into `names` and the class of the network.
      names: The categories, each a different one.
      count: Number of mosaics.
      grid: Cells along each side.
      seed: Of the draw.

    Raises:
      ValueError: As `draw_mosaics`; images that are not 8-bit; a label without a name, or two
        classes of one name.

    Example:
      >>> images = np.zeros((4, 8, 8, 3), np.uint8)
      >>> data = draw_dataset(images, np.arange(4), ["cat", "dog", "cow", "ape"], count=3)
      >>> data.examples[0].categories, data.examples[0].mask("cow").sum()
      (('cow', 'cat', 'dog', 'ape'), np.int64(64))
    """
    if images.dtype != np.uint8:
        raise ValueError(f"a data set holds images of 8 bits, got {images.dtype}")
    if len(set(names)) != len(names):
        raise ValueError("two classes have one name")
    if outside := [int(label) for label in np.unique(labels) if not 0 <= label < len(names)]:
        raise ValueError(f"there are {len(names)} names, none for the labels {outside}")
    mosaics = draw_mosaics(images, labels, count=count, grid=grid, seed=seed)
    height, width = mosaics.images.shape[1:3]
    boxes = cell_boxes(grid, height, width)
    examples = []
    for number, (picture, classes) in enumerate(zip(*mosaics, strict=True)):
        shown = zip(classes, boxes, strict=True)
        instances = tuple(Instance(names[int(label)], box) for label, box in shown)
        draw = partial(np.copy, picture)
        examples.append(Example(f"mosaic-{seed}-{number}", None, (height, width), instances, draw))
    indices = {name: (index,) for index, name in enumerate(names)}
    return Dataset(f"mosaics/{grid}x{grid}", examples, tuple(names), indices)
