"""Windows, overlaps and pointing in time against loops over every frame and window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground import metrics

FLAT = np.array([[0.3] * 6, [0.0] * 6, [np.nan] * 6, [-2.0] * 6, [np.inf] * 6, [1, 1, np.nan] * 2])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def greedy_by_hand(signal):
    anchor = int(np.argmax(signal))
    start = end = anchor
    while start > 0 and signal[start - 1] >= 0:
        start -= 1
    while end + 1 < len(signal) and signal[end + 1] >= 0:
        end += 1
    return [start, end + 1]


def best_by_hand(signal, length):
    sums = [signal[i : i + length].sum() for i in range(len(signal) - length + 1)]
    return [int(np.argmax(sums)), int(np.argmax(sums)) + length]


greedy = jax.jit(metrics.greedy_window)
best = jax.jit(metrics.best_window)  # the length is traced
iou = jax.jit(metrics.temporal_iou)
game = jax.jit(metrics.temporal_pointing_game)
play = jax.jit(metrics.video_pointing_game)


def test_the_greedy_window_grows_from_the_peak_to_what_is_negative():
    signals = random(4, 9, 20) + 0.3
    expected = [greedy_by_hand(signal) for signal in signals.reshape(-1, 20)]
    assert len({end - start for start, end in expected}) > 4
    np.testing.assert_array_equal(greedy(signals).reshape(-1, 2), expected)
    by_hand = {
        (-1, 2, 0, -1, 9, -2): [4, 5],  # the first part is not negative, but not around the peak
        (3, 1, 0, 0, 1, 2): [0, 6],  # never negative: the whole clip
        (-1, 2, 0, -1, 2, -2): [1, 3],  # of equal peaks the first; zero is not negative
        (-5, 0, 0, -1, -1, -2): [1, 3],
        (1, 2, np.nan, 1, -1, -1): [0, 2],  # where there is no value the window ends
        (np.nan, np.inf, 3, 1, -1, 1): [2, 4],
        (-3, -2, -1, -2, -3, -4): [0, 0],  # nothing speaks for any frame
    }
    found = greedy(np.array([*by_hand], np.float32))
    np.testing.assert_array_equal(found, [*by_hand.values()])


def test_the_best_window_has_the_largest_sum_of_all():
    signals = random(40, 20)
    for length in (1, 7, 20):
        expected = [best_by_hand(signal, length) for signal in signals]
        np.testing.assert_array_equal(best(signals, length=length), expected)
    lengths = np.arange(40) % 20 + 1
    expected = [best_by_hand(s, n) for s, n in zip(signals, lengths, strict=True)]
    np.testing.assert_array_equal(best(signals, length=lengths), expected)
    assert best(signals, length=99).tolist() == [[0, 20]] * 40, "cut to the signal"
    ties = np.array([-1, 1, 1, -1, 1, 1, 1, -1, 1, 1, 1], np.float32)  # a thresholded probability
    assert best(ties, length=3).tolist() == [4, 7], "of equal sums the first"
    missing = np.array([-3, -2, np.nan, -2, -1, -3], np.float32)
    assert best(missing, length=2).tolist() == [3, 5], "no value wins nothing"
    with pytest.raises(ValueError, match="length=0"):
        metrics.best_window(signals, length=0)


def test_a_signal_in_which_no_frame_stands_out_never_wins():
    rounded = 0.3 * (1 + 1e-7 * np.arange(6))
    signals = np.concatenate([FLAT, [rounded]]).astype(np.float32)
    everywhere = np.ones(6, bool)
    for windows in (greedy(signals), best(signals, length=3)):
        assert windows.tolist() == [[0, 0]] * 7
        overlaps = iou(windows, np.array([0, 6]))
        assert overlaps.tolist() == [0] * 7, "also of an action that lasts throughout"
    assert game(signals, everywhere).tolist() == [0] * 7
    one = np.array([1.0], np.float32)  # a video of one frame: nothing to stand out from
    assert greedy(one).tolist() == best(one, length=1).tolist() == [0, 0]
    assert game(one, everywhere[:1]) == 0
    maps, masks = np.ones((3, 4, 5), np.float32), np.ones((3, 4, 5), bool)
    scores = play(maps, masks)
    assert scores.frames.tolist() == [0, 0, 0] and scores.mean == scores.peak == 0


def test_overlap_in_time():
    rng = np.random.default_rng(1)
    windows, truths = np.sort(rng.integers(0, 12, (2, 50, 2)), axis=-1)
    windows[0], truths[1] = [7, 3], [5, 5]
    expected = []
    for window, truth in zip(windows, truths, strict=True):
        ours, theirs = set(range(*window)), set(range(*truth))
        expected.append(len(ours & theirs) / len(ours | theirs) if theirs else np.nan)
    assert 0 in expected and max(expected[2:]) > 0.5
    np.testing.assert_allclose(iou(windows, truths), expected, rtol=1e-6)
    assert iou(np.array([7, 3]), np.array([3, 7])) == 0, "inverted"
    assert metrics.temporal_iou(windows[:, None], truths[None]).shape == (50, 50)
    with pytest.raises(ValueError, match=r"windows have shape \(3,\)"):
        metrics.temporal_iou(np.zeros(3), np.zeros(2))


def test_pointing_in_time():
    signals = random(60, 20, seed=2)
    inside = metrics.frames_inside(np.array([[2, 6.5], [6.4, 9], [0, 0], [15, 12]]), length=20)
    assert np.flatnonzero(inside).tolist() == [2, 3, 4, 5, 6, 7, 8]
    hits = game(signals, inside)
    np.testing.assert_array_equal(hits, np.isin(signals.argmax(1), np.arange(2, 9)))
    assert 0 < np.mean(hits) < 1
    assert np.isnan(game(signals, np.zeros(20, bool))).all(), "the action never happens"
    holes = np.where(np.arange(20) == signals[0].argmax(), np.nan, signals[0])
    assert game(holes, np.arange(20) == np.nanargmax(holes)) == 1
    with pytest.raises(ValueError, match=r"\(60, 20\) and frames \(19,\) differ in time"):
        metrics.temporal_pointing_game(signals, np.ones(19, bool))
    with pytest.raises(ValueError, match=r"shape \(0,\): expected \[..., time\]"):
        metrics.greedy_window(np.zeros(0))


def test_the_pointing_game_of_a_video():
    maps = np.zeros((4, 9, 9), np.float32)
    masks = np.zeros((4, 9, 9), bool)
    masks[[0, 1, 3], 4, 4] = True
    maps[0, 4, 5], maps[1, 8, 8], maps[2, 4, 4], maps[3, 4, 4] = 1, 2, 3, -1
    scores = play(np.stack([maps, maps * [[[1]], [[1]], [[0]], [[1]]]]), masks, tolerance=2)
    np.testing.assert_array_equal(scores.frames, [[1, 0, np.nan, 0]] * 2)
    np.testing.assert_allclose(scores.mean, [1 / 3] * 2, rtol=1e-6)
    assert scores.peak.tolist() == [0, 0], "in a frame without the object, or beside it"
    assert play(maps[[0, 3]], masks[[0, 3]], tolerance=2).peak == 1
    assert np.isnan(play(maps, np.zeros_like(masks), tolerance=2)[1:]).all()
    high = np.stack([np.ones((9, 9)), np.full((9, 9), 2.0)])  # says when, but not where
    scores = play(high.astype(np.float32), np.ones((2, 9, 9), bool), tolerance=2)
    assert scores.peak == scores.mean == 0
    with pytest.raises(ValueError, match=r"expected \[..., time, height, width\]"):
        metrics.video_pointing_game(maps[0], masks[0])


def test_half_precision_is_counted_in_single():
    signal = jnp.asarray([1.0, 256.0, 1.0, 1.0, -1.0] + [1.0] * 300, jnp.bfloat16)
    assert best(signal, length=300).tolist() == [0, 300]
