"""How the figures of chapter 5 look."""

import io
from pathlib import Path

import numpy as np

DPI = 110
# Okabe and Ito's colours, told apart without red-green vision; excitation dropout is purple as in
# the thesis. name: label, colour, dashes.
STYLES = {
    "none": ("no dropout", "#000000", "-"),
    "standard": ("standard, mask per image", "#0072B2", "-"),
    "standard_batch": ("standard, mask per batch", "#56B4E9", "--"),
    "curriculum": ("curriculum", "#009E73", "-"),
    "standout": ("adaptive (standout)", "#E69F00", "-"),
    "excitation": ("excitation, rescale mean", "#882299", "-"),
    "excitation_none": ("excitation, no rescale", "#882299", "--"),
    "excitation_unit": ("excitation, rescale per unit", "#882299", ":"),
}


def open_sheet(width: float, height: float, columns: int, rows: int = 1, **options):
    """Returns a figure of so many inches on a canvas without a window, and its axes by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots(rows, columns, squeeze=False, **options)
    return sheet, axes


def open_plots(width: float, height: float, columns: int, rows: int = 1, **options):
    """Returns a figure and its axes in one row, for curves: no box around them, a light grid."""
    sheet, axes = open_sheet(width, height, columns, rows, **options)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="0.92", linewidth=0.8)
        one.tick_params(labelsize=8.5, color="0.6")
    return sheet, axes.ravel()


def label(axes, title: str, xlabel: str, ylabel: str = "") -> None:
    """Writes title and labels of a plot, small."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)


def draw_curves(axes, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draws for each scheme the mean over seeds, and one standard deviation around it.

    Args:
      axes: Of a plot.
      curves: `x` [points] and `y` [seeds, points] by scheme.
    """
    for scheme, (x, y) in curves.items():
        label, colour, dashes = STYLES[scheme]
        mean = y.mean(0)
        axes.plot(x, mean, color=colour, linestyle=dashes, linewidth=1.5, label=label)
        if len(y) > 1:
            half = y.std(0, ddof=1)
            axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.12, linewidth=0)


def draw_legend(sheet, axes, columns: int = 4) -> None:
    """Draws one legend for the whole sheet, below it."""
    handles, labels = axes.get_legend_handles_labels()
    sheet.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5
    )


def save(sheet, folder: Path, name: str) -> None:
    """Writes a figure and says where; a PNG has 256 colours, enough for curves."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    sheet.savefig(buffer := io.BytesIO(), dpi=DPI)
    pixels = Image.open(buffer).convert("RGB")
    if name.endswith(".png"):
        pixels = pixels.quantize(256, dither=Image.Dither.NONE)
    pixels.save(folder / name, optimize=True, quality=80)
    print(f"wrote {folder / name}", flush=True)
