"""The training of the embedded network: canvases, the loss, batch norm folded away, evaluation."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.compact_vgg import canvases, evaluate, network, photographs, train
from jaxground import attribution, models
from jaxground.data.mosaics import draw_mosaics
from jaxground.models.compact_vgg import MEAN, STD

DATA = Path(os.environ.get("JAXGROUND_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real data: {DATA} is absent")
CAT = 3


@needs_data
def test_shipped_weights_recognise_and_ground():
    # The README's numbers are of 10,000 photographs and 1,000 mosaics; these are 500 and 100.
    shipped = models.create("compact_vgg", weights="embedded")
    few = photographs.load_cifar10("test", 500)
    assert evaluate.measure_accuracy(shipped, few) > 0.8
    mosaics, classes = draw_mosaics(few.images, few.labels, count=100, seed=1)
    for method in evaluate.METHODS.values():
        hits = evaluate.point(shipped, method, mosaics, classes, at=shipped.card.ground_at)
        assert hits.mean() > 0.85


def test_folded_weights_are_the_trained_network():
    trained = network.create(jax.random.key(0))
    rng = np.random.default_rng(1)
    images = jnp.float32(rng.random((4, 16, 16, 3)))
    weights = {
        name: value * rng.uniform(0.5, 1, value.shape) + 0.1 * name.endswith(".bias")
        for name, value in trained.weights.items()
    }
    features, statistics = jax.jit(network.extract)(weights, images)
    logits = features.mean((1, 2)) @ weights["head.kernel"] + weights["head.bias"]
    folded = network.fold(network.Network(weights, statistics))
    normalised = (images - jnp.array(MEAN)) / jnp.array(STD)
    found = jax.jit(lambda model, x: model(x))(models.create("compact_vgg", folded), normalised)
    # float16 files: three decimal digits.
    np.testing.assert_allclose(found, logits, atol=2e-2 * float(logits.std()))
    again = network.fold(network.unfold(folded, images))
    for name, value in folded.items():
        np.testing.assert_allclose(again[name], value, atol=2e-3, err_msg=name)


def test_masks_of_a_canvas_say_where_each_photograph_is_seen():
    labels = jnp.arange(5)[None]
    boxes = jnp.array([[[0, 0, 64, 64], [0, 0, 32, 32], [16, 16, 48, 48], [0, 0, 0, 0], [0] * 4]])
    flat = [jnp.full((1, 32, 32, 3), 0.1 + 0.2 * layer) for layer in range(5)]
    painted = jax.jit(canvases.paint)(
        jax.random.key(0), flat, labels, boxes.astype(jnp.float32), jnp.zeros((1, 5), bool)
    )
    np.testing.assert_allclose(painted.masks.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(painted.masks.sum((0, 2, 3)), [36, 12, 16, 0, 0])
    assert painted.masks[0, 1, 2, 2] == 0  # the second photograph lies upon the first


def test_mass_is_what_excitation_backprop_puts_on_the_right_photograph():
    # The closed form of the loss against the library, on a canvas of two photographs.
    trained = network.create(jax.random.key(0))
    images = jnp.float32(np.random.default_rng(0).random((1, 64, 64, 3)))
    masks = jnp.zeros((1, 5, 8, 8)).at[0, 1, :, :4].set(1).at[0, 2, :, 4:].set(1)
    shown = canvases.Canvases(images, masks, jnp.array([[10, CAT, 10, 10, 10]]))
    measured = jax.jit(train.measure_loss, static_argnames="config")
    _, (statistics, terms) = measured(trained.weights, shown, config=train.Config())
    folded = models.create(
        "compact_vgg", network.fold(network.Network(trained.weights, statistics))
    )
    normalised = (images - jnp.array(MEAN)) / jnp.array(STD)
    found = attribution.excitation_backprop(folded, normalised, jnp.array([CAT]), at="conv4_2")
    assert float(found[0, :, :4].sum()) == pytest.approx(float(terms[-1]), abs=2e-3)


@needs_data
def test_training_script_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "HELD_OUT", 100)
    config = train.Config(steps=2, batch=8, report_every=2, images=200)
    metrics = train.train(config, tmp_path)
    assert metrics["step"] == 2 and 0 < metrics["region_loss"] < 5
    weights = tmp_path / "compact_vgg.safetensors"
    assert models.create("compact_vgg", weights)(jnp.zeros((1, 32, 32, 3))).shape == (1, 10)
