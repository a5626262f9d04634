"""A network in two: the same values and derivatives, and nothing below the tap run again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxground.core import split, tap

WEIGHTS = jax.random.split(jax.random.key(0), 4)
A, B, C = (jax.random.normal(key, (5, 5)) for key in WEIGHTS[:3])
X = jax.random.normal(WEIGHTS[3], (3, 5))


def plain(x, a=A, b=B):
    return jax.nn.relu(tap(jax.nn.relu(x @ a), "hidden") @ b) @ C


def skip(x, a=A, b=B):
    before = x @ a
    return tap(jax.nn.relu(before), "hidden") @ b + before


def loops(x, a=A, b=B):
    hidden = tap(jnp.tanh(x @ a), "hidden")
    carry, _ = lax.scan(lambda h, w: (jnp.tanh(h @ w), None), hidden, jnp.stack([b, C]))
    return lax.cond(x.sum() > 0, jnp.sin, jnp.cos, carry)


def rematerialised(x, a=A, b=B):
    inner = jax.checkpoint(lambda x: jnp.sin(tap(x @ a, "hidden")) @ b)
    return jax.checkpoint(jnp.tanh)(inner(x))


def stopped(x, a=A, b=B):
    hidden = tap(x @ a, "hidden")
    return hidden @ b * lax.stop_gradient(hidden.sum(1, keepdims=True))


NETWORKS = [plain, skip, loops, rematerialised, stopped]


@pytest.mark.parametrize("f", NETWORKS, ids=lambda f: f.__name__)
def test_head_of_hidden_is_the_network_in_value_and_derivative(f):
    def direct(x, a, b):
        return (f(x, a, b) ** 2).sum()

    def in_two(x, a, b):
        hidden, head = split(lambda x: f(x, a, b), x, at="hidden")
        return (head(hidden) ** 2).sum()

    (ours, gradients), (value, expected) = (
        jax.jit(jax.value_and_grad(g, (0, 1, 2)))(X, A, B) for g in (in_two, direct)
    )
    np.testing.assert_allclose(ours, value, rtol=1e-5)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=2e-4), gradients, expected)


def test_head_of_something_else_is_the_network_with_that_at_the_tap():

    @jax.jit
    def run(x):
        hidden, head = split(skip, x, at="hidden")
        masked = hidden * (jnp.arange(5) % 2)
        first = (hidden, jax.nn.relu(x @ A)), (head(masked), masked @ B + x @ A)
        hidden, head = split(stopped, x, at="hidden")  # what is stopped follows the value, too
        expected = masked @ B * masked.sum(1, keepdims=True)
        many = jax.vmap(head)(jnp.stack([masked, hidden]))
        return *first, (head(masked), expected), (many[1], stopped(x))

    (hidden, expected), *of_heads = run(X)
    np.testing.assert_allclose(hidden, expected, rtol=1e-6)
    for found, expected in of_heads:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_head_holds_nothing_of_what_lies_below():
    _, head = split(plain, X, at="hidden")
    jaxpr = jax.make_jaxpr(head)(X)
    products = [e for e in jaxpr.jaxpr.eqns if e.primitive.name == "dot_general"]
    assert len(products) == 2  # of three


def test_an_nnx_model_splits_at_its_taps():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(5, 4, rngs=rngs)
            self.second = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.second(tap(nnx.relu(self.first(x)), "hidden"))

    model = Model(nnx.Rngs(0))

    def loss(model):
        hidden, head = split(model, X, at="hidden")
        return (head(hidden * 2) ** 2).sum()

    def direct(model):
        return (model.second(2 * nnx.relu(model.first(X))) ** 2).sum()

    gradient, expected = nnx.jit(lambda model: [nnx.grad(f)(model) for f in (loss, direct)])(model)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5), gradient, expected)


def test_bad_input_is_named():
    with pytest.raises(KeyError, match=r"no tap named 'hiden'.*\['hidden'\]"):
        split(plain, X, at="hiden")
    _, head = split(plain, X, at="hidden")
    with pytest.raises(ValueError, match=r"'hidden' has shape \(3, 5\), the head was given \(5,\)"):
        head(X[0])
