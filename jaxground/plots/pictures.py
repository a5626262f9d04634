"""Pictures of maps. Colour means evidence and nothing else: the photograph below it is grey."""

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxground.maps import normalise, peak

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "inferno"  # perceptually uniform, readable without red-green vision and in greyscale
EXPONENT = 0.8  # of the opacity, the alpha blending of the authors of Excitation Backprop
OPACITY = 0.9
BRIGHTNESS = 0.7  # of the photograph below a map

# In inches. A panel fits PANEL whatever the photograph's aspect; text needs WIDTH at least.
PANEL = 3.6, 3.0  # width, height
WIDTH = 2.2
TITLE, GAP, MARGIN, BAR = 0.58, 0.15, 0.12, 0.16
DPI = 150
COLUMNS = 4

# Compiled whole: one by one their operations take a second of compilation for each shape of map.
_stretched, _peak = jax.jit(normalise), jax.jit(peak)


def overlay(image: np.ndarray, map: ArrayLike) -> np.ndarray:
    """Returns a photograph in grey with a map in colour over it.

    The map is stretched over the whole photograph and to its own full range: bright is the peak,
    grey is the minimum. A map without contrast, and NaN, leave the photograph grey.

    Args:
      image: The photograph, `uint8[height, width, 3]`.
      map: Values `[h, w]` of any size.

    Returns:
      Pixels `uint8[height, width, 3]`.

    Raises:
      TypeError: The photograph is not uint8.
      ValueError: A shape is not as above.

    Example:
      >>> picture = overlay(np.full((2, 4, 3), 255, np.uint8), np.array([[0.0, 1.0]]))
      >>> picture[0, 0].tolist(), picture[0, 3].tolist()
      ([178, 178, 178], [245, 247, 166])
    """
    image = _as_photograph(image)
    if np.ndim(map) != 2:
        raise ValueError(f"the map has shape {np.shape(map)}: expected [height, width]")
    return _lay_over(image, _stretched(np.asarray(map)))


def overlay_video(frames: np.ndarray, maps: ArrayLike) -> np.ndarray:
    """Returns the frames of a video in grey with maps in colour over them.

    All maps are stretched together: bright is the peak of the whole video, and frames without
    evidence stay grey. Evidence against, below zero, is not shown. See `data.write_video`.

    Args:
      frames: `uint8[time, height, width, 3]`.
      maps: Values `[time, h, w]` of any resolution.

    Returns:
      Pixels `uint8[time, height, width, 3]`.

    Raises:
      TypeError: The frames are not uint8.
      ValueError: A shape is not as above, or frames and maps differ in number.

    Example:
      >>> maps = np.array([[[-1.0]], [[0.0]], [[2.0]]])
      >>> overlay_video(np.full((3, 1, 1, 3), 255, np.uint8), maps)[:, 0, 0].tolist()
      [[178, 178, 178], [178, 178, 178], [245, 247, 166]]
    """
    shape = np.shape(maps)
    if len(shape) != 3 or np.ndim(frames) != 4 or len(frames) != shape[0]:
        raise ValueError(
            f"frames {np.shape(frames)} and maps {shape}: expected [time, height, width, 3] and "
            "[time, h, w]"
        )
    values = np.asarray(_stretched(np.maximum(maps, 0).reshape(-1, shape[-1]))).reshape(shape)
    pairs = zip(frames, values, strict=True)
    return np.stack([_lay_over(_as_photograph(frame), value) for frame, value in pairs])


def figure(
    image: np.ndarray,
    maps: Mapping[str, ArrayLike],
    path: str | os.PathLike | BinaryIO,
) -> None:
    r"""Writes a contact sheet: the photograph, one panel per map with its title, a colour bar.

    A ring marks the centre of each map's largest cell. A map that is zero or constant everywhere
    says so in its panel.

    Args:
      image: The photograph, `uint8[height, width, 3]`; a large one is reduced for the sheet.
      maps: Values `[h, w]` by title; a title may have several lines, the first is emphasised.
      path: Where to write; the suffix chooses the format. An open binary file gets a PNG.

    Raises:
      TypeError: The photograph is not uint8.
      ValueError: A shape is wrong, or there is no map.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> figure(np.zeros((30, 40, 3), np.uint8), {"zebra": np.eye(3)}, file)
      >>> file.getvalue()[:4]
      b'\x89PNG'
    """
    from PIL import Image

    if not maps:
        raise ValueError("there is no map to draw: give at least one, by title")
    image = _as_photograph(image)
    scale = min(PANEL[0] / image.shape[1], PANEL[1] / image.shape[0])
    shown = [max(1, round(side * scale * DPI)) for side in image.shape[1::-1]]
    image = np.asarray(Image.fromarray(image).resize(shown, Image.Resampling.LANCZOS))
    sheet = _draw(image, maps)
    format = None if isinstance(path, str | os.PathLike) else "png"
    sheet.savefig(path, dpi=DPI, format=format)


