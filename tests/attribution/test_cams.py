"""The CAM family against their formulas, written with the derivatives that the papers name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from PIL import Image

from jaxground import models
from jaxground.attribution import (
    cam,
    grad_cam,
    grad_cam_plus_plus,
    guided_backprop,
    guided_grad_cam,
    layer_cam,
)
from jaxground.core import GRADIENT, ground, tap

F, X = zoo.plain(zoo.weights()), zoo.images()
CAMS = [grad_cam_plus_plus, layer_cam, guided_grad_cam]


def above(a):
    """A piecewise linear head from a tap `[h, w, channel]` to two logits."""
    hidden = jax.nn.relu(a.reshape(-1) @ zoo.normal(12, 5, dtype=np.float64))
    return hidden @ zoo.normal(5, 2, dtype=np.float64) / 4


def test_grad_cam_plus_plus_has_the_derivatives_of_the_exponential(float64):
    """Equations 5 and 19 with the true second and third derivatives of `exp(logit)`."""
    a = np.abs(zoo.normal(2, 2, 3, dtype=np.float64))

    @jax.jit
    def derivatives(a, target):
        """The first three of Y by each activation alone."""

        def along(direction):
            def y(t):
                return jnp.exp(above(a + t * direction)[target])

            first, second = jax.grad(y), jax.grad(jax.grad(y))
            return jnp.stack([first(0.0), second(0.0), jax.grad(second)(0.0)])

        return jax.vmap(along)(jnp.eye(a.size).reshape(-1, *a.shape)).T.reshape(3, *a.shape)

    @jax.jit
    def explain(x):
        def f(x):
            return jax.vmap(above)(tap(x, "x"))

        return grad_cam_plus_plus(f, x, [[0, 1]], at="x")[0], f(x)[0]

    maps, logits = (np.asarray(each) for each in explain(a[None]))
    for target in (0, 1):
        first, second, third = np.asarray(derivatives(a, target))
        below = 2 * second + a.sum((0, 1)) * third
        alphas = np.divide(second, below, out=np.zeros_like(below), where=below != 0)
        weights = (alphas * np.maximum(first, 0)).sum((0, 1))
        expected = np.maximum(a @ weights, 0) / np.exp(logits[target])
        np.testing.assert_allclose(maps[target], expected, rtol=1e-6)
    assert expected.max() > 0


def test_grad_cam_plus_plus_of_vanishing_and_impossible_gradients():
    slopes = jnp.array([[[1e-20, 0.0], [2e-20, 0.0]]])

    def small(x):
        return (slopes * tap(x, "x")).sum((1, 2, 3))[:, None]

    @jax.jit
    def explain(image, signed):
        one = grad_cam_plus_plus(small, image, [0], at="x")
        return one, grad_cam_plus_plus(lambda x: tap(x, "x").sum((1, 2)), signed, [0], at="x")

    image = jnp.array([[[[3.0, 1.0], [5.0, 1.0]]]])
    signed = jnp.array([[[[-2.0], [0.0]]]])  # with a slope of one the denominator is zero
    vanishing, impossible = explain(image, signed)
    np.testing.assert_allclose(vanishing, [[[4.5e-20, 7.5e-20]]], rtol=1e-4)  # alpha is a half
    np.testing.assert_array_equal(impossible, [[[0, 0]]])


def test_layer_cam_weighs_every_position():
    targets = np.array([1, 2])

    @jax.jit
    def explain(x):
        _, activations, pull = ground(F, x, at="conv", rules=GRADIENT)
        found = [method(F, x, targets, at="conv") for method in (layer_cam, grad_cam)]
        return activations, pull(jnp.eye(3)[targets]), *found

    activations, slopes, found, coarse = (np.asarray(each, np.float64) for each in explain(X))
    expected = np.maximum((np.maximum(slopes, 0) * activations).sum(-1), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert (np.abs(found - coarse) > 1e-3).any()


def test_guided_grad_cam_is_the_product_at_the_image():
    """At `pool`, half the size of the image; enlarged by Pillow, an implementation apart."""
    targets = np.array([0, 2])

    @jax.jit
    def explain(x):
        return [m(F, x, targets, at="pool") for m in (grad_cam, guided_grad_cam)] + [
            guided_backprop(F, x, targets)
        ]

    coarse, found, fine = (np.asarray(maps) for maps in explain(X))
    assert coarse.shape == (2, 3, 3) and found.shape == (2, 6, 6)
    for product, small, large in zip(found, coarse, fine, strict=True):
        enlarged = Image.fromarray(small).resize((6, 6), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(product, np.asarray(enlarged) * large, rtol=1e-4, atol=1e-6)
    assert found.max() > 0


@pytest.mark.parametrize("method", CAMS)
def test_rows_targets_scores_and_jit(method):
    targets = jnp.array([[0, 2], [1, 0]])

    def explain(x, targets, score="logit"):
        return method(F, x, targets, at="pool", score=score)

    @jax.jit
    def all_at_once(x, targets):
        rows = jnp.concatenate([explain(x[:1], targets[:1]), explain(x[1:], targets[1:])])
        apart = jnp.stack([explain(x, targets[:, k]) for k in range(2)], axis=1)
        own = jax.vmap(lambda t: explain(x, jax.nn.one_hot(t, 3) - jax.nn.softmax(F(x))), 1, 1)
        return (
            explain(x, targets),
            [rows, apart],
            explain(x, targets, "log_probability"),
            own(targets),
        )

    together, same, by_score, by_prior = all_at_once(X, targets)
    for other in same:
        np.testing.assert_allclose(other, together, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_score, by_prior, rtol=1e-4, atol=1e-6)
    assert np.abs(by_score - together).max() > 1e-3
    assert together.min() >= 0 and together.max() > 0


@pytest.mark.parametrize("method", [grad_cam, grad_cam_plus_plus])
def test_several_targets_of_a_real_network(method, data):
    """Where the compiler of jaxlib 0.10.2 went wrong: fire5, compiled, two targets."""
    model = models.create("squeezenet1_1", weights=data / "weights/squeezenet1_1.safetensors")
    images = jnp.abs(zoo.normal(1, 224, 224, 3))
    explain = jax.jit(lambda model, x, t: method(model, x, t, at="fire5"))
    together = explain(model, images, jnp.array([[243, 281]]))
    apart = explain(model, images, jnp.array([243]))
    np.testing.assert_allclose(together[:, 0], apart, atol=1e-4 * float(apart.max()))


# --- where a class activation map is defined ------------------------------------------------------


def tapped(head):
    return lambda x: head(tap(zoo.convolve(x, zoo.weights()["conv"]), "h"))


def average_pool(x):
    sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 6, 6, 1), (1, 1, 1, 1), "VALID")
    return sums.reshape(len(x), 4) / 36


def test_cam_of_heads_with_one_weight_per_channel():
    heads = {
        "window": lambda h: average_pool(h) @ zoo.normal(4, 3),
        "classifier first": lambda h: (h @ zoo.normal(4, 3)).mean((1, 2)),
        "logits everywhere": lambda h: h @ zoo.normal(4, 3),
    }

    @jax.jit
    def explain(x):
        maps = {name: cam(tapped(head), x, [0, 2], at="h") for name, head in heads.items()}
        return maps, zoo.convolve(x, zoo.weights()["conv"])

    maps, activations = explain(X)
    expected = (np.asarray(activations) @ zoo.normal(4, 3))[[0, 1], :, :, [0, 2]]
    for name, found in maps.items():
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_under_jit_a_head_that_weighs_positions_gives_nan():
    weights = zoo.normal(6, 6, 1)

    def explain(x, weights):
        head = tapped(lambda h: (h * weights).mean((1, 2)) @ zoo.normal(4, 3))
        return cam(head, x, [0, 1], at="h")

    assert np.isnan(jax.jit(explain)(X, weights)).all()
    assert np.isfinite(jax.jit(explain)(X, np.ones((6, 6, 1), np.float32))).all()
