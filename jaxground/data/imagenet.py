"""The localisation task of ImageNet (ILSVRC 2012): its validation set, as the archive unpacks."""

import os
import re
from dataclasses import replace
from pathlib import Path

from jaxground.data.annotations import AnnotationError, Dataset
from jaxground.data.archives import drop_unusable, read_lines, require_files, require_folder
from jaxground.data.voc import read_example

_IMAGES = "ILSVRC/Data/CLS-LOC/val"
_ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC/val"
_NAMES = ("LOC_synset_mapping.txt", "ILSVRC/devkit/data/map_clsloc.txt")
# "n01440764 tench, Tinca tinca", or the devkit's "n02119789 1 kit_fox" in an order of its own.
_LINE = re.compile(r"(n\d{8})(?:\s+\d+)?\s+([^,]+)")


def read_imagenet(folder: str | os.PathLike, split: str | None = None) -> Dataset:
    """Returns the validation set of ImageNet's localisation task.

    A category is called by its WordNet number and first name (`"n02012849 crane"`), since names
    repeat; the classes of networks count the numbers in sorted order. Boxes are taken as they
    are, from 0 to the width and height.

    Args:
      folder: The folder into which `imagenet_object_localization` was unpacked: it has `ILSVRC`
        and `LOC_synset_mapping.txt` (or `ILSVRC/devkit`).
      split: `"val"`, the only one.

    Raises:
      AnnotationError: A file is missing, cut off, or not what it should be.

    Example:
      >>> read_imagenet("downloads")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      jaxground.data.annotations.AnnotationError: there is no folder downloads: unpack...
    """
    if split not in (None, "val"):
        raise AnnotationError(f"ImageNet's localisation task is read for 'val', not {split!r}")
    folder = Path(folder)
    remedy = (
        "unpack imagenet_object_localization_patched2019.tar.gz and LOC_synset_mapping.txt from "
        "https://www.kaggle.com/c/imagenet-object-localization-challenge there"
    )
    mapping = next((name for name in _NAMES if (folder / name).is_file()), _NAMES[0])
    require_folder(folder, [_IMAGES, _ANNOTATIONS, mapping], remedy=remedy)
    names = {}
    for line in read_lines(folder / mapping):
        if not (found := _LINE.match(line)):
            raise AnnotationError(f"{folder / mapping} has a line {line[:80]!r}: {remedy}")
        wnid, name = found.groups()
        names[wnid] = f"{wnid} {name.replace('_', ' ')}"
    annotations = sorted((folder / _ANNOTATIONS).glob("*.xml"))
    images = require_files(
        folder / _IMAGES,
        [f"{annotation.stem}.JPEG" for annotation in annotations],
        source=str(folder / _ANNOTATIONS),
        remedy=remedy,
    )
    if len(annotations) != (count := sum(1 for _ in (folder / _IMAGES).glob("*.JPEG"))):
        raise AnnotationError(
            f"{folder / _ANNOTATIONS} describes {len(annotations):,} of the {count:,} images in "
            f"{folder / _IMAGES}: {remedy}"
        )
    examples = []
    for annotation, image in zip(annotations, images, strict=True):
        key = f"{_IMAGES}/{image.name}"
        example = read_example(annotation, image, key, first_pixel=0)
        if unknown := set(example.categories) - set(names):
            raise AnnotationError(f"{annotation}: {min(unknown)!r} is not in {folder / mapping}")
        instances = [replace(i, category=names[i.category]) for i in example.instances]
        examples.append(replace(example, instances=tuple(instances)))
    categories = tuple(names[wnid] for wnid in sorted(names))
    indices = {category: (index,) for index, category in enumerate(categories)}
    examples = drop_unusable(examples, str(folder / _ANNOTATIONS))
    return Dataset("imagenet/val", examples, categories, indices)
