"""What all explainers have in common: images, targets, priors, taps, and the errors of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxground.attribution import (
    cam,
    contrastive_excitation_backprop,
    deconvnet,
    excitation_backprop,
    grad_cam,
    gradient,
    guided_backprop,
    input_x_gradient,
    layer_cam,
)
from jaxground.core import CAFFE, EXCITATION, GRADIENT, ground, tap
from jaxground.scores import prior

F, X = zoo.plain(zoo.weights()), zoo.images()
METHODS = {
    method.__name__: method
    for method in (
        excitation_backprop,
        contrastive_excitation_backprop,
        gradient,
        guided_backprop,
        deconvnet,
        input_x_gradient,
        grad_cam,
        layer_cam,
        cam,
    )
}


each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def network(x):
    """Two convolutions, and the head that every method can read."""
    w = zoo.weights()
    x = jax.nn.relu(zoo.convolve(x, w["conv"]) + w["conv_bias"])
    x = tap(jax.nn.relu(zoo.convolve(x, w["block"])), "last")
    return x.mean((1, 2)) @ w["dense"] + w["dense_bias"]


def everywhere(x):
    """The same network, fully convolutional: logits at every position."""
    w = zoo.weights()
    x = tap(jax.nn.relu(zoo.convolve(x, w["conv"]) + w["conv_bias"]), "last")
    return x @ w["dense"]


# --- targets --------------------------------------------------------------------------------------


CLASSES = np.array([[0, 2, 2], [1, 0, 2]])


@functools.cache
def explained(method):
    """Maps of all classes at once, of each alone, of the first's one-hot prior and of halves."""
    priors = jax.nn.one_hot(CLASSES[:, 0], zoo.CLASSES)
    mixed = jnp.stack([priors, 0.5 * priors], axis=1)
    return jax.jit(
        lambda x: [method(network, x, t, at="last") for t in (CLASSES, *CLASSES.T, priors, mixed)]
    )(X)


