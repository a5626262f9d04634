"""`jaxground explain`, from the command line to the files, with networks that come along."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxground import attribution, excitation_backprop, maps, models, plots, taps, weights
from jaxground.cli import main
from jaxground.data.example import example_photograph
from jaxground.data.images import read_image
from jaxground.evaluation.explainers import plain
from jaxground.methods import METHODS, default_tap
from jaxground.models.registry import entry

QUICK = "--size", "32"  # small inputs for what does not depend on them


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photograph(path, height=40, width=40, seed=0):
    """A smooth random picture, in place of a photograph."""
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def record(path):
    return json.loads(Path(path).read_text())


def test_without_arguments_the_example_is_explained(folder, capsys):
    assert main(["explain"]) == 0
    stem = "example.excitation_backprop.airplane+ship"
    assert names_in(folder) == [f"{stem}{suffix}" for suffix in (".json", ".npz", ".png")]

    found = record(f"{stem}.json")
    airplane, ship = found["targets"]
    assert (airplane["name"], ship["name"]) == ("airplane", "ship")
    (x, y), (u, v) = airplane["peak"], ship["peak"]
    assert x < 320 and y < 240, "the airplane is at the upper left"
    assert 240 < u and 170 < v < 350, "the ship is at the right, in the middle"
    assert {found["top"][0]["name"], found["top"][1]["name"]} == {"airplane", "ship"}

    with Image.open(f"{stem}.png") as picture:
        assert picture.width > 3 * 400
    printed = capsys.readouterr().out
    assert printed.count(" %  ") == 5
    assert f"wrote {stem}.png" in printed


def test_the_record_and_the_map_are_those_of_the_library(folder):
    photo = photograph(folder / "photo.png", 50, 80)
    command = ["explain", str(photo), "--target", "frog", "--target", "9", "--output", "out"]
    assert main(command) == 0
    found = record("out/photo.excitation_backprop.frog+9.json")
    arrays = np.load("out/photo.excitation_backprop.frog+9.npz")

    model = models.create("compact_vgg", "embedded")
    side = model.preprocess.crop
    pixels = Image.fromarray(read_image(photo)).resize((side, side), Image.Resampling.BILINEAR)
    images = jnp.asarray(model.preprocess(np.asarray(pixels), crop=False)[None])
    at = model.card.ground_at

    @jax.jit
    def asked(model, images):
        found = excitation_backprop(model, images, jnp.array([[6, 9]]), at=at)
        return found[0], jax.nn.softmax(model(images))[0]

    expected, probabilities = jax.device_get(asked(model, images))
    np.testing.assert_allclose(arrays["maps"], expected, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(arrays["probabilities"], probabilities[[6, 9]], rtol=1e-4)
    assert arrays["targets"].tolist() == [6, 9]

    best = np.argsort(-probabilities)[:5]
    assert [top["index"] for top in found["top"]] == best.tolist()
    frog = found["targets"][0]
    assert frog["probability"] == pytest.approx(float(probabilities[6]), rel=1e-4)
    assert frog["mass"] == pytest.approx(float(expected[0].sum()), rel=1e-4)
    row, column = np.unravel_index(np.argmax(expected[0]), expected[0].shape)
    assert frog["peak"] == [
        int((column + 0.5) * 80 / expected.shape[2]),
        int((row + 0.5) * 50 / expected.shape[1]),
    ]
    x0, y0, x1, y1 = frog["box"]
    assert 0 <= x0 < x1 <= 80
    assert 0 <= y0 < y1 <= 50
    assert found["photograph"] == {"path": str(photo), "height": 50, "width": 80}
    assert found["settings"]["tap"] == at
    assert found["weights"]["sha256"] == weights.sha256(
        models.weights_file("compact_vgg", "embedded")
    )
    assert found["versions"]["jax"] == jax.__version__
    assert found["preprocessing"]["input"] == {"height": side, "width": side}


SLOW = "rise extremal_perturbation integrated_gradients smooth_grad(gradient) score_cam".split()
# Where and how they are read, and so the way through the command, is as of one that is run.
ALIKE = {
    "excitation_backprop": "contrastive_excitation_backprop",
    "input_x_gradient": "gradient",
    "guided_backprop": "gradient",
    "deconvnet": "gradient",
    "grad_cam_plus_plus": "grad_cam",
    "layer_cam": "grad_cam",
}


def test_methods_that_are_read_alike_make_maps_alike():
    model = models.create("compact_vgg", "embedded")
    given = jnp.zeros((1, 32, 42, 3)), jnp.array([[8]]), jax.random.split(jax.random.key(0), 1)
    shapes = taps(model, given[0])
    for name, like in ALIKE.items():
        one, other = (METHODS[name]._replace(threshold=0) for name in (name, like))
        assert one == other
        at = default_tap(name, model.card, shapes)
        found = jax.eval_shape(functools.partial(plain(name, at), model), *given)
        assert found.shape == (1, 1, *(shapes[at].shape[1:3] if at else (32, 42))), name


@pytest.mark.parametrize("method", [name for name in METHODS if name not in [*SLOW, *ALIKE]])
def test_every_method_runs(folder, method, monkeypatch):
    drawn, draw = [], plots.figure

    def figure(image, found, file):
        drawn.extend(found.values())
        draw(image, found, file)

    monkeypatch.setattr(plots, "figure", figure)
    photo = str(example_photograph())
    command = ["explain", photo, "--method", method, "--target", "ship", "--output", "."]
    assert main([*command, *QUICK]) == 0
    found = record(f"example.{method}.ship.json")
    assert found["map"]["smoothed"] == METHODS[method].smoothed
    raw = shown = np.load(f"example.{method}.ship.npz")["maps"][0]
    assert raw.shape == (found["map"]["height"], found["map"]["width"])
    if found["map"]["smoothed"]:
        assert raw.shape == (32, 42)  # at the image, its aspect kept
        shown = maps.smooth(raw)
    np.testing.assert_allclose(drawn[0], shown, rtol=1e-3, atol=1e-6)
    row, column = np.unravel_index(np.argmax(shown), shown.shape)
    x, y = (column + 0.5) * 640 / shown.shape[1], (row + 0.5) * 480 / shown.shape[0]
    assert found["targets"][0]["peak"] == [int(x), int(y)]


def test_a_folder_is_explained_in_one_go_and_what_cannot_be_read_is_told(folder, capsys):
    photos = folder / "photos"
    for i in range(5):
        photograph(photos / f"{i}.jpg", 30 + i, 40, seed=i)
    (photos / "broken.jpg").write_bytes((photos / "0.jpg").read_bytes()[:200])
    photograph(photos / "deep" / "0.png", seed=9)  # a name met twice
    command = ["explain", "photos", "absent.jpg", "--output", "out", "--batch-size", "2"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "6 explained, 0 explained before, 2 skipped" in printed.out
    assert "skipped: cannot read photos/broken.jpg: " in printed.err
    assert "skipped: absent.jpg: no such file or folder" in printed.err
    assert "photo/s" in printed.err or "s/photo" in printed.err
    written = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert len(written) == 3 * 6
    paths = {record(path)["photograph"]["path"] for path in written if path.suffix == ".json"}
    assert len(paths) == 6

    assert main(command) == 1  # the same again: nothing is touched
    assert "0 explained, 6 explained before, 2 skipped" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == written

    path = "out/4.excitation_backprop.top.npz"
    in_a_batch = np.load(path)["maps"]  # the last one, padded
    assert main(["explain", "photos/4.jpg", "--output", "out", "--overwrite"]) == 0
    np.testing.assert_allclose(np.load(path)["maps"], in_a_batch, rtol=1e-3, atol=1e-6)
    changed = {path.name for path, time in written.items() if path.stat().st_mtime_ns != time}
    assert changed == {f"4.excitation_backprop.top{s}" for s in (".json", ".npz", ".png")}


def test_results_beside_the_photographs_are_not_taken_for_photographs(folder, capsys):
    photograph(folder / "a.png")
    assert main(["explain", ".", *QUICK]) == 0
    assert main(["explain", ".", *QUICK]) == 0
    assert "a.png: explained before" in capsys.readouterr().out
    assert len(names_in(folder)) == 4


def test_an_interruption_leaves_whole_results_and_the_next_run_goes_on(folder, monkeypatch, capsys):
    for i in range(3):
        photograph(folder / "photos" / f"{i}.png", seed=i)
    draw, drawn = plots.figure, []

    def interrupted(*args):
        drawn.append(args)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        draw(*args)

    monkeypatch.setattr(plots, "figure", interrupted)
    command = ["explain", "photos", "--output", "out", *QUICK]
    assert main(command) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert [path for path in names_in(Path("out")) if path.endswith(".json")] == [
        "0.excitation_backprop.top.json"
    ]
    assert not [path for path in names_in(Path("out")) if path.startswith(".")]
    assert main(command) == 0
    assert "2 explained, 1 explained before" in capsys.readouterr().out
    assert len(names_in(Path("out"))) == 9


def test_photographs_of_every_kind(folder):
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 255, (40, 60, 3)).astype(np.uint8))
    rgb.convert("CMYK").save(folder / "print.jpg")
    deep = random.integers(0, 65535, (40, 60)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("L", (9000, 6700), 77).save(folder / "large.jpg")  # 60 megapixels
    assert main(["explain", "."]) == 0
    sizes = {
        Path(record(path)["photograph"]["path"]).name: (
            record(path)["photograph"]["height"],
            record(path)["photograph"]["width"],
        )
        for path in folder.glob("*.json")
    }
    assert sizes == {
        "print.jpg": (40, 60),
        "deep.png": (40, 60),
        "dot.png": (1, 1),
        "large.jpg": (6700, 9000),
    }


def test_a_map_without_evidence_is_said_to_be_empty(folder, monkeypatch, capsys):
    def nothing(f, images, targets, *, at):
        return jnp.zeros((*targets.shape, 4, 4))

    monkeypatch.setattr(attribution, "contrastive_excitation_backprop", nothing)
    photo = photograph(folder / "a.png")
    method = "contrastive_excitation_backprop"
    assert main(["explain", str(photo), "--method", method, "--target", "cat", *QUICK]) == 0
    (cat,) = record(f"a.{method}.cat.json")["targets"]
    assert cat["peak"] is None
    assert cat["box"] is None
    assert cat["mass"] == 0
    assert cat["note"] == "no evidence: the map is zero everywhere"
    assert cat["note"] in capsys.readouterr().out


def test_an_output_that_is_not_finite_is_no_result(folder, capsys):
    arrays = weights.read(models.weights_file("compact_vgg", "embedded"))
    broken = {name: array * np.float32(np.nan) for name, array in arrays.items()}
    safetensors.numpy.save_file(broken, folder / "broken.safetensors")
    photo = photograph(folder / "a.png")
    command = ["explain", str(photo), "--model", "compact_vgg", "--weights", "broken.safetensors"]
    assert main([*command, *QUICK]) == 1
    assert "the network's output is not finite" in capsys.readouterr().err
    assert names_in(folder) == ["a.png", "broken.safetensors"]


# What is refused before anything slow -----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "dgo"], "no class is called 'dgo'; the nearest is dog (5)"),
        (["--target", "10"], "class 10 is out of range: the network has 0 to 9"),
        (["--at", "fire5"], "compact_vgg: no tap 'fire5'; from input to output: conv1_1, pool1"),
        (["--at", "pool"], "compact_vgg: tap 'pool' is no map"),
        (["--model", "compact_vg"], "no network is called 'compact_vg'; nearest: compact_vgg"),
        (["--model", "vgg16"], "no weights of vgg16 come with the package"),
        (["--model", "vgg16", "--weights", "no.pth"], "cannot read no.pth: No such file"),
        (["--model", "alexnet", "--weights", "a.png"], "a.png: expected safetensors, a PyTorch"),
        (["--weights", "a.png"], "--weights needs --model"),
        (["--output", "a.png"], "cannot write into a.png: a file is in the way"),
        (["--output", "/proc/jaxground"], "cannot write into /proc/jaxground"),
    ],
)
def test_mistakes_are_told_in_a_line_and_nothing_is_written(folder, capsys, arguments, message):
    photograph(folder / "a.png")
    assert main(["explain", "a.png", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("jaxground explain: error: ")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert names_in(folder) == ["a.png"]


def test_nothing_to_explain_is_an_error(folder, capsys):
    (folder / "empty").mkdir()
    assert main(["explain", "empty", "absent.jpg"]) == 2
    error = capsys.readouterr().err
    assert "empty: no photograph in this folder; absent.jpg: no such file or folder" in error


def test_a_folder_that_cannot_be_written_to_is_found_before_the_network(
    folder, monkeypatch, capsys
):
    monkeypatch.setattr(models, "create", lambda *_: pytest.fail("the network was made first"))
    photograph(folder / "a.png")
    assert main(["explain", "a.png", "--output", "/proc/jaxground"]) == 2


def test_other_settings_do_not_pass_for_a_finished_result(folder, capsys):
    photo = photograph(folder / "a.png")
    assert main(["explain", str(photo), *QUICK]) == 0
    assert main(["explain", str(photo), "--at", "pool1", *QUICK]) == 2
    at = entry("compact_vgg").card.ground_at
    assert f'was made with tap "{at}", not "pool1"' in capsys.readouterr().err


def test_a_method_that_does_not_fit_the_tap_says_why(folder, capsys):
    photo = photograph(folder / "a.png")
    assert main(["explain", str(photo), "--method", "cam", "--at", "pool1", *QUICK]) == 2
    error = capsys.readouterr().err
    assert "cam on compact_vgg: the outputs are not linear in tap 'pool1'" in error


# Listings and help ------------------------------------------------------------------------------


def test_models_and_taps_are_listed(capsys):
    assert main(["explain", "--list-models"]) == 0
    assert set(models.names()) <= set(capsys.readouterr().out.split())
    assert main(["explain", "--list-taps", "--model", "vgg16"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()][1:4] == [
        "conv1_1",
        "conv1_2",
        "pool1",
    ]
    assert "pool4           14 x 14 x 512              excitation_backprop" in printed
    assert main(["explain", "--list-taps", "--model", "vgg61"]) == 2
    assert "no network is called 'vgg61'; nearest: vgg1" in capsys.readouterr().err


def test_help_has_examples_and_loads_nothing_heavy():
    code = """
