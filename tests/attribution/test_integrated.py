"""Integrated Gradients against closed forms, its axioms, and an explicit sum over the way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jaxground.attribution import integrated_gradients, score_difference

X = zoo.images()


def smooth(x):
    """A network whose gradient changes along the way, without kinks."""
    w = zoo.weights()
    x = jnp.tanh(zoo.convolve(x, w["conv"]) + w["conv_bias"])
    return jnp.tanh(x).mean((1, 2)) @ w["dense"] + w["dense_bias"]


def test_closed_forms():
    """A linear score shares out its terms; a product is halved; a square goes to its pixel."""
    slopes = jnp.arange(1.0, 9.0).reshape(2, 2, 2)

    def f(x):
        linear = (slopes * x).sum((1, 2, 3))
        product = x[:, 0, 0, 0] * x[:, 1, 1, 1]
        return jnp.stack([linear, product, (x**2).sum((1, 2, 3))], axis=1)

    x, start = zoo.normal(2, 2, 2, 2), zoo.normal(2, 2, 2, seed=1)

    @jax.jit
    def explain(x):
        two = integrated_gradients(f, x, [[0, 2], [0, 2]], baseline=start, steps=3)
        return two, integrated_gradients(f, x, [1, 1], steps=1)

    found, product = explain(x)
    np.testing.assert_allclose(found[:, 0], (slopes * (x - start)).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], (x**2 - start**2).sum(-1), rtol=1e-4, atol=1e-5)
    half = x[:, 0, 0, 0] * x[:, 1, 1, 1] / 2
    expected = np.zeros((2, 2, 2))
    expected[:, 0, 0] = expected[:, 1, 1] = half
    np.testing.assert_allclose(product, expected, rtol=1e-5)


def test_it_is_the_midpoint_rule():
    """Whatever the chunks: here rows of one point, of two with one to spare, and of all five."""
    targets, start = np.array([2, 0]), 0.5

    @jax.jit
    def explain(x):
        options = {"baseline": start, "steps": 5, "score": "log_probability"}
        return [
            integrated_gradients(smooth, x, targets, batch_size=size, **options)
            for size in (1, 5, 100)
        ]

    slope = jax.jit(jax.grad(lambda x: jax.nn.log_softmax(smooth(x))[jnp.arange(2), targets].sum()))
    slopes = [np.asarray(slope(start + a * (X - start))) for a in (0.1, 0.3, 0.5, 0.7, 0.9)]
    expected = ((X - start) * np.mean(slopes, axis=0)).sum(-1)
    for found in explain(X):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_completeness_to_the_precision_of_the_rule():
    """The error of the midpoint rule falls with the square of the steps."""
    targets = jnp.array([[0, 1], [2, 2]])

    @jax.jit
    def gaps(x):
        maps = {n: integrated_gradients(smooth, x, targets, steps=n) for n in (8, 16, 128)}
        total = score_difference(smooth, x, targets)
        return {n: m.sum((-2, -1)) - total for n, m in maps.items()}

    found = gaps(0.5 * X)
    assert found[8].shape == (2, 2)
    assert np.abs(found[8]).max() > 5e-3, "the network is curved"
    assert np.abs(found[16]).max() < np.abs(found[8]).max() / 3
    np.testing.assert_allclose(found[128], 0, atol=1e-4)


def test_the_difference_is_that_of_the_scores():
    logits, at_zero = (np.asarray(jax.jit(smooth)(x)) for x in (X, 0 * X))
    chosen = np.array([1, 2])

    @jax.jit
    def differences(x):
        return (
            score_difference(smooth, x, chosen),
            score_difference(smooth, x, chosen[:, None], score="probability"),
            score_difference(smooth, x, chosen, baseline=x),
        )

    plain, softmax, same = differences(X)
    np.testing.assert_allclose(plain, (logits - at_zero)[[0, 1], chosen], rtol=1e-5)
    probabilities = jax.nn.softmax(logits) - jax.nn.softmax(at_zero)
    np.testing.assert_allclose(softmax[:, 0], probabilities[jnp.arange(2), chosen], rtol=1e-5)
    np.testing.assert_allclose(same, 0)


def test_a_pixel_that_is_not_used_gets_nothing_and_one_that_decides_does():
    """Sensitivity (Sundararajan et al., section 2.1): where the gradient is blind, saturated."""

    def saturated(x):
        return 1 - jax.nn.relu(1 - x[:, 0, 0])

    image = jnp.zeros((1, 2, 2, 1)).at[0, 0, 0].set(4).at[0, 1, 1].set(9)
    found = jax.jit(lambda x: integrated_gradients(saturated, x, [0], steps=40))(image)
    np.testing.assert_allclose(found, [[[1, 0], [0, 0]]], atol=1e-6)


def test_implementation_does_not_matter():
    w = zoo.weights()

    def other(x):
        """The same function: the classifier in two halves, a sum of differences, a detour."""
        x = jax.nn.relu(x) - jax.nn.relu(-x)
        x = jnp.tanh(zoo.convolve(x, w["conv"]) + w["conv_bias"])
        x = jnp.tanh(jnp.flip(x, 1)).sum((2, 1)) / 36
        return x[:, :2] @ w["dense"][:2] + (x[:, 2:] @ w["dense"][2:] + w["dense_bias"])

    one, two = jax.jit(
        lambda x: [integrated_gradients(f, x, [0, 1], steps=4) for f in (smooth, other)]
    )(X)
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_rows_targets_and_jit():
    targets = jnp.array([[0, 2], [1, 1]])
    explain = functools.partial(integrated_gradients, smooth, steps=3)
    together, row, one = jax.jit(
        lambda x, t: (explain(x, t), explain(x[1:], t[1:]), explain(x, t[:, 0]))
    )(X, targets)
    assert together.shape == (2, 2, 6, 6)
    np.testing.assert_allclose(together[:, 0], one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together[:, 1], explain(X, targets[:, 1]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together[1:], row, rtol=1e-4, atol=1e-6)


def test_memory_does_not_depend_on_the_steps():
    def temporary(steps):
        explain = jax.jit(lambda x: integrated_gradients(smooth, x, [0], steps=steps, batch_size=4))
        return explain.lower(X[:1]).compile().memory_analysis().temp_size_in_bytes

    assert temporary(256) <= temporary(16) + 4096  # the numbers of the steps alone


def test_a_half_precision_network_keeps_its_maps_in_float32():
    weights = zoo.normal(72, 3)

    def f(x):
        return jnp.tanh(x.reshape(len(x), -1) @ weights.astype(x.dtype))

    half = jnp.asarray(X / 8, jnp.bfloat16)
    found, expected = jax.jit(
        lambda *both: [integrated_gradients(f, x, [0, 1], steps=8) for x in both]
    )(half, X / 8)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_errors_come_first():
    with pytest.raises(ValueError, match="at least one step, got steps=0"):
        integrated_gradients(smooth, X, [0, 1], steps=0)
    with pytest.raises(ValueError, match=r"classes \[3\] are out of range"):
        integrated_gradients(smooth, X, [0, 3])
    with pytest.raises(ValueError, match="batch_size is 0"):
        integrated_gradients(smooth, X, [0, 1], batch_size=0)
