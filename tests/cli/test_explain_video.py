"""`jaxground explain-video`, from the command line to the files, with the network that ships."""

import errno
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

from jaxground import data, models, spatiotemporal
from jaxground.cli import main
from jaxground.cli.clips import DRAWN, DRAWN_WITH_WORDS
from jaxground.data.moving_scenes import draw_clips


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def write_frames(folder, frames):
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{number}.png")


def test_without_a_clip_a_drawn_one_is_explained(folder, capsys):
    assert main(["explain-video"]) == 0
    stem = "moving_scene_7.cEB-R.top"
    assert names_in(folder) == sorted(
        f"{stem}{suffix}" for suffix in (".json", data.video_suffix(), ".npz", ".png")
    )
    found = json.loads((folder / f"{stem}.json").read_text())
    truth, (target,) = found["truth"], found["targets"]
    assert target["name"] == truth["name"] == found["top"][0]["name"]
    (start, end), (first, last) = target["interval"], truth["interval"]
    assert start < last and first < end, "the interval found meets the true one"

    with np.load(folder / f"{stem}.npz") as raw:
        assert raw["maps"].shape == (1, 16, found["map"]["height"], found["map"]["width"])
        np.testing.assert_allclose(raw["signals"].sum(), 0, atol=1e-5)
        assert (raw["signals"][0, start:end] >= 0).all()
        assert raw["windows"].tolist() == [[start, end]]
        frame, (x, y) = target["peak"]["frame"], target["peak"]["xy"]
        assert raw["maps"][0].max((1, 2)).argmax() == frame
        row, column = np.unravel_index(raw["maps"][0, frame].argmax(), raw["maps"].shape[2:])
        side = 64 / raw["maps"].shape[2]
        assert (y // side, x // side) == (row, column)
    film = data.read_video(folder / f"{stem}{data.video_suffix()}")
    assert len(film) == 16 and film.shape[2] > 2 * film.shape[1] * 0.9, "two pictures abreast"
    assert "truth" in capsys.readouterr().out

    before = (folder / f"{stem}.png").stat().st_mtime_ns
    assert main(["explain-video"]) == 0
    assert "explained before" in capsys.readouterr().out
    assert (folder / f"{stem}.png").stat().st_mtime_ns == before
    assert main(["explain-video", "--chunk", "64"]) == 2
    assert "was made with chunk 128, not 64" in capsys.readouterr().err


def test_a_long_clip_is_explained_in_chunks_of_the_frames_asked_for(folder, monkeypatch, capsys):
    monkeypatch.setattr(data, "video_suffix", lambda: ".png")  # as without PyAV
    frames = draw_clips(DRAWN, [3]).frames[0, :7]
    write_frames(folder / "clip", frames)
    asked = ["--target", "shrinks", "--target", "moves left", "--output", "out"]
    assert main(["explain-video", "clip", *asked, "--every", "2", "--chunk", "2"]) == 0
    stems = [f"clip.cEB-R.shrinks+moves_left.{first:06d}" for first in (0, 4)]
    assert names_in(folder / "out") == [
        f"{stem}{suffix}" for stem in stems for suffix in (".film.png", ".json", ".npz", ".png")
    ]
    for stem, taken in zip(stems, ([0, 2], [4, 6]), strict=True):
        record = json.loads((folder / f"out/{stem}.json").read_text())
        assert [target["name"] for target in record["targets"]] == ["shrinks", "moves left"]
        assert record["video"]["frames"] == len(taken) and record["truth"] is None
        with np.load(folder / f"out/{stem}.npz") as raw:
            assert raw["frames"].tolist() == taken
            assert raw["maps"].shape[:2] == (2, len(taken))
            last = raw["maps"]
    model = models.create("compact_lrcn", "embedded")
    video = jnp.asarray(model.card.preprocess(frames[[4, 6]]))[None]
    explain = functools.partial(
        spatiotemporal.spatiotemporal_grounding,
        model.features,
        model.classify,
        at=model.card.ground_at,
    )
    found = jax.jit(explain)(video, jnp.array([[5, 0]]))
    np.testing.assert_allclose(last, found.maps[0], atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--target", "moves lft"], "no class is called 'moves lft'; the nearest are moves left"),
        (["--target", "8"], "the network has 0 to 7"),
        (["nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["empty"], "empty holds no pictures"),
        (["text.gif"], "text.gif"),
        (["text.gif", "--scene", "1"], "give a clip or --scene, not both"),
        (["--model", "compact_vgg"], "compact_vgg reads photographs"),
        (["--model", "compact_lrn"], "nearest: compact_lrcn"),
        (["--weights", "text.npz"], "text.npz"),
        (["mixed"], "frame 1 has 8 x 9 pixels (height x width), those before it 8 x 8"),
        (["--caption", "a rod disc"], "--caption 'a rod disc': 'rod' is none of the captioner's"),
        (["--caption", "a and"], "--caption 'a and' has no word of content"),
        (["--caption", "mixed"], "took 'mixed' for a sentence: write CLIP before --caption"),
        (["--caption", "--target", "shrinks"], "give --target or --caption, not both"),
        (["--caption", "--model", "compact_lrcn"], "compact_lrcn names classes: give --target"),
        (
            ["--target", "disc", "--model", "compact_captioner"],
            "says sentences: ask with --caption",
        ),
        (["--at", "fc"], "tap 'fc' is no map; from input to output: conv1, conv2, conv3"),
        (["--output", "text.gif"], "a file is in the way"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(asked, says, folder, capsys):
    (folder / "empty").mkdir()
    write_frames(folder / "mixed", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)])
    for name in ("text.gif", "text.npz"):
        (folder / name).write_text("no picture")
    assert main(["explain-video", *asked]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxground explain-video: error: ") and says in error
    assert not [name for name in names_in(folder) if "cEB-R" in name]


def test_every_content_word_of_a_sentence_is_explained(folder, monkeypatch, capsys):
    """The captioner's own sentence, and a given one about frames in a folder with an odd name."""
    monkeypatch.setattr(data, "video_suffix", lambda: ".png")
    assert main(["explain-video", "--caption"]) == 0
    own = json.loads((folder / "moving_scene_7.cEB-R.caption.json").read_text())
    assert own["truth"]["name"] and own["top"] == []
    assert f'sentence  "{own["sentence"]}"' in capsys.readouterr().out
    words = own["sentence"].split()
    assert [t["place"] for t in own["targets"]] == list(
        spatiotemporal.content_places(" ".join(words))
    )
    for target in own["targets"]:
        assert target["asked"] == target["name"] == words[target["place"]]
        assert target["kept"] > 0 and target["peak"] and 0 < target["probability"] <= 1
    with np.load(folder / "moving_scene_7.cEB-R.caption.npz") as raw:
        assert raw["maps"].shape[:2] == (len(own["targets"]), 16)
        np.testing.assert_allclose(raw["signals"].sum(1), 0, atol=1e-5)
        np.testing.assert_allclose(raw["kept"], [t["kept"] for t in own["targets"]])
    film = data.read_video(folder / "moving_scene_7.cEB-R.caption.film.png")
    assert film.shape[0] == 16 and film.shape[2] < 6 * 260, "more pictures than five are in rows"

    name = "a clip; of #1 (ü) 'x'"
    clip = draw_clips(DRAWN_WITH_WORDS, [5])
    write_frames(folder / name, clip.frames[0, ::4])
    sentence = "A red disc moves up."
    assert main(["explain-video", name, "--caption", sentence, "--output", "out"]) == 0
    (record,) = (folder / "out").glob("*.json")
    assert record.name == "a_clip_of_1_ü_x_.cEB-R.a_red_disc_moves_up.json"
    given = json.loads(record.read_text())
    assert given["sentence"] == "a red disc moves up"
    assert [t["asked"] for t in given["targets"]] == ["red", "disc", "moves", "up"]
    model = models.create("compact_captioner", "embedded")
    video = jnp.asarray(model.card.preprocess(clip.frames[0, ::4]))[None]
    indices = np.array([models.word_indices(sentence, model.card.class_names)])
    explain = functools.partial(spatiotemporal.ground_caption, ask=(1, 2, 3, 4), at="conv1")
    found = jax.jit(functools.partial(explain, model))(video, indices)
    with np.load(record.with_suffix(".npz")) as raw:
        np.testing.assert_allclose(raw["maps"], found.maps[0], atol=1e-5)


def test_a_target_of_which_nothing_arrives_is_said_to_be_so(folder, monkeypatch, capsys):
    """Its map is minus that of its dual unit: a warning, no interval, no peak."""
    monkeypatch.setattr(data, "video_suffix", lambda: ".png")
    model = models.create("compact_lrcn", "embedded")
    kernel = model.classifier.kernel[...]
    model.classifier.kernel[...] = kernel.at[:, 5].set(-jnp.abs(kernel[:, 5]))
    weights = {
        ".".join(map(str, p)): np.asarray(v[...]) for p, v in nnx.to_flat_state(nnx.state(model))
    }
    save_file(weights, folder / "dead.safetensors")
    asked = ["--weights", "dead.safetensors", "--model", "compact_lrcn", "--target", "shrinks"]
    assert main(["explain-video", *asked]) == 0
    note = "nothing of it reached the frames: the maps are minus those of its dual unit"
    assert "  warning:  shrinks (5, " in (out := capsys.readouterr().out) and note in out
    (record,) = folder.glob("*.json")
    (target,) = json.loads(record.read_text())["targets"]
    assert target["kept"] == 0 and target["note"] == note
    assert target["interval"] is None and target["peak"] is None
    with np.load(record.with_suffix(".npz")) as raw:
        assert raw["maps"].max() <= 0 > raw["maps"].min() and raw["windows"].tolist() == [[0, 0]]


def test_a_full_disk_is_an_error_and_leaves_no_record(folder, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data, "write_video", full)
    assert main(["explain-video"]) == 2
    assert "cannot write moving_scene_7.cEB-R.top: No space left" in capsys.readouterr().err
    assert names_in(folder) == []


def test_a_network_for_videos_explains_no_photographs(folder, capsys):
    assert main(["explain", "--model", "compact_lrcn", "--weights", "embedded"]) == 2
    assert "compact_lrcn reads videos: see jaxground explain-video" in capsys.readouterr().err


def test_the_networks_are_listed(capsys):
    assert main(["explain-video", "--list-models"]) == 0
    out = capsys.readouterr().out
    assert "compact_lrcn" in out and "compact_captioner" in out
