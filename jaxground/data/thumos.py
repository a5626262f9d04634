"""When actions happen: the official lists of THUMOS 2014."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxground.data.annotations import AnnotationError
from jaxground.data.archives import read_numbered_lines, require_folder

CATEGORIES = tuple(
    "BaseballPitch BasketballDunk Billiards CleanAndJerk CliffDiving CricketBowling CricketShot "
    "Diving FrisbeeCatch GolfSwing HammerThrow HighJump JavelinThrow LongJump PoleVault Shotput "
    "SoccerPenalty TennisSwing ThrowDiscus VolleyballSpiking".split()
)
AMBIGUOUS = -2  # label of what annotators could not decide, as metrics.detection has it

_SUFFIXES = {"test": "test", "validation": "val"}  # in names of files


class ActionIntervals(NamedTuple):
    """When which action happens in which video, as `detection_average_precision` takes it."""

    windows: np.ndarray  # float[m, 2], start and end in seconds
    labels: np.ndarray  # int[m], index into the categories; AMBIGUOUS (-2) for an ambiguous one
    videos: np.ndarray  # int[m], index into the names
    names: tuple[str, ...]  # of the videos, sorted
    categories: tuple[str, ...]


def read_thumos14(folder: str | os.PathLike, split: str = "test") -> ActionIntervals:
    """Returns the temporal annotations of THUMOS 2014.

    Each class has a file, `Diving_test.txt`, with a line for each time that it happens:
    `video_test_0000006  47.3 51.5`, the video and two numbers of seconds. CliffDiving is Diving as
    well and stands in both files, as the organisers want it.

    Args:
      folder: That into which `TH14_Temporal_annotations_test.zip` (or `..._validation.zip`) was
        unpacked, or `annotation` in it.
      split: `"test"` or `"validation"`.

    Returns:
      All intervals, the ambiguous ones among them, in the order of the files: by class, then by
      line. A start after its end is swapped, as the organisers' program does it.

    Raises:
      ValueError: Another split.
      AnnotationError: A file is missing, or a line is not as above: the message has its number.

    Example:
      >>> read_thumos14("downloads")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      jaxground.data.annotations.AnnotationError: there is no folder downloads: unpack...

    References:
      http://crcv.ucf.edu/THUMOS14/; Idrees et al., `The THUMOS Challenge
      <https://arxiv.org/abs/1604.06182>`_, 2017.
    """
    if split not in _SUFFIXES:
        raise ValueError(f"THUMOS 2014 has no split {split!r} with times: test or validation")
    folder = Path(folder)
    folder = folder / "annotation" if (folder / "annotation").is_dir() else folder
    remedy = f"unpack TH14_Temporal_annotations_{split}.zip from http://crcv.ucf.edu/THUMOS14 there"
    files = [f"{name}_{_SUFFIXES[split]}.txt" for name in (*CATEGORIES, "Ambiguous")]
    require_folder(folder, files, remedy=remedy)
    rows = []
    for label, file in zip([*range(len(CATEGORIES)), AMBIGUOUS], files, strict=True):
        for number, line in read_numbered_lines(folder / file):
            rows.append((label, *_interval(line, f"{folder / file}, line {number}", split)))
    labels, names, starts, ends = zip(*rows, strict=True) if rows else ((),) * 4
    known = tuple(sorted(set(names)))
    places = {name: place for place, name in enumerate(known)}
    videos = np.array([places[name] for name in names], int)
    windows = np.array([starts, ends], float).T.reshape(-1, 2)
    return ActionIntervals(windows, np.array(labels, int), videos, known, CATEGORIES)


def _interval(line: str, where: str, split: str) -> tuple[str, float, float]:
    fields = line.split()
    try:
        name, start, end = fields[0], *map(float, fields[1:])
        good = name.startswith(f"video_{split}_") and math.isfinite(start) and math.isfinite(end)
    except ValueError:
        good, name, start, end = False, "", 0.0, 0.0
    if not good or min(start, end) < 0:
        raise AnnotationError(
            f"{where}: {line[:80]!r} is not like `video_{split}_0000006 47.3 51.5` (seconds); "
            "unpack the archive again"
        )
    return name, min(start, end), max(start, end)
