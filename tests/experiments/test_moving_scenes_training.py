"""What the training on moving scenes does to a clip, it does to the label and the times, too."""

import sys

import jax
import numpy as np
import pytest

from experiments.spatiotemporal import train_moving_scenes
from experiments.spatiotemporal.train_moving_scenes import change, cut
from experiments.training.records import claim
from jaxground.data.moving_scenes import EVENTS, MovingScenes, draw_clips

SCENES = MovingScenes(objects=(1, 1), distractors=(0, 0))


@pytest.fixture(scope="module")
def actors():
    """Clips in which the actor is white and all else black, with labels and times."""
    clips = draw_clips(SCENES, range(48))
    frames = clips.masks[:, 0, ..., None].repeat(3, -1).astype(np.uint8) * 255
    return frames, np.concatenate([clips.labels[:, None], clips.times], 1).astype(np.int32)


def event_of(mask):
    """What happens, from the first and the last frame, by hand."""
    areas = mask[0].sum(), mask[-1].sum()
    if 0 in areas or min(areas) < 0.03 * max(areas):
        return "appears" if areas[0] < areas[1] else "disappears"
    if max(areas) > 1.7 * min(areas):
        return "grows" if areas[0] < areas[1] else "shrinks"
    row, column = np.argwhere(mask[-1]).mean(0) - np.argwhere(mask[0]).mean(0)
    if abs(row) > abs(column):
        return "moves down" if row > 0 else "moves up"
    return "moves right" if column > 0 else "moves left"


def test_a_changed_clip_is_what_its_new_label_says(actors):
    frames, labels = actors
    names = list(EVENTS)
    assert [event_of(m) for m in frames[..., 0] > 0] == [names[i] for i in labels[:, 0]]
    changed, new = jax.device_get(jax.jit(change)(jax.random.key(0), frames, labels))
    assert (new != labels).any(1).mean() > 0.5
    for clip, (label, start, end) in zip(changed[..., 0] > 0, new, strict=True):
        assert event_of(clip) == names[label]
        differs = 1 + np.flatnonzero((clip[1:] != clip[:-1]).any((1, 2)))
        assert start <= differs[0] and differs[-1] < end
        assert differs[0] - start <= 2 and end - differs[-1] <= 3, "but for what moves no pixel"


def test_cuts_leave_the_event_and_the_frame_before_it(actors):
    frames, labels = actors
    pieces = jax.device_get(jax.jit(cut)(jax.random.key(1), frames, labels))
    kept = (pieces == frames).all((2, 3, 4))
    assert not kept.all()
    for clip, (_, start, end) in zip(kept, labels, strict=True):
        assert clip[start - 1 : end].all()


def test_a_folder_begun_with_other_settings_is_refused(tmp_path, monkeypatch, capsys):
    claim(tmp_path, {"clips": 4000, "steps": 1500, "cut": False, "start": None})
    given = ["train", "--output", str(tmp_path), "--clips", "4000", "--steps", "1500", "--cut"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit):
        train_moving_scenes.main()
    assert "cut False there, True now" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]
