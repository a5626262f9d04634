"""The tables on THUMOS 2014, on drawn films of two actions and a network that sees them."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.spatiotemporal import thumos
from experiments.spatiotemporal.networks import ActionNetwork
from experiments.training.records import read_records
from jaxground.data import write_video
from jaxground.data.thumos import CATEGORIES

RED, GREEN = CATEGORIES.index("Billiards"), CATEGORIES.index("Diving")
RATE = 2.0  # frames a second


def make() -> ActionNetwork:
    """Adds up red and green over time; red is billiards and green is diving."""
    weights = np.zeros((3, 20), np.float32)
    weights[:2, [RED, GREEN]] = [[1, -1], [-1, 1]]

    def classify(features):
        return jnp.cumsum(features, 1) @ weights

    return ActionNetwork(
        lambda frames: frames.mean((1, 2)), classify, lambda x: x / np.float32(255), CATEGORIES
    )


def make_too_few() -> ActionNetwork:
    return make()._replace(class_names=CATEGORIES[:-1])


@pytest.fixture
def films(tmp_path, monkeypatch):
    """Two folders of ten frames, in clips of eight: red, then green, and green, then nothing."""
    monkeypatch.setattr(thumos, "CLIP", 8)
    monkeypatch.setattr(thumos, "BATCH", 4)
    shown = {"video_test_0000001": "RRRGGGRRGG", "video_test_0000002": "GG      GG"}
    for name, colours in shown.items():
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            pixel = {"R": (255, 0, 0), "G": (0, 255, 0), " ": (0, 0, 0)}[colour]
            Image.new("RGB", (4, 4), pixel).save(tmp_path / "videos" / name / f"{number}.png")
    lines = {
        "Billiards": "video_test_0000001 0 1.5\nvideo_test_0000001 3 4\n",
        "Diving": "video_test_0000001 1.5 3\nvideo_test_0000002 1.5 2.5\n",
        "Ambiguous": "video_test_0000002 0 1\n",
    }
    (tmp_path / "times").mkdir()
    for name in (*CATEGORIES, "Ambiguous"):
        (tmp_path / "times" / f"{name}_test.txt").write_text(lines.get(name, ""))
    return tmp_path


def run(monkeypatch, films, *more, network="make"):
    arguments = ["--annotations", films / "times", "--videos", films / "videos", "--output",
                 films / "found", "--network", f"{__name__}:{network}"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["thumos", *map(str, arguments), *more])
    thumos.main()
    return json.loads((films / "found" / "results.json").read_text())


def test_tables_by_hand(films, monkeypatch):
    found = run(monkeypatch, films, "--rate", str(RATE))
    # Of the second film's diving, at frames 3 and 4, there is nothing to see, and its green frames
    # are ambiguous or beyond all times. Clips of eight: in the last two frames nothing happens.
    assert found["videos"] == 2 and found["clips with an action"] == 3
    assert found["pointing"]["cEB-R"][0] == pytest.approx(66.7), "the first film's both"
    assert found["pointing"]["random"][0] == pytest.approx(100 * (5 / 8 + 3 / 8 + 2 / 8) / 3, 0.01)
    rows = read_records(films / "found" / "videos.jsonl")
    assert [row["video"] for row in rows] == ["video_test_0000001", "video_test_0000002"]
    windows = [[(start, end, label) for start, end, _, label in row["detections"]] for row in rows]
    # Where all frames are alike nothing is found: not in the first film's last clip.
    assert windows == [[(0, 1.5, RED), (1.5, 3, GREEN)], [(0, 4, GREEN)]]
    # Billiards: one of two found, 6 of 11 recalls. Diving: the first film's, and up to an overlap
    # of 0.25 the second's; above that, that window is not counted: it touches what is ambiguous.
    half, both = round(100 * 6 / 11, 1), round(50 * (6 / 11 + 1), 1)
    assert found["mAP"] == {"0.1": both, "0.2": both, "0.3": half, "0.4": half, "0.5": half}


def test_a_run_goes_on_where_it_was_and_with_nothing_else(films, monkeypatch, capsys):
    first = run(monkeypatch, films, "--rate", "2", "--limit", "1")
    assert first["videos"] == 1
    capsys.readouterr()
    whole = run(monkeypatch, films, "--rate", "2")
    said = capsys.readouterr().out
    assert "2 of 2" in said and "1 of 2" not in said and whole["videos"] == 2
    with pytest.raises(ValueError, match="another recipe: rate"):
        run(monkeypatch, films, "--rate", "3")


@pytest.mark.parametrize(
    ("more", "network", "said"),
    [
        ((), "make", "do not say how many a second"),
        (("--rate", "2"), "make_too_few", "does not know VolleyballSpiking"),
    ],
)
def test_what_is_refused_before_any_work(films, monkeypatch, capsys, more, network, said):
    with pytest.raises(SystemExit):
        run(monkeypatch, films, *more, network=network)
    assert said in capsys.readouterr().err
    assert not (films / "found").exists()


def test_seconds_of_a_film_and_of_its_short_last_clip(tmp_path, monkeypatch):
    """A film of 25 frames a second: green, and from frame 8 on red, then green."""
    pytest.importorskip("av", reason="films need the extra `video`")
    monkeypatch.setattr(thumos, "CLIP", 8)
    monkeypatch.setattr(thumos, "BATCH", 4)
    (tmp_path / "videos").mkdir()
    frames = np.zeros((13, 16, 16, 3), np.uint8)
    frames[:8, ..., 1] = frames[11:, ..., 1] = frames[8:11, ..., 0] = 255
    write_video(tmp_path / "videos" / "video_test_0000001.mp4", frames, rate=25)
    (tmp_path / "times").mkdir()
    for name in (*CATEGORIES, "Ambiguous"):
        text = "video_test_0000001 0.44 9\n" if name == "Diving" else ""
        (tmp_path / "times" / f"{name}_test.txt").write_text(text)
    found = run(monkeypatch, tmp_path, "--rate", "3")  # of folders only
    (row,) = read_records(tmp_path / "found" / "videos.jsonl")
    assert found["clips with an action"] == 1 and found["pointing"]["cEB-R"][0] == 100
    assert row["hits"]["random"] == [2 / 5], "frames 11 and 12 of 8 to 12"
    ((start, end, confidence, label),) = (each for each in row["detections"] if each[0] > 0.3)
    assert (start, end, label) == (11 / 25, 13 / 25, GREEN)
    # Logits of the last clip, about, for one of twenty classes.
    up = [np.exp(g) / (np.exp(g) + np.exp(-g) + 18) for g in (-1, -2, -3, -2, -1)]
    assert confidence == pytest.approx(np.mean(up), abs=0.02)


def test_missing_films_are_named(films, monkeypatch):
    (films / "videos" / "video_test_0000002").rename(films / "videos" / "other")
    with pytest.raises(SystemExit, match=r"lacks 1 of 2 videos, video_test_0000002"):
        run(monkeypatch, films, "--rate", "2")
