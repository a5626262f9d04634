"""Unpacked archives of strangers: complete or named, never trusted.

JSON and XML are size-limited and only parsed, never evaluated; XML with a document type, the
vehicle of entity bombs and of external files, is refused before the parser sees it; file names
in them cannot lead out of the folder; what they say of objects is checked before it is believed.
"""

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from jaxground.data.annotations import AnnotationError, Example, Instance
from jaxground.data.shapes import check_polygon, check_runs

JSON_LIMIT = 2**30  # bytes; the largest official file, instances_train2017.json, has 449 MB
XML_LIMIT = 2**20  # bytes; those of VOC and ImageNet have at most some tens of thousands
PIXEL_LIMIT = 178_956_970  # as Pillow refuses to decode more: twice its MAX_IMAGE_PIXELS


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Args:
      path: The file.

    Raises:
      AnnotationError: It is no JSON, cut off, or too large.
    """
    try:
        return json.loads(_read_bytes(path, JSON_LIMIT))
    except (ValueError, RecursionError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{path} is no JSON: {error}; unpack its archive again") from error


def read_xml(path: Path) -> ElementTree.Element:
    """Returns the root of an XML file in UTF-8 without document type.

    Args:
      path: The file.

    Raises:
      AnnotationError: It is something else, cut off, or too large.
    """
    try:
        text = _read_bytes(path, XML_LIMIT).decode()
        if "<!DOCTYPE" in text:  # nothing can declare an entity outside of one
            raise AnnotationError(f"{path} declares a document type: refused, it may be a bomb")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise AnnotationError(f"{path} is no XML: {error}; unpack its archive again") from error


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file that are not blank, stripped.

    Args:
      path: The file.

    Raises:
      AnnotationError: It is not UTF-8, or too large.
    """
    return [line for _, line in read_numbered_lines(path)]


