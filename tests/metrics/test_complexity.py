"""Sparseness and entropy against their papers' sums, written out in NumPy."""

import math

import jax
import numpy as np
import pytest
from degenerate import CONSTANT, FLAT, TIED

from jaxground import metrics

RNG = np.random.default_rng(0)
MAPS = (RNG.normal(size=(4, 2, 5, 7)) ** 3).astype(np.float32)
GAPS = np.where(RNG.random(MAPS.shape) < 0.2, np.nan, MAPS)

sparseness, entropy = jax.jit(metrics.sparseness), jax.jit(metrics.entropy)


def gini_by_differences(heat):
    """The Gini index as the mean difference of all pairs: no order, no rank."""
    sizes = np.abs(heat[~np.isnan(heat)]).astype(np.float64)
    return np.abs(sizes[:, None] - sizes).sum() / (2 * len(sizes) * sizes.sum())


def entropy_by_hand(heat):
    sizes = [abs(v) for v in heat.ravel().tolist() if v == v]
    return -sum(v / sum(sizes) * math.log(v / sum(sizes)) for v in sizes if v)


@pytest.mark.parametrize(
    ("metric", "by_hand"), [(sparseness, gini_by_differences), (entropy, entropy_by_hand)]
)
def test_metric_is_that_of_the_paper(metric, by_hand):
    expected = [[by_hand(heat) for heat in pair] for pair in GAPS]
    np.testing.assert_allclose(metric(GAPS), expected, rtol=1e-5)
    np.testing.assert_allclose(metric(-1e-30 * GAPS), expected, rtol=1e-5)
    np.testing.assert_allclose(metric(1e36 * GAPS), expected, rtol=1e-5)
    flipped = metric(GAPS[..., ::-1, ::-1])
    np.testing.assert_allclose(flipped, expected, rtol=1e-5)
    assert metric(MAPS[0, 0]) == pytest.approx(by_hand(MAPS[0, 0]), rel=1e-5)


def test_one_pixel_alone_is_best_and_flat_maps_are_worst():
    assert sparseness(TIED) == pytest.approx(1 - 2 / 24)  # two pixels of 24
    assert entropy(TIED) == pytest.approx(math.log(2))
    one = np.where(np.arange(24).reshape(4, 6) == 7, -5.0, 0)
    assert sparseness(one) == pytest.approx(1 - 1 / 24)
    assert entropy(one) == 0
    np.testing.assert_array_equal(sparseness(FLAT), 0)
    expected = np.log([24, 24, 24, 24, 24, 24, 16])  # a third of the last has no value
    np.testing.assert_allclose(entropy(FLAT), expected, rtol=1e-6)


def test_a_map_that_is_nearly_constant_is_nearly_as_bad():
    nearly = CONSTANT + np.linspace(0, 1e-3, 24).reshape(4, 6)
    assert 0 < sparseness(nearly) < 0.01
    assert math.log(24) - 1e-5 < entropy(nearly) < math.log(24) * (1 + 1e-6)


def test_large_maps_keep_their_precision():
    heat = np.abs(RNG.normal(size=(200, 300))).astype(np.float32)
    # A half-normal's Gini index is sqrt(2) - 1.
    assert sparseness(heat) == pytest.approx(math.sqrt(2) - 1, abs=3e-3)
    sizes = heat.astype(np.float64) / heat.sum(dtype=np.float64)
    assert entropy(heat) == pytest.approx(-(sizes * np.log(sizes)).sum(), rel=1e-6)
