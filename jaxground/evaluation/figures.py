"""Scores as a picture: a panel for each metric, a dot and its interval for each method."""

import io
import math
from collections.abc import Mapping
from typing import Any

from jaxground.evaluation.quantities import METRICS
from jaxground.evaluation.tables import best, numbers, visible

COLUMNS = 3
PANEL = 3.4  # inches
ROW = 0.3


def draw(results: Mapping[str, Any]) -> bytes:
    r"""Returns the figure as a PNG.

    Args:
      results: What `evaluate` returned.

    Example:
      >>> score = {"value": 50.0, "low": 40.0, "high": 60.0, "n": 9}
      >>> data = {"name": "pets", "evaluated": 9, "pairs": 9}
      >>> settings = {"network": {"name": "vgg16"}}
      >>> scores = {"grad_cam": {"pointing_game": score}}
      >>> draw({"scores": scores, "data": data, "settings": settings})[:4]
      b'\x89PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = results["scores"]
    metrics = list(next(iter(scores.values())))
    columns = min(COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    names = [visible(method) for method in scores]
    margin = 0.4 + 0.085 * max(map(len, names))
    size = margin + PANEL * columns, 0.5 + rows * (0.9 + ROW * len(names))
    sheet = Figure(figsize=size, facecolor="white", layout="constrained")
    FigureCanvasAgg(sheet)
    grid = sheet.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        _panel(axes, metric, scores)
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
    data = results["data"]
    network = results["settings"]["network"]["name"]
    title = f"{visible(network)} on {visible(data['name'])}: {data['evaluated']} images, "
    title += f"{data['pairs']} pairs of image and category"
    sheet.suptitle(title, size=10, parse_math=False)
    file = io.BytesIO()
    sheet.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()


def _panel(axes, metric: str, scores: Mapping[str, Any]) -> None:
    top = best(metric, scores)
    for row, each in enumerate(scores.values()):
        score = each[metric]
        if score["value"] is None:
            continue
        colour = "#b3261e" if score["value"] == top else "#33415c"
        axes.plot([score["low"], score["high"]], [row, row], color=colour, lw=2, alpha=0.45)
        axes.plot(score["value"], row, "o", color=colour, ms=5)
        axes.annotate(numbers(metric, score)[0], (score["value"], row), (0, 5), size=7.5,
                      textcoords="offset points", ha="center", color=colour)  # fmt: skip
    kind = METRICS[metric]
    axes.set_title(metric.replace("_", " ") + (" (%)" if kind.percent else ""), size=9.5)
    axes.set_xlabel("smaller is better" if kind.good == "small" else "larger is better", size=8)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
