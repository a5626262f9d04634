"""The embedded network: its structure, and what the shipped weights can do."""

import importlib.resources
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxground import attribution, core, maps, models

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("JAXGROUND_DATA", ROOT.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real data: {DATA} is absent")
DOG, CAT = 5, 3


@pytest.fixture(scope="module")
def shipped():
    return models.create("compact_vgg", weights="embedded")


@jax.jit
def explain(network, image, targets):
    """Contrastive and plain Excitation Backprop at the default tap."""
    at = network.card.ground_at
    return (
        attribution.contrastive_excitation_backprop(network, image, targets, at=at),
        attribution.excitation_backprop(network, image, targets, at=at),
    )


def test_taps_are_named_as_in_vgg_and_halve_three_times(shipped):
    images = jax.ShapeDtypeStruct((1, 40, 64, 3), jnp.float32)
    found = {name: shape.shape for name, shape in core.taps(shipped, images).items()}
    assert found == {
        "conv1_1": (1, 40, 64, 32),
        "pool1": (1, 20, 32, 32),
        "conv2_1": (1, 20, 32, 64),
        "conv2_2": (1, 20, 32, 64),
        "pool2": (1, 10, 16, 64),
        "conv3_1": (1, 10, 16, 128),
        "conv3_2": (1, 10, 16, 128),
        "pool3": (1, 5, 8, 128),
        "conv4_1": (1, 5, 8, 256),
        "conv4_2": (1, 5, 8, 256),
        "pool": (1, 256),
    }


def test_head_comes_after_the_mean_so_that_the_dual_unit_differs_in_space(shipped):
    # A 1x1 convolution before the mean would give target and dual the same map: cEB = 0.
    image = jnp.float32(np.random.default_rng(0).random((1, 40, 48, 3)))
    contrast, plain = explain(shipped, image, jnp.array([DOG]))
    assert contrast.sum() > 0.01
    assert jnp.abs(contrast / contrast.sum() - plain / plain.sum()).max() > 1e-3


@pytest.mark.parametrize("size", [(8, 8), (33, 70)])
def test_any_size_runs_and_keeps_the_mass(shipped, size):
    image = jnp.float32(np.random.default_rng(1).normal(size=(1, *size, 3)))
    prior = jnp.eye(10)[None, CAT]
    kept = jax.jit(lambda model, image: core.mass(model, image, prior))(shipped, image)
    assert float(kept["pool"].kept[0]) == pytest.approx(1.0, abs=1e-5)
    assert 0.9 < float(kept[shipped.card.ground_at].kept[0]) <= 1 + 1e-5


def test_shipped_file_is_small_half_precision_and_finite(shipped):
    from safetensors.numpy import load_file

    with importlib.resources.as_file(
        importlib.resources.files("jaxground.models") / "compact_vgg.safetensors"
    ) as path:
        assert path.stat().st_size <= 2.5e6
        arrays = load_file(path)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in arrays.values())
    kernel = shipped.conv2_1.kernel[...]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, arrays["conv2_1.weight"].transpose(2, 3, 1, 0))


@needs_data
def test_it_points_at_the_dog_and_at_the_cat(shipped):
    picture = Image.open(DATA / "demo_images" / "dog_cat_both.png").convert("RGB")
    image = shipped.preprocess(picture, crop=False)[None]
    for found in explain(shipped, image, jnp.array([[DOG, CAT]])):
        (dog, cat), *_ = np.asarray(maps.peak(maps.resize(found, (224, 224))))
        assert 10 < dog[0] < 140 and 75 < dog[1] < 170, f"dog at {dog}"
        assert 115 < cat[0] < 222 and 40 < cat[1] < 200, f"cat at {cat}"
