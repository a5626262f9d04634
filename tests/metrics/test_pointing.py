"""The pointing game against brute force over every pixel of the mask, and its averages by hand."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from degenerate import EMPTY, FLAT, FULL, ONE_PIXEL, TIED

from jaxground import maps as M
from jaxground import metrics


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def blobs(*shape, seed=1):
    return np.random.default_rng(seed).random(shape) < 0.03


def distance_by_hand(heat, mask):
    row, column = np.unravel_index(np.nanargmax(heat), heat.shape)
    rows, columns = np.nonzero(mask)
    return min(math.hypot(r - row, c - column) for r, c in zip(rows, columns, strict=True))


game = jax.jit(metrics.pointing_game)
distance = jax.jit(metrics.pointing_distance)
resize = jax.jit(M.resize, static_argnums=1)
by_category = jax.jit(metrics.by_category, static_argnames="count")


def test_the_distance_is_that_to_the_nearest_of_all_pixels_of_the_mask():
    heat, masks = random(30, 17, 23), blobs(30, 17, 23)
    assert masks.any((1, 2)).all()
    expected = [distance_by_hand(h, m) for h, m in zip(heat, masks, strict=True)]
    assert min(expected) < 2 < 6 < max(expected)
    np.testing.assert_allclose(distance(heat, masks), expected, rtol=1e-6)
    hits = np.asarray(game(heat, masks, tolerance=4))
    np.testing.assert_array_equal(hits, [float(d < 4) for d in expected])
    each = np.arange(30) / 4
    hits = game(heat, masks, tolerance=each)
    np.testing.assert_array_equal(hits, [float(d < t) for d, t in zip(expected, each, strict=True)])


def test_the_inequality_is_strict_but_the_object_itself_always_counts():
    heat = np.zeros((1, 40), np.float32)
    heat[0, 20] = 1
    masks = np.eye(40, dtype=bool)[[35, 34, 5, 6, 20, 21], None]  # 15, 14, 15, 14, 0 and 1 away
    assert game(heat, masks).tolist() == [0, 1, 0, 1, 1, 1]
    assert game(heat, masks, tolerance=15.001).tolist() == [1] * 6
    assert game(heat, masks, tolerance=0).tolist() == [0, 0, 0, 0, 1, 0]
    assert (distance(heat, masks) <= 15).tolist() == [True] * 6


def test_flat_maps_miss_and_an_empty_mask_is_no_question():
    for mask in (FULL, ONE_PIXEL):
        assert np.asarray(game(FLAT, mask, tolerance=99)).tolist() == [0] * 7
        assert np.isinf(distance(FLAT, mask)).all()
    assert metrics.is_flat(FLAT).all()
    assert not metrics.is_flat(TIED)
    assert np.isnan(game(FLAT, EMPTY)).all()
    assert np.isnan(game(TIED, EMPTY))
    assert game(TIED, FULL, tolerance=0) == 1
    assert game(TIED, ONE_PIXEL, tolerance=0) == 1  # the first of two maxima
    assert game(TIED[::-1], ONE_PIXEL[::-1], tolerance=0) == 0


def test_nan_and_infinities_win_nothing():
    heat, mask = TIED.copy(), ONE_PIXEL
    heat[0, 0], heat[0, 1], heat[3, 3] = np.nan, np.inf, -np.inf
    assert distance(heat, mask) == 0
    assert not metrics.is_flat(heat)


def test_maps_of_one_size_and_pictures_of_many_are_one_compiled_call():
    """What the golden protocol asks for, beside a resize and a search for each picture alone."""
    coarse, sizes = random(6, 5, 7), np.array([[30, 44], [48, 31], [20, 50], [48, 50]] * 2)[:6]
    masks = np.zeros((6, 48, 50), bool)
    for mask, (height, width), seed in zip(masks, sizes, range(6), strict=True):
        mask[:height, :width] = blobs(height, width, seed=seed)
    tolerance = 15 / 100 * sizes.max(-1)

    @jax.jit
    def play(coarse, sizes, masks, tolerance):
        heat = M.resize_each(coarse, sizes, (48, 50))
        away = metrics.pointing_distance(heat, masks)
        return away, away <= tolerance, metrics.pointing_game(heat, masks, tolerance=tolerance)

    away, closed, strict = play(coarse, sizes, masks, tolerance)
    for i, (height, width) in enumerate(sizes.tolist()):
        heat = np.asarray(resize(coarse[i], (height, width)))
        expected = distance_by_hand(heat, masks[i, :height, :width])
        assert away[i] == pytest.approx(expected, rel=1e-6)
        assert closed[i] == (expected <= tolerance[i])
        assert strict[i] == (expected < tolerance[i])


def test_targets_broadcast_and_batches_equal_their_rows():
    heat, masks = random(2, 3, 9, 8), blobs(2, 1, 9, 8)
    masks[:, :, 4, 4] = True
    hits = game(heat, masks, tolerance=3)
    assert hits.shape == (2, 3)
    assert hits[1, 2] == game(heat[1, 2], masks[1, 0], tolerance=3)
    half = jax.eval_shape(metrics.pointing_game, heat.astype(jnp.bfloat16), masks)
    assert half.dtype == jnp.float32
    jaxpr = jax.make_jaxpr(metrics.pointing_game)
    assert len(jaxpr(heat, masks).eqns) == len(jaxpr(heat[:1], masks[:1]).eqns)


def test_the_centre_is_a_point_with_fractions():
    mask = np.zeros((5, 8), bool)
    mask[0, 4] = True
    assert metrics.nearest_distance(jnp.array([2.5, 4.0]), mask) == 2.5
    assert np.isnan(metrics.nearest_distance(jnp.array([2.5, np.nan]), mask))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"differ in resolution: bring the maps .*resize"):
        metrics.pointing_game(np.zeros((2, 7, 7)), np.zeros((2, 224, 224), bool))
    with pytest.raises(TypeError, match="masks are float32: give bool"):
        metrics.pointing_game(np.zeros((2, 7, 7)), np.zeros((2, 7, 7), np.float32))
    with pytest.raises(ValueError, match=r"masks have shape \(7,\)"):
        metrics.pointing_game(np.zeros((2, 7, 7)), np.zeros(7, bool))
    with pytest.raises(ValueError, match="row and column"):
        metrics.nearest_distance(np.zeros((2, 3)), np.zeros((7, 7), bool))


# averages ---------------------------------------------------------------------------------------


def test_the_mean_over_categories_is_not_the_mean_over_pairs():
    hits = np.array([[1, 1, 0, 1], [0, np.nan, 1, 1]], np.float32)
    categories = np.array([[0, 0, 0, 0], [2, 2, 5, -1]])  # the last two are no categories
    mean, micro, means, counts = by_category(hits, categories, count=4)
    np.testing.assert_array_equal(means, [0.75, np.nan, 0, np.nan])
    assert counts.tolist() == [4, 0, 1, 0]
    assert (mean, micro) == (0.375, pytest.approx(0.6))


def test_averages_of_nothing_are_nan():
    for values in (np.array([np.nan]), np.zeros(0)):
        scores = by_category(values, np.zeros(values.shape, int), count=2)
        assert np.isnan(scores.mean_over_categories) and np.isnan(scores.micro)
        assert scores.counts.tolist() == [0, 0]
    with pytest.raises(ValueError, match="3 values have 2 categories"):
        metrics.by_category(np.zeros(3), np.zeros(2, int), count=2)


def test_the_difficult_subset_has_small_objects_among_others():
    boxes = np.array([[0, 0, 6, 4], [4, 4, 10, 6], [8, 8, 10, 10]])  # 24, 12 and 4 of 160 pixels
    pictures = [
        ([1, 1, 2], 1, True),  # 36 of 160 < 40
        ([1, 1, 1], 1, False),  # no other category
        ([1, 1, -1], 1, False),  # padding is no other category
        ([1, 2, 2], 2, True),
    ]
    categories, targets, expected = map(np.array, zip(*pictures, strict=True))
    difficult = jax.jit(metrics.in_difficult_subset)
    found = difficult(boxes, categories, targets, sizes=np.array([16, 10]))
    np.testing.assert_array_equal(found, expected)
    strict = difficult(boxes, categories, targets, sizes=np.array([12, 12]))
    assert strict.tolist() == [False, False, False, True]  # 36 of 144 is a quarter, not less


def test_voc_skips_a_category_all_of_whose_objects_are_difficult():
    categories = np.array([[1, 1, 2], [1, 2, -1], [1, 1, 2]])
    difficult = np.array([[True, False, True], [True, False, True], [True, True, False]])
    assert metrics.is_skipped(categories, difficult, np.array([1, 1, 1])).tolist() == [
        False,
        True,
        True,
    ]


# protocol ---------------------------------------------------------------------------------------


def test_a_protocol_names_every_keyword_argument():
    assert metrics.protocol(metrics.pointing_game, tolerance=3) == {
        "metric": "pointing_game",
        "tolerance": 3,
    }
    with pytest.raises(TypeError, match="pointing_game has no radius: it has tolerance"):
        metrics.protocol(metrics.pointing_game, radius=15)
    with pytest.raises(TypeError, match="localisation_error needs threshold"):
        metrics.protocol(metrics.localisation_error)
    full = metrics.protocol(metrics.localisation_error, threshold=0.5, rule="energy")
    assert full == dict(
        metric="localisation_error", threshold=0.5, rule="energy", sizes=None, iou=0.5
    )
    assert set(full) - {"metric"} <= set(inspect.signature(metrics.localisation_error).parameters)
