"""Average precision of detections against loops written from the two evaluation kits' rules."""

import jax
import numpy as np
import pytest

from jaxground.data import thumos
from jaxground.metrics import detection, detection_average_precision

THRESHOLDS = (0.1, 0.5, 0.9)
CLASSES = 3


def draw(n=60, m=25, seed=0):
    rng = np.random.default_rng(seed)
    starts, lengths = rng.uniform(0, 50, m), rng.uniform(2, 20, m)
    truths = np.stack([starts, starts + lengths], 1)
    truth_labels, truth_videos = rng.integers(0, CLASSES, m), rng.integers(0, 4, m)
    near = rng.integers(0, m, n)
    windows = truths[near] + rng.normal(size=(n, 2)) * rng.choice([0.3, 4], (n, 1))
    labels = np.where(rng.random(n) < 0.8, truth_labels[near], rng.integers(0, CLASSES, n))
    return dict(
        windows=windows.astype(np.float32),
        scores=rng.permutation(n).astype(np.float32),
        truths=truths.astype(np.float32),
        labels=labels,
        videos=truth_videos[near],
        truth_labels=truth_labels,
        truth_videos=truth_videos,
    )


def overlap(a, b):
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0)
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def activitynet_by_hand(d, label, threshold):
    order = [i for i in np.argsort(-d["scores"]) if d["labels"][i] == label]
    truths = [j for j in range(len(d["truths"])) if d["truth_labels"][j] == label]
    used, right = set(), []
    for i in order:
        rivals = [j for j in truths if d["truth_videos"][j] == d["videos"][i] and j not in used]
        overlaps = {j: overlap(d["windows"][i], d["truths"][j]) for j in rivals}
        found = max(overlaps, key=overlaps.get, default=None)
        right.append(found is not None and overlaps[found] >= threshold)
        if right[-1]:
            used.add(found)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return sum(precision[k:].max() for k in np.flatnonzero(right)) / len(truths)


def thumos_by_hand(d, label, threshold):
    order = [i for i in np.argsort(-d["scores"]) if d["labels"][i] == label]
    truths = [j for j in range(len(d["truths"])) if d["truth_labels"][j] == label]
    vague = [j for j in range(len(d["truths"])) if d["truth_labels"][j] == -2]
    found = set()
    for j in truths:
        rivals = [i for i in order if d["videos"][i] == d["truth_videos"][j] and i not in found]
        overlaps = {i: overlap(d["windows"][i], d["truths"][j]) for i in rivals}
        best = max(overlaps, key=overlaps.get, default=None)
        if best is not None and overlaps[best] > threshold:
            found.add(best)

    def excused(i):
        return any(
            d["truth_videos"][j] == d["videos"][i] and overlap(d["windows"][i], d["truths"][j]) > 0
            for j in vague
        )

    counted = [i in found for i in order if i in found or not excused(i)]
    hits = np.cumsum(counted)
    precision = hits / np.arange(1, len(counted) + 1)
    points = [precision[10 * hits >= t * len(truths)].max(initial=0) for t in range(11)]
    return np.mean(points)


BY_HAND = {"activitynet": activitynet_by_hand, "thumos14": thumos_by_hand}


@pytest.fixture(scope="module", params=BY_HAND)
def convention(request):
    return request.param


@pytest.fixture(scope="module")
def measure(convention):
    def run(windows, scores, truths, **others):
        return detection_average_precision(
            windows, scores, truths, count=CLASSES, thresholds=THRESHOLDS, convention=convention,
            **others
        )  # fmt: skip

    return jax.jit(run)


def test_average_precision_is_that_of_the_evaluation_kits(convention, measure):
    for seed in range(3):
        drawn = draw(seed=seed)
        drawn["truth_labels"] = np.where(np.arange(25) % 6 == 0, -2, drawn["truth_labels"])
        expected = [
            [BY_HAND[convention](drawn, label, threshold) for threshold in THRESHOLDS]
            for label in range(CLASSES)
        ]
        found = measure(**drawn)
        np.testing.assert_allclose(found.classes, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.mean, np.mean(expected, 0), rtol=1e-5)
        assert found.mean[0] > found.mean[2], "it is harder to overlap more"


def test_bounds_and_degenerate_detections(measure):
    drawn = draw()
    m = len(drawn["truths"])

    def with_detections(windows, scores, labels, videos):
        rows = np.arange(60) % m
        padded = np.where(np.arange(60) < m, labels[rows], -1)
        given = dict(windows=windows[rows], scores=scores[rows], videos=videos[rows], labels=padded)
        return measure(**(drawn | given)).classes

    truth = drawn["truths"], np.zeros(m), drawn["truth_labels"], drawn["truth_videos"]
    np.testing.assert_allclose(with_detections(*truth), 1, rtol=1e-6)
    for broken in (truth[0][:, ::-1], truth[0] * 0, truth[0] * np.nan):
        np.testing.assert_array_equal(with_detections(broken, *truth[1:]), 0)
    np.testing.assert_array_equal(with_detections(*truth[:3], truth[3] + 9), 0)
    np.testing.assert_array_equal(measure(**drawn | {"labels": drawn["labels"] * 0 - 1}).classes, 0)
    without = measure(**drawn | {"truth_labels": np.maximum(drawn["truth_labels"], 1)})
    assert np.isnan(without.classes[0]).all() and not np.isnan(without.mean).any()
    scores = np.where(np.arange(60) < 30, np.nan, drawn["scores"])
    least = np.where(np.arange(60) < 30, -1 - np.arange(60), drawn["scores"])
    found, expected = (measure(**drawn | {"scores": given}).mean for given in (scores, least))
    np.testing.assert_array_equal(found, expected)


def test_where_the_conventions_differ():
    one = dict(labels=[0, 0], videos=[0, 0], truth_labels=[0], truth_videos=[0], count=1)
    windows, scores, truths = [[0.0, 5.0], [0.0, 9.0]], [0.9, 0.1], [[0.0, 10.0]]

    def measure(convention, thresholds=(0.5,)):
        found = jax.jit(
            lambda *arrays: detection_average_precision(
                *arrays, **one, thresholds=thresholds, convention=convention
            )
        )(np.array(windows), np.array(scores), np.array(truths))
        return found.mean.tolist()

    # ActivityNet: the confident one overlaps by exactly a half, enough. THUMOS: the other is best.
    assert measure("activitynet") == [1.0]
    assert measure("thumos14") == [0.5]
    with pytest.raises(ValueError, match="'voc': choose one of activitynet, thumos14"):
        measure("voc")
    scores = [0.9]
    with pytest.raises(ValueError, match=r"detections: \(2, 2\) windows .* got \(1,\), \(2,\)"):
        measure("thumos14")


def test_no_detections_at_all():
    nothing = np.zeros((0, 2)), np.zeros(0), np.array([[0.0, 1.0]])
    for convention in BY_HAND:
        found = detection_average_precision(
            *nothing, labels=[], videos=[], truth_labels=[0], truth_videos=[0], count=1,
            thresholds=(0.5,), convention=convention,
        )  # fmt: skip
        assert found.mean.tolist() == [0.0]


def test_reader_and_metric_mean_the_same_by_ambiguous():
    assert thumos.AMBIGUOUS == detection.AMBIGUOUS
