"""RISE and occlusion against loops in NumPy and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxground.attribution.perturbation import occlusion, rise

KEY = jax.random.key(7)


def enlarged(grid, size, shift):
    """The authors' mask: stretch to one cell more, edges kept, then cut out."""
    cells = len(grid)
    pitch = [-(-side // cells) for side in size]
    at = [(np.arange((cells + 1) * p) + 0.5) * cells / ((cells + 1) * p) - 0.5 for p in pitch]
    full = ndimage.map_coordinates(grid, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
    return full[shift[0] : shift[0] + size[0], shift[1] : shift[1] + size[1]]


def drawn(key, size, cells, keep):
    """The same coin flips, enlarged by another hand."""
    flips, shifts = jax.random.split(key)
    grid = np.asarray(jax.random.bernoulli(flips, keep, (cells, cells)), float)
    pitch = jnp.array([-(-side // cells) for side in size])
    return enlarged(grid, size, np.asarray(jax.random.randint(shifts, (2,), 0, pitch)))


def test_rise_against_loop():
    random = np.random.default_rng(0)
    images, weights = random.normal(size=(2, 11, 9, 2)), random.normal(size=(198, 4))
    baseline = np.array([0.5, -1.0])
    targets = np.array([[0, 3], [2, 1]])
    masks = [drawn(jax.random.fold_in(KEY, n), (11, 9), 4, 0.3) for n in range(5)]
    expected = np.zeros((2, 2, 11, 9))
    for b in range(2):
        for mask in masks:
            seen = images[b] * mask[..., None] + baseline * (1 - mask[..., None])
            exponentials = np.exp(0.1 * seen.ravel() @ weights)
            probabilities = exponentials / exponentials.sum()
            for k in range(2):
                expected[b, k] += probabilities[targets[b, k]] * mask / (5 * 0.3)
    explain = functools.partial(
        rise,
        lambda x: 0.1 * x.reshape(len(x), -1) @ weights,
        key=KEY,
        masks=5,
        cells=4,
        keep=0.3,
        baseline=baseline,
        batch_size=4,  # two masks of two images: three passes, with one mask to spare
    )
    maps = jax.jit(explain)(jnp.asarray(images, jnp.float32), targets)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)


def test_rise_is_what_masks_drawn_by_numpy_give_on_average():
    """A linear score recovers its weights, blurred by the covariance of the masks."""
    size, cells, keep, number = (12, 10), 3, 0.4, 4000
    random = np.random.default_rng(1)
    weights = np.zeros(size)
    weights[3, 6], weights[9, 1] = 1, -1
    pitch = [4, 4]
    masks = np.stack(
        [
            enlarged(1.0 * (random.random((cells, cells)) < keep), size, random.integers(0, pitch))
            for _ in range(number)
        ]
    )
    np.testing.assert_allclose(masks.mean(0), keep, atol=0.03)
    expected = np.einsum("n,nhw->hw", (masks * weights).sum((1, 2)), masks) / (number * keep)
    options = dict(masks=number, cells=cells, keep=keep, score="logit", batch_size=1000)
    image, zero = jnp.ones((1, *size, 1)), jnp.array([0])
    linear = jnp.asarray(weights, jnp.float32)

    def explain(key):
        maps = rise(
            lambda x: (x[..., 0] * linear).sum((1, 2))[:, None], image, zero, key=key, **options
        )
        constant = rise(lambda x: jnp.ones((len(x), 1)), image, zero, key=key, **options)
        return maps[0], constant[0]

    maps, constant = jax.jit(jax.vmap(explain))(jax.random.split(KEY, 2))
    np.testing.assert_allclose(maps, np.stack([expected] * 2), atol=0.03)
    np.testing.assert_allclose(constant, 1, atol=0.06)  # E[mask] = keep at every pixel
    assert not np.allclose(maps[0], maps[1], atol=1e-4), "another key, other masks"


def test_rise_keeps_everything():
    explain = functools.partial(rise, lambda x: x.mean((1, 2)), key=KEY, masks=3, keep=1)
    maps = jax.jit(explain)(jnp.ones((1, 5, 5, 2)), jnp.array([1]))
    np.testing.assert_allclose(maps, 0.5, rtol=1e-6)


def test_memory_does_not_depend_on_the_number_of_masks():
    def temporaries(masks):
        def network(x):
            kernel = jnp.ones((3, 3, 8, 16))
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
            return jnp.tanh(x).mean((1, 2))

        explain = jax.jit(lambda x, t: rise(network, x, t, key=KEY, masks=masks))
        lowered = explain.lower(jnp.ones((2, 32, 32, 8)), jnp.zeros((2,), int))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    few, many = temporaries(64), temporaries(4096)
    assert many <= few + 8 * 4096, "besides the numbers of the masks nothing grows"
    assert few > 32 * 32 * 32 * 16 * 4, "the activations of a chunk of 32 images were counted"


@pytest.mark.parametrize("option", [{"masks": 0}, {"cells": 0}, {"keep": 0.0}, {"keep": 1.5}])
def test_rise_says_what_is_out_of_range(option):
    with pytest.raises(ValueError, match=rf"got .*{next(iter(option))}="):
        rise(lambda x: x.mean((1, 2)), jnp.ones((1, 4, 4, 2)), jnp.array([0]), key=KEY, **option)


@pytest.mark.parametrize("size, window, stride", [((7, 10), 3, 2), ((5, 6), 5, 4), ((4, 4), 2, 2)])
def test_occlusion_of_a_linear_score(size, window, stride):
    """What a square takes away is the sum of what stood there."""
    random = np.random.default_rng(2)
    images = random.normal(size=(2, *size, 3)).astype(np.float32)
    weights = random.normal(size=(*size, 3, 2)).astype(np.float32)
    baseline = random.normal(size=(2, *size, 3)).astype(np.float32)
    taken = np.einsum("bhwc,hwck->bkhw", images - baseline, weights)
    starts = [[*range(0, side - window, stride), side - window] for side in size]
    expected, count = np.zeros_like(taken), np.zeros(size)
    for y in starts[0]:
        for x in starts[1]:
            square = np.s_[..., y : y + window, x : x + window]
            expected[square] += taken[square].sum((-2, -1), keepdims=True)
            count[square] += 1
    assert count.min() >= 1
    explain = functools.partial(
        occlusion,
        lambda x: jnp.einsum("bhwc,hwck->bk", x, weights),
        window=window,
        stride=stride,
        baseline=baseline,
        score="logit",
        batch_size=8,
    )
    maps = jax.jit(explain)(images, np.array([[0, 1], [0, 1]]))
    np.testing.assert_allclose(maps, expected / count, rtol=1e-4, atol=1e-4)


def test_occlusion_by_default_has_about_600_squares():
    shapes = []
    jax.eval_shape(
        lambda x: occlusion(
            lambda x: shapes.append(x.shape) or x.mean((1, 2)), x, jnp.array([0]), batch_size=10**6
        ),
        jnp.zeros((1, 224, 224, 1)),
    )
    assert max(shapes) == (25 * 25, 224, 224, 1)


@pytest.mark.parametrize("option", [{"window": 5}, {"window": 0}, {"window": 2, "stride": 3}])
def test_occlusion_says_what_does_not_fit(option):
    with pytest.raises(ValueError, match=r"a window of 1 to 4 pixels \(the image is 4x6\)"):
        occlusion(lambda x: x.mean((1, 2)), jnp.ones((1, 4, 6, 2)), jnp.array([0]), **option)
