"""multi_scale: against maps computed by hand, its laws, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground import tap
from jaxground.attribution import excitation_backprop, grad_cam
from jaxground.attribution.multi_scale import multi_scale

KERNELS = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
IMAGES = np.random.default_rng(2).normal(size=(2, 12, 16, 3)).astype(np.float32)
TARGETS = np.array([[0, 3], [4, 1]])


def network(images):
    """A convolution, its mean over positions and a dense layer: images of any size."""
    dims = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(
        images, jnp.asarray(KERNELS), (1, 1), "VALID", dimension_numbers=dims
    )
    return tap(jax.nn.relu(x), "x").mean((1, 2)) @ WEIGHTS


def brightness(f, images, targets):
    """An explainer whose map is the image, times the target plus one."""
    del f
    factors = jnp.asarray(targets) + 1.0
    return images.sum(-1) * factors[:, None, None]


def test_mean_of_unit_maps_by_hand():
    """An image of 2 x 4 and its half: each divided by its mean, the coarse one enlarged."""
    image = np.array([[8.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]], np.float32)
    explain = multi_scale(brightness, sizes=(1, 2), mirror=False)
    found = jax.jit(lambda x: explain(None, x, np.array([2])))(image[None, :, :, None])
    # Halving averages with a triangle of width 4, cut at the border: columns weigh 3 3 1 and 1 3 3.
    columns = image.mean(0)
    half = np.array([columns[:3] @ [3, 3, 1], columns[1:] @ [1, 3, 3]]) / 7
    coarse = half / half.mean()
    enlarged = np.array([1.0, 0.75, 0.25, 0.0])
    coarse = coarse[0] * enlarged + coarse[1] * enlarged[::-1]
    np.testing.assert_allclose(found[0], (coarse + image / image.mean()) / 2, rtol=1e-5)


@pytest.mark.parametrize("explainer", [excitation_backprop, grad_cam])
def test_mirror_image_has_mirrored_map(explainer):
    """The map of the mirror image is the mirrored map; that of one size alone is not."""
    explain = jax.jit(
        lambda x, t: multi_scale(explainer, sizes=(8, 12))(
            network, x, t, at="x", score="log_probability"
        )
    )
    found, mirrored = explain(IMAGES, TARGETS), explain(IMAGES[:, :, ::-1], TARGETS)
    assert found.shape == (2, 2, 10, 14)
    np.testing.assert_allclose(mirrored, found[..., ::-1], rtol=1e-4, atol=1e-5)
    alone = jax.jit(lambda x: explainer(network, x, TARGETS, at="x"))(IMAGES)
    assert not np.allclose(alone, alone[..., ::-1])


def test_targets_do_not_mix():
    """Each of `k` targets of each image has the map it has alone."""
    explain = multi_scale(grad_cam, sizes=(9,))
    every, alone = jax.jit(
        lambda x: (
            explain(network, x, TARGETS, at="x"),
            explain(network, x[1:], TARGETS[1:, 1], at="x"),
        )
    )(IMAGES)
    assert alone.shape == (1, 7, 10)
    np.testing.assert_allclose(every[1, 1], alone[0], rtol=1e-5, atol=1e-6)


def test_no_map_outvotes_another_by_its_units():
    """Maps a thousand times larger at one size change nothing; zeros have no vote."""

    def louder(f, images, targets):
        return brightness(f, images, targets) * (1000.0 if images.shape[1] == 6 else 1.0)

    def silent(f, images, targets):
        return brightness(f, images, targets) * (0.0 if images.shape[1] == 6 else 1.0)

    explainers = [multi_scale(each, sizes=(6, 12)) for each in (brightness, louder, silent)]
    explainers.append(multi_scale(brightness, sizes=(12,)))
    plain, loud, half, alone = jax.jit(
        lambda x: [explain(None, x, TARGETS[:, 0]) for explain in explainers]
    )(np.abs(IMAGES))
    np.testing.assert_allclose(loud, plain, rtol=1e-5)
    np.testing.assert_allclose(half, alone / 2, rtol=1e-5)
    np.testing.assert_allclose(plain.mean((1, 2)), 1, rtol=0.03)


def test_one_call_for_an_image_and_its_mirror():
    """The explainer sees each size once, images and mirror images side by side."""
    seen = []

    def watched(f, images, targets):
        seen.append((images.shape, np.asarray(targets).tolist()))
        return brightness(f, images, targets)

    explain = multi_scale(watched, sizes=(6, 12, 24))
    jax.eval_shape(lambda x: explain(None, x, np.array([1, 2])), IMAGES)
    sizes = [shape[1:3] for shape, _ in seen]
    assert sizes == [(6, 8), (12, 16), (24, 32)]
    assert all(shape[0] == 4 and targets == [1, 1, 2, 2] for shape, targets in seen)


def test_refuses():
    """No size, a size of zero, a class out of range, images of another rank."""
    for sizes in ((), (0, 4)):
        with pytest.raises(ValueError, match="at least one shorter side"):
            multi_scale(brightness, sizes=sizes)
    explain = multi_scale(grad_cam, sizes=(8,))
    with pytest.raises(ValueError, match=r"\[7\] are out of range"):
        jax.eval_shape(lambda: explain(network, IMAGES, np.array([0, 7]), at="x"))
    with pytest.raises(ValueError, match=r"images\[None\]"):
        explain(network, IMAGES[0], np.array([0]), at="x")
