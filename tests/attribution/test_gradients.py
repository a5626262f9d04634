"""Gradients with their sign, against differences of the score."""

import jax
import jax.numpy as jnp
import numpy as np
import zoo

from jaxground.attribution import gradient, input_x_gradient, signed_gradient
from jaxground.core import tap


def test_signed_gradient_is_the_slope_of_the_score(float64):
    """Central differences in double precision, for the score that depends on all logits."""
    x = zoo.images(dtype=np.float64)
    f, targets = zoo.plain(zoo.weights(dtype=np.float64)), np.array([2, 0])
    step = 1e-6
    shifts = step * np.eye(x[0].size).reshape(-1, *x.shape[1:])

    @jax.jit
    def scores(x, shifts):
        return jax.vmap(lambda s: jax.nn.log_softmax(f(x + s))[jnp.arange(2), targets])(shifts)

    @jax.jit
    def explain(x):
        methods = signed_gradient, gradient, input_x_gradient
        return [method(f, x, targets, score="log_probability") for method in methods]

    slopes = np.asarray(scores(x, shifts) - scores(x, -shifts)).T.reshape(x.shape) / (2 * step)
    found, largest, times = explain(x)
    np.testing.assert_allclose(found, slopes, rtol=1e-5, atol=1e-7)
    assert found.min() < 0 < found.max()
    np.testing.assert_allclose(largest, np.abs(slopes).max(-1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(times, (x * slopes).sum(-1), rtol=1e-5, atol=1e-6)


def test_without_biases_the_logit_is_shared_out():
    """Euler: what scales with its input is the sum of its inputs times its slopes."""
    w = zoo.weights() | {"conv_bias": np.zeros(4), "dense_bias": np.zeros(3)}
    f, x, targets = zoo.plain(w), zoo.images(), jnp.array([[0, 1, 2], [2, 1, 0]])

    @jax.jit
    def explain(x):
        return f(x), [input_x_gradient(f, x, targets, at=at) for at in (None, "conv", "block")]

    logits, maps = explain(x)
    expected = np.take_along_axis(np.asarray(logits), np.asarray(targets), 1)
    for found in maps:
        np.testing.assert_allclose(found.sum((2, 3)), expected, rtol=1e-4, atol=1e-5)
    assert found.dtype == jnp.float32 and found.min() < 0


def test_channels_may_cancel():
    def f(x):
        return tap(x, "x").mean((1, 2)) @ jnp.array([[2.0], [-1.0]])

    images = jnp.array([[[[1.0, 2.0], [3.0, 0.0]]]])
    found = jax.jit(lambda x: [input_x_gradient(f, x, [0], at=at) for at in (None, "x")])(images)
    np.testing.assert_allclose(found, [[[[0, 3]]]] * 2)
