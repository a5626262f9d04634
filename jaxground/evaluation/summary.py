"""From what is recorded of each photograph to scores with intervals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxground.evaluation.quantities import INFINITE, METRICS, Metric

RESAMPLES = 2000
CONFIDENCE = 0.95
CHUNK = 2**22  # draws of an image that are in memory at a time


def summarise(
    records: Sequence[Mapping[str, Any]],
    methods: Iterable[str],
    metrics: Iterable[str],
    categories: Sequence[str],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns `{method: {metric: {"value", "low", "high", "n"}}}`.

    The interval is the percentile bootstrap's at 95 %, over *photographs*: pairs of one photograph
    are not independent. All methods and metrics meet the same 2,000 resamples.

    Args:
      records: One of each photograph, without those in error. Their order does not matter.
      methods: Labels of the explainers.
      metrics: Names of the metrics.
      categories: All there may be.

    Returns:
      A score each; `n` is the number of pairs that count. Where none does, all but `n` is None.
      Infinite values (maps that say nothing have them) are not averaged: their number is a further
      entry, `"infinite"`, if there are any.
    """
    records = sorted(records, key=lambda record: record["key"])
    metrics = list(metrics)
    weights = resamples(len(records)) if records else np.ones((0, 0))
    place = {category: index for index, category in enumerate(categories)}
    return {
        method: {
            name: _score(METRICS[name], *_sums(METRICS[name], records, method, place), weights)
            for name in metrics
        }
        for method in methods
    }


def resamples(count: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Returns how often each image is drawn in each resample, `uint8[resamples, count]`.

    Example:
      >>> resamples(5, 3).sum(1).tolist()
      [5, 5, 5]
    """
    rows = max(1, CHUNK // count)
    drawn = np.zeros((resamples, count), np.uint8)  # Poisson(1) in the limit: small numbers
    key = jax.random.key(0)  # fixed: the same records have the same interval
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        picks = jax.random.randint(jax.random.fold_in(key, start), (size, count), 0, count)
        flat = (np.asarray(picks) + count * np.arange(size)[:, None]).ravel()
        drawn[start : start + size] = np.bincount(flat, minlength=size * count).reshape(size, count)
    return drawn


def _sums(
    metric: Metric, records: Sequence[Mapping[str, Any]], method: str, place: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the sum and the number of values of each photograph, and category if need be.

    And how many values are infinite.
    """
    columns = len(place) if metric.average == "categories" else 1
    sums, counts = np.zeros((len(records), columns)), np.zeros((len(records), columns))
    infinite = 0
    for row, record in enumerate(records):
        values = record["values"][method][metric.quantity]
        for category, difficult, value in zip(
            record["categories"], record["difficult"], values, strict=True
        ):
            if value is None or (metric.difficult and not difficult):
                continue
            if value == INFINITE:
                infinite += 1
            else:
                column = place[category] if columns > 1 else 0
                sums[row, column] += value
                counts[row, column] += 1
    return sums, counts, infinite


def _score(
    metric: Metric, sums: np.ndarray, counts: np.ndarray, infinite: int, weights: np.ndarray
) -> dict[str, Any]:
    n = int(counts.sum())
    more = {"infinite": infinite} if infinite else {}
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0, **more}
    value = _mean(sums.sum(0, keepdims=True), counts.sum(0, keepdims=True))[0]
    drawn = np.concatenate([_mean(w @ sums, w @ counts) for w in np.array_split(weights, 20)])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    scale = 100 if metric.percent else 1
    return {
        "value": float(scale * value),
        "low": float(scale * low),
        "high": float(scale * high),
        "n": n,
        **more,
    }


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean over the categories there are of the mean in each."""
    there = counts > 0
    means = np.where(there, sums / np.where(there, counts, 1), 0)
    with np.errstate(invalid="ignore"):  # a resample without any pair has no mean
        return means.sum(1) / there.sum(1)