import sys
from jaxground.cli import main
try:
    main(["explain", "--help"])
except SystemExit as end:
    assert end.code == 0
heavy = {"jax", "flax", "matplotlib", "numpy", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for text in ("examples:", "--target zebra --target elephant", "exit codes:", "holidays/"):
        assert text in done.stdout


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("jaxground 0.")


def test_the_example_is_small_and_upright():
    assert example_photograph().stat().st_size < 100_000
    assert read_image(example_photograph()).shape == (480, 640, 3)


# Real weights and photographs -------------------------------------------------------------------


def test_squeezenet_finds_the_zebra_and_the_elephant(folder, data, capsys):
    command = ["explain", str(data / "demo_images" / "elephant_zebra_1.jpg"), "--output", "."]
    command += [
        "--target",
        "zebra",
        "--target",
        "elephant",
        "--model",
        "squeezenet1_1",
        "--at",
        "fire5",
    ]
    file = str(data / "weights" / "squeezenet1_1.pth")
    assert main([*command, "--weights", file]) == 0
    found = record("elephant_zebra_1.excitation_backprop.zebra+elephant.json")
    zebra, elephant = found["targets"]
    assert (zebra["index"], elephant["index"]) == (340, 386)
    assert zebra["probability"] > 0.9
    assert 150 < zebra["peak"][0] < 310 and 160 < zebra["peak"][1] < 220, "its neck"
    assert 20 < elephant["peak"][0] < 235 and elephant["peak"][1] < 190, "its back"
    assert found["weights"]["sha256"] == weights.sha256(file)
    assert "African elephant (386, 0.3 %)" in capsys.readouterr().out
