"""What is said of scores of clips: means with intervals, differences, and tables of them."""

from collections.abc import Mapping, Sequence

import numpy as np

DRAWS = 2000


def interval(values: np.ndarray, groups: np.ndarray | None = None) -> list[float]:
    """Returns mean, low and high of the 95 % bootstrap, in percent.

    Args:
      values: One score for each clip; NaN for none.
      groups: What clips belong to, such as their source videos: those of one are alike, and drawn
        together. By default each clip is drawn by itself.
    """
    known = ~np.isnan(values)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    _, members = np.unique(groups[known], return_inverse=True)
    sums, counts = np.bincount(members, values[known]), np.bincount(members)
    rows = np.random.default_rng(0).integers(0, len(sums), (DRAWS, len(sums)))
    means = sums[rows].sum(1) / counts[rows].sum(1)
    mean = values[known].mean()
    return [round(100 * float(each), 1) for each in (mean, *np.quantile(means, [0.025, 0.975]))]


def verdict(difference: Sequence[float]) -> str:
    """Returns what an interval of a difference says of "more"."""
    _, low, high = difference
    return "confirmed" if low > 0 else "refuted" if high < 0 else "not decided"


def table(rows: Mapping[str, Mapping], columns: Sequence[str]) -> str:
    """Returns intervals, or plain numbers, by row and column as Markdown; the missing is empty."""

    def cell(values) -> str:
        if values is None:
            return ""
        return "{} ({} to {})".format(*values) if isinstance(values, Sequence) else str(values)

    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, found in rows.items():
        lines.append(f"| {name} | {' | '.join(cell(found.get(each)) for each in columns)} |")
    return "\n".join(lines)
