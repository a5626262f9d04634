"""The experiments of chapter 5: their optimisers, training steps, measurements and tables."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.excitation_dropout import datasets, tables, train, trained
from experiments.excitation_dropout.recipes import RECIPES, Recipe, make_network, make_optimiser
from experiments.excitation_dropout.steps import SCHEMES, make_evaluation, make_step, parts
from experiments.training import loop
from experiments.training.placement import make_mesh
from experiments.training.records import claim
from experiments.training.sources import Resident
from jaxground import dropout, models
from jaxground.data.images import ImageError

TINY = dataclasses.replace(RECIPES["reduced"], width=1 / 32, side=8, batch=8, steps=8)
CLASSES = 3


@pytest.fixture(scope="module")
def photographs():
    generator = np.random.default_rng(0)
    labels = np.arange(24) % CLASSES
    images = generator.integers(0, 200, (24, 8, 8, 3)) + 18 * labels[:, None, None, None]
    return images.astype(np.uint8), labels.astype(np.int32)


# Optimisers


def test_caffe_optimiser_is_the_update_of_the_authors_code():
    # v = 0.9 v + lr m (g + 0.005 w), w = w - v; m is 2 for biases, 10 for the classifier.
    recipe = Recipe("cifar10", steps=8)  # the rate falls where i > 2, a quarter of the steps
    names = {("fc1", "kernel"): 1, ("fc1", "bias"): 2, ("fc3", "kernel"): 10, ("fc3", "bias"): 20}
    weights = {"fc1": {}, "fc3": {}}
    for index, (layer, kind) in enumerate(names):
        weights[layer][kind] = jnp.float32([0.5 + index, -1.0])
    optimiser = make_optimiser(recipe)
    state, expected = optimiser.init(weights), {}
    for (layer, kind), multiplier in names.items():
        w, v = np.float64(weights[layer][kind]), 0
        for i in range(5):
            rate = 1e-3 if i <= 2 else 1e-4
            v = 0.9 * v + rate * multiplier * (np.array([1.0, 2.0]) * (i + 1) + 0.005 * w)
            w = w - v
        expected[layer, kind] = w
    for i in range(5):
        gradient = jax.tree.map(lambda _, i=i: jnp.float32([1.0, 2.0]) * (i + 1), weights)
        updates, state = optimiser.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
    for (layer, kind), value in expected.items():
        np.testing.assert_allclose(weights[layer][kind], value, rtol=1e-6)


def test_published_recipes():
    assert RECIPES["cifar10_jpeg"].steps == 100_000 and RECIPES["cifar10_jpeg"].batch == 100
    assert models.shapes("cnn_2").fc1.kernel.shape == (4096, 2048)
    assert models.shapes("cnn_2", width=0.25, size=16).fc1.kernel.shape == (4 * 64, 512)
    optimiser = make_optimiser(dataclasses.replace(RECIPES["cifar10_jpeg_adam"], steps=2))
    weights = {"w": jnp.ones(1)}
    state = optimiser.init(weights)
    for gradient, moment in ((1.0, 1.0), (3.0, (0.95 * 0.05 + 0.05 * 3) / (1 - 0.95**2))):
        updates, state = optimiser.update({"w": jnp.float32([gradient])}, state, weights)
        second = {1.0: 1.0, 3.0: (0.999 * 0.001 + 0.001 * 9) / (1 - 0.999**2)}[gradient]
        np.testing.assert_allclose(updates["w"], -1e-4 * moment / second**0.5, rtol=1e-4)


def test_fine_tuned_networks_keep_their_weights_but_for_the_classifier(monkeypatch):
    created = []

    def create(name, weights):
        created.append((name, weights))
        rngs = nnx.Rngs(0)
        network = nnx.Dict(fc6=nnx.Linear(4, 6, rngs=rngs), fc8=nnx.Linear(6, 1000, rngs=rngs))
        order = "BGR" if weights == "caffe.npz" else "RGB"
        network.card = models.Card("", "", "", preprocess=models.Preprocess(order=order))
        return network

    monkeypatch.setattr(models, "create", create)
    recipe = dataclasses.replace(RECIPES["vgg16"], start="weights.npz")
    one, two = (make_network(recipe, 12, seed) for seed in (0, 1))
    assert created == [("vgg16", "weights.npz")] * 2
    np.testing.assert_array_equal(one.fc6.kernel[...], two.fc6.kernel[...])
    assert one.fc8.kernel.shape == (6, 12) and not np.array_equal(one.fc8.kernel, two.fc8.kernel)
    with pytest.raises(ValueError, match=r"caffe.npz expects images as Preprocess.*BGR"):
        make_network(dataclasses.replace(recipe, start="caffe.npz"), 12, 0)
    assert 0.005 < float(one.fc8.kernel[...].std()) < 0.015


# Steps


def train_tiny(photographs, scheme, seeds=(0,), rates=(0.5,), devices=None, steps=3):
    images, labels = photographs
    mesh = make_mesh(len(seeds), TINY.batch, jax.devices()[:1] if devices is None else devices)
    networks = [nnx.split(make_network(TINY, CLASSES, seed)) for seed in seeds]
    graph, optimiser = networks[0][0], make_optimiser(TINY)
    source = Resident(images, labels, batch=TINY.batch, seeds=seeds, mesh=mesh)
    program = loop.make_program(make_step(graph, TINY, scheme, optimiser), source, mesh)
    state = loop.start(
        [weights for _, weights in networks], optimiser, seeds, np.float32(rates), mesh
    )
    losses = []
    for _ in range(steps):
        state, metrics = program(state, source.arrays, source.take(1))
        losses.append(np.asarray(metrics["loss"]))
    return graph, state, np.stack(losses), mesh


def test_four_devices_train_as_one_with_the_same_masks(photographs):
    _, one, losses, _ = train_tiny(photographs, "excitation")
    _, four, shared, _ = train_tiny(photographs, "excitation", devices=jax.devices()[:4])
    np.testing.assert_allclose(losses, shared, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one.weights), jax.tree.leaves(four.weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_runs_of_one_program_have_rates_of_their_own(photographs):
    _, _, losses, _ = train_tiny(photographs, "standard", (0, 0, 0), (0.5, 0.75, 0.5), steps=2)
    np.testing.assert_allclose(losses[:, 0], losses[:, 2], rtol=1e-6)
    assert abs(losses[:, 0] - losses[:, 1]).max() > 1e-4


def test_parts_of_a_network_go_together_at_the_relu(photographs):
    network = make_network(TINY, CLASSES, 0)
    images = jnp.float32(photographs[0][:2]) / 255

    @jax.jit
    def apart_and_whole(network, images):
        before, hidden, head = parts(network, images, "fc1")
        return before, hidden, head(hidden), network(images)

    before, hidden, logits, whole = apart_and_whole(network, images)
    np.testing.assert_array_equal(hidden, np.maximum(before, 0))
    assert float(before.min()) < 0
    np.testing.assert_allclose(logits, whole, rtol=1e-5, atol=1e-7)


def test_evaluation_is_the_mean_over_all_images_and_standout_scales(photographs):
    images, labels = (part[:9] for part in photographs)  # nine fill no batch of four devices
    mesh = make_mesh(1, TINY.batch, jax.devices()[:4])
    graph, start = nnx.split(make_network(TINY, CLASSES, 0))
    state = loop.start([start], make_optimiser(TINY), [0], np.float32([0.5]), mesh)

    def measured(weights):
        shown = (jnp.float32(images) - 127.5) / 255
        before, plain, head = parts(nnx.merge(graph, weights), shown, "fc1")
        expected = {}
        for scheme, factor in {"excitation": 1, "standout": jax.nn.sigmoid(before)}.items():
            hidden = plain * factor
            logits = head(hidden)
            evidence = dropout.excitation_evidence(head, hidden, labels)
            expected[scheme] = {
                "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(),
                "accuracy": (logits.argmax(-1) == labels).mean(),
                "neurons_on": (hidden > 0).sum(1).mean(),
                "peak_evidence": evidence.max(1).mean(),
            }
        return expected

    for scheme, values in jax.jit(measured)(start).items():
        found = make_evaluation(graph, TINY, scheme, images, labels, mesh)(state)
        for name, value in values.items():
            assert found[name].shape == (1,)
            np.testing.assert_allclose(found[name][0], value, rtol=1e-4, err_msg=name)


# Runs and tables


def test_programs_list_every_run_once():
    programs = train.list_programs(list(SCHEMES), [0.5, 0.75], [0, 1, 2, 3, 4], 2)
    runs = [run for program in programs for run in program]
    assert len(runs) == len({run.name for run in runs}) == 5 * (2 * (len(SCHEMES) - 2) + 2)
    assert all(len({run.scheme for run in program}) == 1 for program in programs)
    assert max(map(len, programs)) == 2
    (alone,) = train.list_programs(["standout"], [0.9, 0.75], [0], 1)
    assert alone[0].name == "standout-0.5-0"  # it has no rate


def test_programs_go_on_as_they_were_begun(tmp_path):
    def begin(*names):
        (tmp_path / "+".join(names) / "checkpoints" / "8").mkdir(parents=True)

    def names(schemes, seeds, at_once):
        programs = train.list_programs(schemes, [0.5], seeds, at_once)
        return [[run.name for run in runs] for runs in train.go_on(programs, tmp_path)]

    begin("none-0.5-0")
    begin("none-0.5-1", "none-0.5-2")
    (tmp_path / "none-0.5-0.json").touch()  # finished
    (tmp_path / "none-0.5-3" / "checkpoints" / "8.orbax-checkpoint-tmp-0").mkdir(parents=True)
    together, seeds = ["none-0.5-1", "none-0.5-2"], [0, 1, 2, 3, 4]
    assert names(["none"], seeds, 1) == [together, ["none-0.5-3"], ["none-0.5-4"]]
    assert names(["none"], seeds, 5) == [together, ["none-0.5-3", "none-0.5-4"]]
    assert names(["none"], [0], 1) == []
    with pytest.raises(ValueError, match=r"none-0.5-2 was begun with none-0.5-2 in the same"):
        names(["none"], [0, 1], 1)
    begin("none-0.5-1")  # of one run only: the larger program has it
    assert names(["none"], seeds[:3], 1) == [together]
    begin("standout-0.5-0", "standout-0.5-1")
    (tmp_path / "standout-0.5-0.json").touch()  # killed while the results were written
    assert names(["standout"], [0, 1], 1) == [["standout-0.5-0", "standout-0.5-1"]]


def test_training_script_and_tables_run_and_a_second_call_has_nothing_to_do(
    photographs, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("grain")
    images, labels = photographs

    def load(name, split, *, side, limit):
        return datasets.Labelled(images[:limit], labels[:limit])

    def stream(name, side):  # figures and `train_tiny` have it on the device
        return range(len(labels)), lambda row: (images[row], labels[row])

    monkeypatch.setattr(datasets, "load", load)
    monkeypatch.setattr(datasets, "stream", stream)
    monkeypatch.setitem(RECIPES, "tiny", dataclasses.replace(TINY, steps=2, every=1))
    command = ["train", "--recipe", "tiny", "--seeds", "0", "1", "--output", str(tmp_path)]
    command += ["--at-once", "2", "--schemes", "excitation", "--stream"]
    monkeypatch.setattr(sys, "argv", command)
    train.main()
    first = (tmp_path / "excitation-0.5-1.json").read_text()
    monkeypatch.setattr(loop, "train", None)  # would fail
    train.main()
    assert (tmp_path / "excitation-0.5-1.json").read_text() == first
    network = trained.load(tmp_path, "excitation-0.5-1")
    logits = network((jnp.float32(images) - 127.5) / 255)
    assert float((logits.argmax(-1) == labels).mean()) == json.loads(first)["accuracy"]
    assert set(tables.read_results(tmp_path)) == {("excitation", 0.5)}
    monkeypatch.setattr(sys, "argv", ["tables", str(tmp_path)])
    capsys.readouterr()
    tables.main()
    printed = capsys.readouterr().out
    assert "| 81.94 |" in printed and "1325" in printed and "neurons on" in printed
    (tmp_path / "excitation-0.5-1.json").write_text(first[:20])
    with pytest.warns(UserWarning, match=r"excitation-0.5-1.json is left out, it is torn"):
        assert set(tables.read_results(tmp_path)["excitation", 0.5]) == {0}


def test_a_folder_holds_runs_of_one_recipe(tmp_path):
    folder = tmp_path / "runs" / "tiny"
    claim(folder, dataclasses.asdict(TINY))
    before = (folder / "recipe.json").read_text()
    claim(folder, dataclasses.asdict(TINY))
    for change in ({"steps": 9}, {"learning_rate": 1e-2}):
        with pytest.raises(
            ValueError, match=r"runs of another recipe: (steps 8|learning_rate 0.001) there"
        ):
            claim(folder, dataclasses.asdict(TINY) | change)
    assert (folder / "recipe.json").read_text() == before
    assert trained.read_recipe(folder).steps == TINY.steps


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--rates", "0.5", "1.5"], "in (0, 1)"),
        (["--at-once", "0"], "--at-once 0"),
        (["--steps", "0"], "--steps 0"),
        (["--seeds", "1", "2", "1"], "--seeds 1: given twice"),
        (["--seeds", "-1"], "--seeds -1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, wrong, said
):
    monkeypatch.setattr(sys, "argv", ["train", "--output", str(tmp_path / "runs"), *wrong])
    with pytest.raises(SystemExit):
        train.main()
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_classes_are_those_of_all_images():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    many, few = (datasets.Labelled(images, np.array(labels)) for labels in ([0, 9], [0, 4]))
    assert train.count_classes(many, few) == train.count_classes(few, many) == 10
    assert train.count_classes(([], None), few) == 5  # a stream


def test_absent_archives_are_not_looked_for_at_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGROUND_DATA", str(tmp_path))
    with pytest.raises(ImageError, match=r"cifar10_jpeg.npz: there is no such file: set JAXGROUND"):
        datasets.load("cifar10_jpeg", "train")
    with pytest.raises(ImageError, match="do not stream it"):
        datasets.stream("cifar10_jpeg", None)
    for name, arrays in (("jhmdb12", {"labels": [0], "offsets": [0, 1]}), ("caltech101_20", {})):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / f"{name}.npz", **arrays)
        with pytest.raises(ImageError, match=rf"{name}.npz is torn, or no archive with .*labels"):
            datasets.load(name, "train")
    archive = tmp_path / "jhmdb12" / "jhmdb12.npz"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"jhmdb12.npz is torn.*zip.*: copy it again"):
        datasets.load("jhmdb12", "train")


def test_tables_of_other_rates_alone(tmp_path, monkeypatch, capsys):
    result = {"scheme": "excitation", "rate": 0.75, "seed": 0, "accuracy": 0.5}
    (tmp_path / "excitation-0.75-0.json").write_text(json.dumps(result))
    monkeypatch.setattr(sys, "argv", ["tables", str(tmp_path)])
    tables.main()
    assert "No run of rate 0.5 has ended." in capsys.readouterr().out
    lines = tables.table_of_schemes(tables.read_results(tmp_path), "cifar10", base=0.75)
    assert len(lines) == 3 and "| 50.00 |" in lines[2]


def test_intervals_are_students_and_differences_are_paired(tmp_path):
    for seed, (standard, excitation) in enumerate(((0.40, 0.43), (0.50, 0.53), (0.60, 0.63))):
        for scheme, accuracy in (("standard", standard), ("excitation", excitation)):
            result = {"scheme": scheme, "rate": 0.5, "seed": seed, "accuracy": accuracy}
            (tmp_path / f"{scheme}-{seed}.json").write_text(json.dumps(result))
    mean, half = tables.interval([40, 50, 60])
    assert mean == 50 and half == pytest.approx(4.302653 * 10 / 3**0.5)  # t of two degrees
    lines = tables.table_of_schemes(tables.read_results(tmp_path), "cifar10")
    assert lines[2].split("|")[3:5] == [" 50.00 ± 24.84 ", "  "]
    assert lines[3].split("|")[3:6] == [" 53.00 ± 24.84 ", " 3.00 ± 0.00 ", " 81.94 "]


def test_held_out_images_are_no_training_images(data, monkeypatch):
    def read(path, *, rows, size):
        return np.asarray(rows)

    monkeypatch.setattr(datasets, "read_jpegs", read)
    for name, count in (("jhmdb12", 558 * 16), ("caltech101_20", 2020)):
        found = [datasets.load(name, split, side=8) for split in ("train", "test")]
        rows = np.concatenate([each.images for each in found])
        assert sorted(rows) == list(range(count))
        assert len({tuple(np.unique(each.labels)) for each in found}) == 1  # every class in both
