"""Labelled photographs as arrays of one size: archives of JPEG files, and data sets of TFDS."""

import io
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxground.data.images import ImageError


class Labelled(NamedTuple):
    """Photographs of one size with a class each.

    Attributes:
      images: `uint8[count, height, width, 3]`.
      labels: `int32[count]`.
    """

    images: np.ndarray
    labels: np.ndarray


def read_jpegs(
    path: str | os.PathLike,
    split: str | None = None,
    *,
    rows: Iterable[int] | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Returns photographs of an `.npz` archive that holds JPEG files end to end.

    File `i` is `jpeg[offsets[i]:offsets[i + 1]]`. Nothing in the archive is executed.

    Args:
      path: The archive, with `uint8[...]` `jpeg` and `int[n + 1]` `offsets`.
      split: Where the archive has several sets: `train` reads `train_jpeg` and `train_offsets`.
      rows: Which photographs, in this order; all of them by default.
      size: Height and width to resize to, bilinear; needed where they differ.

    Returns:
      `uint8[count, height, width, 3]`, RGB.

    Raises:
      ImageError: The archive lacks the arrays, a file in it is broken, or sizes differ.

    Example:
      >>> read_jpegs("no.npz")
      Traceback (most recent call last):
      ...
      jaxground.data.images.ImageError: no.npz: there is no such file
    """
    from PIL import Image

    prefix = f"{split}_" if split else ""
    try:
        with np.load(path) as archive:
            jpeg, offsets = archive[f"{prefix}jpeg"], archive[f"{prefix}offsets"]
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file") from error
    except (KeyError, ValueError, OSError) as error:
        raise ImageError(
            f"{path}: no archive with arrays '{prefix}jpeg' and '{prefix}offsets': {error}"
        ) from error
    images = []
    for row in range(len(offsets) - 1) if rows is None else rows:
        try:
            file = io.BytesIO(jpeg[offsets[row] : offsets[row + 1]].tobytes())
            with Image.open(file, formats=["JPEG"]) as image:
                image = image.convert("RGB")
        except (OSError, IndexError, Image.DecompressionBombError) as error:
            raise ImageError(f"{path}: photograph {row} is no readable JPEG: {error}") from error
        if size is not None and image.size != size[::-1]:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        images.append(np.asarray(image))
    if len(shapes := {image.shape for image in images}) > 1:
        raise ImageError(f"{path}: photographs of {len(shapes)} sizes make no array: give size=")
    return np.stack(images) if images else np.zeros((0, *(size or (0, 0)), 3), np.uint8)


def read_tfds(
    name: str,
    split: str,
    *,
    size: tuple[int, int] | None = None,
    folder: str | os.PathLike | None = None,
) -> Labelled:
    """Returns a data set that TensorFlow Datasets has prepared on disk, without TensorFlow.

    It must be prepared as `array_record` (`tfds build --file_format=array_record cifar10`), have
    features `image` and `label`, and fit in memory.

    Args:
      name: As TFDS knows it: `cifar10`, `cifar100`, `caltech101`.
      split: `train`, `test`, or a part of one, `"train[:10%]"`.
      size: Height and width to resize to, bilinear; needed where they differ.
      folder: TFDS's `data_dir`; by default its own.

    Raises:
      ImageError: Sizes differ.

    Example:
      >>> read_tfds("cifar10", "test", folder="nowhere")  # doctest: +SKIP
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    images, labels = [], []
    for example in tfds.data_source(name, split=split, data_dir=folder):
        image = np.asarray(example["image"])
        if size is not None and image.shape[:2] != size:
            picture = Image.fromarray(image.squeeze()).convert("RGB")
            image = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))
        images.append(np.broadcast_to(image, (*image.shape[:2], 3)))
        labels.append(example["label"])
    if len(shapes := {image.shape for image in images}) > 1:
        raise ImageError(f"{name}: photographs of {len(shapes)} sizes make no array: give size=")
    return Labelled(np.stack(images), np.asarray(labels, np.int32))
