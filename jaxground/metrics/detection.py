"""Average precision of actions detected in time, as ActivityNet and THUMOS 2014 count it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxground.maps.values import choose
from jaxground.metrics.temporal import temporal_iou

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of THUMOS 2014; ActivityNet's are 0.5, 0.55, ..., 0.95
AMBIGUOUS = -2  # label of a truth that excuses false detections (THUMOS)


class AveragePrecision(NamedTuple):
    """Average precision of detections."""

    mean: jax.Array
    """Mean over the classes that occur, `float[thresholds]`: mAP."""
    classes: jax.Array
    """Of each class, `float[classes, thresholds]`; NaN where the class never occurs."""


def detection_average_precision(
    windows: ArrayLike,
    scores: ArrayLike,
    truths: ArrayLike,
    *,
    labels: ArrayLike,
    videos: ArrayLike,
    truth_labels: ArrayLike,
    truth_videos: ArrayLike,
    count: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
    convention: str = "activitynet",
) -> AveragePrecision:
    """Returns the average precision of windows in which actions were detected.

    A detection is right if it overlaps a truth of its class in its video by at least the
    threshold (intersection over union), and each truth is found once. The evaluation kits differ:

    * `"activitynet"`: detections choose, the most confident first, the truth they overlap most
      that is still free; an overlap equal to the threshold counts. Average precision is the area
      under the interpolated curve (PASCAL VOC from 2010 on).
    * `"thumos14"`: truths choose, in the order given, the detection that overlaps them most,
      whatever its score; the overlap must exceed the threshold. A false detection that touches an
      ambiguous truth is not counted. Average precision is the mean of the interpolated precision
      at recalls of 0, 0.1, ..., 1. (The kit's recalls are rounded, ours are exact.)

    Each detection is compared with each truth, in constant memory: 50,000 with the 3,358 truths of
    THUMOS 2014's test videos take 20 s on a CPU core.

    Args:
      windows: Start and end of each detection, `[n, 2]`, in seconds or frames.
      scores: Confidence of each, `[n]`. Of equal scores the first counts as more confident; NaN
        and infinities come last.
      truths: Start and end of each annotated action, `[m, 2]`, in the same unit.
      labels: Class of each detection, `int[n]`; negative where there is none, to pad.
      videos: Number of its video, `int[n]`.
      truth_labels: Class of each truth, `int[m]`; `AMBIGUOUS` (-2) for an ambiguous one, which
        only the convention of THUMOS regards; other negative numbers pad.
      truth_videos: Number of its video, `int[m]`.
      count: Number of classes; static under `jax.jit`.
      thresholds: Least overlaps.
      convention: `"activitynet"` or `"thumos14"`.

    Returns:
      Average precision of each class and its mean. 0 for a class without detections, NaN for one
      without truths. An empty or inverted window overlaps nothing: it is a false detection. An
      empty truth cannot be found, but counts.

    Raises:
      ValueError: Another convention, or numbers of windows, scores, labels and videos that differ.

    Example:
      >>> windows, truths = jnp.array([[0, 9], [20, 30], [1, 9]]), jnp.array([[0, 10], [50, 60]])
      >>> found = detection_average_precision(
      ...     windows, jnp.array([0.9, 0.5, 0.4]), truths, labels=jnp.zeros(3, int),
      ...     videos=jnp.zeros(3, int), truth_labels=jnp.zeros(2, int),
      ...     truth_videos=jnp.zeros(2, int), count=1, thresholds=(0.5, 0.95))
      >>> found.mean.tolist()
      [0.5, 0.0]

    References:
      Caba Heilbron et al., ActivityNet, CVPR 2015, and its `eval_detection.py`; Idrees et al.,
      `The THUMOS Challenge <https://arxiv.org/abs/1604.06182>`_, 2017, and its `TH14evalkit`.
    """
    match = choose(_CONVENTIONS, convention, "convention")
    windows, scores, truths = map(jnp.asarray, (windows, scores, truths))
    labels, videos, truth_labels, truth_videos = (
        jnp.asarray(x, "int32") for x in (labels, videos, truth_labels, truth_videos)
    )
    _check("detections", windows, (scores, labels, videos))
    _check("truths", truths, (truth_labels, truth_videos))
    scores = jnp.where(jnp.isfinite(scores), scores, -jnp.inf)
    order = jnp.argsort(-scores, stable=True)
    detections = _Actions(windows[order], labels[order], videos[order])
    annotations = _Actions(truths, truth_labels, truth_videos)
    right, wrong, precision = match(detections, annotations, jnp.asarray(thresholds))

    def of_class(label):
        ours = (detections.labels == label)[:, None]
        return precision(right & ours, wrong & ours, (truth_labels == label).sum())

    classes = lax.map(of_class, jnp.arange(count))
    return AveragePrecision(jnp.nanmean(classes, axis=0), classes)


class _Actions(NamedTuple):
    windows: jax.Array  # [n, 2]
    labels: jax.Array  # int[n]
    videos: jax.Array  # int[n]


def _activitynet(detections: _Actions, truths: _Actions, thresholds: jax.Array) -> tuple:
    right, _ = _match(detections, truths, lambda overlap: overlap >= thresholds)
    return right, ~right, _area


def _thumos(detections: _Actions, truths: _Actions, thresholds: jax.Array) -> tuple:
    _, right = _match(truths, detections, lambda overlap: overlap > thresholds)
    vague = truths._replace(labels=jnp.where(truths.labels == AMBIGUOUS, 0, -1))

    def touches(detection: _Actions) -> jax.Array:
        return (_overlap(detection._replace(labels=jnp.zeros((), "int32")), vague) > 0).any()

    excused = lax.map(touches, detections)[:, None]
    return right, ~right & ~excused, _eleven_points


_CONVENTIONS: dict[str, Callable] = {"activitynet": _activitynet, "thumos14": _thumos}


def _match(choosers: _Actions, chosen: _Actions, enough: Callable) -> tuple[jax.Array, jax.Array]:
    """Returns which choosers found something free, and what was found, `bool[..., thresholds]`.

    One after the other takes what it overlaps most (the first of equals) of what is left.
    """

    def choose_one(free, chooser):
        overlap = _overlap(chooser, chosen)[:, None]
        usable = free & enough(overlap) & (overlap > 0)
        best = jnp.argmax(jnp.where(usable, overlap, -1), axis=0)
        taken = usable & (jnp.arange(len(free))[:, None] == best)
        return free & ~taken, taken.any(axis=0)

    levels = jax.eval_shape(enough, jnp.zeros((1, 1))).shape[-1]
    free = jnp.ones((len(chosen.labels), levels), bool)
    if not len(free):
        return jnp.zeros((len(choosers.labels), levels), bool), ~free
    free, found = lax.scan(choose_one, free, choosers)
    return found, ~free


def _overlap(one: _Actions, many: _Actions) -> jax.Array:
    """Returns the overlap of one action with each of many, zero for other classes and videos."""
    same = (many.labels == one.labels) & (one.labels >= 0) & (many.videos == one.videos)
    overlap = temporal_iou(one.windows, many.windows)
    return jnp.where(same & (overlap > 0), overlap, 0)


def _curve(right: jax.Array, wrong: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns how many were found down to each detection, and the best precision from it on."""
    found, missed = (jnp.cumsum(x.astype("int32"), axis=0) for x in (right, wrong))
    precision = found / jnp.maximum(found + missed, 1)
    return found, lax.cummax(precision, axis=0, reverse=True)


def _area(right: jax.Array, wrong: jax.Array, positives: jax.Array) -> jax.Array:
    _, best = _curve(right, wrong)
    return jnp.where(right, best, 0).sum(axis=0) / positives  # 0 / 0 is NaN


def _eleven_points(right: jax.Array, wrong: jax.Array, positives: jax.Array) -> jax.Array:
    found, best = _curve(right, wrong)
    tenths = jnp.arange(11)[:, None, None]
    reached = 10 * found >= tenths * positives
    points = jnp.max(jnp.where(reached, best, 0), axis=1, initial=0)
    return jnp.where(positives > 0, points.mean(axis=0), jnp.nan)


def _check(what: str, windows: jax.Array, others: tuple[jax.Array, ...]):
    if windows.ndim != 2 or any(other.shape != windows.shape[:1] for other in others):
        shapes = ", ".join(str(other.shape) for other in others)
        raise ValueError(f"{what}: {windows.shape} windows [n, 2] need [n] each, got {shapes}")
