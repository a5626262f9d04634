"""Table 7.5 on three drawn pictures, by a network that finds a colour where it is."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from experiments.spatiotemporal import flickr, networks, phrases
from experiments.spatiotemporal.coco_captions import Phrase
from experiments.spatiotemporal.explainers import OF_WORDS
from experiments.spatiotemporal.networks import CaptioningNetwork
from experiments.spatiotemporal.phrases import Question
from jaxground import tap
from jaxground.data import read_flickr30k_entities

VOCABULARY = "<end>", "<unk>", "a", "man", "hat", "red", "green", "blue"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
# Of each picture: its width and height; squares of 16 pixels; captions; boxes and flags by chain.
PICTURES = {
    "31": (
        (64, 64),
        [("red", 8, 40), ("green", 40, 8)],
        ["[/EN#1/people A red man] , with [/EN#2/clothing/other green hat] .",
         "[/EN#1/people A purple man] !"],
        {"1": [(8, 40, 24, 56)], "2": [(40, 8, 56, 24)]},
    ),
    "32": (
        (64, 32),
        [("blue", 48, 16), ("red", 0, 0)],
        ["[/EN#5/animals Blue] in [/EN#6/scene a green] [/EN#7/other hat] , [/EN#0/notvisual a]"],
        {"5": [(16, 0, 32, 16), (48, 16, 64, 32)], "6": "scene", "7": "nobndbox"},
    ),
    "33": (
        (64, 64),
        [("red", 0, 0), ("blue", 32, 32)],
        ["a [/EN#8/other red] stands"],
        {"8": [(16, 16, 64, 64)]},
    ),
}  # fmt: skip
# The red of the last picture is not in its box; all else is, and only that box has the centre.
COVERED = [1 / 16, 1 / 16, 2 / 8, 9 / 16]


class Oracle(nnx.Module):
    """Says a colour as likely as there is much of it, whatever was said before."""

    def __init__(self, count: int, *, whole: bool = False):
        rows = np.zeros((3, count), np.float32)
        rows[[0, 1, 2], [VOCABULARY.index(name) for name in COLOURS]] = 5
        self.rows = nnx.Param(jnp.array(rows))
        self.at = "mean" if whole else "seen"

    def cnn(self, frames):
        seen = tap(jnp.maximum(frames - 0.5, 0), "seen")
        return tap(seen.mean((1, 2)), "mean")

    def features(self, frames):
        return self.cnn(frames)

    def embed(self, words):
        return jnp.zeros((*words.shape, 1))

    def decode(self, features, embedded, inside=None):
        return jnp.repeat((features.mean(1) @ self.rows[...])[:, None], embedded.shape[1], axis=1)


def preprocess(pixels):
    return np.float32(pixels) / 255


def make():
    return CaptioningNetwork(Oracle(len(VOCABULARY)), "seen", preprocess, 16, VOCABULARY)


def write_object(chain, box):
    if isinstance(box, str):
        return f"<object><name>{chain}</name><{box}>1</{box}></object>"
    sides = zip(("xmin", "ymin", "xmax", "ymax"), np.add(box, (1, 1, 0, 0)), strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{chain}</name><bndbox>{corners}</bndbox></object>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("flickr")
    for name in ("Sentences", "Annotations", "photographs"):
        (root / name).mkdir()
    (root / "test.txt").write_text("".join(f"{name}\n" for name in PICTURES))
    for name, (size, squares, captions, boxes) in PICTURES.items():
        picture = Image.new("RGB", size)
        for colour, x, y in squares:
            picture.paste(COLOURS[colour], (x, y, x + 16, y + 16))
        picture.save(root / "photographs" / f"{name}.jpg", quality=100, subsampling=0)
        (root / "Sentences" / f"{name}.txt").write_text("\n".join(captions) + "\n")
        objects = "".join(
            write_object(chain, box)
            for chain, found in boxes.items()
            for box in ([found] if isinstance(found, str) else found)
        )
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
            f"{objects}</annotation>"
        )
    return root


def test_what_is_asked(folder):
    images = read_flickr30k_entities(folder)
    asked, types, left_out = flickr.read_questions(images, VOCABULARY)
    assert [(q.image, " ".join(q.caption), q.phrases) for q in asked] == [
        (0, "a red man with green hat", [("1", (0, 1, 2)), ("2", (4, 5))]),
        (1, "blue in a green hat a", [("5", (0,))]),
        (2, "a red stands", [("8", (1,))]),
    ]
    assert types == [("people",), ("clothing", "other"), ("animals",), ("other",)]
    assert left_out == {"without a box": 3, "with unknown words": 1}
    np.testing.assert_allclose(asked[1].boxes["5"], [[0.25, 0, 0.5, 0.5], [0.75, 0.5, 1, 1]])
    # Without a word for all others they are not said; the first of the list is never a word.
    few = ("a", *(word for word in VOCABULARY if word not in ("a", "<unk>", "<end>")), ".")
    asked, _, left_out = flickr.read_questions(images, few, 1)
    assert [" ".join(each.caption) for each in asked] == [
        "red man green hat .",
        "blue green hat",
        "red",
    ]
    assert asked[0].phrases == [("2", (2, 3))]
    assert left_out == {"without a box": 3, "with unknown words": 1}


def test_the_table_of_a_network_that_is_right(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(phrases, "PICTURES", 2)  # two batches, and words of a phrase apart
    output = tmp_path / "made" / "table.json"
    monkeypatch.setattr("sys.argv", [
        "flickr", f"--annotations={folder}", f"--images={folder / 'photographs'}",
        f"--network={__name__}:make", f"--output={output}",
    ])  # fmt: skip
    flickr.main()
    found = json.loads(output.read_text())
    rows = found["methods"]
    assert set(rows) == {*OF_WORDS, "centre", "random"}
    for name in OF_WORDS:
        first = {column: values[0] for column, values in rows[name].items()}
        assert first == {"all": 75, "people": 100, "clothing": 100, "animals": 100, "other": 50,
                         "less centre": 50}, name  # fmt: skip
    assert rows["centre"]["all"][0] == 25 and rows["centre"]["other"][0] == 50
    assert rows["random"]["all"][0] == round(100 * np.mean(COVERED), 1)
    assert rows["random"]["animals"] == [25, 25, 25]
    assert found["types"] == {"other": 2, "people": 1, "clothing": 1, "animals": 1}
    assert (found["phrases"], found["images"]) == (4, 3) and found["thesis"] == phrases.THESIS
    assert found["recipe"]["split"] == "test" and found["recipe"]["limit"] is None
    said = capsys.readouterr().out
    assert "batch 2 of 2" in said and "3 without a box, 1 with unknown words" in said
    assert "| all (4) | other (2) |" in said and "| 51.2 |" in said
    assert [path.name for path in output.parent.iterdir()] == ["table.json"]


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(phrases, "PICTURES", 2)
    asked = [Question(i, ("a",), [Phrase("1", (0,))], {}) for i in range(5)]
    path, measured = tmp_path / "batches.jsonl", []

    def measure(batch):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append([each.image for each in batch])
        return {"centre": [float(each.image) for each in batch]}

    with pytest.raises(KeyboardInterrupt):
        flickr.measure_all(asked, measure, path)
    with path.open("a") as file:
        file.write('{"centre": [4')  # cut off
    measured.clear()
    assert flickr.measure_all(asked, measure, path) == {"centre": [0, 1, 2, 3, 4]}
    assert measured == [[4]]
    lines = path.read_text().splitlines()
    assert [json.loads(line)["centre"] for line in lines] == [[0, 1], [2, 3], [4]]


def test_what_a_network_can_be_asked():
    network = make()
    assert flickr.find_methods(network) == list(OF_WORDS)
    whole = network._replace(model=Oracle(len(VOCABULARY), whole=True))
    assert flickr.find_methods(whole) == ["cEB-R", "EB-R", "BP-R"]
    with pytest.raises(ValueError, match="has 7 words, but the network gives logits for 8"):
        flickr.find_methods(network._replace(vocabulary=VOCABULARY[1:]))


def test_arrays_of_a_network():
    network = Oracle(8)
    (rows,), rebuild = networks.separate(network)
    np.testing.assert_array_equal(rebuild([2 * rows]).rows[...], 2 * network.rows[...])
    assert networks.fingerprint([rows]) != networks.fingerprint([2 * rows])
    arrays, rebuild = networks.separate(make)  # what is no pytree stays whole
    assert arrays == [] and rebuild(arrays) is make


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a.module", ValueError, r"named as in package\.module:make, got 'a\.module'"),
        (":make", ValueError, "named as in"),
        (".near:make", ValueError, "named as in"),
        ("nowhere.at_all:make", ValueError, "no module 'nowhere' .*current folder, in PYTHONPATH"),
        ("json.nowhere:make", ValueError, r"no module 'json\.nowhere'"),
        ("json:make", ValueError, "module json has no function 'make'"),
        ("json:__doc__", ValueError, "module json has no function '__doc__'"),
        ("builtins:dict", TypeError, "must return an? .*networks.CaptioningNetwork, not a dict"),
    ],
)
def test_names_of_no_network(name, error, message):
    with pytest.raises(error, match=message):
        networks.load(name, CaptioningNetwork)


def test_a_module_that_cannot_be_imported_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        networks.load("lacking:make", CaptioningNetwork)
