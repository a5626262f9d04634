"""Labelled photographs as arrays of one size: archives of JPEG files, and data sets of TFDS."""

import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

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
        with open(path, "rb") as opened, np.load(opened) as archive:
            jpeg, offsets = archive[f"{prefix}jpeg"], archive[f"{prefix}offsets"]
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file") from error
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
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
        images.append(resized(np.asarray(image), size))
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

    It must have features `image` and `label`, and fit in memory; see also `open_tfds`.

    Args:
      name: As TFDS knows it: `cifar10`, `cifar100`, `caltech101`.
      split: `train`, `test`, or a part of one, `"train[:10%]"`.
      size: Height and width to resize to, bilinear; needed where they differ.
      folder: TFDS's `data_dir`; by default its own.

    Raises:
      ImageError: It is not prepared there, or sizes differ.

    Example:
      >>> read_tfds("cifar10", "test", folder="nowhere")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      jaxground.data.images.ImageError: nowhere has no cifar10 that TFDS has prepared: ...
    """
    images, labels = [], []
    for example in open_tfds(name, split, folder=folder):
        images.append(resized(example["image"], size))
        labels.append(example["label"])
    if len(shapes := {image.shape for image in images}) > 1:
        raise ImageError(f"{name}: photographs of {len(shapes)} sizes make no array: give size=")
    return Labelled(np.stack(images), np.asarray(labels, np.int32))


def open_tfds(
    name: str, split: str, *, folder: str | os.PathLike | None = None
) -> Sequence[dict[str, Any]]:
    """Returns random access to the examples of a data set that TFDS has prepared on disk.

    Nothing is downloaded. It must have been prepared as `array_record`, which only some data sets
    can be without TensorFlow: `tfds build --file_format=array_record cifar10`.

    Args:
      name: As TFDS knows it.
      split: `train`, `test`, or a part of one.
      folder: TFDS's `data_dir`; by default its own.

    Raises:
      ImageError: It is not prepared there.

    Example:
      >>> open_tfds("cifar10", "test", folder="nowhere")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      jaxground.data.images.ImageError: nowhere has no cifar10 that TFDS has prepared: ...
    """
    import tensorflow_datasets as tfds

    try:
        source = tfds.data_source(name, split=split, data_dir=folder, download=False)
        return cast(Sequence[dict[str, Any]], source)
    except (AssertionError, NotImplementedError, tfds.core.DatasetNotFoundError) as error:
        where = "TFDS's own folder" if folder is None else folder
        raise ImageError(
            f"{where} has no {name} that TFDS has prepared: "
            f"tfds build --file_format=array_record {name}"
        ) from error
    except (KeyError, ValueError) as error:  # half prepared, or asked for what it has not
        raise ImageError(f"{name} of TFDS has no {split!r}: {error}") from error


def resized(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Returns a picture as `uint8[height, width, 3]`, resized (bilinear) unless `size` is `None`.

    Args:
      image: `uint8[height, width, 1 or 3]`.
      size: Height and width.

    Example:
      >>> resized(np.full((4, 4, 1), 7, np.uint8), (2, 1)).tolist()
      [[[7, 7, 7]], [[7, 7, 7]]]
    """
    from PIL import Image

    image = np.broadcast_to(image, (*image.shape[:2], 3))
    if size is None or image.shape[:2] == size:
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
