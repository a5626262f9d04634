"""Photographs as batches of a network's input, always whole."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxground.data.images import ImageError, measure_image, read_image
from jaxground.models import Preprocess
from jaxground.models.preprocess import MAX_PIXELS

SHOWN = 1024  # pixels of the longer side of what is kept for the picture


class Photograph(NamedTuple):
    """A photograph on its way through the network.

    Attributes:
      path: Its file.
      size: Height and width in the file.
      pixels: For the picture, `uint8[h, w, 3]`, reduced.
      input: For the network, `float32[height, width, 3]`.
    """

    path: Path
    size: tuple[int, int]
    pixels: np.ndarray
    input: np.ndarray


def input_size(preprocess: Preprocess, size: tuple[int, int], short: int | None) -> tuple[int, int]:
    """Returns height and width of the network's input for a photograph of a size.

    The map shall cover the whole photograph, so nothing is cropped. By default the photograph is
    warped to the network's square (as the authors of Excitation Backprop do for ResNets): one
    size, whatever the photographs. With `short` its aspect is kept and its shorter side resized.

    Raises:
      ImageError: It is too long and thin for that.

    Example:
      >>> input_size(Preprocess(crop=224), (600, 800), None)
      (224, 224)
      >>> input_size(Preprocess(crop=224), (600, 800), 300)
      (300, 400)
    """
    if short is None:
        return preprocess.crop, preprocess.crop
    height, width = (short if n == min(size) else int(short * n / min(size)) for n in size)
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"a photograph of {size[1]} x {size[0]} pixels is too long and thin: with its shorter "
            f"side at {short} it would be {width} x {height}; leave --size away"
        )
    return height, width


def batches(
    paths: Sequence[Path],
    preprocess: Preprocess,
    *,
    short: int | None,
    batch_size: int,
    failed: Callable[[Path, Exception], None],
) -> Iterator[tuple[int, list[Photograph]]]:
    """Yields photographs of equal input size in batches, and what to pad each batch to.

    All batches of a size have one length, so that each size compiles once.

    Args:
      paths: Files, of any sizes.
      preprocess: Of the network.
      short: Shorter side of the network's input, see `input_size`.
      batch_size: Photographs in a batch, at most.
      failed: Told of each file that cannot be read.
    """
    groups: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for path in paths:
        try:
            groups[input_size(preprocess, measure_image(path), short)].append(path)
        except (ImageError, OSError) as error:
            failed(path, error)
    for group in groups.values():
        length = min(batch_size, len(group))
        for start in range(0, len(group), length):
            batch = []
            for path in group[start : start + length]:
                try:
                    batch.append(load(path, preprocess, short))
                except (ImageError, OSError) as error:
                    failed(path, error)
            if batch:
                yield length, batch


def load(path: Path, preprocess: Preprocess, short: int | None) -> Photograph:
    """Returns a photograph, read from its file.

    Raises:
      ImageError: It is no readable image, or too long and thin.
      OSError: The file cannot be opened.
    """
    from PIL import Image

    size = measure_image(path)
    height, width = input_size(preprocess, size, short)
    reach = -(-max(size) * min(height, width) // min(size))  # keeps the shorter side long enough
    pixels = read_image(path, longest=max(SHOWN, reach))
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    fitting = dataclasses.replace(preprocess, crop=min(height, width))  # nothing left to resize
    return Photograph(path, size, pixels, fitting(image, crop=False))
