"""The embedded network: its structure, its training script, and what the shipped weights can do."""

import importlib.resources
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxground import attribution, core, maps, models
from jaxground.data.mosaics import draw_mosaics

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("JAXGROUND_DATA", ROOT.parent / "shared" / "data"))
EXPERIMENT = ROOT / "experiments" / "compact_vgg"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real data: {DATA} is absent")
needs_experiment = pytest.mark.skipif(
    not EXPERIMENT.exists(), reason=f"experiments: {EXPERIMENT} is absent"
)
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


@pytest.fixture
def experiment(monkeypatch):
    """The modules of the training script, which is no package."""
    monkeypatch.syspath_prepend(EXPERIMENT)
    import canvases
    import evaluate
    import photographs
    import train

    yield train, evaluate, canvases, photographs
    for module in (train, evaluate, canvases, photographs):
        del sys.modules[module.__name__]


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


@needs_data
@needs_experiment
def test_shipped_weights_recognise_and_ground(shipped, experiment):
    # The README's numbers are of 10,000 photographs and 1,000 mosaics; these are 500 and 100.
    _, evaluate, _, photographs = experiment
    few = photographs.load_cifar10("test", 500)
    assert evaluate.measure_accuracy(shipped, few) > 0.8
    mosaics, classes = draw_mosaics(few.images, few.labels, count=100, seed=1)
    for method in evaluate.METHODS.values():
        hits = evaluate.point(shipped, method, mosaics, classes, at=shipped.card.ground_at)
        assert hits.mean() > 0.85


@needs_experiment
def test_folded_weights_are_the_trained_network(experiment):
    train, *_ = experiment
    network = train.create(jax.random.key(0))
    rng = np.random.default_rng(1)
    images = jnp.float32(rng.random((4, 16, 16, 3)))
    weights = {
        name: value * rng.uniform(0.5, 1, value.shape) + 0.1 * name.endswith(".bias")
        for name, value in network.weights.items()
    }
    features, statistics = jax.jit(train.extract)(weights, images)
    logits = features.mean((1, 2)) @ weights["head.kernel"] + weights["head.bias"]
    folded = train.fold(train.Network(weights, statistics))
    normalised = (images - jnp.array(train.MEAN)) / jnp.array(train.STD)
    found = jax.jit(lambda network, x: network(x))(models.create("compact_vgg", folded), normalised)
    # float16 files: three decimal digits.
    np.testing.assert_allclose(found, logits, atol=2e-2 * float(logits.std()))
    again = train.fold(train.unfold(folded, images))
    for name, value in folded.items():
        np.testing.assert_allclose(again[name], value, atol=2e-3, err_msg=name)


@needs_experiment
def test_masks_of_a_canvas_say_where_each_photograph_is_seen(experiment):
    _, _, canvases, _ = experiment
    labels = jnp.arange(5)[None]
    boxes = jnp.array([[[0, 0, 64, 64], [0, 0, 32, 32], [16, 16, 48, 48], [0, 0, 0, 0], [0] * 4]])
    flat = [jnp.full((1, 32, 32, 3), 0.1 + 0.2 * layer) for layer in range(5)]
    painted = jax.jit(canvases.paint)(
        jax.random.key(0), flat, labels, boxes.astype(jnp.float32), jnp.zeros((1, 5), bool)
    )
    np.testing.assert_allclose(painted.masks.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(painted.masks.sum((0, 2, 3)), [36, 12, 16, 0, 0])
    assert painted.masks[0, 1, 2, 2] == 0  # the second photograph lies upon the first


@needs_experiment
def test_mass_is_what_excitation_backprop_puts_on_the_right_photograph(experiment):
    # The closed form of the loss against the library, on a canvas of two photographs.
    train, _, canvases, _ = experiment
    network = train.create(jax.random.key(0))
    images = jnp.float32(np.random.default_rng(0).random((1, 64, 64, 3)))
    masks = jnp.zeros((1, 5, 8, 8)).at[0, 1, :, :4].set(1).at[0, 2, :, 4:].set(1)
    shown = canvases.Canvases(images, masks, jnp.array([[10, CAT, 10, 10, 10]]))
    measured = jax.jit(train.measure_loss, static_argnames="config")
    _, (statistics, terms) = measured(network.weights, shown, config=train.Config())
    folded = models.create("compact_vgg", train.fold(train.Network(network.weights, statistics)))
    normalised = (images - jnp.array(train.MEAN)) / jnp.array(train.STD)
    found = attribution.excitation_backprop(folded, normalised, jnp.array([CAT]), at="conv4_2")
    assert float(found[0, :, :4].sum()) == pytest.approx(float(terms[-1]), abs=2e-3)


@needs_data
@needs_experiment
def test_training_script_runs(experiment, tmp_path, monkeypatch):
    train, *_ = experiment
    monkeypatch.setattr(train, "HELD_OUT", 100)
    config = train.Config(steps=2, batch=8, report_every=2, images=200)
    metrics = train.train(config, tmp_path)
    assert metrics["step"] == 2 and 0 < metrics["region_loss"] < 5
    weights = tmp_path / "compact_vgg.safetensors"
    assert models.create("compact_vgg", weights)(jnp.zeros((1, 32, 32, 3))).shape == (1, 10)
