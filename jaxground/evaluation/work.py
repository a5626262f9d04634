"""What is to be done, in batches that depend on the data and the settings alone.

A batch is the unit of work and of record: always the same images in the same rows of the same
compiled program, whichever process computes it and whatever was computed before. That, and not
luck with floating point, is why an interrupted run ends with the bits of an uninterrupted one.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxground.data.annotations import Dataset, Example
from jaxground.data.images import ImageError
from jaxground.metrics import in_difficult_subset
from jaxground.models.preprocess import MAX_PIXELS, Preprocess

CHUNK = 1024  # photographs whose objects are looked at together
FEW = 24  # photographs of one input size for which one program does: compiling costs as much
PARTS = 8  # batches at least, where there are as many photographs: else there is little to share
CANVAS = 64  # masks lie on canvases of multiples of so many pixels: few programs


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a photograph becomes the network's input: always the whole of it, never a crop.

    Attributes:
      short: Pixels of the shorter side.
      shape: `"aspect"` keeps the aspect, `"square"` warps to `short x short`.
      multiple: With `"aspect"`, the longer side is rounded to a multiple of so many pixels: fewer
        shapes, and with them fewer compilations, for a slight warp.
    """

    short: int
    shape: Literal["aspect", "square"] = "aspect"
    multiple: int = 1

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of the input for those of a photograph.

        Example:
          >>> Fit(224).size((480, 640)), Fit(224, multiple=32).size((480, 640))
          ((224, 298), (224, 288))
        """
        if self.shape == "square":
            return self.short, self.short
        height, width = (self._side(side, min(size)) for side in size)
        return height, width

    def _side(self, side: int, short: int) -> int:
        if side == short:
            return self.short
        exact = int(self.short * side / short)  # as the authors of Excitation Backprop round
        return max(round(exact / self.multiple) * self.multiple, self.short)


class Task(NamedTuple):
    """A photograph, the categories that are asked of it, and which of these are difficult."""

    example: Example
    categories: tuple[str, ...]
    difficult: tuple[bool, ...]


class Batch(NamedTuple):
    """Photographs of one input size that go through the network together.

    Attributes:
      number: Its place among all batches.
      size: Height and width of the input.
      targets: Number of targets of each photograph, at least that of its categories.
      canvas: Height and width that hold every photograph.
      objects: Number of boxes of each target, at least that of its objects.
      length: Number of rows, at least that of `tasks`.
      tasks: The photographs.
    """

    number: int
    size: tuple[int, int]
    targets: int
    canvas: tuple[int, int]
    objects: int
    length: int
    tasks: tuple[Task, ...]

    @property
    def program(self) -> tuple[Any, ...]:
        """What batches of one program have in common: compiled once."""
        return self.size, self.targets, self.canvas, self.objects, self.length


class Loaded(NamedTuple):
    """A batch, read from the disk; rows without a task, or with a broken one, are zero.

    Attributes:
      batch: What was read.
      images: `float32[length, height, width, 3]`.
      candidates: `int32[length, targets, classes]`, the classes of each category, -1 for none.
      masks: `bool[length, targets, *canvas]`, of the categories, at the photographs' resolution.
      boxes: `float32[length, targets, objects, 4]`, of the objects; without area for none.
      sizes: `int32[length, 2]`, height and width of the photographs.
      errors: Why a task cannot be done, by its row.
    """

    batch: Batch
    images: np.ndarray
    candidates: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray
    errors: dict[int, str]


def batches(
    dataset: Dataset, classes: Mapping[str, Sequence[int]], fit: Fit, batch_size: int
) -> list[Batch]:
    """Returns all the work: the photographs that have a category with a class.

    Args:
      dataset: The data.
      classes: The classes that mean each category.
      fit: From a photograph to the input.
      batch_size: Photographs in a batch, at most; fewer where there are so few that there would be
        less than eight batches to share and to resume from, and so that batches are equally full.

    Returns:
      The batches, those of one shape beside each other.
    """
    asked = [(example, _asked(example, classes)) for example in dataset.examples]
    asked = [(example, categories) for example, categories in asked if categories]
    most_rows = min(batch_size, -(-len(asked) // PARTS))
    shapes: dict[tuple[int, int], list[Task]] = defaultdict(list)
    for (example, categories), difficult in zip(asked, _difficult(asked), strict=True):
        task = Task(example, categories, tuple(difficult[: len(categories)].tolist()))
        shapes[fit.size(example.size)].append(task)
    groups: dict[tuple[tuple[int, int], int], list[Task]] = defaultdict(list)
    for size, tasks in shapes.items():
        most = max(len(task.categories) for task in tasks)
        for task in tasks:  # a program for each power of two, where it is worth compiling
            count = len(task.categories) if len(tasks) > FEW else most
            groups[size, _power_of_two(count)].append(task)
    counts = (len(_boxes(example, c)) for example, categories in asked for c in categories)
    objects = max(counts, default=0) or 1
    found: list[Batch] = []
    for (size, targets), tasks in sorted(groups.items(), key=lambda group: group[0]):
        length = -(-len(tasks) // -(-len(tasks) // most_rows))
        largest = np.max([task.example.size for task in tasks], axis=0)
        height, width = (int(-(-side // CANVAS) * CANVAS) for side in largest)
        for start in range(0, len(tasks), length):
            rows = tuple(tasks[start : start + length])
            found.append(Batch(len(found), size, targets, (height, width), objects, length, rows))
    return found


def _asked(example: Example, classes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Returns the categories that have classes, as in VOC without those that are all difficult."""
    seen = {instance.category for instance in example.instances if not instance.difficult}
    return tuple(c for c in example.categories if c in classes and c in seen)


