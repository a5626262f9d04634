"""The explainer: what starts it, its sums, its shapes under transformations, and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground import data as sources
from jaxground import models, scores
from jaxground.attribution import excitation_backprop, lrp
from jaxground.core import (
    EXCITATION,
    Composite,
    MissingRuleError,
    epsilon,
    gamma,
    mass,
    prepare,
    tap,
    z_plus,
)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


KERNEL, DENSE = normal(2, 5), normal(5, 3)


def network(x):
    x = tap(jax.nn.relu(x @ KERNEL), "hidden")
    return x.mean((1, 2)) @ DENSE


IMAGES = np.abs(normal(2, 3, 4, 2))
COMPOSITE = Composite({"hidden": gamma(0.5)}, above=epsilon(0.0))


def test_maps_sum_to_the_scores_value():
    """For several targets on one forward pass, at the image and at a tap, jitted and mapped."""
    targets = jnp.array([[0, 2], [1, 0]])

    @jax.jit
    def explain(images, targets):
        many = functools.partial(lrp, network, images, rules=epsilon(0.0))
        one = jax.vmap(many, in_axes=1, out_axes=1)(targets)
        gradient = jax.grad(lambda x: network(x)[jnp.arange(2), targets[:, 0]].sum())(images)
        return many(targets), one, many(targets, at="hidden"), network(images), gradient

    maps, mapped, at_hidden, logits, gradient = explain(IMAGES, targets)
    assert maps.shape == (2, 2, 3, 4) and maps.dtype == jnp.float32
    expected = np.take_along_axis(np.asarray(logits), np.asarray(targets), 1)
    np.testing.assert_allclose(maps.sum((2, 3)), expected, rtol=1e-5)
    np.testing.assert_allclose(at_hidden.sum((2, 3)), expected, rtol=1e-5)
    np.testing.assert_allclose(mapped, maps, rtol=1e-5, atol=1e-6)
    by_gradient = (IMAGES * gradient).sum(-1)
    np.testing.assert_allclose(maps[:, 0], by_gradient, rtol=1e-4, atol=1e-5)


def test_mass_reports_what_the_maps_sum_to():
    targets = jnp.array([0, 1])

    @jax.jit
    def explain(x):
        start = jax.nn.one_hot(targets, 3) * network(x)
        maps = lrp(network, x, targets, at="hidden", rules=COMPOSITE)
        return maps, mass(network, x, start, rules=COMPOSITE)["hidden"]

    maps, report = explain(IMAGES)
    np.testing.assert_allclose(report.kept, maps.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(report.lost, 0, atol=1e-5)


def test_z_plus_is_excitation_backprop_times_the_score():
    targets = jnp.array([0, 1])

    @jax.jit
    def explain(x):
        plus = lrp(network, x, targets, rules=z_plus())
        winning = excitation_backprop(network, x, targets, rules=EXCITATION)
        return plus, winning * network(x)[jnp.arange(2), targets][:, None, None]

    np.testing.assert_allclose(*explain(IMAGES), rtol=1e-4, atol=1e-6)


def test_other_scores_start_from_gradient_times_logit():
    targets = jnp.array([0, 1])

    @jax.jit
    def explain(x):
        """Sums of maps beside what they start from."""
        logits, pairs = network(x), []
        for score in ("log_probability", lambda logits: logits**2):
            maps = lrp(network, x, targets, rules=epsilon(0.0), score=score)
            prior, _ = scores.prior(logits, targets, score)
            pairs.append((maps.sum((1, 2)), (prior[:, 0] * logits).sum(1)))
        return pairs

    for found, expected in explain(IMAGES):
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_spatial_logits_start_where_the_class_stands_out():
    f = lambda x: x @ normal(2, 3)  # noqa: E731
    maps = jax.jit(lambda x: lrp(f, x, jnp.array([0, 1]), rules=epsilon(0.0)))(IMAGES)
    values = IMAGES @ normal(2, 3)
    logits = np.stack([values[0, ..., 0], values[1, ..., 1]])
    exponentials = np.exp(logits)
    expected = exponentials / exponentials.sum((1, 2), keepdims=True) * logits
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_bfloat16_and_prepare():
    prepared = prepare(lrp, network, rules=COMPOSITE)
    maps = prepared(IMAGES, jnp.array([0, 1]))
    plain = jax.jit(lambda x: lrp(network, x, jnp.array([0, 1]), rules=COMPOSITE))
    np.testing.assert_allclose(maps, plain(IMAGES), rtol=1e-4)

    def low(x):
        return jax.nn.relu(x @ KERNEL.astype(jnp.bfloat16)).mean((1, 2)) @ DENSE.astype(
            jnp.bfloat16
        )

    @jax.jit
    def explain(x):
        targets = jnp.array([0, 1])
        maps = [lrp(low, x, targets, rules=rules) for rules in (epsilon(), gamma(), z_plus())]
        return maps, low(x)[jnp.arange(2), targets].astype(jnp.float32)

    every, logits = explain(jnp.asarray(IMAGES, jnp.bfloat16))
    for maps in every:
        assert maps.dtype == jnp.float32
        np.testing.assert_allclose(maps.sum((1, 2)), logits, rtol=0.05)


def test_errors():
    targets = jnp.array([0, 1])
    with pytest.raises(KeyError, match="no tap named 'nowhere'"):
        nowhere = Composite({"nowhere": gamma()}, epsilon())
        jax.eval_shape(lambda: lrp(network, IMAGES, targets, rules=nowhere))
    with pytest.raises(MissingRuleError, match="ambiguous operands"):
        jax.eval_shape(lambda: lrp(lambda x: (x[..., 0] * x[..., 1]).sum(2), IMAGES, targets))
    with pytest.raises(ValueError, match=r"classes \[3\] are out of range"):
        jax.eval_shape(lambda: lrp(network, IMAGES, np.array([0, 3])))


def test_evidence_lies_on_the_objects_of_the_example():
    """The airplane stands left of the ship; both logits are negative, which turns z+ about."""
    model = models.create("compact_vgg", weights="embedded")
    photo = sources.read_image(sources.example_photograph())
    images = jnp.asarray(model.preprocess(photo, crop=False))[None]
    both = jnp.array([[0, 8]])

    def explain(f, x):
        maps = [lrp(f, x, both, rules=rules, at="pool2")[0] for rules in (gamma(), z_plus())]
        return *maps, f(x)[0, both[0]]

    signed, shares, logits = prepare(explain, model)(images)
    assert (logits < 0).all() and (shares <= 0).all()
    np.testing.assert_allclose(shares.sum((1, 2)), logits, rtol=1e-3)
    for maps in (jnp.maximum(signed, 0), shares):
        columns = jnp.linspace(0, 1, maps.shape[-1])
        airplane, ship = (maps.sum(1) * columns).sum(1) / maps.sum((1, 2))
        assert airplane + 0.1 < ship
