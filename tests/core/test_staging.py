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
from jaxground.core import EXCITATION, alpha_beta, gamma, ground, prepare, tap

W = normal(40, 40)


def explain(f, x, prior, **options):
    return ground(f, x, **options).pull(prior)


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


def recurrent(x):
    def turn(hidden, row):
        return jax.nn.relu(hidden @ W + row @ (2 * W) - 0.1), hidden

    last, hidden = lax.scan(turn, 0 * x, jnp.stack([x, 2 * x, x]), reverse=True)
    return last + hidden.sum(0)


def nested(x):
    step = jax.checkpoint(lambda x: jax.nn.relu(x @ W), prevent_cse=False)
    return lax.scan(lambda c, _: (recurrent(step(c)), None), x, None, length=2, unroll=2)[0]


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


def in_passes(f, x, prior, **options):
    return lax.map(lambda row: explain(f, *row, **options), (x, prior))


@pytest.mark.parametrize("rules", [EXCITATION, gamma(), alpha_beta()], ids=["eb", "gamma", "ab"])
@pytest.mark.parametrize(
    "method, f",
    [(explain, recurrent), (explain, nested), (explain, jax.checkpoint(wide)), (in_passes, nested)],
    ids=["recurrent", "nested", "checkpoint", "passes"],
)
def test_loops_and_regions_read_what_depends_on_weights_alone(method, f, rules):
    x = abs(normal(2, 40)), jnp.ones((2, 40))
    assert _of_weight_shape(jax.make_jaxpr(lambda *x: method(f, *x, rules=rules))(*x))
    assert not _of_weight_shape(jax.make_jaxpr(prepare(method, f, rules=rules))(*x))


def test_loops_give_the_same_when_prepared():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))
    direct = jax.jit(lambda x, prior: in_passes(nested, x, prior))(x, prior)
    # Not bit for bit: weights that are arguments are multiplied by another kernel here and there.
    np.testing.assert_allclose(prepare(in_passes, nested)(x, prior), direct, rtol=1e-5)


def test_zeros_of_either_sign_are_two_constants():
    x = jnp.ones((1, 2))
    f = lambda x: jnp.concatenate([1 / (x * 0.0), 1 / (x * -0.0)], 1)  # noqa: E731
    found = prepare(lambda f, x: f(x), f)(x)
    np.testing.assert_array_equal(found, [[np.inf, np.inf, -np.inf, -np.inf]])


def test_a_region_stays_rematerialised():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))
    f = jax.checkpoint(wide)
    direct = jax.jit(lambda x, prior: explain(f, x, prior)).lower(x, prior).as_text()
    prepared = prepare(explain, f).lower(x, prior).as_text()
    assert prepared.count("optimization_barrier") == direct.count("optimization_barrier") == 1


def _of_weight_shape(jaxpr):
    """Returns what computes an array of the shape of the weights, in loops, too."""
    found = []
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        found += [equation.primitive.name for v in equation.outvars if v.aval.shape == W.shape]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            found += _of_weight_shape(inner) if _is_jaxpr(inner) else []
    return found


def _is_jaxpr(value):
    return hasattr(getattr(value, "jaxpr", value), "eqns")


def _matrices():
    return sum(a.shape == W.shape for a in jax.live_arrays())


def test_a_prepared_explainer_may_be_called_under_transformations():
    x, prior = abs(normal(2, 40)), jnp.ones((2, 40))
    direct = jax.jit(lambda x, prior: explain(wide, x, prior))(x, prior)
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

    direct = jax.jit(lambda x, prior: explain(wide, x, prior))(x, prior)
    np.testing.assert_allclose(run(W, x, prior), direct, atol=1e-6)


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
