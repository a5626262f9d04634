"""When, on spliced clips of J-HMDB: tables 7.2 and 7.3 and figure 7.6 of the thesis.

Signals are sums over the features of each frame, as in the thesis's figure 7.6: no map is drawn,
and the CNN has run once, before. Each test clip is spliced into another of another class.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spatiotemporal.explainers import THRESHOLD, make_explainers
from experiments.spatiotemporal.intervals import interval
from experiments.spatiotemporal.jhmdb_clips import ActionReader, Features
from jaxground import metrics
from jaxground.data.splices import Splices, plan_splices
from jaxground.spatiotemporal import threshold_probability

SEED, BATCH = 0, 185
IOU = 0.5
_average_precision = jax.jit(
    metrics.detection_average_precision, static_argnames=("count", "thresholds")
)
# Frames of all and of the action: the thesis's, where frames of our short clips are repeated, and
# the same shares of a clip that is no longer than two of ours.
PLACES = (128, 11), (128, 41), (128, 65), (32, 3), (32, 10), (32, 16)
RECURRENT = "cEB-R", "EB-R", "BP-R"
SIGNED = "cEB-R", "cEB-R, caffe", "thresholded probability"  # others have no end that is negative


class Signals(NamedTuple):
    """One number a frame, of spliced clips."""

    of: dict[str, np.ndarray]  # float[clips, time] by name
    confidence: np.ndarray  # float[clips], the network's probability of the action, mean over time


def make_signals(reader: ActionReader, frame_reader: ActionReader) -> Callable:
    """Returns a function from features `[batch, time, width]` and targets to `Signals`."""

    def explainers(cell):
        return make_explainers(
            lambda frames: frames.reshape(len(frames), -1),
            reader.classify,
            lambda frames: frame_reader.classify(frames.reshape(len(frames), 1, -1))[:, 0],
            at=None,
            cell=cell,
        )

    def probability(network, features, targets):
        chosen = jax.nn.softmax(network.classify(features))
        return jnp.take_along_axis(chosen, targets[:, None, None], 2)[..., 0]

    @jax.jit
    def of_batch(features, targets):
        video = features[:, :, None, None]
        paper = explainers("paper")
        signals = {name: paper[name](video, targets)[1] for name in RECURRENT}
        for name in ("cEB-R", "EB-R"):
            signals[f"{name}, caffe"] = explainers("caffe")[name](video, targets)[1]
        said = probability(reader, features, targets)
        signals["probability"] = said
        signals["thresholded probability"] = threshold_probability(said, THRESHOLD)
        signals["probability, frame by frame"] = probability(frame_reader, features, targets)
        # How the thesis combines the two is not said.
        signals["probability + cEB-R"] = rescaled(said) + rescaled(signals["cEB-R"])
        return signals, said.mean(1)

    def of_all(features, targets) -> Signals:
        parts = [
            jax.device_get(of_batch(features[i : i + BATCH], targets[i : i + BATCH]))
            for i in range(0, len(targets), BATCH)
        ]
        signals, confidence = zip(*parts, strict=True)
        joined = {name: np.concatenate([each[name] for each in signals]) for name in signals[0]}
        return Signals(joined, np.concatenate(confidence))

    return of_all


def rescaled(signals):
    """Returns signals `[n, time]` stretched to 0..1; NaN stays what it is."""
    low, high = jnp.nanmin(signals, 1, keepdims=True), jnp.nanmax(signals, 1, keepdims=True)
    return (signals - low) / jnp.where(high > low, high - low, 1)


class Spliced(NamedTuple):
    """Test clips, each among frames of another, and what stands where."""

    plan: Splices
    features: np.ndarray  # float32[count, length, width]
    groups: np.ndarray  # source video of the clip that is asked for


def splice(features: Features, **options) -> Spliced:
    """Returns each test clip spliced into another; options as `plan_splices`."""
    tested = np.flatnonzero(features.is_test)
    labels, values = features.labels[tested], features.values[tested, 0]
    plan = plan_splices(labels, values.shape[1], count=len(tested), seed=SEED, **options)
    groups = features.groups[tested][plan.sources[:, 1]]
    return Spliced(plan, values[plan.clips, plan.positions], groups)


@functools.partial(jax.jit, static_argnames="inside")
def find(signals: dict, times, *, inside: int) -> tuple[dict, dict]:
    """Returns windows by method and metric, and the scores that `measure_place` speaks of."""
    windows, scores = {}, {}
    for name, signal in signals.items():
        windows[name] = {"known": metrics.best_window(signal, length=inside)}
        if name in SIGNED:
            windows[name]["unknown"] = metrics.greedy_window(signal)
        scores[name] = {
            metric: (metrics.temporal_iou(window, times) >= IOU).astype(float)
            for metric, window in windows[name].items()
        }
        frames = metrics.frames_inside(times[:, None], length=signal.shape[1])
        scores[name]["pointing"] = metrics.temporal_pointing_game(signal, frames)
    return windows, scores


def measure_place(features: Features, signals: Callable, length: int, inside: int):
    """Returns the scores of every spliced clip, by method and metric, and mAP by method.

    Metrics are "known" and "unknown", whether the window found overlaps by half or more with the
    action, of which the length is known or not, and "pointing", whether the peak lies in it.
    """
    spliced = splice(features, length=length, inside=inside)
    plan, found = spliced.plan, signals(spliced.features, spliced.plan.labels)
    windows, scores = jax.device_get(find(found.of, plan.times, inside=inside))
    classes = int(features.labels.max()) + 1
    means = {
        name: {
            metric: mean_precision(window, found.confidence, plan, classes)
            for metric, window in of_method.items()
        }
        for name, of_method in windows.items()
    }
    count = len(plan.labels)
    scores["chance"] = {
        "known": chance(plan.times[:, 0], length, inside),
        "unknown": np.full(count, float(inside / length >= IOU)),  # all of the clip
        "pointing": np.full(count, inside / length),
    }
    return scores, means, spliced.groups


def chance(starts: np.ndarray, length: int, inside: int) -> np.ndarray:
    """Returns which share of all windows of the right length overlap enough with each action."""
    windows = np.arange(length - inside + 1)
    farthest = inside * (1 - IOU) / (1 + IOU)
    return (np.abs(windows - starts[:, None]) <= farthest).mean(1)


def mean_precision(windows, confidence, plan: Splices, classes: int) -> float:
    """Returns mAP in percent, of one detection in each clip, of its class."""
    clips = np.arange(len(plan.labels))
    found = _average_precision(
        windows,
        confidence,
        plan.times,
        labels=plan.labels,
        videos=clips,
        truth_labels=plan.labels,
        truth_videos=clips,
        count=classes,
        thresholds=(IOU,),
    )
    return round(100 * float(found.mean[0]), 1)


def measure_halves(features: Features, signals: Callable) -> dict[str, dict]:
    """Returns figure 7.6: mean and deviation of cEB-R's signal, by order of the two actions."""
    found = {}
    for name, start in {"action, then another": 0, "another, then the action": 8}.items():
        spliced = splice(features, length=16, inside=8, starts=(start,))
        signal = signals(spliced.features, spliced.plan.labels).of["cEB-R"]
        right = (signal[:, start : start + 8].sum(1) > 0).astype(float)
        found[name] = {
            "mean": np.round(signal.mean(0).astype(float), 5).tolist(),
            "deviation": np.round(signal.std(0).astype(float), 5).tolist(),
            "more in the action": interval(right, spliced.groups),
        }
    return found
