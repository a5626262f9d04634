"""`jaxground evaluate`, from the command line to the files, with the network that comes along."""

import base64
import html.parser
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxground.cli import evaluate, main
from jaxground.evaluation import shards

# Names that a page or a terminal would obey if it were let.
HOSTILE = '<script>alert("1")</script>&"\'\n\u202egpj.\x1b[2J'
REPORT = "results.json", "gallery.html", "scores.png", "table.txt"
CLASSES = {"cat": [3], HOSTILE: [5, 4]}
COUNT = 30


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photographs in COCO's form, of a cat and of something with an odd name; one is broken."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    records = []
    for i in range(COUNT):
        height, width = (24, 36) if i % 2 else (30, 20)
        name = f"{i:02} <b>.png"
        pixels = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / name)
        boxes = {"cat": [2, 3, 9, 8], HOSTILE: [10, 12, 6, 6]}
        objects = [{"category": c, "bbox_xywh": b, "iscrowd": 0} for c, b in boxes.items()]
        if i == 4:
            objects = [{"category": "unknown", "bbox_xywh": [0, 0, 5, 5], "iscrowd": 0}]
        records.append({"file": name, "width": width, "height": height, "objects": objects})
    broken = folder / records[7]["file"]
    broken.write_bytes(broken.read_bytes()[:60])
    categories = ["cat", HOSTILE, "unknown"]
    text = json.dumps({"categories": categories, "images": records})
    (folder / "annotations.json").write_text(text)
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    return folder


