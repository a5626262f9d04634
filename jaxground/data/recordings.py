"""Videos written to files: films through PyAV, animated pictures through Pillow."""

import importlib.util
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxground.data.films import VideoError

FILMS = {  # and their codec and container, by FFmpeg's names
    ".mp4": ("libx264", "mp4"),
    ".mkv": ("libx264", "matroska"),
    ".webm": ("libvpx-vp9", "webm"),
}
ANIMATIONS = (".png", ".apng", ".gif", ".webp")


def video_suffix() -> str:
    """Returns the suffix of the best kind of video that can be written here.

    Returns:
      `".mp4"` where PyAV is installed, else `".png"`: an animated PNG has all colours, and opens
      in any browser.

    Example:
      >>> video_suffix() in (".mp4", ".png")
      True
    """
    return ".mp4" if importlib.util.find_spec("av") else ".png"


def write_video(path: str | os.PathLike, frames: np.ndarray, *, rate: float = 12.0) -> None:
    """Writes frames as a video that plays in browsers.

    Args:
      path: The file; its suffix chooses the kind: `.mp4`, `.mkv` (H.264) and `.webm` (VP9) need
        PyAV, `.png`, `.apng`, `.gif` and `.webp` are animated pictures and do not. Animated PNG
        and WebP are lossless; films are not, and repeat the last row or column of odd sides.
      frames: `uint8[time, height, width, 3]`, one frame at least.
      rate: Frames a second.

    Raises:
      ValueError: Another suffix, shape or rate.
      TypeError: The frames are not uint8.
      VideoError: PyAV is missing.
      OSError: The file cannot be written.

    Example:
      >>> import tempfile
      >>> from jaxground.data.video import read_video
      >>> frames = np.random.default_rng(0).integers(0, 255, (3, 8, 6, 3), np.uint8)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_video(f"{folder}/clip.png", frames)
      ...     bool((read_video(f"{folder}/clip.png") == frames).all())
      True
    """
    path, frames = Path(path), np.asarray(frames)
    suffix = path.suffix.lower()
    if suffix not in (*FILMS, *ANIMATIONS):
        kinds = ", ".join((*FILMS, *ANIMATIONS))
        raise ValueError(f"{path} has the suffix {path.suffix!r}: choose one of {kinds}")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames have shape {frames.shape}: expected [time, height, width, 3]")
    if frames.dtype != np.uint8:
        raise TypeError(f"frames are {frames.dtype}: give uint8 from 0 to 255")
    if not 0 < rate < 1000:
        raise ValueError(f"rate is {rate}: give frames a second")
    (_write_film if suffix in FILMS else _write_animation)(path, frames, rate)


def _write_film(path: Path, frames: np.ndarray, rate: float) -> None:
    try:
        import av
    except ImportError as error:
        raise VideoError(
            f"cannot write {path} without PyAV: pip install 'jaxground[video]', or choose .png"
        ) from error
    codec, container = FILMS[path.suffix.lower()]
    # Colour has half the resolution in yuv420p, the only format that all browsers play.
    odd = [(0, side % 2) for side in frames.shape[1:3]]
    frames = np.pad(frames, [(0, 0), *odd, (0, 0)], "edge")
    speed = Fraction(rate).limit_denominator(1000)
    # Opened by Python, so that what is wrong with a path is a plain OSError.
    with open(path, "wb") as file, av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=speed, options={"crf": "18"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def _write_animation(path: Path, frames: np.ndarray, rate: float) -> None:
    from PIL import Image

    first, *others = map(Image.fromarray, frames)
    kind = {".gif": "GIF", ".webp": "WEBP"}.get(path.suffix.lower(), "PNG")
    lasts = round(100 / rate) * 10 if kind == "GIF" else round(1000 / rate)  # GIF: in 10 ms
    options = {"duration": max(lasts, 1), "loop": 0, "save_all": True, "append_images": others}
    if kind == "WEBP":
        options["lossless"] = True
    first.save(path, kind, **options)
