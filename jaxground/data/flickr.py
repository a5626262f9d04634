"""Flickr30k Entities: captions whose phrases are tied to boxes, as its archive unpacks."""

import os
from pathlib import Path
from typing import NamedTuple

from jaxground.data.annotations import AnnotationError, Example, Instance
from jaxground.data.archives import (
    check_size,
    drop_unusable,
    read_lines,
    read_numbered_lines,
    read_xml,
    require_files,
    require_folder,
)

NOT_VISUAL = "0"  # the chain of phrases without one
_SIDES = "xmin", "ymin", "xmax", "ymax"
_REMEDY = "unpack annotations.zip of https://github.com/BryanPlummer/flickr30k_entities there"


class Phrase(NamedTuple):
    """Words of a caption that name something."""

    start: int
    """The first word."""
    end: int
    """The one after the last."""
    chain: str
    """What is named: a category of the image's instances; `NOT_VISUAL` for nothing to be seen."""
    types: tuple[str, ...]
    """Coarse categories: people, clothing, scene, ..."""


class Caption(NamedTuple):
    """One sentence about an image."""

    words: tuple[str, ...]
    phrases: tuple[Phrase, ...]


class CaptionedImage(NamedTuple):
    """An image, its captions, and where what they name is."""

    example: Example
    """Its instances are the boxes; their category is a chain, so that `example.mask(chain)` is
    where a phrase belongs. A box that shows several chains is an instance of each."""
    captions: tuple[Caption, ...]
    scenes: frozenset[str]
    """Chains that mean the whole picture and have no box."""
    unseen: frozenset[str]
    """Chains that the annotators found not to be visible."""


def read_flickr30k_entities(
    folder: str | os.PathLike,
    split: str | None = "test",
    *,
    images: str | os.PathLike | None = None,
) -> list[CaptionedImage]:
    """Returns the images of a part of Flickr30k Entities, with captions and boxes.

    Pixels count from 1 in the files and boxes include their last, as in VOC: `xmin, xmax` of 1
    and 2 become the half-open 0 to 2. (The authors' Python interface subtracts one of all four.)

    Args:
      folder: The folder with `Annotations`, `Sentences` and the lists of the splits.
      split: `"train"`, `"val"` or `"test"`; `None` for every image in `Sentences`.
      images: The folder of the photographs, which come by themselves; by default
        `flickr30k-images` in the folder if it is there. Without it examples have no pixels.

    Raises:
      ValueError: Another split.
      AnnotationError: A file is missing, or not what it should be: the message has the number of
        the line or object.

    Example:
      >>> read_flickr30k_entities("downloads")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      jaxground.data.annotations.AnnotationError: there is no folder downloads: unpack...

    References:
      Plummer et al., `Flickr30k Entities <https://arxiv.org/abs/1505.04870>`_, ICCV 2015.
    """
    if split not in ("train", "val", "test", None):
        raise ValueError(f"Flickr30k has no split {split!r}: train, val or test, or None for all")
    folder = Path(folder)
    listing = [] if split is None else [f"{split}.txt"]
    require_folder(folder, ["Annotations", "Sentences", *listing], remedy=_REMEDY)
    if split is None:
        names = sorted(path.stem for path in (folder / "Sentences").glob("*.txt"))
    else:
        names = read_lines(folder / f"{split}.txt")
    source = str(folder / (f"{split}.txt" if split else "Sentences"))
    annotations, sentences = (
        require_files(folder, [form.format(n) for n in names], source=source, remedy=_REMEDY)
        for form in ("Annotations/{}.xml", "Sentences/{}.txt")
    )
    usual = folder / "flickr30k-images"
    root = Path(images) if images is not None else usual if usual.is_dir() else None
    paths: list[Path | None] = [None] * len(names)
    if root is not None:
        remedy = "the photographs are at http://shannon.cs.illinois.edu/DenotationGraph"
        paths = [*require_files(root, [f"{n}.jpg" for n in names], source=source, remedy=remedy)]
    read = [_read_boxes(*files) for files in zip(annotations, paths, strict=True)]
    examples = drop_unusable([example for example, _, _ in read], source)
    return [
        CaptionedImage(example, read_captions(file), scenes, unseen)
        for example, file, (_, scenes, unseen) in zip(examples, sentences, read, strict=True)
    ]


def read_captions(path: str | os.PathLike) -> tuple[Caption, ...]:
    """Returns the captions in a file of `Sentences`, one a line, and their phrases.

    A phrase stands in brackets: `[/EN#<chain>/<type>/<type> words of it]`.

    Args:
      path: The file.

    Raises:
      AnnotationError: A bracket is not closed, holds no word, or is not as above.
      OSError: The file cannot be opened.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w") as file:
      ...     _ = file.write("[/EN#1/people Two young guys] stand .")
      ...     file.flush()
      ...     read_captions(file.name)[0].phrases
      (Phrase(start=0, end=3, chain='1', types=('people',)),)
    """
    path = Path(path)
    return tuple(
        _caption(line, f"{path}, line {number}") for number, line in read_numbered_lines(path)
    )


def _caption(line: str, where: str) -> Caption:
    words: list[str] = []
    phrases: list[Phrase] = []
    inside: tuple[int, str, tuple[str, ...]] | None = None  # of the phrase being read
    for token in line.split():
        if token.startswith("[/EN#"):
            chain, *types = token.removeprefix("[/EN#").split("/")
            if inside or not chain.isdecimal() or not types or "]" in token:
                raise AnnotationError(f"{where}: {token[:40]!r} is not like [/EN#1/people")
            inside = len(words), chain, tuple(types)
            continue
        closes = inside is not None and token.endswith("]")
        if word := token.removesuffix("]") if closes else token:
            words.append(word)
        if inside is not None and closes:
            if len(words) == inside[0]:
                raise AnnotationError(f"{where}: the phrase of chain {inside[1]} has no word")
            phrases.append(Phrase(inside[0], len(words), *inside[1:]))
            inside = None
    if inside is not None:
        raise AnnotationError(f"{where}: no bracket closes the phrase of chain {inside[1]}")
    return Caption(tuple(words), tuple(phrases))


def _read_boxes(file: Path, image: Path | None) -> tuple[Example, frozenset, frozenset]:
    root = read_xml(file)
    size = check_size(root.findtext("size/height"), root.findtext("size/width"), str(file))
    instances = []
    flags: dict[str, set[str]] = {"scene": set(), "nobndbox": set()}
    for number, thing in enumerate(root.iterfind("object"), 1):
        where = f"{file}, object {number}"
        chains = [(name.text or "").strip() for name in thing.iterfind("name")]
        if not chains or not all(chains):
            raise AnnotationError(f"{where}: it has no name; unpack the archive again")
        if thing.find("bndbox") is not None:
            corners = [
                thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            try:
                x0, y0, x1, y1 = (float(corner or "missing") for corner in corners)
            except ValueError as error:
                raise AnnotationError(f"{where}: a box of {corners}") from error
            instances += [Instance(chain, (x0 - 1, y0 - 1, x1, y1)) for chain in chains]
            continue
        for flag, found in flags.items():
            text = (thing.findtext(flag) or "0").strip()
            if text not in ("0", "1"):
                raise AnnotationError(f"{where}: {flag} is {text!r}, neither 0 nor 1")
            found.update(chains if text == "1" else ())
    example = Example(f"{file.stem}.jpg", image, size, tuple(instances))
    return example, frozenset(flags["scene"]), frozenset(flags["nobndbox"])