def _boxes(example: Example, category: str) -> list[tuple[float, float, float, float]]:
    """Returns the boxes of the objects of a category; that of a crowd is no object's."""
    return [i.box for i in example.instances if i.category == category and not i.crowd]


def _power_of_two(count: int) -> int:
    """Few sizes, and with them few programs, for many counts."""
    return 1 << (count - 1).bit_length()


def _difficult(asked: Sequence[tuple[Example, tuple[str, ...]]]) -> np.ndarray:
    """Returns which pairs are in the EB authors' difficult subset, `bool[images, categories]`."""
    objects = max((len(example.instances) for example, _ in asked), default=1)
    most = max((len(categories) for _, categories in asked), default=1)
    found = np.zeros((len(asked), most), bool)
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        rows = _power_of_two(len(part))
        boxes = np.zeros((rows, 1, objects, 4), np.float32)
        categories = np.full((rows, 1, objects), -1)
        targets = np.full((rows, most), -2)
        for row, (example, wanted) in enumerate(part):
            place = {name: index for index, name in enumerate(example.categories)}
            for index, instance in enumerate(example.instances):
                boxes[row, 0, index] = instance.box
                categories[row, 0, index] = place[instance.category]
            targets[row, : len(wanted)] = [place[category] for category in wanted]
        sizes = np.ones((rows, 1, 2), np.int32)
        sizes[: len(part), 0] = [example.size for example, _ in part]
        flags = jax.jit(in_difficult_subset)(boxes, categories, targets, sizes=sizes)
        found[start : start + CHUNK] = np.asarray(flags)[: len(part)]
    return found


def share(work: Sequence[Batch], process: int, processes: int) -> Sequence[Batch]:
    """Returns the part of one process: neighbours, so that it meets few shapes.

    Example:
      >>> [list(share(range(5), i, 2)) for i in range(2)]
      [[0, 1], [2, 3, 4]]
    """
    start, end = (len(work) * i // processes for i in (process, process + 1))
    return work[start:end]


def load(batch: Batch, classes: Mapping[str, Sequence[int]], preprocess: Preprocess) -> Loaded:
    """Returns a batch, read from the disk. What cannot be read is an error of its row."""
    most = max(map(len, classes.values()))
    candidates = np.full((batch.length, batch.targets, most), -1, np.int32)
    images = np.zeros((batch.length, *batch.size, 3), np.float32)
    masks = np.zeros((batch.length, batch.targets, *batch.canvas), bool)
    boxes = np.zeros((batch.length, batch.targets, batch.objects, 4), np.float32)
    sizes = np.ones((batch.length, 2), np.int32)
    errors = {}
    for row, (example, categories, _) in enumerate(batch.tasks):
        try:
            images[row] = _input(example, batch.size, preprocess)
        except (ImageError, OSError) as error:
            errors[row] = str(error)
            continue
        sizes[row] = height, width = example.size
        for index, category in enumerate(categories):
            masks[row, index, :height, :width] = example.mask(category)
            for place, box in enumerate(_boxes(example, category)):
                boxes[row, index, place] = box
        for index in range(batch.targets):
            found = classes[categories[min(index, len(categories) - 1)]]
            candidates[row, index, : len(found)] = found
    return Loaded(batch, images, candidates, masks, boxes, sizes, errors)


def _input(example: Example, size: tuple[int, int], preprocess: Preprocess) -> np.ndarray:
    from PIL import Image

    height, width = size
    if height * width > MAX_PIXELS:
        raise ImageError(f"{example.key} is too long and thin: it would become {width} x {height}")
    image = Image.fromarray(example.image())
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    fitting = dataclasses.replace(preprocess, crop=min(size))  # nothing left to resize
    return fitting(image, crop=False)
