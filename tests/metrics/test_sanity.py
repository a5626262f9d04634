"""Similarity of maps against SciPy; the cascade layer by layer; robustness of known explainers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from degenerate import FLAT
from flax import nnx
from scipy import ndimage, stats

from jaxground.metrics import (
    cascading_randomisation,
    independent_randomisation,
    layers,
    max_sensitivity,
    random_logit,
    shuffled,
    similarity,
)

KEYS = jax.random.split(jax.random.key(3), 4)
IMAGES = jax.random.uniform(KEYS[0], (2, 4, 6, 3))


class Branched(nnx.Module):
    """Written, and named, in another order than it is run."""

    def __init__(self, rngs: nnx.Rngs):
        self.head = nnx.Linear(5, 2, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 5, rngs=rngs)])
        self.stem = nnx.Conv(3, 4, (1, 1), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.unused = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, images):
        x = self.norm(self.stem(images)).mean((1, 2))
        return self.head(self.blocks[1](self.blocks[0](x)))


ORDER = ("head", "blocks.1", "blocks.0", "norm", "stem")


def weights(model, images, targets):
    """A map that shows the weights of every layer: what has been randomised can be read off it."""
    rows = jnp.stack([model[layer][name].sum() for layer in "ab" for name in "wv"])
    return jnp.broadcast_to(rows, (len(images), 2, 4))


MODEL = {"a": {"w": jnp.ones(3), "v": jnp.ones(2)}, "b": {"w": jnp.ones(3), "v": jnp.ones(2)}}
RANDOM = jax.tree.map(lambda x: -x, MODEL)


def test_similarity():
    a, b = np.asarray(jax.random.normal(KEYS[1], (2, 3, 9, 14)))
    b = np.round(b)  # ties
    found = jax.jit(similarity)(a, b)
    for i in range(3):
        expected = stats.spearmanr(a[i].ravel(), b[i].ravel()).statistic
        np.testing.assert_allclose(found.spearman[i], expected, atol=1e-5)
        expected = stats.spearmanr(abs(a[i]).ravel(), abs(b[i]).ravel()).statistic
        np.testing.assert_allclose(found.absolute_spearman[i], expected, atol=1e-5)
        x, y = ((m[i] - m[i].min()) / np.ptp(m[i]).astype(np.float64) for m in (a, b))
        local = partial(ndimage.gaussian_filter, sigma=1.5, mode="nearest", radius=6)
        mx, my = local(x), local(y)
        vx, vy, cov = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
        expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
        expected /= (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
        np.testing.assert_allclose(found.ssim[i], expected.mean(), atol=1e-4)


def test_similarity_of_flat_maps():
    """They are all alike, and like nothing else."""
    ramp = np.arange(24.0, dtype=np.float32).reshape(FLAT.shape[1:])
    found = jax.jit(similarity)(FLAT, np.stack([FLAT[0], ramp])[:, None])
    for values in found:
        np.testing.assert_allclose(values[0], 1, rtol=1e-6)
    np.testing.assert_array_equal(found.spearman[1], 0)
    np.testing.assert_array_equal(found.absolute_spearman[1], 0)
    assert (np.asarray(found.ssim)[1] < 0.1).all()


def test_layers_in_the_order_of_the_program():
    model = Branched(nnx.Rngs(0))
    assert layers(model, IMAGES) == ORDER
    graph, state = nnx.split(model)
    assert layers(state, IMAGES, lambda state, x: nnx.merge(graph, state)(x)) == ORDER


def test_what_is_randomised():
    """Layer "b" whole, of "a" the weights `w` alone; the maps show the sums of a.w a.v b.w b.v."""

    @jax.jit
    def run(model):
        options = {"layers": ("b", "a.w"), "random": RANDOM}
        return [
            check(weights, model, IMAGES, None, **options)
            for check in (cascading_randomisation, independent_randomisation)
        ]

    cascade, independent = run(MODEL)
    assert cascade.maps.shape == (3, 2, 2, 4)
    stages = [[3, 2, 3, 2], [3, 2, -3, -2], [-3, 2, -3, -2]]
    np.testing.assert_array_equal(cascade.maps[:, 1, 0], stages)
    np.testing.assert_array_equal(independent.maps[:, 1, 0], [*stages[:2], [-3, 2, 3, 2]])
    np.testing.assert_allclose(cascade.similarity.spearman[0], 1, rtol=1e-6)
    assert (np.asarray(cascade.similarity.spearman)[1:] < 1).all()


def test_a_constant_map_fails_and_a_real_one_passes():
    """The model is an NNX network under jit, its weights arguments of one compilation."""
    model, random = Branched(nnx.Rngs(0)), Branched(nnx.Rngs(1))

    def explain(model, images, targets):
        constant = 0 * model(images)[:, :1, None] + FLAT[0]
        return jnp.stack([constant, model.stem(images)[..., 0]], 1)

    check = partial(cascading_randomisation, explain, layers=ORDER)
    found = jax.jit(lambda m, r, x: check(m, x, None, random=r))(model, random, IMAGES)
    for values in found.similarity:
        np.testing.assert_allclose(values[..., 0], 1, rtol=1e-6)
    seen = np.asarray(found.similarity.spearman)[..., 1]
    np.testing.assert_allclose(seen[:5], 1, rtol=1e-6)  # above the stem
    assert (seen[5] < 0.99).all()


def test_shuffled_keeps_every_distribution():
    tree = {"w": jnp.arange(60.0).reshape(3, 4, 5), "count": jnp.array(3)}
    drawn = shuffled(tree, KEYS[0])
    assert drawn["count"] == 3 and drawn["w"].shape == (3, 4, 5)
    assert (drawn["w"] != tree["w"]).mean() > 0.8
    np.testing.assert_array_equal(jnp.sort(drawn["w"], None), jnp.arange(60.0))


def test_random_logit():
    """Maps that are the one-hot of their class: never the same; and those that ignore it."""
    targets = jnp.tile(jnp.arange(4), (2, 5))

    def one_hot(images, targets):
        return jax.nn.one_hot(targets, 4)[..., None, :]

    def explain(images, targets):
        blind = jnp.broadcast_to(images[:, None, :1, :4, 0], (2, 20, 1, 4))
        return jnp.concatenate([one_hot(images, targets), blind], 1)

    run = partial(random_logit, explain, key=KEYS[1], classes=4)
    found = jax.jit(run)(IMAGES, targets).spearman
    np.testing.assert_allclose(found[:, :20], -1 / 3, rtol=1e-5)  # two one-hots of four
    np.testing.assert_allclose(found[:, 20:], 1, rtol=1e-6)


def test_max_sensitivity():
    """Linear explainers: at most the radius in each pixel, reached nearly by small maps."""
    one = jnp.zeros((2, 1, 2, 1)).at[:, 0, 1].set(3.0)

    def explain(images, targets):
        return jnp.stack([5 * images[..., 0], 0 * images[..., 0] + 7], 1)

    run = partial(max_sensitivity, explain, key=KEYS[2], radius=0.1, samples=200)
    found = jax.jit(lambda x: run(x, None))(one)
    most = 5 * 0.1 * np.sqrt(2)  # a corner of the cube
    value = np.asarray(found.value)[:, 0]
    assert (value <= most).all() and (value > 0.85 * most).all()
    size = 5 * np.linalg.norm([-1.5, 1.5])
    np.testing.assert_allclose(np.asarray(found.relative)[:, 0], value / size, rtol=1e-5)
    assert np.isinf(found.value[:, 1]).all() and np.isinf(found.relative[:, 1]).all()


def test_max_sensitivity_of_flat_maps_is_infinite():
    def explain(images, targets):
        moved = images[..., 0] - IMAGES[..., 0] + 1.0  # flat at the image itself, and only there
        return jnp.concatenate([jnp.broadcast_to(FLAT, (2, *FLAT.shape)), moved[:, None]], 1)

    found = jax.jit(lambda x: max_sensitivity(explain, x, None, key=KEYS[0], samples=2))(IMAGES)
    assert np.isinf(found.value).all() and np.isinf(found.relative).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["c"]}, r"layer 'c' is without parameters; parameters of the model: \['a.v'"),
        ({"layers": ["a", "a.w"]}, r"layer 'a.w' is named twice"),
        ({"random": {"a": MODEL["a"]}}, "random must be a model of the same shape"),
    ],
)
def test_errors(change, message):
    options = {"layers": ["a"], "random": RANDOM} | change
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: cascading_randomisation(weights, MODEL, IMAGES, None, **options))


def test_more_errors():
    with pytest.raises(ValueError, match="samples is 0"):
        max_sensitivity(lambda x, t: x[..., 0], IMAGES, None, key=KEYS[0], samples=0)
    with pytest.raises(ValueError, match="at least 2"):
        random_logit(lambda x, t: x[..., 0], IMAGES, jnp.array([0, 0]), key=KEYS[0], classes=1)
