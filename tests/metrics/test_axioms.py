"""What maps sum to: linear models whose attributions are known, and maps that say nothing."""

import jax
import jax.numpy as jnp
import numpy as np
from degenerate import FLAT, TIED

from jaxground import metrics

gap, conserved = jax.jit(metrics.completeness_gap), jax.jit(metrics.conservation)


def test_gradient_times_input_is_complete_for_a_linear_model_and_half_of_it_is_not():
    weights, images = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)
    maps, scores = weights * images, (weights * images).sum((1, 2), dtype=np.float64)
    np.testing.assert_allclose(gap(maps, scores), 0, atol=2e-5)
    np.testing.assert_allclose(conserved(maps, scores), 1, atol=2e-5)
    np.testing.assert_allclose(gap(maps / 2, scores), 0.5, atol=2e-5)
    np.testing.assert_allclose(gap(-maps, scores), 2, atol=2e-5)
    np.testing.assert_allclose(conserved(-maps, scores), -1, atol=2e-5)
    np.testing.assert_allclose(gap(maps[None], scores[None])[0], gap(maps, scores))
    assert gap(maps[1], scores[1]) < 2e-5


def test_a_total_of_zero_has_no_shares():
    totals = jnp.array([0.0, 2.0, -2.0])
    maps = np.broadcast_to(TIED, (3, 4, 6))
    np.testing.assert_array_equal(gap(maps, totals), [np.nan, 0, 2])
    np.testing.assert_array_equal(conserved(maps, totals), [np.nan, 1, -1])
    assert np.isnan(gap(FLAT, jnp.zeros(7))).all()


def test_flat_maps_attribute_nothing_even_if_their_sum_is_right():
    sums = np.where(np.isfinite(FLAT), FLAT, 0).sum((1, 2))
    totals = np.where(sums == 0, 1, sums)
    np.testing.assert_array_equal(gap(FLAT, totals), 1)
    np.testing.assert_allclose(conserved(FLAT, totals), [1, 0, 0, 1, 1, 0, 1], rtol=1e-5)


def test_values_that_are_no_numbers_count_as_zero():
    maps = np.where(np.arange(24).reshape(4, 6) == 9, np.inf, TIED)
    assert gap(maps, jnp.asarray(2.0)) == 0
