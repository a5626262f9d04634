"""Shares of a map against sums and sorts written pixel by pixel, and against hand-counted maps."""

import functools

import jax
import numpy as np
import pytest
from degenerate import EMPTY, FLAT, FULL, LEFT, NAN, ONE_PIXEL, TIED, ZERO
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxground import metrics

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(5, 3, 6, 9)).astype(np.float32)
MASKS = RNG.random((5, 1, 6, 9)) < 0.3
GAPS = np.where(RNG.random(MAPS.shape) < 0.1, np.nan, MAPS)


def each(metric, maps, masks):
    """A metric by hand, one pair at a time."""
    masks = np.broadcast_to(masks, maps.shape)
    pairs = zip(maps.reshape(-1, 6, 9), masks.reshape(-1, 6, 9), strict=True)
    return np.array([metric(heat, mask) for heat, mask in pairs]).reshape(maps.shape[:2])


def energy_by_hand(heat, mask):
    inside = outside = 0.0
    for value, where in zip(heat.ravel().tolist(), mask.ravel(), strict=True):
        if value > 0:
            inside, outside = inside + value * where, outside + value * (not where)
    return inside / (inside + outside)


def top_by_hand(heat, mask, k=None):
    k = int(mask.sum()) if k is None else k
    values = [(-v, i) for i, v in enumerate(heat.ravel().tolist()) if v == v]
    chosen = sorted(values)[:k]
    return sum(bool(mask.ravel()[i]) for _, i in chosen) / len(chosen)


energy = jax.jit(metrics.energy_pointing_game)
top_k = jax.jit(metrics.top_k_intersection)
grid_game = jax.jit(metrics.grid_pointing_game, static_argnames="grid")


def test_energy_is_positive_mass_inside_over_all_of_it():
    np.testing.assert_allclose(energy(GAPS, MASKS), each(energy_by_hand, GAPS, MASKS), rtol=1e-5)
    for scale in (1e-30, 1e37):  # sums of such values leave float32
        np.testing.assert_allclose(energy(GAPS * scale, MASKS), energy(GAPS, MASKS), rtol=1e-5)


@pytest.mark.parametrize("k", [None, 7, 1000])
def test_the_top_pixels_are_those_a_sort_finds(k):
    found = top_k(GAPS, MASKS, k=k)
    by_hand = functools.partial(top_by_hand, k=k)
    np.testing.assert_allclose(found, each(by_hand, GAPS, MASKS), rtol=1e-6)


def test_a_number_of_pixels_for_each_map_and_double_precision(float64):
    k = np.array([[1], [2], [3], [50], [9]])
    found = top_k(GAPS.astype(np.float64), MASKS, k=k)
    assert found.dtype == np.float64
    expected = [
        [top_by_hand(heat, mask[0], int(number[0])) for heat in three]
        for three, mask, number in zip(GAPS, MASKS, k, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_equal_values_share_the_places_that_are_left():
    heat = np.array([[3.0, 1.0, 1.0, 1.0, 1.0, 0.0, -0.0, -2.0]])
    mask = np.array([[True, True, False, False, False, True, False, False]])
    expected = {1: 1, 2: 1.25 / 2, 3: 1.5 / 3, 5: 2 / 5, 6: 2.5 / 6, 7: 3 / 7, 8: 3 / 8}
    for k, share in expected.items():
        assert top_k(heat, mask, k=k) == pytest.approx(share), k


@given(st.permutations(range(24)), st.integers(1, 24))
@settings(deadline=None, max_examples=25)
def test_the_order_of_values_is_all_that_counts(order, k):
    heat = np.array(order, np.float32).reshape(4, 6) - 11.5
    mask = np.asarray(LEFT)
    assert top_k(heat, mask, k=k) == pytest.approx(
        np.mean([mask.ravel()[order.index(rank)] for rank in range(24 - k, 24)])
    )
    assert top_k(np.cbrt(heat) * 1e-3, mask, k=k) == top_k(heat, mask, k=k)


# mosaics ----------------------------------------------------------------------------------------


def test_cells_are_counted_in_reading_order():
    heat = np.zeros((4, 4, 6), np.float32)
    places = [(0, 0), (1, 5), (3, 2), (2, 3)]
    for one, (row, column) in zip(heat, places, strict=True):
        one[row, column] = 2
    shares = grid_game(heat[:, None], np.arange(4), grid=(2, 2))
    np.testing.assert_array_equal(shares, np.eye(4))


@pytest.mark.parametrize("grid", [(3, 2), (4, 4)])
def test_pixels_on_a_border_are_split_by_area(grid):
    """Which is what enlarging every pixel until the grid divides the map would give."""
    play = functools.partial(grid_game, grid=grid)
    cells = np.arange(grid[0] * grid[1])
    big = np.kron(np.nan_to_num(np.maximum(GAPS, 0)), np.ones(grid))
    parts = [half for row in np.split(big, grid[0], -2) for half in np.split(row, grid[1], -1)]
    expected = np.stack([part.sum((-2, -1)) for part in parts], -1) / big.sum((-2, -1))[..., None]
    np.testing.assert_allclose(play(GAPS[:, :, None], cells), expected, rtol=1e-5)


def test_a_target_that_is_not_in_the_mosaic_is_no_question():
    shares = grid_game(MAPS[:1, 0], np.array([[-1], [0], [6]]), grid=(2, 3))
    assert np.isnan(shares).tolist() == [[True], [False], [True]]
    with pytest.raises(ValueError, match="a grid of 0x2 has no cells"):
        grid_game(MAPS, np.zeros((5, 3), int), grid=(0, 2))


# maps that say nothing --------------------------------------------------------------------------


def test_flat_maps_get_chance_or_nothing():
    half, one = [0.5, 0, 0, 0, 0.5, 0, 0.75], 1 / 24  # a third of the last is no picture
    np.testing.assert_allclose(energy(FLAT, LEFT), half, rtol=1e-6)
    np.testing.assert_allclose(energy(FLAT[:2], ONE_PIXEL), [one, 0], rtol=1e-6)
    np.testing.assert_allclose(energy(FLAT[:2], FULL), [1, 0], rtol=1e-6)
    cells = grid_game(FLAT[:6, None], np.arange(6), grid=(2, 3))
    expected = np.array([1, 0, 0, 0, 1, 0])[:, None] / 6 * np.ones(6)
    np.testing.assert_allclose(cells, expected, rtol=1e-6)
    for k in (1, 12, 24):
        shares = top_k(FLAT, LEFT, k=k)
        np.testing.assert_allclose(shares, [0.5, 0.5, 0, 0.5, 0.5, 0, 0.75], rtol=1e-6)
        np.testing.assert_allclose(top_k(FLAT[:2], ONE_PIXEL, k=k), one, rtol=1e-6)


def test_other_edges():
    for metric in (energy, top_k):
        assert np.isnan(metric(np.stack([TIED, ZERO, NAN]), EMPTY)).all()
        assert metric(TIED, FULL) == 1
    assert energy(TIED, ONE_PIXEL) == 0.5
    assert top_k(TIED, ONE_PIXEL, k=1) == 0.5
    assert top_k(TIED, ONE_PIXEL) == 0.5
    assert top_k(TIED, ONE_PIXEL, k=2) == 0.5
    half = jax.eval_shape(energy, MAPS[0, 0].astype("bfloat16"), MASKS[0, 0])
    assert half.dtype == np.float32