def command(root, output, *more):
    return [
        *("evaluate", "--data", f"coco:{root}", "--classes", str(root / "classes.json")),
        *("--methods", "grad_cam,gradient:smoothing=0", "--metrics", "pointing_game,entropy"),
        *("--tolerance", "2", "--size", "16", "--square", "--batch-size", "2"),
        *("--output", str(output), *more),
    ]


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The folder of a run that nobody interrupted."""
    output = tmp_path_factory.mktemp("whole")
    assert main(command(root, output)) == 1, "one image is broken"
    return output


def results(folder):
    return json.loads((folder / "results.json").read_text())


def reports(folder):
    return {name: (folder / name).read_bytes() for name in REPORT}


def test_results_have_scores_intervals_and_protocols(whole):
    found = results(whole)
    assert list(found["scores"]) == ["grad_cam", "gradient:smoothing=0"]
    for method, each in found["scores"].items():
        assert list(each) == ["pointing_game", "entropy"]
        for score in each.values():
            assert set(score) == {"value", "low", "high", "n", "protocol"}
            assert score["low"] <= score["value"] <= score["high"]
            assert score["n"] == found["data"]["pairs"]
        protocol = each["pointing_game"]["protocol"]
        measured, made = protocol["metric"], protocol["explainer"]
        assert measured["tolerance"] == 2.0 and measured["tolerance_unit"] == "pixels"
        assert measured["average"] == "categories"
        assert made["method"] == method.split(":")[0] and made["score"] == "logit"
        assert protocol["input"] == {"short": 16, "shape": "square", "multiple": 1}
        assert len(protocol["network"]["weights_sha256"]) == 64
        assert {"jax", "jaxground"} < set(protocol["versions"])
    taps = [each["entropy"]["protocol"]["explainer"]["tap"] for each in found["scores"].values()]
    assert taps == ["conv4_2", "image"]
    assert found["settings"]["classes"] == CLASSES


def test_what_cannot_be_evaluated_is_counted(whole):
    data = results(whole)["data"]
    assert data["images"] == COUNT and data["without_target"] == 1
    assert data["broken"]["count"] == 1 and data["evaluated"] == COUNT - 2
    ((key, reason),) = data["broken"]["images"].items()
    assert key == "07 <b>.png" and "cannot read" in reason
    text = (whole / "table.txt").read_text()
    assert "1 images are broken" in text and "07 <b>.png" in text
    assert "1 images have no category" in text


def test_killed_and_shared_it_ends_with_the_same_bits(root, whole, tmp_path, capsys):
    first, second = ("--process", "1/2"), ("--process", "2/2")
    run = f"from jaxground.cli import main; main({command(root, tmp_path, *first)!r})"
    environment = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}
    process = subprocess.Popen([sys.executable, "-c", run], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    shard = tmp_path / "records-1-of-2.jsonl"
    while process.poll() is None and not (shard.exists() and shard.read_bytes().count(b"\n")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.stderr.close()
    kept = shard.read_bytes()
    survived = len(shards.read(tmp_path))
    assert 0 < survived < 8, "it was killed in the middle of its eight batches"
    assert not (tmp_path / "results.json").exists()

    assert main(command(root, tmp_path, *second)) == 0
    assert not (tmp_path / "results.json").exists(), "the first part is missing"
    assert "whichever process finishes last reports" in capsys.readouterr().out
    before = sum(len(record["images"]) for record in shards.read(tmp_path))
    assert main(command(root, tmp_path, *first)) == 1
    assert reports(tmp_path) == reports(whole)
    said = capsys.readouterr()
    assert f"{before} photos are done already" in said.out
    assert f"{COUNT - 1 - before} photos in" in said.err and "2 methods, 2 metrics" in said.err
    assert "compiling maps of 2 methods at 16 x 16:   0%" in said.err, "before anything is done"
    assert shard.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1]), "nothing done twice"
    numbers = [record["batch"] for record in shards.read(tmp_path)]
    assert sorted(numbers) == list(range(len(numbers)))

    for name in REPORT:
        (tmp_path / name).unlink()
    assert main(command(root, tmp_path)) == 1, "any later call reports"
    assert reports(tmp_path) == reports(whole)


class Page(html.parser.HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_is_self_contained_and_obeys_no_name(whole):
    text = (whole / "gallery.html").read_bytes().decode()
    page = Page(text)
    known = set(
        "html head meta title style body h1 h2 p div table tr th td span small img figure "
        "figcaption b br bdi details summary pre ul li".split()
    )
    assert {tag for tag, _ in page.tags} <= known
    attributes = {name for _, each in page.tags for name in each}
    assert attributes <= set("lang charset http-equiv content name class alt src".split())
    pictures = [each["src"] for tag, each in page.tags if tag == "img"]
    assert len(pictures) > 40
    for source in pictures:
        head, _, content = source.partition(",")
        assert head in ("data:image/png;base64", "data:image/jpeg;base64")
        Image.open(io.BytesIO(base64.b64decode(content))).load()
    (policy,) = (each["content"] for tag, each in page.tags if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "http://" not in text and "https://" not in text
    assert not set("\u202e\x1b") & set(text)
    assert '<script>alert("1")</script>&"\'\\n\\u202egpj.\\x1b[2J' in page.text
    assert "07 <b>.png" in page.text, "the broken image is named"


def test_hits_and_misses_are_where_the_records_say(whole):
    images = [image for record in shards.read(whole) for image in record["images"]]
    assert len(images) == COUNT - 1
    page = Page((whole / "gallery.html").read_text())
    frames = {each["class"] for tag, each in page.tags if tag == "figure"}
    assert frames == {"", "hit", "miss"}
    for image in images:
        if "error" in image:
            continue
        height, width = (24, 36) if int(image["key"][:2]) % 2 else (30, 20)
        for method, points in image["points"].items():
            for category, point, hit in zip(
                image["categories"], points, image["values"][method]["hit"], strict=True
            ):
                x, y, w, h = (2, 3, 9, 8) if category == "cat" else (10, 12, 6, 6)
                assert 0 <= point[0] < height and 0 <= point[1] < width
                down = max(y - point[0], point[0] - (min(y + h, height) - 1), 0)
                right = max(x - point[1], point[1] - (min(x + w, width) - 1), 0)
                assert hit == (np.hypot(down, right) < 2), (image["key"], method)


def test_another_setting_in_the_same_folder_is_refused(root, whole, capsys):
    before = reports(whole)
    assert main(command(root, whole, "--seed", "1")) == 2
    assert "seed: 0 there, 1 now" in capsys.readouterr().err
    assert reports(whole) == before


def test_a_part_that_another_process_does_is_refused_at_once(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "_prepare", lambda options: pytest.fail("that takes long"))
    with shards.Shard(tmp_path, 0, 1):
        assert main(command(root, tmp_path)) == 2
    assert "another process does this part" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "gard_cam"], "did you mean grad_cam"),
        (["--methods", "grad_cam@conv5"], "no map at a tap 'conv5'"),
        (["--methods", "gradient:scroe=logit"], "did you mean score"),
        (["--metrics", "pointing"], "did you mean pointing_game"),
        (["--data", "cocoa:x"], "did you mean coco"),
        (["--data", "coco:"], "where are they"),
        (["--data", "coco:absent"], "absent"),
        (["--data", "scenes", "--images", "2"], "scenes/96 is for another network"),
        (["--data", "mosaics", "--tolerance", "wide"], "tolerance"),
        (["--data", "mosaics", "--classes", "absent.json"], "absent.json"),
        (["--model", "alexnet"], "weights"),
        (["--output", "file"], "a file is in the way"),
    ],
)
def test_mistakes_are_told_before_anything_is_begun(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("evaluation/*"))


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from jaxground.cli import main\n"
        "try:\n    main(['evaluate', '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'jax', 'flax', 'matplotlib', 'numpy', 'PIL'} & set(sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--process 1/4" in found.stdout