@each_method
def test_several_targets_equal_separate_calls(method):
    together, *apart = explained(method)[:4]
    assert together.shape == (2, 3, 6, 6)
    np.testing.assert_allclose(together, np.stack(apart, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(together[0, 1], together[0, 2])
    assert np.abs(together[:, 0] - together[:, 2]).max() > 1e-3


@each_method
def test_a_class_is_a_one_hot_prior(method):
    _, by_class, *_, by_prior, by_priors = explained(method)
    assert by_class.shape == (2, 6, 6)
    np.testing.assert_allclose(by_prior, by_class, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_priors[:, 0], by_class, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_priors[:, 1], by_class / 2, rtol=1e-5, atol=1e-6)


def test_known_images_and_targets_may_stand_inside_jit():
    @jax.jit
    def both(x, t):
        given = excitation_backprop(network, x, t, at="last")
        return given, excitation_backprop(network, X, [2, 0], at="last")

    expected, inside = both(X, jnp.array([2, 0]))
    np.testing.assert_allclose(inside, expected, atol=1e-7)
    for images, classes in (X, [2, 3]), (X + np.inf, [2, 0]):
        with pytest.raises(ValueError, match=r"classes \[3\] are|images \[0, 1\] have"):
            jax.jit(lambda _, x=images, t=classes: gradient(network, x, t))(0)


def test_spatial_logits_start_from_the_softmax_over_positions():
    targets = np.array([1, 2])

    @jax.jit
    def explain(x):
        priors, _ = prior(everywhere(x), targets)
        by_hand = ground(everywhere, x, at="last").pull(priors[:, 0]).sum(-1)
        return priors, excitation_backprop(everywhere, x, targets, at="last"), by_hand

    priors, found, by_hand = explain(X)
    assert priors.shape == (2, 1, 6, 6, 3) and np.ptp(priors[0, 0, ..., 1]) > 0.01
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_one_position_is_no_position():
    """A fully convolutional classifier on an image of its own size is a classifier."""

    def spatial(x):
        return network(x)[:, None, None]

    found, expected = jax.jit(
        lambda x: [excitation_backprop(f, x, [1, 2], at="last") for f in (spatial, network)]
    )(X)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_class_out_of_range_under_jit_gives_nothing():
    found = jax.jit(lambda x, t: excitation_backprop(network, x, t, at="last"))(
        X, jnp.array([0, 9])
    )
    assert found[0].sum() > 0.5 and not found[1].any()


# --- maps -----------------------------------------------------------------------------------------


def test_excitation_maps_are_the_mass_summed_over_channels():
    targets = np.array([0, 2])
    one_hot = jax.nn.one_hot(targets, zoo.CLASSES)

    @jax.jit
    def explain(x):
        plain = [
            (
                excitation_backprop(F, x, targets, at="conv", rules=rules),
                ground(F, x, at="conv", rules=rules).pull(one_hot),
            )
            for rules in (EXCITATION, CAFFE)
        ]
        signed = ground(F, x, at="conv", contrastive=True).pull(one_hot)
        return plain, signed, contrastive_excitation_backprop(F, x, targets, at="conv")

    plain, signed, contrastive = explain(X)
    for found, mass in plain:
        np.testing.assert_allclose(found, np.asarray(mass).sum(-1), atol=1e-6)
    signed = np.asarray(signed).sum(-1)
    assert signed.min() < -1e-3
    np.testing.assert_allclose(contrastive, np.maximum(signed, 0), atol=1e-6)


def test_gradient_maps_are_the_largest_slope_over_channels():
    targets = np.array([0, 2])

    @jax.jit
    def explain(x):
        slope = jax.grad(lambda x: F(x)[jnp.arange(2), targets].sum())(x)
        return gradient(F, x, targets), slope

    found, slope = explain(X)
    np.testing.assert_allclose(found, np.abs(slope).max(-1), atol=1e-6)


def test_guided_backprop_deconvnet_and_gradient_differ_as_they_should():
    """One ReLU, one unit on and one off, each under a positive and a negative weight."""
    weights = jnp.array([[1.0, -1.0], [2.0, 3.0]])

    def f(x):
        return jax.nn.relu(x).sum((1, 2)) @ weights

    x = jnp.array([[[[5.0, -5.0]]]])  # the first channel is on, the second off
    signals = {
        gradient: ([1, 0], [-1, 0]),
        guided_backprop: ([1, 0], [0, 0]),
        deconvnet: ([1, 2], [0, 3]),
    }
    every = jax.jit(lambda x: [method(f, x, [[0, 1]]) for method in signals])(x)
    for maps, (method, expected) in zip(every, signals.items(), strict=True):
        largest = [np.abs(signal).max() for signal in expected]
        assert maps.ravel().tolist() == largest, method.__name__


def test_grad_cam_is_cam_where_cam_is_defined():
    """Selvaraju et al., section 3: the same up to the number of positions, before the clip."""
    plain, weighted, _, logits = channel_maps()
    np.testing.assert_allclose(weighted, np.maximum(plain, 0) / 36, rtol=1e-5, atol=1e-7)
    assert plain.min() < 0
    without = np.asarray(logits) - zoo.weights()["dense_bias"]
    np.testing.assert_allclose(plain.mean((1, 2)), without[[0, 1], [1, 2]], rtol=1e-4)


def test_cam_weighs_channels_by_the_classifier():
    plain, _, activations, _ = channel_maps()
    w = zoo.weights()["dense"]
    expected = np.stack([activations[i] @ w[:, t] for i, t in enumerate((1, 2))])
    np.testing.assert_allclose(plain, expected, rtol=1e-5)


@functools.cache
def channel_maps():
    """CAM, Grad-CAM, the activations they weigh and the logits, of classes 1 and 2."""

    @jax.jit
    def explain(x):
        maps = [method(network, x, [1, 2], at="last") for method in (cam, grad_cam)]
        return *maps, ground(network, x, at="last", rules=GRADIENT).activations, network(x)

    return explain(X)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_maps_accumulate_in_float32(dtype):
    x, ones = jnp.ones((1, 2, 2, 1024), dtype), jnp.ones((1024, 1), dtype)
    found = jax.jit(lambda x: excitation_backprop(lambda x: x.mean((1, 2)) @ ones, x, [0]))(x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found.sum(), 1, atol=1e-2)


def test_a_sharded_batch_needs_no_communication():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    spec = NamedSharding(mesh, PartitionSpec("batch"))

    def explain(x, t):
        return {name: method(network, x, t, at="last") for name, method in METHODS.items()}

    compiled = (
        jax.jit(explain, in_shardings=(spec, spec))
        .lower(zoo.images(4), jnp.zeros(4, int))
        .compile()
    )
    text = compiled.as_text()
    assert not any(name in text for name in ("all-reduce", "all-gather", "permute", "all-to-all"))
    for name, sharding in compiled.output_shardings.items():
        assert sharding.is_equivalent_to(spec, 3), name


@pytest.mark.xfail(strict=True, reason="vmap makes targets the major axis of a joint batch")
def test_several_targets_of_a_sharded_batch_need_no_communication():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    spec = NamedSharding(mesh, PartitionSpec("batch"))
    explain = jax.jit(lambda x, t: excitation_backprop(F, x, t), in_shardings=(spec, spec))
    text = explain.lower(zoo.images(4), jnp.zeros((4, 2), int)).compile().as_text()
    assert "all-gather" not in text


# --- errors ---------------------------------------------------------------------------------------


@each_method
def test_images_targets_and_logits_are_checked(method):
    """What is said of each is tested with `jaxground.scores`."""
    with pytest.raises(ValueError, match=r"images \[0\] have NaN or infinite pixels"):
        method(network, X * np.array([np.nan, 1])[:, None, None, None], [0, 1], at="last")
    with pytest.raises(ValueError, match=r"classes \[3\] are out of range: f has 3 classes"):
        jax.eval_shape(lambda: method(network, X, [0, 3], at="last"))
    with pytest.raises(TypeError, match="apply no argmax in f"):
        excitation_backprop(lambda x: network(x).argmax(1), X, [0, 1], at="last")


def test_taps_are_checked():
    with pytest.raises(KeyError, match=r"no tap named 'conv5'; .* \['image', 'conv', 'block'"):
        excitation_backprop(F, X, [0, 1], at="conv5")

    def flat(x):
        return tap(F(x), "logits") @ jnp.ones((3, 3))

    with pytest.raises(ValueError) as raised:
        excitation_backprop(flat, X, [0, 1], at="logits")
    assert str(raised.value) == (
        "tap 'logits' has shape (2, 3); a map needs [batch, height, width, channel]. For the mass "
        "of single neurons use jaxground.ground(f, images, at=...)."
    )


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda h: jax.nn.relu(h.mean((1, 2))) @ jnp.ones((4, 3)), id="hidden layer"),
        pytest.param(lambda h: h.max((1, 2)) @ jnp.ones((4, 3)), id="max pooling"),
        pytest.param(lambda h: h.reshape(2, -1) @ zoo.normal(144, 3), id="no pooling"),
        pytest.param(
            lambda h: zoo.convolve(h, zoo.normal(3, 3, 4, 3)).mean((1, 2)),
            id="a convolution",
        ),
        pytest.param(
            lambda h: (h * zoo.normal(6, 6, 1)).mean((1, 2)) @ jnp.ones((4, 3)),
            id="weighted pooling",
        ),
    ],
)
def test_cam_refuses_heads_without_one_weight_per_channel(head):
    def f(x):
        return head(tap(zoo.convolve(x, zoo.weights()["conv"]), "h"))

    with pytest.raises(ValueError, match=r"A class activation map needs global average pooling"):
        cam(f, X, [0, 1], at="h")
    assert jax.eval_shape(lambda: grad_cam(f, X, [0, 1], at="h")).shape == (2, 6, 6)
