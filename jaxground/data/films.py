"""Films, decoded by FFmpeg through PyAV, the extra `video`.

FFmpeg gets an open file, never a name, and only container formats that hold their frames
themselves: a playlist, which would have it open other files or addresses, is refused.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

# FFmpeg's names of the containers that people have, and of no list of other files.
FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf,mpegvideo,h264,hevc,ivf"
# Of the frames that a header promises: the headers of healthy films of UCF101 and THUMOS14
# promise a few too many, a file that is cut off lacks more.
_LEAST_SHARE = 0.9


class VideoError(ValueError):
    """A video that cannot be read; the message names the file, what was met, and what to do."""


def decode_film(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Yields the frames of a film, upright; one at a time is in memory.

    Args:
      path: A file.

    Yields:
      `uint8[height, width, 3]`.

    Raises:
      VideoError: The film is broken or cut off (which may show after some frames), has no
        pictures, or PyAV is missing.
      OSError: The file cannot be opened.

    Example:
      >>> next(decode_film("no-such-film.mp4"))
      Traceback (most recent call last):
      ...
      FileNotFoundError: [Errno 2] No such file or directory: 'no-such-film.mp4'
    """
    number = 0
    with _opened(path) as (stream, container):
        stream.thread_type = "AUTO"
        promised = stream.frames  # 0 where the header does not say
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames, None)
                if frame is None:
                    break
                pixels = frame.to_ndarray(format="rgb24")
            except Exception as error:  # decoders raise nearly anything when a file is broken
                raise _failure(path, f"frame {number} is broken: {_reason(error)}") from error
            if frame.is_corrupt:
                raise _failure(path, f"frame {number} is broken")
            yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
            number += 1
    if number == 0:
        raise _failure(path, "no frame could be decoded")
    if number < _LEAST_SHARE * promised:
        ends = f"it ends after {number:,} of the {promised:,} frames that its header promises"
        raise _failure(path, ends)


def count_packets(path: str | os.PathLike) -> int:
    """Returns about how many frames a film has, without decoding it.

    Args:
      path: A file.

    Returns:
      Its packets, most often one a frame; zero if there are none.

    Raises:
      VideoError: As `decode_film`.
      OSError: The file cannot be opened.
    """
    with _opened(path) as (stream, container):
        try:
            return sum(packet.size > 0 for packet in container.demux(stream))
        except Exception as error:
            raise _failure(path, _reason(error)) from error


def frame_rate(path: str | os.PathLike) -> float:
    """Returns how many frames a film has a second, on average, as its header says.

    Args:
      path: A file.

    Raises:
      VideoError: As `decode_film`, or the header does not say.
      OSError: The file cannot be opened.

    Example:
      >>> frame_rate("no-such-film.mp4")
      Traceback (most recent call last):
      ...
      FileNotFoundError: [Errno 2] No such file or directory: 'no-such-film.mp4'
    """
    with _opened(path) as (stream, _):
        if not stream.average_rate:
            raise _failure(path, "its header does not say how many frames a second it has")
        return float(stream.average_rate)


def _failure(path: str | os.PathLike, what: str) -> VideoError:
    remedy = "copy or download it again, or mend it with `ffmpeg -i broken.mp4 mended.mp4`"
    return VideoError(f"cannot read {os.fspath(path)}: {what}; {remedy}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_cut_off(file: BinaryIO) -> bool:
    """Returns whether the boxes of an MP4 (ISO 14496-12) end before that with the index does."""
    length, at, kinds = file.seek(0, os.SEEK_END), 0, []
    while at + 8 <= length and b"moov" not in kinds:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1 and at + 16 <= length:  # the size follows, in 64 bits
            (size,) = struct.unpack(">Q", file.read(8))
        kinds.append(kind)
        at = at + size if size >= 8 else length
    return kinds[:1] == [b"ftyp"] and (b"moov" not in kinds or at > length)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[Any, Any]]:
    """Opens a film and gives its first stream of pictures."""
    with open(path, "rb") as file:
        try:
            import av
        except ImportError as error:
            raise VideoError(
                f"cannot read {os.fspath(path)} without PyAV: pip install 'jaxground[video]', or "
                "give a folder of frames"
            ) from error
        if os.fstat(file.fileno()).st_size == 0:
            raise _failure(path, "the file is empty")
        if _is_cut_off(file):
            raise _failure(path, "it is an MP4 that is cut off, or was never finished")
        file.seek(0)
        given: dict[str, Any] = {
            "container_options": {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        }
        if int(av.__version__.split(".")[0]) < 19:  # later ones have no such choice
            given["metadata_errors"] = "ignore"  # a film is worth more than its broken title
        try:
            container = av.open(file, **given)
        except Exception as error:
            kinds = f"no film of a known kind ({FORMATS})"
            raise _failure(path, f"{kinds}: {_reason(error)}") from error
        with container:
            if not container.streams.video:
                raise _failure(path, "it has sound or text, but no pictures")
            yield container.streams.video[0], container
