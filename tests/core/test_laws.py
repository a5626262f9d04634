"""Laws that hold for every network, image and prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxground.core import ground, tap

BATCH, SIZE, CHANNELS, HIDDEN, CLASSES = 3, 4, 2, 3, 2
TAPS = ("features", "pool", "conv", "image")  # from the output down


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def network(w):
    def f(x):
        x = tap(x, "image")
        x = tap(jax.nn.relu(zoo.convolve(x, w["first"]) + w["first_bias"]), "conv")
        x = tap(zoo.max_pool(x), "pool")
        x = tap(jax.nn.relu(zoo.convolve(x, w["second"]) + w["second_bias"]), "features")
        return x.mean((1, 2)) @ w["dense"] + w["dense_bias"]

    return f


@jax.jit
def run(w, x, prior):
    """Returns logits, values and mass at every tap; compiled once for all laws."""
    logits, values, pull = ground(network(w), x, at=TAPS)
    return logits, values, pull(prior)


def masses(w, x, prior):
    return run(w, x, prior)[-1]


# Quarters: sums and products are exact, zeros and ties are frequent.
def quarters(*shape, low=-8, high=8):
    return arrays(np.int64, shape, elements=st.integers(low, high)).map(lambda n: n / 4)


BIASES = ("first_bias", "second_bias", "dense_bias")
WEIGHTS = st.fixed_dictionaries(
    {
        "first": quarters(3, 3, CHANNELS, HIDDEN),
        "first_bias": quarters(HIDDEN),
        "second": quarters(2, 2, HIDDEN, HIDDEN),
        "second_bias": quarters(HIDDEN),
        "dense": quarters(HIDDEN, CLASSES),
        "dense_bias": quarters(CLASSES),
    }
)
IMAGES = quarters(BATCH, SIZE, SIZE, CHANNELS, low=0)
PRIORS = quarters(BATCH, CLASSES)
ONE_HOT = np.eye(CLASSES)[[0, 1, 0]]

law = settings(max_examples=30, deadline=None, derandomize=True)


def unbiased(w):
    return w | {name: np.zeros_like(w[name]) for name in BIASES}


def totals(mass):
    return {name: np.asarray(mass[name]).sum((1, 2, 3)) for name in TAPS}


def assert_same(found, expected):
    for name in TAPS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12, err_msg=name)


@law
@given(WEIGHTS, IMAGES)
def test_mass_is_a_sub_probability_that_only_shrinks(w, x):
    mass = masses(w, x, ONE_HOT)
    above = np.ones(BATCH)
    for name in TAPS:
        assert (np.asarray(mass[name]) >= 0).all()
        total = totals(mass)[name]
        assert (total <= above + 1e-12).all(), name
        above = total


@law
@given(WEIGHTS, IMAGES)
def test_nothing_is_lost_below_a_positive_logit_without_biases(w, x):
    """A positive value without bias has an excitatory child, which is a positive value again."""
    logits, _, mass = run(unbiased(w), x, ONE_HOT)
    positive = np.asarray((logits * ONE_HOT).sum(1)) > 0
    assume(positive.any())
    for name, total in totals(mass).items():
        np.testing.assert_allclose(total[positive], 1, atol=1e-12, err_msg=name)


@law
@given(WEIGHTS, IMAGES, PRIORS, PRIORS, st.integers(-3, 3))
def test_mass_is_linear_in_the_prior(w, x, p, q, scale):
    a, b, both = (masses(w, x, prior) for prior in (p, q, p + scale * q))
    assert_same(both, {name: a[name] + scale * b[name] for name in TAPS})


@law
@given(WEIGHTS, IMAGES, PRIORS, st.permutations(range(BATCH)))
def test_a_batch_is_its_rows(w, x, prior, order):
    mass, permuted = masses(w, x, prior), masses(w, x[order], prior[order])
    assert_same(permuted, {name: mass[name][jnp.array(order)] for name in TAPS})
    for row in range(BATCH):
        lonely = np.zeros_like(x)
        lonely[row] = x[row]
        alone = masses(w, lonely, prior)
        assert_same(
            {name: alone[name][row] for name in TAPS}, {name: mass[name][row] for name in TAPS}
        )


@law
@given(WEIGHTS, IMAGES, PRIORS, st.tuples(*[st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0])] * 4))
def test_positive_scales_change_nothing(w, x, prior, scales):
    w, (brightness, *scales) = unbiased(w), scales
    scaled = dict(w)
    for name, scale in zip(("first", "second", "dense"), scales, strict=True):
        scaled[name] = scale * w[name]
    assert_same(masses(scaled, brightness * x, prior), masses(w, x, prior))


@law
@given(WEIGHTS, IMAGES, PRIORS, *[st.permutations(range(HIDDEN))] * 2)
def test_the_order_of_hidden_units_changes_nothing_outside(w, x, prior, first, second):
    permuted = w | {
        "first": w["first"][..., first],
        "first_bias": w["first_bias"][first],
        "second": w["second"][:, :, first][..., second],
        "second_bias": w["second_bias"][second],
        "dense": w["dense"][second],
    }
    expected, found = masses(w, x, prior), dict(masses(permuted, x, prior))
    for name, order in ("conv", first), ("pool", first), ("features", second):
        found[name] = found[name][..., np.argsort(order)]
    assert_same(found, expected)


@law
@given(WEIGHTS, IMAGES, PRIORS, quarters(CLASSES))
def test_the_bias_of_the_logits_moves_no_mass(w, x, prior, bias):
    assert_same(masses(w | {"dense_bias": bias}, x, prior), masses(w, x, prior))


@law
@given(WEIGHTS, IMAGES, PRIORS)
def test_what_is_zero_takes_no_mass(w, x, prior):
    """So a black border of the image takes none, whatever the padding of the convolutions."""
    x[:, :1], x[:, -1:], x[:, :, :1], x[:, :, -1:] = 0, 0, 0, 0
    _, values, mass = run(w, x, prior)
    assert not np.asarray(mass["image"])[x == 0].any()
    for name, value in values.items():
        assert not np.asarray(mass[name])[np.asarray(value) <= 0].any(), name


@settings(max_examples=3, deadline=None, derandomize=True)
@given(WEIGHTS, quarters(BATCH, SIZE - 2, SIZE - 2, CHANNELS, low=0), PRIORS)
def test_zero_padding_of_the_image_moves_no_mass(w, x, prior):
    ring = [(0, 0), (1, 1), (1, 1), (0, 0)]

    @jax.jit
    def padded(w, x, prior):
        return ground(lambda x: network(w)(jnp.pad(x, ring)), x).pull(prior)

    expected = masses(w, np.pad(x, ring), prior)["image"]
    np.testing.assert_allclose(padded(w, x, prior), expected[:, 1:-1, 1:-1], atol=1e-12)
