"""The network for videos that ships: it sees time, and what it says is mostly right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground import models
from jaxground.data.moving_scenes import EVENTS, MovingScenes, draw_clips


def test_held_out_clips_are_named_forwards_and_backwards(optimised):
    model = models.create("compact_lrcn", "embedded")
    assert model.card.class_names == tuple(EVENTS)
    clips = draw_clips(MovingScenes(), range(3000, 3060))
    read = model.card.preprocess(clips.frames.reshape(-1, *clips.frames.shape[2:]))
    video = read.reshape(60, 16, *read.shape[1:])
    answer = jax.jit(lambda video: model(video)[:, -1].argmax(-1))
    right = (np.asarray(answer(video)) == clips.labels).mean()
    changes = [tuple(change) for change in EVENTS.values()]
    opposite = np.array([changes.index(tuple(-n for n in change)) for change in changes])
    backwards = (np.asarray(answer(video[:, ::-1])) == opposite[clips.labels]).mean()
    assert min(right, backwards) > 0.7, "chance is 1 in 8, and half for who does not see time"


def test_frames_of_another_size_are_refused():
    model = models.create("compact_lrcn", "embedded")
    with pytest.raises(ValueError, match="frames have 32 x 32 pixels here"):
        jax.eval_shape(model, jnp.zeros((1, 2, 64, 64, 3)))


def test_videos_have_their_own_names():
    assert models.video_names() == ("compact_lrcn",)
    assert "compact_lrcn" not in models.names()
