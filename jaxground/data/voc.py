"""PASCAL VOC 2007 and 2012, as their archives unpack."""

import os
from pathlib import Path

from jaxground.data.annotations import AnnotationError, Dataset, Example, Instance
from jaxground.data.archives import (
    check_size,
    drop_unusable,
    read_lines,
    read_xml,
    require_files,
    require_folder,
)

CATEGORIES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor".split()
)
_PARTS = ("Annotations", "ImageSets/Main", "JPEGImages")
_USUAL = {"2007": "test", "2012": "val"}  # the tests of 2012 were never published


def read_voc(folder: str | os.PathLike, split: str | None = None) -> Dataset:
    """Returns a part of PASCAL VOC, its annotations read and its files looked for.

    Boxes count from pixel 1 and include their last pixel in VOC: `xmin, xmax` of 1 and 2 become
    the half-open 0 to 2.

    Args:
      folder: The folder into which the archives were unpacked (which has `VOCdevkit`), or
        `VOCdevkit`, or `VOC2007` in it.
      split: `"test2007"`, `"trainval2007"`, `"val2012"`, ... By default the usual one for
        evaluation, `test2007` or `val2012`, of the year that is there.

    Raises:
      AnnotationError: A file is missing, cut off, or not what it should be.

    Example:
      >>> read_voc("downloads", "test2007")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      jaxground.data.annotations.AnnotationError: there is no folder downloads: unpack...
    """
    devkit, year, part = _locate(Path(folder), split)
    root = devkit / f"VOC{year}"
    which = "test" if part == "test" else "trainval"
    remedy = f"unpack VOC{which} of {year} from http://host.robots.ox.ac.uk/pascal/VOC there"
    listing = f"ImageSets/Main/{part}.txt"
    require_folder(root, [*_PARTS, listing], remedy=remedy)
    names = read_lines(root / listing)
    source = str(root / listing)
    annotations, images = (
        require_files(root, [pattern.format(n) for n in names], source=source, remedy=remedy)
        for pattern in ("Annotations/{}.xml", "JPEGImages/{}.jpg")
    )
    examples = [
        read_example(annotation, image, f"VOC{year}/JPEGImages/{image.name}", first_pixel=1)
        for annotation, image in zip(annotations, images, strict=True)
    ]
    for example in examples:
        if unknown := set(example.categories) - set(CATEGORIES):
            raise AnnotationError(f"{example.key}: {min(unknown)!r} is no category of VOC")
    return Dataset(f"voc/{part}{year}", drop_unusable(examples, source), CATEGORIES)


def read_example(annotation: Path, image: Path, key: str, *, first_pixel: int) -> Example:
    """Returns the example that one XML file in the form of VOC describes.

    Args:
      annotation: The XML file.
      image: The file of the image.
      key: Name of the example.
      first_pixel: Coordinate of the first pixel: 1, and boxes include their last pixel; or 0,
        and boxes end before theirs.

    Raises:
      AnnotationError: The file is not in that form.
    """
    root = read_xml(annotation)
    height, width = root.findtext("size/height"), root.findtext("size/width")
    instances = []
    for thing in root.iterfind("object"):
        corners = [thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = (float(corner or "missing") for corner in corners)
        except ValueError as error:
            raise AnnotationError(f"{annotation}: a box of {corners}") from error
        name = (thing.findtext("name") or "").strip()
        box = x0 - first_pixel, y0 - first_pixel, x1, y1
        difficult = (thing.findtext("difficult") or "").strip() == "1"
        instances.append(Instance(name, box, difficult=difficult))
    return Example(key, image, check_size(height, width, str(annotation)), tuple(instances))


def _locate(folder: Path, split: str | None) -> tuple[Path, str, str]:
    """Returns VOCdevkit, the year, and the name of the part."""
    if folder.name in ("VOC2007", "VOC2012"):
        split = split or _USUAL[folder.name[3:]] + folder.name[3:]
        folder = folder.parent
    elif (folder / "VOCdevkit").is_dir():
        folder = folder / "VOCdevkit"
    remedy = "unpack the archives of VOC 2007 or 2012 from http://host.robots.ox.ac.uk/pascal/VOC"
    if split is None:
        require_folder(folder, [], remedy=remedy)
        years = [year for year in _USUAL if (folder / f"VOC{year}").is_dir()]
        if len(years) > 1:
            raise AnnotationError(f"{folder} holds VOC {' and '.join(years)}: say which split")
        require_folder(folder, [] if years else ["VOCdevkit"], remedy=remedy)
        split = _USUAL[years[0]] + years[0]
    part, year = split[:-4], split[-4:]
    if year not in _USUAL or part not in ("train", "val", "trainval", "test"):
        raise AnnotationError(f"VOC has no {split!r}; it has test2007, val2012, trainval2007, ...")
    require_folder(folder, [f"VOC{year}"], remedy=remedy)
    return folder, year, part
