"""Mean, variance and mean square over noise, against an explicit loop over the same keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jaxground.attribution import (
    excitation_backprop,
    gradient,
    input_x_gradient,
    signed_gradient,
    smooth_grad,
    square_grad,
    var_grad,
)

F, X, KEY = zoo.plain(zoo.weights()), zoo.images(), jax.random.key(7)
WRAPPERS = (smooth_grad, var_grad, square_grad)


def noisy_copies(images, samples, noise):
    """The definition: noise `i` of the key, times the range of each image."""
    copies = []
    for i in range(samples):
        drawn = np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), images.shape[1:]))
        widths = np.array([image.max() - image.min() for image in images])
        copies.append(images + noise * widths[:, None, None, None] * drawn)
    return copies


@pytest.mark.parametrize("explainer", [excitation_backprop, signed_gradient])
def test_wrappers_are_a_loop_over_the_samples(explainer):
    """Five samples of two images in passes of four images: the last pass has one to spare."""
    targets = np.array([[0, 2], [1, 1]])
    single = jax.jit(lambda x: explainer(F, x, targets, at="conv", score="log_probability"))
    maps = np.stack([single(x) for x in noisy_copies(X, 5, 0.3)]).astype(np.float64)
    assert maps.std(0).max() > 0.01

    @jax.jit
    def explain(x):
        wrapped = [w(explainer, samples=5, noise=0.3, batch_size=4) for w in WRAPPERS]
        options = {"key": KEY, "at": "conv", "score": "log_probability"}
        return [w(F, x, targets, **options) for w in wrapped]

    expected = maps.mean(0), maps.var(0), (maps**2).mean(0)
    for found, map in zip(explain(X), expected, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, map, rtol=1e-4, atol=1e-6)


def test_chunks_rows_and_targets_do_not_matter():
    targets = jnp.array([[0, 2], [1, 1]])

    def explain(x, targets, batch_size):
        wrapped = smooth_grad(input_x_gradient, samples=5, batch_size=batch_size)
        return wrapped(F, x, targets, key=KEY)

    @jax.jit
    def every(x, traced):
        return (
            explain(x, targets, 100),
            explain(x, targets, 1),
            explain(x[1:], targets[1:], 3),
            explain(x, traced, 6),
        )

    together, singly, row, one = every(X, targets[:, 0])
    assert together.shape == (2, 2, 6, 6)
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(singly, together, **close)
    np.testing.assert_allclose(row, together[1:], **close)
    np.testing.assert_allclose(one, together[:, 0], **close)


def test_without_noise_nothing_changes():
    @jax.jit
    def explain(x):
        wrapped = [w(gradient, samples=3, noise=0) for w in WRAPPERS]
        return gradient(F, x, [0, 1]), *(w(F, x, [0, 1], key=KEY) for w in wrapped)

    plain, mean, variance, square = explain(X)
    np.testing.assert_allclose(mean, plain, rtol=1e-6)
    assert 0 <= variance.min() and variance.max() < 1e-12
    np.testing.assert_allclose(square, plain**2, rtol=1e-5)


def test_noise_is_a_fraction_of_each_range():
    """The variance of the image itself, seen by an explainer that shows it."""

    def show(f, images, targets):
        return images[..., 0]

    images = np.zeros((2, 8, 8, 1), np.float32)
    images[0, 0, 0], images[1, 0, 0], images[1, 0, 1] = 1, -3, 7
    wrapped = var_grad(show, samples=500, noise=0.2, batch_size=1000)
    found = jax.jit(lambda x: wrapped(F, x, [0, 0], key=KEY))(images)
    np.testing.assert_allclose(found.mean((1, 2)), [0.2**2, 2.0**2], rtol=0.03)


def test_the_variance_of_large_values_is_that_of_small_ones():
    """In float32 a mean of squares less a square of means would be off by more than a hundred."""

    def show(f, images, targets):
        return images[..., 0]

    def far(f, images, targets):
        return 50_000 + images[..., 0]

    @jax.jit
    def explain(x):
        wrapped = [var_grad(e, samples=64, noise=1.0, batch_size=8) for e in (show, far)]
        return [w(F, x, [0, 0], key=KEY) for w in wrapped]

    near, shifted = explain(X)
    assert near.min() > 0.1
    np.testing.assert_allclose(shifted, near, rtol=0.02)


def test_smooth_grad_of_signed_gradients_is_the_gradient_of_the_smoothed_score():
    """As published: averaging gradients is differentiating the averaged score."""
    copies = noisy_copies(X, 4, 0.15)
    offsets = [jnp.asarray(c - X) for c in copies]

    @jax.jit
    def explain(x):
        expected = jax.grad(lambda x: sum(F(x + o)[:, 1].sum() for o in offsets) / 4)(x)
        return expected, smooth_grad(signed_gradient, samples=4)(F, x, [1, 1], key=KEY)

    expected, found = explain(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_memory_does_not_depend_on_the_samples():
    def temporary(samples):
        explain = var_grad(gradient, samples=samples, batch_size=4)
        compiled = jax.jit(lambda x: explain(F, x, [0], key=KEY)).lower(X[:1]).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(256) <= temporary(16) + 8192  # the numbers of the samples alone


def test_errors_come_first():
    for wrapper in WRAPPERS:
        with pytest.raises(ValueError, match=r"samples=0, noise=0\.15"):
            wrapper(gradient, samples=0)
    with pytest.raises(ValueError, match=r"samples=50, noise=-0\.1"):
        smooth_grad(gradient, noise=-0.1)
    with pytest.raises(ValueError, match="batch_size is 0"):
        smooth_grad(gradient, batch_size=0)
    calls = []
    smooth = smooth_grad(lambda f, x, t: (calls.append(x.shape), gradient(f, x, t))[1])
    with pytest.raises(ValueError, match=r"classes \[3\] are out of range"):
        smooth(F, X, [0, 3], key=KEY)
    with pytest.raises(ValueError, match=r"targets \(3,\) do not match the batch of 2 images"):
        smooth(F, X, [0, 1, 2], key=KEY)
    with pytest.raises(ValueError, match=r"images \[0\] have NaN"):
        smooth(F, X * np.array([np.nan, 1])[:, None, None, None], [0, 1], key=KEY)
    assert calls == [X.shape, X.shape], "nothing but the shapes was looked at"
