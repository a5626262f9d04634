"""From `--data` to a data set."""

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxground import data
from jaxground.cli.errors import UserError
from jaxground.data import scenes
from jaxground.data.annotations import AnnotationError, Dataset
from jaxground.data.example import example_mosaics

DRAWN = 64  # pictures, where they are drawn and no number is asked for


def read(asked: str, split: str | None, images: int | None) -> Dataset:
    """Returns the data set that a text means.

    Args:
      asked: `coco:DIR`, `voc:DIR`, `imagenet:DIR`, `scenes` or `mosaics`.
      split: Part of it, where it has several.
      images: At most so many, spread evenly over it.

    Raises:
      UserError: There is no such kind, or the folder is not what it should be.
    """
    kind, colon, folder = asked.partition(":")
    if asked in _DRAWERS:
        return _DRAWERS[asked](images or DRAWN)
    if kind not in _READERS:
        near = difflib.get_close_matches(kind, [*_READERS, *_DRAWERS], n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"--data {asked!r}: {meant}it is one of coco:DIR, voc:DIR, imagenet:DIR, scenes, "
            "mosaics"
        )
    if not colon or not folder:
        raise UserError(f"--data {asked!r}: where are they? Write {kind}:DIR")
    try:
        found = _READERS[kind](folder, split)
    except (AnnotationError, OSError, ValueError) as error:
        raise UserError(str(error)) from error
    if not found.examples:
        raise UserError(f"--data {asked!r}: there is no image in it")
    if images is None or images >= len(found.examples):
        return found
    chosen = np.linspace(0, len(found.examples), images, endpoint=False).astype(int)
    return dataclasses.replace(found, examples=[found.examples[i] for i in chosen])


def usual_tolerance(asked: str) -> str:
    """Returns the tolerance of the pointing game: none where the truth is exact."""
    return "0" if asked in _DRAWERS else "15"


def unit(asked: str) -> str:
    """Returns what one of the pictures is called.

    Example:
      >>> unit("mosaics"), unit("coco:DIR")
      ('mosaic', 'photo')
    """
    return asked.removesuffix("s") if asked in _DRAWERS else "photo"


def read_classes(path: Path | None) -> Mapping[str, Sequence[int]] | None:
    """Returns the classes of each category in a JSON file: `{"dog": [151, 152]}`.

    Raises:
      UserError: It is no such file.
    """
    if path is None:
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(
        isinstance(value, list) and all(type(index) is int for index in value)
        for value in found.values()
    ):
        raise UserError(f'{path} is not of the form {{"category": [class, ...], ...}}')
    return found


_READERS: dict[str, Callable[[str, str | None], Dataset]] = {
    "coco": data.read_coco,
    "voc": data.read_voc,
    "imagenet": data.read_imagenet,
}
_DRAWERS: dict[str, Callable[[int], Dataset]] = {
    "scenes": lambda count: scenes.draw_dataset(scenes.Scenes(), count=count),
    "mosaics": example_mosaics,
}
