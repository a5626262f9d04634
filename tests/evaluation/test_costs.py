"""Costs, counted on networks whose multiplications can be counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxground import attribution, models
from jaxground.evaluation import costs, trials
from jaxground.methods import METHODS

MATRIX = jnp.ones((4, 5))
KERNEL = jnp.ones((3, 3, 2, 7))  # HWIO
IMAGES = jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32)
NAMES = "NHWC", "HWIO", "NHWC"


def convolve(x, stride=1):
    return lax.conv_general_dilated(x, KERNEL, (stride, stride), "SAME", dimension_numbers=NAMES)


def network(x):
    return jax.nn.relu(convolve(x)).mean((1, 2))


def test_products_and_convolutions_are_counted_by_hand():
    vector = jnp.ones((2, 4))
    assert costs.multiplications(lambda x: x @ MATRIX, vector) == 2 * 4 * 5
    assert costs.multiplications(lambda x: jnp.einsum("ab,cb->ac", x, x), vector) == 2 * 2 * 4
    assert costs.multiplications(convolve, IMAGES) == 8 * 8 * 3 * 3 * 2 * 7
    assert costs.multiplications(lambda x: x + 1, vector) == 0


@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_costs_what_the_convolution_costs(stride):
    def backward(x, g):
        return jax.linear_transpose(lambda y: convolve(y, stride), x)(g)

    size = 8 // stride
    cotangent = jax.ShapeDtypeStruct((1, size, size, 7), jnp.float32)
    forward = costs.multiplications(lambda x: convolve(x, stride), IMAGES)
    assert costs.multiplications(backward, IMAGES, cotangent) == forward


def test_loops_count_as_often_as_they_turn_and_branches_once():
    def step(x):
        return x @ jnp.ones((4, 4))

    x, one = jnp.ones((1, 4)), 16.0
    loops = {
        "scan": (lambda x: lax.scan(lambda c, _: (step(c), None), x, length=6)[0], 6),
        "fori": (lambda x: lax.fori_loop(0, 5, lambda _, c: step(c), x), 5),
        "map": (lambda x: lax.map(lambda row: step(row[None]), jnp.repeat(x, 3, 0)), 3),
        "nested": (lambda x: lax.fori_loop(0, 5, lambda _, c: jax.jit(step)(step(c)), x), 10),
        "cond": (lambda x: lax.cond(x.sum() > 0, lambda c: step(step(c)), step, x), 2),
        "remat": (jax.checkpoint(step), 1),
    }
    for name, (function, times) in loops.items():
        assert costs.multiplications(function, x) == times * one, name


def test_explainers_cost_what_their_docstrings_say():
    passes = costs.in_passes(network, IMAGES)
    targets = jnp.zeros((1, 2), int)

    def cost(method, **options):
        return passes(lambda x: method(network, x, targets, **options), IMAGES)

    assert cost(attribution.gradient) == 3  # one forward pass, one backward for each target
    key = jax.random.key(0)
    assert cost(attribution.rise, key=key, masks=64, batch_size=16) == pytest.approx(64, rel=0.2)
    assert cost(attribution.occlusion, window=2, stride=2, batch_size=4) == pytest.approx(17, abs=2)


def test_all_leaves_out_methods_of_which_a_variant_is_named(monkeypatch):
    chosen = "gradient", "grad_cam", "rise"
    monkeypatch.setattr(trials, "METHODS", {name: METHODS[name] for name in chosen})
    model = models.create("compact_vgg", weights="embedded")
    usual = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    named = ["rise:masks=10", "gradient:score=log_probability", "gradient", "all"]
    explainers, found, left_out = trials.choose(model, named, usual, 1)
    assert [explainer.label for explainer in explainers] == [*named[:3], "grad_cam"]
    assert list(found) == [*named[:3], "grad_cam"] and not left_out
    assert found["rise:masks=10"] == pytest.approx(10, rel=0.1)
    assert found["grad_cam"] < found["gradient"] == 2
