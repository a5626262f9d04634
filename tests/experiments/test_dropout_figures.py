"""The figures of chapter 5: what they draw is what the networks do."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxground
from experiments.excitation_dropout import (
    compression_curves,
    inspection,
    keep_probability,
    switched_off,
    test_time,
    trained,
    training_curves,
)
from jaxground.dropout import excitation_evidence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    inspection.train_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(folder):
    recipe = trained.read_recipe(folder)
    images, labels = inspection.read_test(recipe)
    network = trained.load(folder, "excitation-0.5-0")
    return recipe, network, inspection.prepare(images, recipe), labels


@pytest.fixture(scope="module")
def layer(tiny):
    """The layer without dropout and with standout's factors, the logits, those of biases alone."""
    recipe, network, images, _ = tiny

    @jax.jit
    def read(network, images):
        plain, head = inspection.read_layer(network, images, recipe, "none")
        halved, _ = inspection.read_layer(network, images, recipe, "standout")
        pooled = jaxground.split(network, images, at="pool3").hidden
        before = network.fc1(pooled.reshape(len(images), -1))
        biases = head(jnp.zeros_like(plain))
        return {
            "plain": plain, "halved": halved, "before": before,
            "logits": network(images), "biases": biases,
        }  # fmt: skip

    return read(network, images)


def test_every_script_draws_its_figure(folder, tmp_path, monkeypatch, capsys):
    # The tiny network of `--smoke` is trained once, by the fixture.
    monkeypatch.setattr(inspection, "train_tiny", lambda _: None)
    monkeypatch.setattr(inspection.tempfile, "mkdtemp", lambda prefix: str(folder))
    for script in (keep_probability, training_curves, compression_curves, switched_off):
        script.main(["--smoke", "--output", str(tmp_path)])
    figures = {path.name for path in tmp_path.iterdir()}
    assert figures == {
        "5.2_keep_probability.png",
        "5.3_accuracy.png",
        "5.4_switched_off.jpg",
        "5.5_compression.png",
        f"5.6_utilisation_{folder.name}.png",
    }
    assert all(path.stat().st_size < 150_000 for path in tmp_path.iterdir())
    assert "excitation" in capsys.readouterr().out


def test_scripts_ask_for_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compression_curves.main([])
    assert "give a folder of runs" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="has no finished run"):
        inspection.list_runs(tmp_path)


def test_histories_are_of_finished_runs_at_steps_that_all_seeds_have(tmp_path):
    for name, finished, steps in [
        ("none-0.5-0", True, (1, 2, 3)),
        ("none-0.5-1", True, (1, 3)),
        ("none-0.75-0", True, (1, 3)),  # another rate
        ("excitation-0.5-0", False, (1,)),
    ]:
        scheme, rate, seed = name.split("-")
        records = [{"run": name, "step": s, "accuracy": s + 10 * int(seed)} for s in steps]
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / name / "metrics.jsonl").write_text(lines)
        if finished:
            result = {"scheme": scheme, "rate": float(rate), "seed": int(seed)}
            (tmp_path / f"{name}.json").write_text(json.dumps(result))
    histories = training_curves.read_histories(tmp_path, "accuracy")
    assert list(histories) == ["none"]
    steps, values = histories["none"]
    np.testing.assert_array_equal(steps, [1, 3])
    np.testing.assert_array_equal(values, [[1, 3], [11, 13]])


def test_compression_goes_from_the_whole_network_to_its_biases(folder, tiny, layer):
    recipe, network, _, labels = tiny
    test = inspection.read_test(recipe)
    found = compression_curves.measure_run(folder, "excitation-0.5-0", "excitation", test)
    rows = np.arange(len(labels))
    intact, biases = (
        jax.nn.softmax(layer[name])[rows, labels].mean() for name in ("logits", "biases")
    )
    neurons = network.fc1.bias[...].size
    for panel, values in found.items():
        assert values.shape == compression_curves.PANELS[panel].shares.shape
        np.testing.assert_allclose(values[0], intact, rtol=1e-5)
    np.testing.assert_allclose(found["random"][-1], biases, rtol=1e-5)
    # Of the order by number the first quarter is shown, the second of whose points is 1/64.
    assert compression_curves.PANELS["number"].shares[1] * neurons == 1


def test_a_network_whole_masked_and_without_its_best_neurons(tiny):
    recipe, network, images, labels = tiny

    class Doubling:
        def factors(self, key, hidden, *, head, labels):
            return jnp.full(hidden.shape, 2.0)

    @jax.jit
    def measured(network, images, labels):
        share = jnp.float32(2.0)
        given = network, images, labels, jax.random.key(0), share
        hidden, head = inspection.read_layer(network, images, recipe, "excitation")
        best = jax.nn.one_hot(excitation_evidence(head, hidden, labels).argmax(1), hidden.shape[1])
        found = test_time.measure(*given, recipe=recipe, scheme="excitation", masks=Doubling())
        return found, [head(hidden), head(2 * hidden), head(hidden * (1 - best))]

    neurons = network.fc1.bias[...].size
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(test_time, "SHARES", np.array([1 / neurons]))  # the best one is off
        found, (whole, doubled, damaged) = measured(network, images, labels)
    rows = np.arange(len(labels))
    for way, logits in (
        ("whole", whole),
        ("scaled", doubled),
        ("masked, true class", doubled),
        ("masked, answer", doubled),
        ("best off", damaged),
    ):
        right = (logits.argmax(-1) == labels).mean()
        loss = -np.log(jax.nn.softmax(logits)[rows, labels]).mean()
        np.testing.assert_allclose(found[way], [right, loss], rtol=1e-5, err_msg=way)
    assert float(found["share"]) == pytest.approx(2)


def test_maps_of_an_intact_network_are_its_own(tiny, layer):
    recipe, network, images, labels = tiny
    neurons = network.fc1.bias[...].size

    @jax.jit
    def damaged_and_intact(network, images, labels):
        damaged = switched_off.switch_off(
            network, images, labels, [0, neurons], recipe=recipe, scheme="excitation"
        )
        return *damaged, jaxground.excitation_backprop(network, images, labels, at="conv2")

    maps, scores, own = damaged_and_intact(network, images, labels)
    np.testing.assert_allclose(maps[0], own, atol=1e-6)
    np.testing.assert_array_equal(maps[1], 0)  # nothing is left to carry evidence
    rows = np.arange(len(labels))
    np.testing.assert_allclose(scores[0], jax.nn.softmax(layer["logits"])[rows, labels], rtol=1e-5)


def test_what_is_in_place_is_what_two_maps_share():
    first, half, elsewhere = [[1.0, 1.0]], [[2.0, 0.0]], [[0.0, 0.0]]
    maps = jnp.array([first, half, elsewhere])[:, None]
    np.testing.assert_allclose(switched_off.in_place(maps)[:, 0], [1, 0.5, 0])


def test_adaptive_dropout_acts_at_test_time(layer):
    kept = jax.nn.sigmoid(layer["before"])
    np.testing.assert_allclose(layer["halved"], layer["plain"] * kept, rtol=1e-5)
