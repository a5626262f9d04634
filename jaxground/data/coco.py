"""COCO: the official archives of 2014 and 2017, and smaller sets in JSON.

Two kinds of folder are read. The official one, unpacked as it comes,

    annotations/instances_val2017.json
    val2017/000000000139.jpg ...

and one with a single `annotations.json`, of the official schema or one record an image: `{"file",
"width", "height", "objects": [{"category", "bbox_xywh", "iscrowd", "polygons"}]}` with
`categories` a list of names. A file `coco_to_imagenet_index.json` beside it, category to
list of classes, says what a network of ImageNet calls them.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxground.data.annotations import AnnotationError, Dataset, Example, Instance
from jaxground.data.archives import (
    check_size,
    drop_unusable,
    read_json,
    require_files,
    require_folder,
)
from jaxground.data.shapes import decompress_runs

_SPLITS = ("train2014", "val2014", "train2017", "val2017")
_SINGLE = "annotations.json"
_CLASS_INDICES = "coco_to_imagenet_index.json"


def read_coco(folder: str | os.PathLike, split: str | None = None) -> Dataset:
    """Returns a data set in COCO's form, its annotations read and its files looked for.

    Crowds are kept, as instances that say so. Objects whose box is inverted, not finite or
    outside the image are left out, with one warning that counts them.

    Args:
      folder: The folder into which the archives were unpacked, or one with `annotations.json`.
      split: `"val2014"`, `"train2017"`, ...; may be left out where there is but one.

    Raises:
      AnnotationError: A file is missing, cut off, or not what it should be.

    Example:
      >>> import json, tempfile
      >>> from PIL import Image
      >>> record = {"file": "a.png", "width": 4, "height": 2, "objects": [
      ...     {"category": "cat", "bbox_xywh": [1, 0, 2, 2], "iscrowd": 0}]}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     Image.new("RGB", (4, 2)).save(f"{folder}/a.png")
      ...     with open(f"{folder}/annotations.json", "w") as file:
      ...         json.dump({"categories": ["cat", "dog"], "images": [record]}, file)
      ...     example, = read_coco(folder).examples
      >>> example.key, example.categories, example.instances[0].box
      ('a.png', ('cat',), (1.0, 0.0, 3.0, 2.0))
    """
    folder = Path(folder)
    annotations, images = _locate(folder, split)
    content = read_json(annotations)
    try:
        if "annotations" in content:
            categories, rows = _official(content)
        else:
            categories, rows = list(content["categories"]), _per_image(content)
        if not all(isinstance(category, str) for category in categories):
            raise TypeError(f"categories are {categories}, not all of them names")
        if len(set(categories)) != len(categories):
            raise AnnotationError(f"{annotations} has two categories of one name")
        if twice := [name for name, n in Counter(name for name, *_ in rows).items() if n > 1]:
            raise AnnotationError(f"{annotations} lists {twice[0]!r} more than once")
        files = require_files(
            folder / images,
            [name for name, *_ in rows],
            source=str(annotations),
            remedy=f"unpack {images}.zip there again, to its end"
            if images
            else "copy them there, or remove them from the JSON",
        )
        examples = []
        for path, (name, height, width, instances) in zip(files, rows, strict=True):
            key = f"{images}/{name}" if images else name
            size = check_size(height, width, f"{annotations}, {key}")
            examples.append(Example(key, path, size, tuple(instances)))
        indices = _read_class_indices(folder / _CLASS_INDICES)
    except AnnotationError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise AnnotationError(
            f"{annotations} is not in COCO's form: {type(error).__name__} {error}"
        ) from error
    examples = drop_unusable(examples, str(annotations))
    return Dataset(f"coco/{images or folder.name}", examples, tuple(categories), indices)


def _locate(folder: Path, split: str | None) -> tuple[Path, str]:
    """Returns the annotation file and the name of the folder of images, "" for the root."""
    remedy = (
        "unpack annotations_trainval2017.zip and val2017.zip from https://cocodataset.org (or "
        f"those of 2014) into one folder, or give one that holds {_SINGLE}"
    )
    if split is None and (folder / _SINGLE).is_file():
        return folder / _SINGLE, ""
    if split is None:
        require_folder(folder, ["annotations"], remedy=remedy)
        there = [name for name in _SPLITS if _instances(folder, name).is_file()]
        there = [name for name in there if (folder / name).is_dir()] or there
        if len(there) > 1:
            raise AnnotationError(f"{folder} holds {', '.join(there)}: say which split to read")
        split = there[0] if there else "val2017"
    name = str(_instances(folder, split).relative_to(folder))
    require_folder(folder, [name, split], remedy=remedy)
    return folder / name, split


def _instances(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def _official(content: Mapping[str, Any]):
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects: dict[int, list[Instance]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        instance = _instance(
            names[annotation["category_id"]],
            annotation["bbox"],
            annotation.get("segmentation"),
            annotation.get("iscrowd", 0),
        )
        objects[annotation["image_id"]].append(instance)
    rows = [
        (image["file_name"], image["height"], image["width"], objects[image["id"]])
        for image in content["images"]
    ]
    return list(names.values()), rows


def _per_image(content: Mapping[str, Any]):
    known = set(content["categories"])
    rows = []
    for image in content["images"]:
        instances = [
            _instance(o["category"], o["bbox_xywh"], o.get("polygons"), o.get("iscrowd", 0))
            for o in image["objects"]
        ]
        if unknown := {instance.category for instance in instances} - known:
            raise KeyError(*unknown)
        rows.append((image["file"], image["height"], image["width"], instances))
    return rows


def _instance(category: str, xywh: Any, segmentation: Any, crowd: Any) -> Instance:
    x, y, width, height = map(float, xywh)
    polygons, runs = (), None
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        runs = decompress_runs(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    elif segmentation:
        with np.errstate(over="ignore"):  # what becomes infinite is left out
            polygons = tuple(np.array(flat, np.float32).reshape(-1, 2) for flat in segmentation)
    box = x, y, x + width, y + height
    return Instance(category, box, polygons, runs, crowd=bool(crowd))


def _read_class_indices(path: Path) -> dict[str, tuple[int, ...]] | None:
    if not path.is_file():
        return None
    found = read_json(path)
    for category, classes in found.items():
        if not isinstance(classes, list) or not all(type(index) is int for index in classes):
            raise AnnotationError(f"{path}: the classes of {category!r} are {classes!r}, no [int]")
    return {category: tuple(classes) for category, classes in found.items()}
