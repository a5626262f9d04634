"""The data sets of chapter 5, as far as they are here."""

import numpy as np

from experiments.compact_vgg.photographs import data_folder, read_arrays
from jaxground.data.classification import Labelled, open_tfds, read_jpegs, read_tfds, resized
from jaxground.data.images import ImageError

ARCHIVES = ("cifar10_jpeg", "caltech101_20", "jhmdb12")
TEST_SHARE = 5  # of caltech101_20, which has no split: every fifth image of a class is a test image


def load(name: str, split: str, *, side: int | None = None, limit: int | None = None) -> Labelled:
    """Returns the `train` or `test` images of a data set.

    Args:
      name: `cifar10_jpeg`, `caltech101_20` or `jhmdb12` (frames of its clips) in the data folder;
        any other is one that TFDS has prepared.
      split: `train` or `test`.
      side: Both sides of the images; needed where they differ.
      limit: So many images only, of all classes.
    """
    size = None if side is None else (side, side)
    path = data_folder() / name / f"{name}.npz"
    if name in ARCHIVES and not path.is_file():
        raise ImageError(f"{path}: there is no such file: set JAXGROUND_DATA to the data folder")
    if name not in ARCHIVES:
        images, labels = read_tfds(name, split, size=size)
        return Labelled(images[:limit], labels[:limit])
    if name == "cifar10_jpeg":
        labels = read_arrays(path, f"{split}_labels")[0][:limit].astype(np.int32)
        return Labelled(read_jpegs(path, split, rows=range(len(labels)), size=size), labels)
    if name == "jhmdb12":
        labels, offsets, is_test = read_arrays(path, "labels", "offsets", "is_test")
        frames = (len(offsets) - 1) // len(labels)
        labels, held_out = np.repeat(labels, frames), np.repeat(is_test, frames)
    else:
        (labels,) = read_arrays(path, "labels")
        held_out = np.arange(len(labels)) % TEST_SHARE == 0
    rows = np.flatnonzero(held_out == (split == "test"))
    if limit is not None:
        rows = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)]
    rows = np.random.default_rng(0).permutation(rows)  # by class there: the first are of all here
    return Labelled(read_jpegs(path, rows=rows, size=size), labels[rows].astype(np.int32))


def stream(name: str, side: int | None):
    """Returns the training examples of a TFDS data set, and how each is read, for `Streamed`."""
    if name in ARCHIVES:
        raise ImageError(f"{name} is no data set of TFDS and fits on the device: do not stream it")

    def read(example):
        return resized(example["image"], None if side is None else (side, side)), example["label"]

    return open_tfds(name, "train"), read
