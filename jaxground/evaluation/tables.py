"""Scores as text for a terminal."""

import unicodedata
from collections.abc import Mapping
from typing import Any

from jaxground.evaluation.quantities import METRICS

FEW = 10  # images: with fewer the bootstrap has too little to draw from


def table(results: Mapping[str, Any], width: int = 100) -> str:
    """Returns methods x metrics as text, each score with its interval, and what lies behind it.

    Args:
      results: What `evaluate` returned.
      width: Columns of the terminal; more metrics than fit go into further tables below.

    Returns:
      Lines of text. A `*` marks the best of a column; a `-` stands where nothing could be scored.
    """
    scores = results["scores"]
    names = [visible(method) for method in scores]
    first = max(map(len, names), default=0)
    metrics = list(next(iter(scores.values()), {}))
    columns = {metric: _column(metric, scores) for metric in metrics}
    lines: list[str] = []
    while metrics:
        used, block = first, []
        while metrics and (not block or used + 2 + len(columns[metrics[0]][0]) <= width):
            block.append(metrics.pop(0))
            used += 2 + len(columns[block[-1]][0])
        lines += [""] if lines else []
        rows = zip(["", *names], *(columns[metric] for metric in block), strict=True)
        lines += ["  ".join((name.ljust(first), *cells)).rstrip() for name, *cells in rows]
    return "\n".join([*lines, "", *_footer(results)])


def visible(text: str) -> str:
    r"""Returns a text with everything shown that a terminal or browser would act on or hide.

    Example:
      >>> visible("cat\x1b[2J\u202egpj")
      'cat\\x1b[2J\\u202egpj'
    """
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in hidden else c
        for c in text
    )


def best(metric: str, scores: Mapping[str, Any]) -> float | None:
    """Returns the best value of a metric among methods, without those that have infinite ones."""
    found = [each[metric] for each in scores.values() if "infinite" not in each[metric]]
    values = [score["value"] for score in found if score["value"] is not None]
    choose = max if METRICS[metric].good == "large" else min
    return choose(values) if values else None


def numbers(metric: str, score: Mapping[str, Any]) -> tuple[str, str]:
    """Returns a score and its interval as text.

    Example:
      >>> numbers("pointing_game", {"value": 43.21, "low": 40.0, "high": 46.04})
      ('43.2', '[40.0, 46.0]')
    """
    infinite = f"{score['infinite']} infinite" if "infinite" in score else ""
    if score["value"] is None:
        return "-", infinite
    digits = 1 if METRICS[metric].percent else 3
    value, low, high = (f"{score[name]:.{digits}f}" for name in ("value", "low", "high"))
    return value, f"[{low}, {high}] {infinite}".rstrip()


def _column(metric: str, scores: Mapping[str, Any]) -> list[str]:
    """Returns the head and the cells of a column, all of one width."""
    top = best(metric, scores)
    rows = []
    for each in scores.values():
        value, interval = numbers(metric, each[metric])
        score = each[metric]
        wins = top is not None and score["value"] == top and "infinite" not in score
        mark = "*" if wins else " "
        rows.append((value + mark, interval))
    wide = [max(len(row[i]) for row in rows) for i in (0, 1)]
    cells = [f"{value:>{wide[0]}} {interval:>{wide[1]}}" for value, interval in rows]
    head = metric + (" %" if METRICS[metric].percent else "")
    head += " (low)" if METRICS[metric].good == "small" else ""
    width = max(len(head), len(cells[0]))
    return [cell.rjust(width) for cell in (head, *cells)]


def _footer(results: Mapping[str, Any]) -> list[str]:
    data, broken = results["data"], results["data"]["broken"]
    lines = [
        f"{visible(results['settings']['network']['name'])} on {visible(data['name'])}: "
        f"{data['evaluated']} of {data['images']} images evaluated, "
        f"{data['pairs']} pairs of image and category; 95 % intervals, * best"
    ]
    if data["evaluated"] < FEW:
        lines.append("so few images make intervals too narrow")
    if data["without_target"]:
        lines.append(f"{data['without_target']} images have no category that the network knows")
    if broken["count"]:
        lines.append(f"{broken['count']} images are broken and count nowhere:")
        lines += [f"  {visible(reason)}" for reason in list(broken["images"].values())[:5]]
        lines += ["  ..."] if broken["count"] > 5 else []
    for method, reason in results["left_out"].items():
        lines.append(f"{method} left out: {visible(reason.splitlines()[0])}")
    return lines
