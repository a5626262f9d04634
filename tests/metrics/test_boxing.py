"""Boxes against counted pixels, and the search against the loop it replaces."""

import jax
import numpy as np
import pytest
from degenerate import FLAT, ONE_PIXEL, TIED

from jaxground import maps as M
from jaxground import metrics

RNG = np.random.default_rng(0)

localisation_error = jax.jit(metrics.localisation_error, static_argnames="rule")


def random_boxes(count, height, width):
    corners = RNG.integers(0, [[width], [height]], (count, 2, 2))
    low, high = np.sort(corners, axis=-1).transpose(2, 0, 1)
    return np.concatenate([low, high + 1], axis=-1)


def pixels(box, height, width):
    x0, y0, x1, y1 = box
    inside = np.zeros((height, width), bool)
    inside[y0:y1, x0:x1] = True
    return inside


def iou_by_pixels(first, second, height=11, width=13):
    first, second = pixels(first, height, width), pixels(second, height, width)
    return (first & second).sum() / max((first | second).sum(), 1)


def test_overlap_is_that_of_counted_pixels():
    first, second = random_boxes(40, 11, 13), random_boxes(40, 11, 13)
    expected = [iou_by_pixels(a, b) for a, b in zip(first, second, strict=True)]
    assert min(expected) == 0 < 0.5 < max(expected)
    pairs, table, same = jax.jit(
        lambda a, b: [metrics.box_iou(*both) for both in ((a, b), (a[:, None], b), (a, a))]
    )(first, second)
    np.testing.assert_allclose(pairs, expected, rtol=1e-6)
    np.testing.assert_allclose(np.diagonal(table), expected, rtol=1e-6)
    np.testing.assert_array_equal(same, 1)


def test_boxes_without_area_overlap_nothing():
    empty = np.array([[2, 2, 2, 9], [5, 5, 3, 3], [0, 0, 0, 0]])
    assert metrics.box_iou(empty, empty).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"boxes must be \(x0, y0, x1, y1\)"):
        metrics.box_iou(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize("rule", ["mean", "energy"])
def test_the_error_and_the_search_are_those_of_a_loop(rule):
    maps = np.maximum(RNG.normal(size=(10, 5, 6)), 0).astype(np.float32) ** 2
    maps[4] = 1  # flat: an error at any threshold
    sizes = RNG.integers(8, 14, (10, 2))
    truth = np.stack([random_boxes(3, *size) for size in sizes])
    truth[:5, 1:], truth[9] = 0, 0  # padding; the last picture has no object
    grid = {"mean": np.arange(21) * 0.5}.get(rule, np.arange(21) * 0.05)
    expected = np.full((21, 10), np.nan)
    every = jax.jit(jax.vmap(lambda threshold: M.boxes(maps, threshold, rule, size=sizes)))
    found = np.asarray(every(grid.astype(np.float32)))
    for i, j in np.ndindex(21, 9):
        overlaps = [iou_by_pixels(found[i, j], box, *sizes[j]) for box in truth[j]]
        expected[i, j] = j == 4 or max(overlaps) < 0.5
    searched = metrics.search_threshold(maps, truth, rule=rule, sizes=sizes, batch_size=5)
    means = np.nanmean(expected, axis=1)
    assert means.min() < means.max()
    np.testing.assert_allclose(searched.errors, means, rtol=1e-6)
    np.testing.assert_allclose(searched.thresholds, grid, rtol=1e-6)
    assert searched.threshold == pytest.approx(grid[means.argmin()])
    error = localisation_error(maps, truth, threshold=grid[3], rule=rule, sizes=sizes)
    np.testing.assert_array_equal(error, expected[3])


def test_one_of_several_boxes_is_enough_and_half_is_half():
    heat = np.zeros((4, 8), np.float32)
    heat[1:3, 2:6] = 1  # box 2, 1, 6, 3: eight pixels
    truth = np.array([[[2, 1, 6, 3]], [[2, 1, 4, 3]], [[2, 1, 4, 4]], [[0, 0, 8, 4]]])
    errors = localisation_error(heat, truth, threshold=1.0)
    assert errors.tolist() == [0, 0, 1, 1]  # overlaps 1, 4/8, 4/10, 8/32
    several = np.tile(truth[::-1].swapaxes(0, 1), (4, 1, 1))
    assert localisation_error(heat, several, threshold=1.0).tolist() == [0] * 4
    assert localisation_error(heat, truth, threshold=1.0, iou=0.51).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("rule", ["min_max", "energy"])
def test_flat_maps_are_errors_even_where_the_object_fills_the_picture(rule):
    full, none = np.array([[0, 0, 6, 4]]), np.zeros((1, 4))
    errors = localisation_error(FLAT, full, threshold=0.5, rule=rule)
    np.testing.assert_array_equal(errors, 1)
    assert np.isnan(localisation_error(FLAT, none, threshold=0.5, rule=rule)).all()
    heat = np.tile(np.where(ONE_PIXEL, 1, 0).astype(np.float32), (7, 1, 1))
    errors = localisation_error(heat, np.array([[4, 1, 5, 2]]), threshold=0.9, rule=rule)
    # Energy drops the pixel that reaches the share, hence all there is: the whole picture.
    np.testing.assert_array_equal(errors, float(rule == "energy"))


def test_a_search_says_what_it_needs():
    with pytest.raises(ValueError, match="rule is 'median': choose one of mean, min_max, energy"):
        metrics.search_threshold(FLAT, np.zeros((7, 1, 4)), rule="median")  # pyright: ignore
    with pytest.raises(ValueError, match=r"expected \[n, height, width\]"):
        metrics.search_threshold(TIED, np.zeros((1, 4)))
