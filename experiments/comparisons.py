"""Which method is best, from records that several evaluations left in their folders.

Evaluations of one data set are merged photograph by photograph, so that a dear method may be
measured on fewer photographs than a cheap one; each score says on how many. Two methods are
compared on the photographs that both have.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxground.evaluation.quantities import METRICS
from jaxground.evaluation.summary import CONFIDENCE, resamples, summarise
from jaxground.evaluation.tables import numbers

COLUMNS = 3  # metrics beside each other


def merge(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns one record of each photograph with the values of all its records.

    Raises:
      ValueError: A photograph could not be evaluated.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in (image for batch in records for image in batch["images"]):
        if "error" in record:
            raise ValueError(record["error"])
        kept = found.setdefault(record["key"], {**record, "values": {}})
        for method, values in record["values"].items():
            kept["values"].setdefault(method, {}).update(values)
    return [found[key] for key in sorted(found)]


def score(
    records: Sequence[Mapping[str, Any]], methods: Iterable[str], categories: Sequence[str]
) -> dict[str, Any]:
    """Returns `{method: {metric: {"value", "low", "high", "n", "images"}}}` of merged records."""
    scores: dict[str, Any] = {}
    for method in methods:
        scores[method] = {}
        for name, metric in METRICS.items():
            there = [r for r in records if metric.quantity in r["values"].get(method, {})]
            if there:
                found = summarise(there, [method], [name], categories)[method][name]
                if found["n"]:
                    scores[method][name] = {**found, "images": len(there)}
    return scores


def compare(
    records: Sequence[Mapping[str, Any]], scores: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Returns the best method of a metric, the next, and all that none is clearly better than.

    Clearly better is one whose mean difference, on the photographs and pairs of both, has a 95 %
    interval (bootstrap over photographs) without zero. The intervals are not corrected for the
    number of comparisons. Methods are ranked by their difference to the best of those that were
    measured on most photographs, so that an easy sample makes no method good.

    Args:
      records: Merged.
      scores: Of `score`.
      name: The metric.
    """
    sign = 1 if METRICS[name].good == "large" else -1
    there = {m: s[name] for m, s in scores.items() if name in s and "infinite" not in s[name]}
    table = _values(records, list(there), name)
    reference = max(there, key=lambda m: (there[m]["images"], sign * there[m]["value"]))
    gains = {m: gap for m in there if (gap := difference(table, m, reference, name))}
    ranked = sorted(gains, key=lambda method: -sign * gains[method]["value"])
    beaten: dict[str, str] = {}
    for method in ranked:
        for other in ranked:
            if other != method:
                found = difference(table, other, method, name)
                if found and (found["low"] > 0 if sign > 0 else found["high"] < 0):
                    beaten[method] = other
                    break
    return {
        "best": ranked[0],
        "next": ranked[1],
        "difference": difference(table, ranked[0], ranked[1], name),
        "unbeaten": [method for method in ranked if method not in beaten],
        "beaten_by": beaten,
    }


def difference(
    table: Mapping[str, Any], one: str, other: str, name: str
) -> dict[str, float] | None:
    """Returns the mean of `one` minus that of `other`, with its interval; `None` without pairs."""
    differences = table["values"][one] - table["values"][other]
    there = np.isfinite(differences)
    if not there.any():
        return None
    images, rows = np.unique(table["image"][there], return_inverse=True)
    weights = _weights(len(images))[:, rows]
    groups = np.ones((len(rows), 1))
    if METRICS[name].average == "categories":
        groups = table["category"][there][:, None] == np.unique(table["category"][there])
    counts = weights @ groups
    sums = weights @ (groups * differences[there][:, None])
    means = np.where(counts > 0, sums / np.maximum(counts, 1e-9), 0)
    means = means.sum(1) / (counts > 0).sum(1) * (100 if METRICS[name].percent else 1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means[1:], [tail, 1 - tail])
    found = {"value": means[0], "low": low, "high": high}
    return {**{key: float(value) for key, value in found.items()}, "images": len(images)}


@functools.cache
def _weights(images: int) -> np.ndarray:
    """Returns how often each photograph counts: once, then in each resample."""
    return np.concatenate([np.ones((1, images)), resamples(images)])


def _values(records: Sequence[Mapping[str, Any]], methods: Sequence[str], name: str) -> Any:
    """Returns the values of all pairs by method, and photographs and categories of the pairs."""
    metric, columns = METRICS[name], {method: [] for method in methods}
    images, categories = [], []
    for number, record in enumerate(records):
        for place, category in enumerate(record["categories"]):
            if metric.difficult and not record["difficult"][place]:
                continue
            images.append(number)
            categories.append(category)
            for method, column in columns.items():
                values = record["values"].get(method, {}).get(metric.quantity)
                value = None if values is None else values[place]
                column.append(value if isinstance(value, float) else np.nan)
    values = {method: np.array(column, float) for method, column in columns.items()}
    return {"values": values, "image": np.array(images), "category": np.array(categories)}


def table(scores: Mapping[str, Any], comparisons: Mapping[str, Any]) -> str:
    """Returns methods x metrics as text: value, interval, photographs; `*` where unbeaten."""
    first = max(map(len, scores))
    blocks, names = [], list(comparisons)
    for start in range(0, len(names), COLUMNS):
        block = names[start : start + COLUMNS]
        columns = []
        for name in block:
            cells = [("", "", "")]
            for method, each in scores.items():
                mark = "*" if method in comparisons[name]["unbeaten"] else " "
                value, interval = numbers(name, each[name]) if name in each else ("-", "")
                count = str(each[name]["images"]) if name in each else ""
                cells.append((value + mark, interval, count))
            wide = [max(len(cell[i]) for cell in cells) for i in range(3)]
            rows = [
                " ".join(part.rjust(width) for part, width in zip(cell, wide, strict=True))
                for cell in cells[1:]
            ]
            head = name + (" (low)" if METRICS[name].good == "small" else "")
            width = max(len(head), len(rows[0]))
            columns.append([row.rjust(width) for row in (head, *rows)])
        lines = zip(["", *scores], *columns, strict=True)
        blocks += [("  ".join((label.ljust(first), *cells))).rstrip() for label, *cells in lines]
        blocks.append("")
    blocks.append("value, 95 % interval, photographs; * no other method is clearly better")
    return "\n".join([*blocks, *map(_sentence, comparisons, comparisons.values())])


def _sentence(name: str, found: Mapping[str, Any]) -> str:
    gap = found["difference"]
    told = "no photograph in common"
    if gap:
        told = f"{gap['value']:+.3g} [{gap['low']:+.3g}, {gap['high']:+.3g}], {gap['images']}"
    return f"{name}: {found['best']}, before {found['next']} by {told}"