def _draw(image: np.ndarray, maps: Mapping[str, ArrayLike]) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = (side / DPI for side in image.shape[:2])
    cell = max(width, WIDTH)
    columns = min(COLUMNS, 1 + len(maps))
    rows = math.ceil((1 + len(maps)) / columns)
    total_width = 2 * MARGIN + columns * (cell + GAP) + BAR + 0.5
    total_height = MARGIN + rows * (height + TITLE)
    sheet = Figure(figsize=(total_width, total_height), facecolor="white")
    FigureCanvasAgg(sheet)

    def place(left: float, bottom: float, width: float, height: float):
        """Axes at a rectangle in inches, so that nothing is stretched or cut."""
        box = (
            left / total_width,
            bottom / total_height,
            width / total_width,
            height / total_height,
        )
        return sheet.add_axes(box)

    for index, (title, values) in enumerate([("photograph", None), *maps.items()]):
        row, column = divmod(index, columns)
        left = MARGIN + column * (cell + GAP) + (cell - width) / 2
        axes = place(left, MARGIN + (rows - 1 - row) * (height + TITLE), width, height)
        axes.set_axis_off()
        axes.imshow(image if values is None else overlay(image, values), aspect="auto")
        _caption(axes, title, cell)
        if values is not None:
            _mark(axes, np.asarray(values), image.shape)
    bar = place(
        MARGIN + columns * (cell + GAP), MARGIN + (rows - 1) * (height + TITLE), BAR, height
    )
    _colour_bar(bar)
    return sheet


def _caption(axes, title: str, inches: float) -> None:
    """Writes the title above a panel: one strong line, the next below it and lighter."""
    first, _, rest = title.partition("\n")
    style = {"ha": "center", "transform": axes.transAxes, "parse_math": False}
    inch = axes.figure.dpi / axes.get_window_extent().height
    axes.text(0.5, 1 + 0.25 * inch, _cut(first, inches * 11), size=11, weight="bold", **style)
    axes.text(0.5, 1 + 0.08 * inch, _cut(rest, inches * 14), size=8.5, color="0.35", **style)


def _cut(text: str, letters: float) -> str:
    return text if len(text) <= letters else text[: int(letters) - 1] + "…"


def _mark(axes, values: np.ndarray, shape: tuple[int, ...]) -> None:
    """Rings the peak, or says why there is none."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() < finite.max():
        # The centre of the cell, not the peak of the interpolation, which leans to the border.
        y, x = (np.asarray(_peak(values)) + 0.5) * shape[:2] / np.array(values.shape) - 0.5
        axes.plot(x, y, "o", ms=9, mfc="none", mec="black", mew=2.4, clip_on=False)
        axes.plot(x, y, "o", ms=9, mfc="none", mec="white", mew=1.2, clip_on=False)
        return
    constant = "the map is constant" if finite.any() else "no evidence:\nthe map is zero"
    text = constant if finite.size else "the map has\nno finite value"
    style = {"ha": "center", "va": "center", "transform": axes.transAxes, "size": 10}
    axes.text(0.5, 0.5, text, bbox={"facecolor": "white", "alpha": 0.85, "lw": 0}, **style)


def _colour_bar(axes) -> None:
    """Shows the colours as they come out over mid-grey."""
    values = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    colours = _blend(np.full_like(values, 0.5 * BRIGHTNESS), values)
    axes.imshow(colours, aspect="auto", origin="lower", extent=(0, 1, 0, 1))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    low, high = axes.set_yticks([0, 1], ["min", "peak"], size=8.5, color="0.35")
    low.label2.set_va("bottom")
    high.label2.set_va("top")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _lay_over(image: np.ndarray, values: ArrayLike) -> np.ndarray:
    """Returns a photograph in grey with values 0..1 over it, resized to it.

    Pillow rather than `maps.resize`: the same kernel, but no compilation per size of picture.
    """
    from PIL import Image

    grey = image @ np.array([0.299, 0.587, 0.114], np.float32) * (BRIGHTNESS / 255)  # Rec. 601
    map = Image.fromarray(np.nan_to_num(np.asarray(values, np.float32)))
    resized = np.asarray(map.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC))
    return _blend(grey, resized.clip(0, 1))  # it may go beyond beside an edge


def _blend(grey: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the colours of values 0..1 over grey 0..1, bytes with a channel axis."""
    import matplotlib

    opacity = OPACITY * values[..., None] ** EXPONENT
    colours = matplotlib.colormaps[COLOURS](values)[..., :3]
    return (255 * (grey[..., None] * (1 - opacity) + colours * opacity)).round().astype(np.uint8)


def _as_photograph(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"the photograph is {image.dtype}: expected uint8 values 0..255")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"the photograph has shape {image.shape}: expected [height, width, 3]")
    return image
