"""Clips of J-HMDB in one file: frames as JPEGs end to end, and the pixels of the actor."""

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from jaxground.data.annotations import AnnotationError
from jaxground.data.archives import read_arrays
from jaxground.data.video import decode_frames

_ARRAYS = {  # kind and number of axes, see read_arrays
    "jpeg": "u1",
    "offsets": "i1",
    "labels": "i1",
    "classes": "U1",
    "names": "U1",
    "groups": "U1",
    "is_test": "b1",
    "masks_packed": "u3",
    "mask_shape": "i1",
}


@dataclass(frozen=True, eq=False)
class ActorClip:
    """One clip, a person who does something.

    Attributes:
      key: Unique and stable name.
      label: The class, an index into the categories.
      group: The source video; clips of one are alike.
      is_test: Whether it belongs to the test part, which shares no source video with training.
    """

    key: str
    label: int
    group: str
    is_test: bool
    _jpegs: tuple[np.ndarray, ...]
    _masks: np.ndarray  # uint8, bits
    _size: tuple[int, int]  # of the masks

    def frames(self) -> np.ndarray:
        """Returns the frames `uint8[time, height, width, 3]`, decoded anew at each call.

        Raises:
          VideoError: A frame is broken, or of another size than the first.
        """
        return decode_frames(self._jpegs, self.key)

    def masks(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """Returns the pixels of the actor in each frame, `bool[time, height, width]`.

        Args:
          size: Height and width, of the frames for example: the nearest pixel of the mask that is
            stored. By default as stored.
        """
        bits = np.unpackbits(self._masks, axis=-1, count=self._size[0] * self._size[1])
        masks = bits.reshape(len(bits), *self._size).astype(bool)
        if size is None:
            return masks
        rows, columns = (
            (2 * np.arange(new) + 1) * old // (2 * new)
            for new, old in zip(size, self._size, strict=True)
        )
        return masks[:, rows[:, None], columns]


def read_jhmdb(path: str | os.PathLike) -> tuple[list[ActorClip], tuple[str, ...]]:
    """Returns the clips of a J-HMDB archive `.npz`, and the names of their classes.

    The archive has `jpeg`, `offsets`, `labels`, `classes`, `names`, `groups`, `is_test`,
    `masks_packed` and `mask_shape`, as written for this project. Nothing is decoded yet; the
    compressed frames are held in memory.

    Args:
      path: The file.

    Raises:
      AnnotationError: It is no such archive; the message says what is wrong with which array.
      OSError: The file cannot be opened.

    Example:
      >>> read_jhmdb("jhmdb12.npz")
      Traceback (most recent call last):
      ...
      FileNotFoundError: [Errno 2] No such file or directory: 'jhmdb12.npz'
    """
    path = Path(path)
    arrays = read_arrays(path, _ARRAYS)
    labels, classes, offsets = arrays["labels"], arrays["classes"], arrays["offsets"]
    if arrays["mask_shape"].shape != (3,) or arrays["mask_shape"].min() < 1:
        raise AnnotationError(f"{path}: mask_shape is {arrays['mask_shape'].tolist()}")
    count, (time, height, width) = len(labels), (int(n) for n in arrays["mask_shape"])
    expected = {
        "names": (count,),
        "groups": (count,),
        "is_test": (count,),
        "offsets": (count * time + 1,),
        "masks_packed": (count, time, -(-height * width // 8)),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            found = arrays[name].shape
            raise AnnotationError(f"{path}: {name} has shape {found}, {count} clips need {shape}")
    if count and not 0 <= labels.min() <= labels.max() < len(classes):
        raise AnnotationError(
            f"{path}: labels go to {labels.max()}, there are {len(classes)} classes"
        )
    if (np.diff(offsets) < 0).any() or offsets[0] < 0 or offsets[-1] > len(arrays["jpeg"]):
        raise AnnotationError(
            f"{path}: offsets lead out of its {len(arrays['jpeg']):,} bytes of JPEGs"
        )
    content = arrays["jpeg"]
    clips = []
    for i in range(count):
        ends = [int(end) for end in offsets[i * time : (i + 1) * time + 1]]
        jpegs = tuple(content[a:b] for a, b in pairwise(ends))
        clips.append(
            ActorClip(
                str(arrays["names"][i]),
                int(labels[i]),
                str(arrays["groups"][i]),
                bool(arrays["is_test"][i]),
                jpegs,
                arrays["masks_packed"][i],
                (height, width),
            )
        )
    return clips, tuple(map(str, classes))
