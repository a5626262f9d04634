"""Splices: a clip of one class at a known place in clips of others, each over its full length."""

import numpy as np
import pytest

from jaxground.data.splices import plan_splices

LABELS = np.array([2, 0, 0, 1, 2, 1, 0, 2])
LENGTHS = np.array([16, 40, 7, 16, 3, 100, 16, 16])


@pytest.mark.parametrize("backgrounds", [1, 2])
def test_splices(backgrounds):
    plan = plan_splices(
        LABELS, LENGTHS, count=200, length=32, inside=11, backgrounds=backgrounds, seed=1
    )
    time = np.arange(32)
    inside = (plan.times[:, :1] <= time) & (time < plan.times[:, 1:])
    assert (inside.sum(1) == 11).all()
    assert set(plan.times[:, 0]) == set(range(22)), "anywhere"
    before, middle, after = plan.sources.T
    assert (plan.clips[inside].reshape(200, 11) == middle[:, None]).all()
    assert np.bincount(middle).tolist() == [25] * 8, "each takes its turn"
    for around in (before, after):
        assert (LABELS[around] != LABELS[middle]).all() and len(set(around)) == 8
    assert (before == after).all() == (backgrounds == 1)
    np.testing.assert_array_equal(plan.labels, LABELS[middle])
    for i in range(200):
        start, end = plan.times[i]
        parts = [plan.positions[i, start:end]]
        outside = np.r_[plan.positions[i, :start], plan.positions[i, end:]]
        parts += [outside] if backgrounds == 1 else [*np.split(outside, [start])]
        clips = [middle[i], before[i]] if backgrounds == 1 else [middle[i], before[i], after[i]]
        for positions, clip in zip(parts, clips, strict=True):
            expected = np.floor((np.arange(len(positions)) + 0.5) * LENGTHS[clip] / len(positions))
            np.testing.assert_array_equal(positions, expected)


def test_a_plan_makes_frames():
    frames = np.arange(3)[:, None] * 100 + np.arange(8)  # a number for each frame
    plan = plan_splices([0, 1, 1], 8, count=6, length=16, inside=8, starts=(0, 8))
    spliced = frames[plan.clips, plan.positions]
    assert set(plan.times[:, 0]) == {0, 8}
    for row, (start, end), (other, middle, _) in zip(
        spliced, plan.times, plan.sources, strict=True
    ):
        assert row[start:end].tolist() == frames[middle].tolist()
        outside = np.r_[row[:start], row[end:]].tolist()
        assert outside == frames[other].tolist(), "the background, all of it, around the middle"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": [1, 1]}, "two classes or more"),
        ({"lengths": [4, 0]}, "clip 1 has no frames"),
        ({"inside": 128}, "0 < inside < length"),
        ({"backgrounds": 3}, "backgrounds 1 or 2"),
        ({"starts": [88]}, r"starts lie in 0\.\.87, got \[88\]"),
    ],
)
def test_what_cannot_be_spliced(wrong, message):
    given = {"labels": [0, 1], "lengths": 4, "count": 2} | wrong
    with pytest.raises(ValueError, match=message):
        plan_splices(given.pop("labels"), given.pop("lengths"), **given)


def test_none():
    assert plan_splices([0, 1], 4, count=0).clips.shape == (0, 128)
