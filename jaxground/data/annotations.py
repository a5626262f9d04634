"""Labelled photographs: which objects are where, whatever format said so.

Coordinates are pixels, x to the right and y down, and pixel `[row, column]` is the unit square
`column <= x < column + 1, row <= y < row + 1`. **A pixel belongs to a shape if its centre does.**
An object too thin to cover any centre keeps the pixel under the middle of its box, so that
nothing that was labelled vanishes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxground.data.images import ImageError, read_image
from jaxground.data.shapes import decode_runs, fill_box, fill_polygon


class AnnotationError(ValueError):
    """A data set that is no such thing; the message names the file and what to do about it."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One labelled object.

    Attributes:
      category: Name of what it is.
      box: `(x0, y0, x1, y1)` in pixels, half open, inside the image.
      polygons: Outlines, each `float[vertices, 2]` of x and y; the object is their union.
      runs: A mask as run lengths, column by column, of background and object in turn (COCO's
        uncompressed RLE); goes before polygons.
      difficult: Whether the annotators called it hard to see (VOC).
      crowd: Whether it stands for a group of objects (COCO).

    Example:
      >>> Instance("dog", (0.0, 0.0, 1.0, 2.0)).mask((2, 3)).astype(int)
      array([[1, 0, 0],
             [1, 0, 0]])
    """

    category: str
    box: tuple[float, float, float, float]
    polygons: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None
    difficult: bool = False
    crowd: bool = False

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the pixels of the object: of its runs, else its polygons, else its box.

        Args:
          size: Height and width of the image.

        Returns:
          `bool[height, width]`, never empty.
        """
        mask = np.zeros(size, bool)
        if self.runs is not None:
            mask = decode_runs(self.runs, size)
        for polygon in self.polygons if self.runs is None else ():
            fill_polygon(mask, polygon)
        return mask if mask.any() else fill_box(mask, self.box)


@dataclass(frozen=True, eq=False)
class Example:
    """One photograph and what is labelled in it.

    Attributes:
      key: Unique and stable name: of a file, its path below the root of the data, with slashes.
      path: The file; `None` for a picture made on demand.
      size: Height and width in pixels.
      instances: The labelled objects.
      draw: Returns the pixels of a picture that is in no file.
    """

    key: str
    path: Path | None
    size: tuple[int, int]
    instances: tuple[Instance, ...]
    draw: Callable[[], np.ndarray] | None = None

    def image(self) -> np.ndarray:
        """Returns the pixels `uint8[height, width, 3]` in which the coordinates are given.

        These are the pixels as they are stored: annotators saw the picture without its EXIF
        orientation, which is therefore left alone.

        Raises:
          ImageError: The file is broken, or not of the size that its annotation says.
          OSError: The file cannot be opened.
        """
        if self.draw is not None:
            return self.draw()
        if self.path is None:
            raise ImageError(f"{self.key} has neither a file nor a way to draw it")
        pixels = read_image(self.path, upright=False)
        if pixels.shape[:2] != self.size:
            raise ImageError(
                f"{self.path} has {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), "
                f"but its annotation says {self.size[0]} x {self.size[1]}: it is another image"
            )
        return pixels

    @property
    def categories(self) -> tuple[str, ...]:
        """What is in the picture, each category once, in order of first appearance."""
        return tuple(dict.fromkeys(instance.category for instance in self.instances))

    def mask(self, category: str) -> np.ndarray:
        """Returns the pixels of all instances of a category, difficult and crowd included.

        Args:
          category: Any name; one that is not in the picture has an empty mask.

        Returns:
          `bool[height, width]`, the union of the instances' masks.
        """
        masks = [i.mask(self.size) for i in self.instances if i.category == category]
        return np.any(masks, axis=0) if masks else np.zeros(self.size, bool)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled photographs.

    Attributes:
      name: Short name, for tables and files.
      examples: The photographs, in a fixed order.
      categories: Every category that may occur, in the order of the data set.
      class_indices: For each category, the classes of a network (by index) that mean it; `None`
        where the data does not say.
    """

    name: str
    examples: Sequence[Example]
    categories: tuple[str, ...]
    class_indices: Mapping[str, tuple[int, ...]] | None = None
