"""Frames by themselves, gradients through time, probabilities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground.attribution import contrastive_excitation_backprop, gradient
from jaxground.core import tap
from jaxground.spatiotemporal import (
    class_probability,
    framewise,
    spatiotemporal_gradient,
    threshold_probability,
)

BATCH, TIME = 2, 3
GENERATOR = np.random.default_rng(0)
FILTERS = GENERATOR.normal(size=(2, 4)).astype(np.float32)
WEIGHTS = GENERATOR.normal(size=(4, 3)).astype(np.float32)
VIDEO = GENERATOR.uniform(size=(BATCH, TIME, 2, 3, 2)).astype(np.float32)
TARGETS = np.array([[0, 1], [2, 1]])


def cnn(frames):
    return tap(jnp.tanh(frames @ FILTERS), "conv").mean((1, 2))


def rnn(features):
    return jnp.tanh(jnp.cumsum(features, 1)) @ WEIGHTS


def test_framewise_is_each_frame_by_itself():
    f = lambda x: jax.nn.relu(tap(x, "x").mean((1, 2)) @ FILTERS) @ WEIGHTS  # noqa: E731
    in_passes = framewise(contrastive_excitation_backprop, batch_size=4)  # one is left over
    together = jax.jit(functools.partial(in_passes, f, at="x"))(VIDEO, TARGETS)
    assert together.shape == (BATCH, 2, TIME, 2, 3)
    alone = jax.jit(functools.partial(contrastive_excitation_backprop, f, at="x"))
    for t in range(TIME):
        np.testing.assert_allclose(together[:, :, t], alone(VIDEO[:, t], TARGETS), rtol=1e-5)
    explain = framewise(contrastive_excitation_backprop)
    one = jax.jit(functools.partial(explain, f, at="x"))(VIDEO, TARGETS[:, 0])
    np.testing.assert_allclose(one, together[:, 0], rtol=1e-5)
    with pytest.raises(ValueError, match="at least one frame"):
        framewise(gradient)(f, VIDEO[:, :0], TARGETS)


@pytest.mark.parametrize("at", [None, "conv"])
def test_the_gradient_through_time(at):
    steps = np.array([2, 0])
    explain = functools.partial(spatiotemporal_gradient, cnn, rnn, step=steps, at=at)
    found = jax.jit(explain)(VIDEO, TARGETS)

    @jax.jit
    @jax.grad
    def slope(x, step, target):
        hidden = jnp.tanh(x @ FILTERS) if at is None else x
        return rnn(hidden.mean((1, 2))[None])[0, step, target]

    for b, k in np.ndindex(BATCH, 2):
        x = VIDEO[b] if at is None else np.tanh(VIDEO[b] @ FILTERS)
        expected = abs(slope(x, steps[k], TARGETS[b, k])).max(-1)
        np.testing.assert_allclose(found[b, k], expected, rtol=1e-4, atol=1e-7)
    assert not np.any(found[:, 1, 1:])  # the first step sees no later frame
    if at:
        passes = jax.jit(functools.partial(explain, batch_size=4))(VIDEO, TARGETS)
        np.testing.assert_allclose(passes, found, rtol=1e-5, atol=1e-7)


def test_probability_signals():
    logits = GENERATOR.normal(size=(BATCH, TIME, 3)).astype(np.float32)
    odds = np.exp(logits)
    expected = odds / odds.sum(-1, keepdims=True)
    found = class_probability(jnp.asarray(logits), TARGETS)
    for b, k in np.ndindex(BATCH, 2):
        np.testing.assert_allclose(found[b, k], expected[b, :, TARGETS[b, k]], rtol=1e-5)
    np.testing.assert_array_equal(class_probability(logits, TARGETS[:, 1]), found[:, 1])
    np.testing.assert_array_equal(threshold_probability(found, 0.3), np.where(found >= 0.3, 1, -1))
    with pytest.raises(ValueError, match=r"classes \[3\] are out of range"):
        class_probability(logits, np.array([3, 0]))
    with pytest.raises(ValueError, match=r"logits \[batch, steps, classes\]"):
        class_probability(logits[0], TARGETS)
