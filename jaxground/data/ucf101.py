"""UCF101: lists of its clips, and the spliced demo video of Excitation Backprop for RNNs."""

import os
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxground.data.annotations import AnnotationError
from jaxground.data.archives import read_arrays, read_numbered_lines
from jaxground.data.video import decode_frames


class Split(NamedTuple):
    """Part of UCF101."""

    names: tuple[str, ...]  # CliffDiving/v_CliffDiving_g05_c07, without suffix
    labels: np.ndarray  # int[n], index into the categories
    categories: tuple[str, ...]


def read_ucf101_split(path: str | os.PathLike) -> Split:
    r"""Returns the clips that a list of UCF101 names.

    Lines are `CliffDiving/v_CliffDiving_g05_c07.avi 22`: a folder, a file and maybe a class,
    counted from 1 in the official `trainlist01.txt` and from 0 in those of Excitation Backprop for
    RNNs. The folder names the class; classes are numbered in alphabetical order (capitals
    as small letters), which is that of `classInd.txt`, as far as the list names all of them.

    Args:
      path: The file.

    Raises:
      AnnotationError: A line is not as above, or its number is not that of its folder; the message
        has the number of the line.
      OSError: The file cannot be opened.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w") as file:
      ...     _ = file.write("Diving/v_Diving_g01_c01.avi 2\nArchery/v_Archery_g01_c01.avi 1")
      ...     file.flush()
      ...     read_ucf101_split(file.name).labels
      array([1, 0])
    """
    path = Path(path)
    rows = []
    for number, line in read_numbered_lines(path):
        where = f"{path}, line {number}"
        name, *label = line.split()
        folder, _, clip = name.partition("/")
        good = clip.startswith("v_") and "/" not in clip and len(label) <= 1
        if not good or any(not text.isdecimal() for text in label):
            raise AnnotationError(
                f"{where}: {line[:80]!r} is not like CliffDiving/v_CliffDiving_g05_c07.avi 22"
            )
        rows.append((where, folder, name.removesuffix(".avi"), *map(int, label)))
    categories = tuple(sorted({row[1] for row in rows}, key=str.lower))
    places = {name: place for place, name in enumerate(categories)}
    numbers: dict[str, int] = {}
    for where, folder, _, *label in rows:
        if label and numbers.setdefault(folder, label[0]) != label[0]:
            raise AnnotationError(
                f"{where}: {folder} is class {label[0]} here and class {numbers[folder]} above"
            )
    if sorted(numbers, key=numbers.__getitem__) != [c for c in categories if c in numbers]:
        raise AnnotationError(f"{path}: its classes are not numbered in alphabetical order")
    labels = np.array([places[row[1]] for row in rows], int)
    return Split(tuple(row[2] for row in rows), labels, categories)


class SplicedVideo(NamedTuple):
    """A video of one action and then another."""

    frames: np.ndarray  # uint8[time, height, width, 3]
    actions: tuple[str, ...]  # of each frame
    clips: tuple[str, ...]  # the clip of UCF101 that each frame comes from


def read_ucf101_demo(path: str | os.PathLike, demo: str = "demo1") -> SplicedVideo:
    """Returns a demo video of the authors of Excitation Backprop for RNNs.

    Args:
      path: The archive `.npz` with `jpeg`, `offsets`, `demo`, `action` and `clip`, as written for
        this project. Frames are in the order of the archive: which half is played first is not
        verified.
      demo: Which of the videos in it.

    Raises:
      AnnotationError: It is no such archive, or has no such video.
      VideoError: A frame is broken.
      OSError: The file cannot be opened.

    Example:
      >>> read_ucf101_demo("ucf101_demos.npz")
      Traceback (most recent call last):
      ...
      FileNotFoundError: [Errno 2] No such file or directory: 'ucf101_demos.npz'
    """
    arrays = read_arrays(
        Path(path), dict(jpeg="u1", offsets="i1", demo="U1", action="U1", clip="U1")
    )
    ends, names = arrays["offsets"].tolist(), arrays["demo"]
    if len(ends) != len(names) + 1 or min(ends) < 0 or max(ends) > len(arrays["jpeg"]):
        raise AnnotationError(f"{path}: its offsets are not those of {len(names)} frames")
    rows = np.flatnonzero(names == demo)
    if not len(rows):
        raise AnnotationError(f"{path} has no {demo!r}; it has {', '.join(sorted(set(names)))}")
    pairs = [*pairwise(ends)]
    content = arrays["jpeg"]
    frames = decode_frames([content[slice(*pairs[row])] for row in rows], f"{demo} in {path}")
    actions, clips = (tuple(map(str, arrays[name][rows])) for name in ("action", "clip"))
    return SplicedVideo(frames, actions, clips)
