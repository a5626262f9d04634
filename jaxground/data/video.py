"""Videos as arrays: folders of frames, animated pictures, and films.

What cannot be read whole is named, with what was met and what to do.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from jaxground.data.films import VideoError, count_packets, decode_film
from jaxground.data.images import SUFFIXES, ImageError, decode_image, read_animation, read_image

ANIMATIONS = frozenset({".gif", ".png", ".apng", ".webp"})  # read by Pillow
MEMORY_LIMIT = 2**32  # bytes of frames held at once: 1 minute of 640 x 480


def read_video(path: str | os.PathLike, *, count: int | None = None) -> np.ndarray:
    """Returns the frames of a video, all of them or some spread evenly over its length.

    A folder is a video whose frames are the pictures in it (not in folders below; hidden files
    are left out) in natural order: runs of digits compare as numbers and the rest as text in
    lower case, so that `frame2.jpg` is before `frame10.jpg`. Animated GIF, PNG and WebP are read
    by Pillow, a frame repeated as often as it lasts longer than the shortest; any other file by
    FFmpeg, which needs the extra: `pip install 'jaxground[video]'`. Frames are turned upright as
    the file says; pixels are taken for square.

    Args:
      path: A folder or a file.
      count: Number of frames, taken as by `uniform_indices`. A film is decoded in full, but only
        these are kept in memory.

    Returns:
      `uint8[time, height, width, 3]`.

    Raises:
      VideoError: There is no frame; the video is broken or cut off; its frames differ in size; it
        is too long to be held in memory (`MEMORY_LIMIT`); or PyAV is missing.
      OSError: The file cannot be opened.

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for number in (9, 10, 11):
      ...         Image.new("L", (4, 2), number).save(f"{folder}/frame{number}.png")
      ...     read_video(folder).shape, read_video(folder, count=1).max()
      ((3, 2, 4, 3), np.uint8(10))
    """
    path = Path(path)
    if count is not None and count < 1:
        raise ValueError(f"a sample has at least one frame, got count={count}")
    if path.is_dir():
        files = _frame_files(path)
        wanted = files if count is None else [files[i] for i in uniform_indices(len(files), count)]
        return _gather(map(_read_frame, wanted), path)
    if path.suffix.lower() in ANIMATIONS:
        frames = _read_animation(path)
        return frames if count is None else frames[uniform_indices(len(frames), count)]
    if count is None:
        return _gather(decode_film(path), path)
    total = max(count_packets(path), 1)
    while True:
        wanted, kept, number = uniform_indices(total, count), {}, -1
        sampled = set(wanted.tolist())
        for number, frame in enumerate(_same_size(decode_film(path), path)):
            if number in sampled:
                kept[number] = frame
        if number + 1 == total:
            return _gather((kept[i] for i in wanted.tolist()), path)
        total = number + 1  # packets are not always frames: once more


def read_chunks(path: str | os.PathLike, *, length: int, step: int | None = None) -> Iterator:
    """Yields consecutive clips of a video of any length, in constant memory.

    Args:
      path: As `read_video`. Of an animated picture all frames are held in memory.
      length: Frames of a clip.
      step: From the start of a clip to that of the next; by default `length`, so that clips do
        not overlap.

    Yields:
      `uint8[length, height, width, 3]`; the last is shorter where frames run out. Every frame up
      to the last is in a clip, unless `step` is longer than `length`.

    Raises:
      ValueError: A length or step below one.
      VideoError: As `read_video`; of a video that is cut off, after the clips that were there.
      OSError: The file cannot be opened.

    Example:
      >>> from jaxground.data.recordings import write_video
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     frames = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2)
      ...     write_video(f"{folder}/clip.png", frames.repeat(3, 3))
      ...     [clip[:, 0, 0, 0].tolist() for clip in read_chunks(f"{folder}/clip.png", length=2)]
      [[0, 1], [2, 3], [4]]
    """
    step = length if step is None else step
    if length < 1 or step < 1:
        raise ValueError(f"clips have a frame and a step at least: length={length}, step={step}")
    return _chunks(Path(path), length, step)


def decode_frames(contents: Iterable[bytes | np.ndarray], name: str) -> np.ndarray:
    """Returns the frames of a video that is kept as pictures in memory.

    Args:
      contents: The bytes of each picture file, or `uint8[size]`.
      name: Of the video, for errors.

    Returns:
      `uint8[time, height, width, 3]`.

    Raises:
      VideoError: A frame is broken, or of another size than the first.
    """

    def decode(number: int, content: bytes | np.ndarray) -> np.ndarray:
        try:
            return decode_image(bytes(content), f"frame {number} of {name}")
        except ImageError as error:
            raise VideoError(f"{error}; download the archive again") from error

    return _gather((decode(*pair) for pair in enumerate(contents)), name)


def uniform_indices(
    total: ArrayLike,
    count: ArrayLike,
    which: ArrayLike | None = None,
) -> np.ndarray:
    """Returns which frames to take, spread evenly over a video: the middles of equal parts.

    Args:
      total: Frames of the video.
      count: Frames to take; where they are more than there are, frames repeat.
      which: Only these of them, `int[...]`, numbers from 0 to `count - 1`; by default all.

    Returns:
      `int[count]`, ascending, or in the shape of `which`.

    Example:
      >>> uniform_indices(10, 3), uniform_indices(2, 4)
      (array([1, 5, 8]), array([0, 0, 1, 1]))
    """
    total, count = np.asarray(total), np.asarray(count)
    which = np.arange(int(count)) if which is None else np.asarray(which)
    return (2 * which + 1) * total // (2 * count)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Returns what to sort names by, so that numbers in them count as numbers.

    Args:
      name: Of a file.

    Example:
      >>> sorted(["b10.png", "b9.png", "B1.png", "a.png"], key=natural_key)
      ['a.png', 'B1.png', 'b9.png', 'b10.png']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    key = [(0, int(part), "") if part[:1].isdigit() else (1, 0, part) for part in parts if part]
    return [*key, (2, 0, name)]  # 01 and 1 are one number


def _chunks(path: Path, length: int, step: int) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    skip = 0
    fresh = False  # whether a frame is held that was in no clip
    for frame in _iterate(path):
        if skip:
            skip -= 1
            continue
        held.append(frame)
        fresh = True
        if len(held) == length:
            yield np.stack(held)
            skip = max(step - length, 0)
            held = held[step:]
            fresh = False
    if fresh:
        yield np.stack(held)


def _iterate(path: Path) -> Iterator[np.ndarray]:
    """Yields the frames of a video, all of one size."""
    if path.is_dir():
        frames = map(_read_frame, _frame_files(path))
    elif path.suffix.lower() in ANIMATIONS:
        frames = iter(_read_animation(path))
    else:
        frames = decode_film(path)
    return _same_size(frames, path)


def _same_size(frames: Iterator[np.ndarray], path: Path | str) -> Iterator[np.ndarray]:
    shape = None
    for number, frame in enumerate(frames):
        shape = shape or frame.shape
        if frame.shape != shape:
            sizes = " x ".join(map(str, frame.shape[:2])), " x ".join(map(str, shape[:2]))
            raise VideoError(
                f"{path}: frame {number} has {sizes[0]} pixels (height x width), those before it "
                f"{sizes[1]}: a video has frames of one size, resize or remove the others"
            )
        yield frame


def _gather(frames: Iterator[np.ndarray], path: Path | str) -> np.ndarray:
    kept: list[np.ndarray] = []
    for frame in _same_size(frames, path):
        kept.append(frame)
        if len(kept) * frame.nbytes > MEMORY_LIMIT:
            raise VideoError(
                f"{path}: more than {MEMORY_LIMIT:,} bytes of frames; take a sample with count=, "
                "or read_chunks"
            )
    return np.stack(kept)


def _frame_files(folder: Path) -> list[Path]:
    names = [
        name
        for name in os.listdir(folder)
        if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
    ]
    if not names:
        raise VideoError(f"{folder} holds no pictures: a video's frames are files right in it")
    return [folder / name for name in sorted(names, key=natural_key)]


def _read_frame(file: Path) -> np.ndarray:
    try:
        return read_image(file)
    except ImageError as error:
        raise VideoError(f"{error}; write this frame again, or remove it") from error


def _read_animation(path: Path) -> np.ndarray:
    try:
        return _gather(iter(read_animation(path, limit=MEMORY_LIMIT)), path)
    except ImageError as error:
        raise VideoError(f"{error}; write it again") from error