def read_numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Returns the lines of a text file that are not blank, stripped, with their numbers from 1.

    Args:
      path: The file.

    Raises:
      AnnotationError: It is not UTF-8, or too large.
    """
    try:
        text = _read_bytes(path, JSON_LIMIT).decode()
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is no text: {error}; unpack its archive again") from error
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_arrays(path: Path, wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns arrays of an `.npz` file, which is never unpickled.

    Args:
      path: The file.
      wanted: Name of each array, and its kind and number of axes: `u` for bytes, `i` for whole
        numbers, `b` for truth values, `U` for text; such as `"i1"`.

    Raises:
      AnnotationError: It is no such file, cut off, or lacks an array of that kind.
      OSError: It cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in wanted if name in archive}
        except Exception as error:  # zipfile and NumPy raise many things for broken files
            reason = str(error) or type(error).__name__
            raise AnnotationError(f"{path} is no .npz: {reason}; download it again") from error
    for name, (kind, axes) in wanted.items():
        if name not in arrays:
            raise AnnotationError(f"{path} lacks the array {name!r}; it is another archive")
        array = arrays[name]
        fits = array.dtype == np.uint8 if kind == "u" else array.dtype.kind in _KINDS[kind]
        if not fits or array.ndim != int(axes):
            raise AnnotationError(f"{path}: {name} is {array.dtype} of shape {array.shape}")
    return arrays


_KINDS = {"i": "iu", "b": "b", "U": "U"}


def require_folder(folder: Path, parts: Sequence[str], *, remedy: str):
    """Raises an error unless a folder has the parts of an unpacked archive.

    Args:
      folder: The folder.
      parts: Paths of files and folders in it that must be there.
      remedy: What to download and unpack, and where.

    Raises:
      AnnotationError: Something is missing; the message says what, what is there instead, and
        the remedy.
    """
    if not folder.is_dir():
        raise AnnotationError(f"there is no folder {folder}: {remedy}")
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise AnnotationError(
            f"{folder} lacks {', '.join(missing)}; it holds {_listing(folder)}: {remedy}"
        )


def require_files(folder: Path, names: Iterable[str], *, source: str, remedy: str) -> list[Path]:
    """Returns the paths of files that must all be below a folder.

    Args:
      folder: The folder.
      names: Relative paths with slashes, as a stranger wrote them.
      source: What names them, for the message.
      remedy: What to do when files are missing.

    Raises:
      AnnotationError: A name leads out of the folder, or files are missing.
    """
    listings: dict[Path, set[str]] = {}
    paths, missing = [], []
    for name in names:
        inner = PurePosixPath(name)
        if not inner.name or inner.is_absolute() or {"..", "\\", "\0"} & {*inner.parts, *name}:
            raise AnnotationError(f"{source} names {name!r}, which is no file below {folder}")
        path = folder / inner
        if path.parent not in listings:  # one look at each folder: there may be 100,000 files
            found = os.listdir(path.parent) if path.parent.is_dir() else ()
            listings[path.parent] = set(found)
        paths.append(path)
        if path.name not in listings[path.parent]:
            missing.append(name)
    if missing:
        raise AnnotationError(
            f"{len(missing):,} of the {len(paths):,} files that {source} names are missing from "
            f"{folder}, first {missing[0]}; its folder holds "
            f"{_listing((folder / missing[0]).parent)}: {remedy}"
        )
    return paths


def check_size(height: Any, width: Any, source: str) -> tuple[int, int]:
    """Returns the size of an image as whole numbers.

    Args:
      height: As a stranger gave it.
      width: Likewise.
      source: Where, for the message.

    Raises:
      AnnotationError: These are no sides of an image.
    """
    try:
        size = int(height), int(width)
    except (TypeError, ValueError, OverflowError):
        size = 0, 0
    if min(size) < 1 or size[0] * size[1] > PIXEL_LIMIT:
        raise AnnotationError(f"{source} gives an image {height!r} x {width!r} pixels")
    return size


def drop_unusable(examples: Iterable[Example], source: str) -> list[Example]:
    """Returns the examples with the objects that can be used, their boxes clipped to the image.

    Objects whose box is inverted, not finite, outside the image or reaches farther beyond it than
    it is large, whose polygons are not finite or no outlines, or whose mask is of another size are
    left out: the official archives have a few. One warning counts them and describes the first.

    Args:
      examples: As a stranger described them.
      source: Where, for the warning.

    Example:
      >>> cat = Instance("cat", (-1.0, 0.0, 2.0, 6.0))
      >>> (example,) = drop_unusable([Example("1.jpg", None, (4, 4), (cat,))], "annotations.json")
      >>> example.instances[0].box
      (0.0, 0.0, 2.0, 4.0)
    """
    kept, faults, count = [], [], 0
    for example in examples:
        usable = []
        for instance in example.instances:
            fault = _fault(instance, example.size)
            if fault is None:
                usable.append(_clipped(instance, example.size))
            else:
                faults.append(f"{instance.category!r} in {example.key!r}: {fault}")
        count += len(example.instances)
        kept.append(replace(example, instances=tuple(usable)))
    if faults:
        text = f"{source}: {len(faults):,} of {count:,} objects left out; first {faults[0]}"
        warnings.warn(text, stacklevel=3)
    return kept


def _fault(instance: Instance, size: tuple[int, int]) -> str | None:
    x0, y0, x1, y1 = instance.box
    if not all(map(math.isfinite, instance.box)):
        return f"box {instance.box} is not finite"
    if x1 < x0 or y1 < y0 or x1 <= 0 or y1 <= 0 or x0 >= size[1] or y0 >= size[0]:
        return f"box {instance.box} is outside its image of {size[1]} x {size[0]} or inverted"
    if x0 < -size[1] or y0 < -size[0] or x1 > 2 * size[1] or y1 > 2 * size[0]:
        return f"box {instance.box} reaches far beyond its image of {size[1]} x {size[0]}"
    if not all(np.isfinite(polygon).all() for polygon in instance.polygons):
        return "a polygon is not finite"
    try:
        if instance.runs is not None:
            check_runs(instance.runs, size)
        for polygon in instance.polygons:
            check_polygon(polygon, size)
    except ValueError as error:
        return str(error)
    return None


def _clipped(instance: Instance, size: tuple[int, int]) -> Instance:
    x0, y0, x1, y1 = instance.box
    if x0 >= 0 and y0 >= 0 and x1 <= size[1] and y1 <= size[0]:
        return instance
    box = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[1])), min(y1, float(size[0]))
    return replace(instance, box=box)


def _read_bytes(path: Path, limit: int) -> bytes:
    size = path.stat().st_size
    if size > limit:
        raise AnnotationError(f"{path} has {size:,} bytes; more than {limit:,} are refused")
    return path.read_bytes()


def _listing(folder: Path) -> str:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if not names:
        return "nothing"
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"
