"""Prepared explainers give the same maps, with the weights as arguments, worked on once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from flax import nnx
from jax import lax
from zoo import normal

from jaxground.attribution import (
    contrastive_excitation_backprop,
    excitation_backprop,
    grad_cam,
    guided_backprop,
)
from jaxground.core import ground, prepare, tap

W = normal(40, 40)


def explain(f, x, prior):
    return ground(f, x).pull(prior)


def wide(x):
    return jax.nn.relu(x @ W) @ W


@pytest.mark.parametrize("framework", ["plain", "nnx", "linen"])
def test_a_prepared_explainer_equals_the_direct_call(framework):
    f, x, targets = getattr(zoo, framework)(zoo.weights()), zoo.images(), jnp.array([0, 2])
    direct = jax.jit(lambda x, t: excitation_backprop(f, x, t, at="conv"))(x, targets)
    prepared = prepare(excitation_backprop, f, at="conv")
    for _ in range(2):
        np.testing.assert_allclose(prepared(x, targets), direct, atol=1e-7)


def test_each_set_of_shapes_is_prepared_in_turn():
    f = zoo.plain(zoo.weights())
    direct = jax.jit(lambda x, t: excitation_backprop(f, x, t, at="block"))
    prepared = prepare(excitation_backprop, f, at="block")
    for _ in range(2):
        for batch, targets in (
            (1, jnp.array([[2, 1, 0]])),
            (2, zoo.priors()),
            (2, jnp.array([0, 1])),
        ):
            x = zoo.images(batch, seed=batch)
            np.testing.assert_allclose(prepared(x, targets), direct(x, targets), atol=1e-7)


@pytest.mark.parametrize(
    "method, options",
    [(contrastive_excitation_backprop, {}), (guided_backprop, {}), (grad_cam, {"at": "block"})],
)
def test_other_methods_may_be_prepared(method, options):
    f, x, targets = zoo.plain(zoo.weights()), zoo.images(), jnp.array([1, 2])
    direct = jax.jit(lambda x, t: method(f, x, t, **options))(x, targets)
    np.testing.assert_allclose(prepare(method, f, **options)(x, targets), direct, atol=1e-6)


FUNCTIONS = {
    "scan": lambda x: lax.scan(lambda c, w: (jax.nn.relu(c @ w), None), x, normal(2, 40, 40))[0],
    "checkpoint": jax.checkpoint(lambda x: jax.nn.relu(x @ W) @ jax.jit(lambda w: w * 2)(W)),
    "constants in calls": jax.checkpoint(jax.jit(lambda x: x * np.arange(40.0, dtype="f4"))),
    "no weights": lambda x: x * 2,
    "weights at the output": lambda x: x + 0 * W[:2] + W[0],
    "scalar": lambda x: x @ W * jnp.float32(3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_may_be_prepared(name):
    f, x, prior = FUNCTIONS[name], abs(normal(2, 40)), jnp.ones((2, 40))
    direct = jax.jit(lambda x, prior: explain(f, x, prior))(x, prior)
    np.testing.assert_allclose(prepare(explain, f)(x, prior), direct, atol=1e-6)


def test_weights_are_arguments_not_constants():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))
    baked = jax.jit(lambda x, prior: explain(wide, x, prior)).lower(x, prior).as_text()
    staged = prepare(explain, wide).lower(x, prior).as_text()
    assert len(baked) > 2 * W.nbytes  # written out in hexadecimal
    assert len(staged) < W.nbytes


def test_what_depends_on_weights_alone_is_computed_once():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))
    prepared = prepare(explain, wide)
    assert "tensor<40x40xf32>" in prepared.lower(x, prior).as_text()
    operations = [line for line in prepared.lower(x, prior).as_text().splitlines() if " = " in line]
    assert not [line for line in operations if line.endswith("-> tensor<40x40xf32>")]
    assert not [line for line in operations if "maximum" in line and "40x40" in line]

    prepared(x, prior)
    held = _matrices()
    for batch in (1, 3, 4):
        prepared(abs(normal(batch, 40)), jnp.ones((batch, 40)))
    assert _matrices() == held  # all shapes share the clipped weights


def _matrices():
    return sum(a.shape == W.shape for a in jax.live_arrays())


def test_a_prepared_explainer_may_be_called_under_transformations():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))
    direct = explain(wide, x, prior)
    prepared = prepare(explain, wide)
    np.testing.assert_allclose(jax.jit(prepared)(x, prior), direct, atol=1e-6)
    np.testing.assert_allclose(prepared(x, prior), direct, atol=1e-6)  # nothing leaked
    rows = jax.vmap(prepared)(x[:, None], prior[:, None])[:, 0]
    np.testing.assert_allclose(rows, direct, atol=1e-6)


def test_weights_may_themselves_be_traced():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))

    @jax.jit
    def run(w, x, prior):
        return prepare(explain, lambda x: jax.nn.relu(x @ w) @ w)(x, prior)

    np.testing.assert_allclose(run(W, x, prior), explain(wide, x, prior), atol=1e-6)


def test_errors_are_those_of_the_direct_call():
    with pytest.raises(KeyError, match=r"no tap named 'b'; taps from input to output: \['a'\]"):
        prepare(explain, lambda x: ground(lambda x: tap(x, "a"), x, at="b").outputs)(1.0, 1.0)
    with pytest.raises(NotImplementedError, match="no rule for `sin`"):
        prepare(explain, jnp.sin)(jnp.ones(2), jnp.ones(2))


def test_the_weights_are_those_at_preparation():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    prepared = prepare(lambda f, x: f(x), model)
    first = prepared(jnp.ones((1, 3)))
    model.kernel[...] = 100 * model.kernel[...]
    np.testing.assert_allclose(prepared(jnp.ones((2, 3)))[:1], first, rtol=1e-6)
