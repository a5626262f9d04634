"""Excitation Dropout: anchors of its equation, a NumPy walk, and what is not differentiated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxground.core import ground, tap
from jaxground.dropout import (
    Curriculum,
    Dropout,
    Excitation,
    Standard,
    Standout,
    curriculum_keep_probability,
    excitation_dropout,
    excitation_evidence,
    excitation_keep_probability,
    standout_keep_probability,
)
from tests.oracle import chain, transition

WIDTH, HIDDEN, CLASSES, BATCH = 12, 7, 5, 6
GENERATOR = np.random.default_rng(0)
FIRST = GENERATOR.normal(size=(4, WIDTH)).astype(np.float32)
SECOND = GENERATOR.normal(size=(WIDTH, HIDDEN)).astype(np.float32)
THIRD = GENERATOR.normal(size=(HIDDEN, CLASSES)).astype(np.float32)
BIAS = GENERATOR.normal(size=HIDDEN).astype(np.float32)
X = GENERATOR.uniform(size=(BATCH, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 4, 0])


def head(hidden, second=SECOND):
    return nnx.relu(hidden @ second + BIAS) @ THIRD


def layer(x):
    return nnx.relu(x @ FIRST)


@pytest.fixture(scope="module")
def hidden():
    return layer(jnp.asarray(X))


@functools.cache
def evidence_of(top):
    """Returns `excitation_evidence` of a head, compiled once for all tests."""
    return jax.jit(functools.partial(excitation_evidence, top))


# The equation


@pytest.mark.parametrize("width", [2, 10, 4096])
@pytest.mark.parametrize("base", [0.05, 0.5, 0.95])
def test_anchors_of_the_equation(width, base):
    evidence = jnp.zeros((3, width)).at[1].set(1 / width).at[2, 0].set(1)
    keep = excitation_keep_probability(evidence, base)
    np.testing.assert_allclose(keep[0], 1)
    np.testing.assert_allclose(keep[1], base, rtol=1e-4)
    np.testing.assert_allclose(keep[2], np.r_[0, np.ones(width - 1)], atol=1e-6)


def test_keep_probability_falls_with_the_evidence_and_is_the_equation_in_float64():
    p = np.linspace(0, 1, 1001)
    n, base = len(p), 0.3
    keep = excitation_keep_probability(jnp.asarray(p, jnp.float32), base)
    expected = 1 - (1 - base) * (n - 1) * p / (((1 - base) * n - 1) * p + base)
    np.testing.assert_allclose(keep, expected, atol=1e-6)
    assert (np.diff(keep) <= 0).all() and keep.min() >= 0 and keep.max() <= 1


def test_curriculum_starts_at_one_and_ends_at_the_limit():
    keep = curriculum_keep_probability(jnp.array([0, 1000, 10**6]), 0.4, 1e-3)
    np.testing.assert_allclose(keep, [1, 0.6 * np.exp(-1) + 0.4, 0.4], rtol=1e-6)


def test_standout_keeps_what_is_strong():
    keep = standout_keep_probability(jnp.array([-1.0, 0.0, 2.0]), slope=2.0, offset=0.5)
    np.testing.assert_allclose(keep, 1 / (1 + np.exp([1.5, -0.5, -4.5])), rtol=1e-6)


# The evidence


def test_evidence_is_the_random_walk_from_the_label(hidden):
    evidence = excitation_evidence(head, hidden, LABELS)  # outside jit, once
    for i, label in enumerate(LABELS):
        above = np.maximum(np.asarray(hidden[i], np.float64) @ SECOND + BIAS, 0)
        expected = chain(
            np.eye(CLASSES)[label], [transition(THIRD.T, above), transition(SECOND.T, hidden[i])]
        )
        np.testing.assert_allclose(evidence[i], expected, atol=1e-6)


def test_evidence_of_the_head_is_that_of_the_whole_network_at_the_layer(hidden):
    @jax.jit
    def whole(x):
        grounding = ground(lambda x: head(tap(layer(x), "fc1")), x, at="fc1")
        return grounding.pull(jax.nn.one_hot(LABELS, CLASSES))

    found = evidence_of(head)(hidden, LABELS)
    np.testing.assert_allclose(found, whole(X), atol=1e-7)


def test_without_labels_the_evidence_is_of_the_predicted_class(hidden):
    predicted = head(hidden).argmax(-1)
    np.testing.assert_array_equal(evidence_of(head)(hidden), evidence_of(head)(hidden, predicted))


@pytest.mark.parametrize(("units", "axes"), [("channel", (1, 2)), ("position", (3,))])
def test_evidence_of_a_channel_or_position_is_the_sum_over_it(units, axes):
    grid = jax.random.uniform(jax.random.key(0), (2, 3, 3, WIDTH))

    def top(hidden):
        return head(hidden.mean((1, 2)))

    labels = np.array([1, 3])

    @jax.jit
    def run(grid):
        dropped = excitation_dropout(
            jax.random.key(1), top, grid, labels, rescale="none", units=units
        )
        neurons = excitation_evidence(top, grid, labels)
        return neurons, excitation_evidence(top, grid, labels, units=units), dropped

    neurons, summed, dropped = run(grid)
    np.testing.assert_allclose(summed, neurons.sum(axes, keepdims=True), rtol=1e-5)
    kept = dropped == grid
    expected = jnp.broadcast_to(kept.all(axes, keepdims=True), grid.shape)
    np.testing.assert_array_equal(kept, expected)  # a unit is kept or dropped as one
    assert 0 < kept.mean() < 1


# The mask


def test_masks_differ_between_images_and_repeat_with_the_key(hidden):
    alike = jnp.broadcast_to(jnp.abs(hidden[:1]) + 1, (64, WIDTH))
    assert evidence_of(head)(alike).sum() > 60
    run = jax.jit(lambda key: excitation_dropout(key, head, alike, None, 0.3))
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(np.unique(first > 0, axis=0)) > 8


def test_expectation_of_the_mask_is_the_keep_probability_and_unit_rescaling_preserves_it(hidden):
    evidence = evidence_of(head)(hidden, LABELS)
    keep = np.asarray(excitation_keep_probability(evidence, 0.5))
    keys = jax.random.split(jax.random.key(0), 20_000)

    def mean(rescale):
        scheme = Excitation(0.5, rescale=rescale)
        factors = jax.vmap(lambda key: scheme.factors(key, hidden, head=head, labels=LABELS))
        return jax.jit(lambda keys: factors(keys).mean(0))(keys)

    deviation = np.sqrt(keep * (1 - keep) / len(keys))
    assert (np.abs(mean("none") - keep) <= 5 * deviation + 1e-6).all()
    likely = keep > 0.05  # elsewhere the mean of rare large factors is too noisy
    assert likely.sum() > 40
    error = np.abs(mean("unit") - 1)[likely]
    assert (error <= 5 * (deviation / keep)[likely] + 1e-5).all()


def test_mean_rescaling_divides_by_the_share_kept_in_each_image(hidden):
    key = jax.random.key(3)
    plain, mean = jax.jit(
        lambda hidden: [
            excitation_dropout(key, head, hidden + 1, LABELS, 0.5, rescale=rescale)
            for rescale in ("none", "mean")
        ]
    )(hidden)
    kept = (plain > 0).mean(1, keepdims=True)
    np.testing.assert_allclose(mean, plain / kept, rtol=1e-6)


# Differentiation


def test_gradient_is_that_of_the_network_with_fixed_factors(hidden):
    key = jax.random.key(0)
    scheme = Excitation(0.5)
    factors = jax.jit(lambda h: scheme.factors(key, h, head=head, labels=LABELS))(hidden)

    def loss(weights, mask):
        first, second = weights
        before = nnx.relu(jnp.asarray(X) @ first)
        top = lambda h: head(h, second)  # noqa: E731
        logits = top(mask(top, before))
        return -jax.nn.log_softmax(logits)[jnp.arange(BATCH), LABELS].mean()

    weights = jnp.asarray(FIRST), jnp.asarray(SECOND)
    masks = (
        lambda top, h: excitation_dropout(key, top, h, LABELS, 0.5),
        lambda top, h: h * factors,
    )
    ours, fixed = jax.jit(lambda weights: [jax.grad(loss)(weights, mask) for mask in masks])(
        weights
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, fixed)


def test_nothing_of_the_evidence_is_differentiated(hidden):
    def dropped(hidden, second):
        return excitation_dropout(jax.random.key(0), lambda h: head(h, second), hidden, LABELS)

    _, tangent = jax.linearize(dropped, hidden, jnp.asarray(SECOND))
    jaxpr = jax.make_jaxpr(tangent)(hidden, jnp.asarray(SECOND))
    names = {e.primitive.name for e in _equations(jaxpr.jaxpr)}
    assert "mul" in names and names <= {"mul", "pjit", "jit", "convert_element_type", "copy"}


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


# Transformations


def test_under_jit_vmap_scan_sharding_and_bfloat16(hidden):
    key = jax.random.key(0)
    plain = excitation_dropout(key, head, hidden, LABELS, 0.5)  # outside jit, once
    jitted = jax.jit(lambda k, h, t, p: excitation_dropout(k, head, h, t, p))
    np.testing.assert_allclose(jitted(key, hidden, LABELS, 0.5), plain, atol=1e-6)
    keys, bases = jax.random.split(key, 3), jnp.array([0.3, 0.5, 0.7])
    many = jax.vmap(jitted, (0, None, None, 0))(keys, hidden, LABELS, bases)
    np.testing.assert_allclose(many[1], jitted(keys[1], hidden, LABELS, 0.5), atol=1e-6)
    _, scanned = lax.scan(lambda c, k: (c, jitted(k, hidden, LABELS, 0.5)), 0, keys)
    np.testing.assert_allclose(scanned[1], many[1], atol=1e-6)
    half = jitted(key, hidden.astype(jnp.bfloat16), LABELS, 0.5)
    assert half.dtype == jnp.bfloat16 and np.isfinite(np.asarray(half, np.float32)).all()
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    rows = NamedSharding(mesh, PartitionSpec("batch"))
    sharded = jitted(key, jax.device_put(hidden, rows), jax.device_put(LABELS, rows), 0.5)
    np.testing.assert_allclose(sharded, plain, atol=1e-6)
    assert sharded.sharding.is_equivalent_to(rows, 2)


# The module


class Model(nnx.Module):
    def __init__(self, scheme, rngs):
        self.fc1 = nnx.Linear(4, WIDTH, rngs=rngs)
        self.fc2 = nnx.Linear(WIDTH, CLASSES, rngs=rngs)
        self.dropout = Dropout(scheme, rngs=rngs)

    def __call__(self, x, labels=None, step=None):
        before = self.fc1(x)
        hidden = nnx.relu(before)
        self.seen = nnx.data(hidden)
        hidden = self.dropout(
            hidden, head=self.fc2, labels=labels, step=step, preactivations=before
        )
        return self.fc2(hidden)


@pytest.mark.parametrize(
    "scheme",
    [Standard(), Standard(per="batch"), Curriculum(), Standout(), Excitation()],
    ids=lambda scheme: f"{type(scheme).__name__}{getattr(scheme, 'per', '')}",
)
def test_one_model_takes_every_scheme(scheme):
    model = Model(scheme, nnx.Rngs(0))
    model.train()
    x = jnp.asarray(X)

    @nnx.jit
    def both(model):
        return [model(x, LABELS, step=10**5) for _ in range(2)]

    first, second = both(model)
    assert (first != second).any()  # another key in each call
    model.eval()

    @nnx.jit
    def quiet(model):
        expected = nnx.relu(model.fc1(x))
        if isinstance(scheme, Standout):
            expected *= jax.nn.sigmoid(model.fc1(x))
        return model(x), model.fc2(expected)

    found, expected = quiet(model)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_standard_dropout_per_batch_drops_the_same_neurons_of_all_images():
    factors = Standard(0.25, per="batch").factors(jax.random.key(0), jnp.ones((3, 4000)))
    assert factors.shape == (1, 4000)
    assert set(np.unique(factors)) == {0, 4}
    assert abs(float(factors.mean()) - 1) < 0.15
    assert Standard(0.25).factors(jax.random.key(0), jnp.ones((3, 4))).shape == (3, 4)


def test_module_takes_keys_from_the_call():
    layer = Dropout(Standard(0.5))
    ones = jnp.ones((2, 8))
    np.testing.assert_array_equal(
        layer(ones, rngs=jax.random.key(1)), layer(ones, rngs=jax.random.key(1))
    )
    assert layer(ones, rngs=nnx.Rngs(dropout=0)).shape == (2, 8)
    assert nnx.view(layer, deterministic=True)(ones).all()
    with pytest.raises(ValueError, match="give rngs="):
        layer(ones)


# Bad input


@pytest.mark.parametrize("base", [0.0, 1.0, -0.1, float("nan")])
def test_base_outside_zero_and_one_is_refused(base, hidden):
    for call in (
        lambda: excitation_dropout(jax.random.key(0), head, hidden, LABELS, base),
        lambda: Excitation(base),
        lambda: Standard(base),
    ):
        with pytest.raises(ValueError, match=r"in \(0, 1\)"):
            call()


def test_bad_input_is_named(hidden):
    def call(head=head, hidden=hidden, labels=LABELS, **options):
        return excitation_dropout(jax.random.key(0), head, hidden, labels, 0.5, **options)

    for decay in (-1e-3, float("nan")):
        with pytest.raises(ValueError, match=r"decay must be zero or more"):
            Curriculum(decay=decay)
        with pytest.raises(ValueError, match=r"decay must be zero or more"):
            curriculum_keep_probability(3, 0.5, decay)
    with pytest.raises(ValueError, match=r"single neuron to drop"):
        call(lambda h: h * THIRD[:1], hidden[:, :1])
    with pytest.raises(ValueError, match=r"at least two neurons"):
        excitation_keep_probability(jnp.ones((2, 1)), 0.5)
    with pytest.raises(ValueError, match=r"classes \[5\] are out of range: f has 5"):
        call(labels=LABELS + 1)
    with pytest.raises(TypeError, match=r"labels must be int\[batch\], got float32"):
        call(labels=jnp.ones((BATCH, CLASSES)))
    with pytest.raises(ValueError, match=r"do not match the batch of 6"):
        call(labels=LABELS[:2])
    with pytest.raises(ValueError, match=r"images \[2\] have NaN"):
        call(hidden=hidden.at[2, 1].set(jnp.nan))
    with pytest.raises(TypeError, match=r"floating point \[batch, ...\], got int32\[6,12\]|int32"):
        call(hidden=hidden.astype(int))
    with pytest.raises(ValueError, match=r"does it reach the logits"):
        call(lambda h: h.sum())
    with pytest.raises(ValueError, match=r"do not depend on"):
        call(lambda h: jnp.ones((BATCH, CLASSES)))
    with pytest.raises(ValueError, match=r"units of a layer \[batch, ..., channel\]"):
        call(units="channel")
    with pytest.raises(ValueError, match=r"units must be"):
        call(units="row")
    with pytest.raises(ValueError, match=r"rescale must be"):
        call(rescale="max")
    with pytest.raises(ValueError, match=r"give head="):
        Dropout(rngs=nnx.Rngs(0))(hidden)
    with pytest.raises(ValueError, match=r"give step="):
        Dropout(Curriculum(), rngs=nnx.Rngs(0))(hidden)
    with pytest.raises(ValueError, match=r"give preactivations="):
        Dropout(Standout(), rngs=nnx.Rngs(0))(hidden)
    with pytest.raises(ValueError, match=r"must have the shape of the activations"):
        Dropout(Standout(), rngs=nnx.Rngs(0))(hidden, preactivations=hidden[:1])
