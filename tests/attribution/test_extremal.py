"""Extremal perturbations: parts against NumPy, and the whole on planted objects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxground.attribution import extremal
from jaxground.attribution.extremal import extremal_masks, extremal_perturbation


def energies(x):
    """Two classes: how much of the first channel is left after the blur, and of the second."""
    return 20 * jnp.square(x).mean((1, 2))


OBJECTS = np.zeros((2, 2, 24, 24), bool)  # image, channel
OBJECTS[0, 0, 3:11, 13:21] = OBJECTS[0, 1, 13:21, 2:10] = True
OBJECTS[1, 0, 8:16, 2:10] = OBJECTS[1, 1, 2:10, 14:22] = True
IMAGES = jnp.asarray(np.moveaxis(OBJECTS, 1, -1), jnp.float32)
TARGETS = jnp.array([[0, 1], [0, 1]])
OPTIONS = {"areas": (0.06, 0.12), "steps": 150}


@pytest.fixture(scope="module")
def masks():
    return jax.jit(lambda x: extremal_masks(energies, x, TARGETS, **OPTIONS))(IMAGES)


def test_areas_are_those_asked_for(masks):
    assert masks.shape == (2, 2, 2, 24, 24)
    assert masks.min() >= 0
    assert masks.max() <= 1
    areas = np.broadcast_to(OPTIONS["areas"], (2, 2, 2))
    np.testing.assert_allclose(masks.mean((-2, -1)), areas, atol=0.02)


def test_masks_lie_on_the_planted_objects(masks):
    inside = jnp.where(OBJECTS[:, :, None], masks, 0).sum((-2, -1)) / masks.sum((-2, -1))
    assert (inside > 0.45).all(), inside  # of the object, 11 % of the image; by chance 0.11


def test_problems_do_not_see_each_other():
    """Alone, or one at a time, each image and target takes the step that it takes among all.

    One step: later on, rounding decides which of two equal pixels belongs to the area.
    """
    images = IMAGES + 0.3 * jax.random.normal(jax.random.key(0), IMAGES.shape)
    options = {"areas": (0.06, 0.12), "steps": 1}

    @jax.jit
    def solve(x):
        ask = functools.partial(extremal_masks, lambda x: 1000 * energies(x), **options)
        return ask(x, TARGETS), ask(x[1:], TARGETS[1:, 1], batch_size=1)

    masks, alone = solve(images)
    assert np.abs(masks[1, 0] - masks[1, 1]).max() > 0.01
    np.testing.assert_allclose(alone, masks[1:, 1], atol=1e-4)


def test_problems_one_at_a_time_have_their_own_areas():
    methods = extremal_perturbation, extremal_masks
    map, masks = jax.jit(
        lambda x: [m(energies, x, TARGETS[1:, 1], batch_size=1, **OPTIONS) for m in methods]
    )(IMAGES[1:])
    np.testing.assert_allclose(masks.mean((-2, -1)), [OPTIONS["areas"]], atol=0.02)
    np.testing.assert_allclose(map, masks.mean(1), atol=1e-6)


def test_bfloat16():
    images = IMAGES[:1].astype(jnp.bfloat16)
    masks = jax.jit(lambda x: extremal_masks(energies, x, [1], areas=[0.12], steps=150))(images)
    assert masks.dtype == jnp.float32
    assert masks[0, 0, OBJECTS[0, 1]].sum() > 0.45 * masks.sum()


def test_area_loss_compares_the_sorted_mask_with_a_template():
    random = np.random.default_rng(0)
    values = random.permutation(60).reshape(1, 2, 5, 6).astype(np.float32) / 60
    areas = np.array([0.2, 0.51], np.float32)
    for i, shown in enumerate([6, 15]):
        template = np.r_[np.zeros(30 - shown), np.ones(shown)]
        order = np.argsort(values[0, i].ravel())
        expected = np.mean((values[0, i].ravel()[order] - template) ** 2)
        gradient = np.zeros(30)
        gradient[order] = 2 * (values[0, i].ravel()[order] - template) / 30
        loss = lambda mask: extremal._area_loss(mask, jnp.asarray(areas))[0, i]  # noqa: B023, E731
        found, slope = jax.jit(jax.value_and_grad(loss))(values)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(slope[0, i].ravel(), gradient, rtol=1e-4, atol=1e-6)


def test_equal_pixels_are_pushed_alike():
    mask = jnp.full((1, 1, 4, 5), 0.5)
    slope = jax.jit(jax.grad(lambda m: extremal._area_loss(m, jnp.array([0.25])).sum()))(mask)
    np.testing.assert_allclose(slope, np.full(mask.shape, 2 * (0.5 - 0.25) / 20), rtol=1e-6)


def test_mask_is_a_smooth_maximum_over_disks():
    size = (32, 48)  # radius 3 pixels, parameters one pixel apart
    parameters = np.random.default_rng(0).random((33, 49))
    terms = []
    for dy, dx in np.ndindex(13, 13):
        distance = np.hypot(dy - 6, dx - 6) / 3
        if distance <= 2:
            rows = np.clip(np.arange(33) + dy - 6, 0, 32)
            columns = np.clip(np.arange(49) + dx - 6, 0, 48)
            near = parameters[rows][:, columns]
            terms.append(near * np.exp(-2 * max(distance - 0.5, 0) ** 2))
    weights = np.exp(20 * np.array(terms))
    expected = (weights * terms).sum(0) / weights.sum(0)
    at = np.meshgrid(np.arange(32) + 0.5, np.arange(48) + 0.5, indexing="ij")
    mask = jax.jit(lambda p: extremal._mask(p, size))(jnp.asarray(parameters, jnp.float32))
    np.testing.assert_allclose(mask, ndimage.map_coordinates(expected, at, order=1), atol=1e-5)


def test_a_mask_blurs_what_it_hides():
    image = np.random.default_rng(0).random((56, 70, 2)).astype(np.float32)
    mask = np.linspace(0, 1, 57)[None, :, None][:, :56] * np.ones((1, 56, 70))  # from row to row
    look = jax.jit(lambda image, mask: extremal._blend(extremal._pyramid(image[None]), mask[None]))
    seen = look(image, mask)
    for row, level in [(0, 0), (8, 1), (24, 3), (40, 5)]:  # rows 8 apart are levels apart
        sigma = 5 * (1 - level / 7)
        radius = int(np.ceil(4 * sigma))
        blurred = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", radius=radius)
        np.testing.assert_allclose(seen[0, 0, row], blurred[row], atol=1e-5)
    clear = look(image, np.ones_like(mask))
    np.testing.assert_array_equal(clear[0, 0], image)


@pytest.mark.parametrize("option", [{"areas": []}, {"areas": [0.1, 1.0]}, {"steps": 0}])
def test_errors(option):
    with pytest.raises(ValueError, match="areas between 0 and 1 and at least one step, got"):
        extremal_masks(energies, IMAGES, TARGETS, **option)
