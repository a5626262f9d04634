"""Photographs as arrays: one reader for every kind of file people have.

Files are data from strangers. Only raster decoders that ship with Pillow are tried (never its
PostScript reader, which runs another program), and whatever a decoder raises on a broken file
becomes an `ImageError` that names it.
"""

import os
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Result = TypeVar("Result")

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .webp .tif .tiff .bmp .gif .jp2 .avif .ppm .pgm".split()
)

_ORIENTATION = 0x0112  # EXIF tag; its values from 2 to 8 name how to turn the picture upright
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class ImageError(ValueError):
    """A file that is no readable image; the message names the file and the reason."""


class Found(NamedTuple):
    """What `find_images` found, and what it did not."""

    images: list[Path]
    missing: list[Path]  # no such file, or a folder without any image


def read_image(
    path: str | os.PathLike, *, longest: int | None = None, upright: bool = True
) -> np.ndarray:
    """Returns the photograph in a file as upright 8-bit RGB.

    The EXIF orientation is applied (unless asked not to); greyscale, palette, CMYK and other
    colour spaces are converted; transparency is laid over white; of an animation the first frame
    is taken. Single channel images of more than 8 bits are scaled to 0..255: 16-bit integers by
    their full range, 32-bit integers and floats from their smallest to their largest value.

    Any image below Pillow's limit against decompression bombs (`PIL.Image.MAX_IMAGE_PIXELS`
    times two: 179 million pixels) is read; above 89 million Pillow warns.

    Args:
      path: An image file.
      longest: Longest side of the result in pixels; larger images are reduced to it, keeping
        their aspect. JPEGs are then decoded at reduced scale, which is many times faster. By
        default the full resolution.
      upright: Whether to apply the EXIF orientation. Annotated data sets count in pixels as they
        are stored: there it is left alone.

    Returns:
      Pixels `uint8[height, width, 3]`.

    Raises:
      ImageError: The file is empty, truncated, corrupt, of an unknown format, or too large.
      OSError: The file cannot be opened (`FileNotFoundError`, `PermissionError`, ...).

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     Image.new("CMYK", (3, 2)).save(f"{folder}/white.jpg")
      ...     read_image(f"{folder}/white.jpg").shape
      (2, 3, 3)
    """
    return _decode(path, lambda image: _upright_rgb(image, longest, upright))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Returns the photograph in the bytes of a file, as `read_image` does.

    Args:
      content: The bytes.
      name: What to call them in errors.

    Raises:
      ImageError: As `read_image`.

    Example:
      >>> decode_image(b"", "frame 7 of clips.npz")
      Traceback (most recent call last):
      ...
      jaxground.data.images.ImageError: cannot read frame 7 of clips.npz: the file is empty
    """
    return _decode_stream(BytesIO(content), name, lambda image: _upright_rgb(image, None, True))


def read_animation(path: str | os.PathLike, *, limit: int) -> list[np.ndarray]:
    """Returns the frames of an animated picture, of any other its only one, as `read_image` does.

    A frame is repeated as often as it lasts longer than the shortest one: writers merge frames
    that are equal.

    Args:
      path: An image file.
      limit: Most bytes of frames.

    Returns:
      Pixels `uint8[height, width, 3]` of each.

    Raises:
      ImageError: As `read_image`, or there are more bytes.
      OSError: The file cannot be opened.
    """

    def read(image: "Image.Image") -> list[np.ndarray]:
        frames, lasts = [], []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(_upright_rgb(image, None, True))
            lasts.append(max(float(image.info.get("duration") or 0), 1.0))  # milliseconds
            if sum(lasts) / min(lasts) * frames[-1].nbytes > limit:
                raise ValueError(f"its frames take more than {limit:,} bytes")
        times = [round(last / min(lasts)) for last in lasts]
        return [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]

    return _decode(path, read)


def measure_image(path: str | os.PathLike) -> tuple[int, int]:
    """Returns height and width of the upright photograph in a file, reading its header only.

    Args:
      path: An image file.

    Returns:
      Height and width in pixels, as `read_image` would return them.

    Raises:
      ImageError: As `read_image`, as far as the header tells.
      OSError: The file cannot be opened.
    """

    def measure(image: "Image.Image") -> tuple[int, int]:
        on_its_side = _orientation(image) in (5, 6, 7, 8) and image.format != "TIFF"
        width, height = image.size  # a TIFF's is upright already
        return (width, height) if on_its_side else (height, width)

    return _decode(path, measure)


def find_images(paths: Iterable[str | os.PathLike]) -> Found:
    """Returns the image files among the paths, folders expanded.

    Folders are searched with everything below them, in sorted order, for the usual suffixes;
    hidden files and folders are left out, links to folders not followed. A file that is named
    itself is taken whatever its suffix. A file met twice is listed once, where it came first.

    Args:
      paths: Files and folders.

    Returns:
      The images in order, and the paths that do not exist or hold no image.

    Example:
      >>> find_images(["no-such-folder"])
      Found(images=[], missing=[PosixPath('no-such-folder')])
    """
    images: dict[Path, None] = {}
    missing: list[Path] = []
    for path in map(Path, paths):
        files = _walk(path) if path.is_dir() else [path] if path.exists() else []
        images.update(dict.fromkeys(files))
        if not files:
            missing.append(path)
    return Found(list(images), missing)


def _walk(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root, name)
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return found


def _decode(path: str | os.PathLike, use: Callable[["Image.Image"], Result]) -> Result:
    with open(path, "rb") as stream:
        return _decode_stream(stream, os.fspath(path), use)


def _decode_stream(
    stream: BinaryIO, name: str | bytes, use: Callable[["Image.Image"], Result]
) -> Result:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF is optional in Pillow
    try:
        with Image.open(stream, formats=formats) as image:
            return use(image)
    except UnidentifiedImageError:
        empty = stream.seek(0, os.SEEK_END) == 0
        reason = "the file is empty" if empty else f"not one of {', '.join(formats)}"
    except Image.DecompressionBombError:
        reason = (
            f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller, or "
            "raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        )
    except Exception as error:  # decoders raise nearly anything when a file is broken
        reason = str(error) or type(error).__name__
    raise ImageError(f"cannot read {name}: {reason}")


def _upright_rgb(image: "Image.Image", longest: int | None, upright: bool) -> np.ndarray:
    from PIL import Image

    if longest is not None:  # JPEG only: decodes at 1/2, 1/4 or 1/8, never below what is asked
        width, height = (-(-side * longest // max(image.size)) for side in image.size)
        image.draft(None, (width, height))
    image.load()
    # Asked for after the load: TIFFs turn themselves.
    turn = _TURNS.get(_orientation(image)) if upright else None
    image = _rgb(image)
    if longest is not None:
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    if turn is not None:
        image = image.transpose(Image.Transpose[turn])
    return np.array(image)


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    low, high = 0.0, 2.0**16 - 1
    if values.dtype.itemsize != 2:  # no range is declared in the file: use the one met
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scaled = (values.astype(np.float32) - low) * (255 / ((high - low) or 1))
    return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


def _orientation(image: "Image.Image") -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a photograph is worth more than its broken metadata
        return 1
