"""Intervals of scores of clips, and what is said of them."""

import numpy as np
import pytest

from experiments.spatiotemporal.intervals import interval, table, verdict


def test_an_interval_is_that_of_a_mean_over_clips():
    mean, low, high = interval(np.array([0.0, 1.0, np.nan] * 100))
    assert mean == 50 and low == pytest.approx(43, abs=1.5) and high == pytest.approx(57, abs=1.5)


def test_clips_of_one_video_count_once():
    videos = np.array([0.0, 1.0] * 100)
    alike = interval(videos.repeat(4), np.arange(200).repeat(4))
    assert alike == pytest.approx(interval(videos), abs=0.5)
    apart = interval(videos.repeat(4))
    assert alike[2] - alike[1] == pytest.approx(2 * (apart[2] - apart[1]), rel=0.15)
    # A video with more clips weighs more: the mean is over clips.
    assert interval(np.array([1.0, 1, 1, 0]), np.array(["a", "a", "a", "b"]))[0] == 75


def test_an_order_is_decided_where_zero_lies_outside_the_interval():
    said = [verdict(each) for each in ([2, 0.1, 4], [-2, -4, -0.1], [2, -0.1, 4], [0, 0, 0])]
    assert said == ["confirmed", "refuted", "not decided", "not decided"]


def test_a_table_leaves_out_what_is_not_there():
    rows = {"EB": {"space": [1.0, 0.5, 1.5], "time": None}, "chance": {}}
    assert table(rows, ["space", "time"]).split("\n") == [
        "| | space | time |",
        "|---|---|---|",
        "| EB | 1.0 (0.5 to 1.5) |  |",
        "| chance |  |  |",
    ]
