"""The networks for videos that ship: one sees time, one writes; what they say is mostly right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground import models
from jaxground.data.figures import FIGURES
from jaxground.data.moving_scenes import EVENTS, MovingScenes, draw_clips
from jaxground.data.scenes import COLOURS
from jaxground.data.sentences import VOCABULARY
from jaxground.models.compact_captioner import SCENES


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


def test_what_the_captioner_says_of_held_out_clips_is_mostly_true(optimised):
    model = models.create("compact_captioner", "embedded")
    names = model.card.class_names
    clips = draw_clips(SCENES, range(3000, 3060))
    read = model.card.preprocess(clips.frames.reshape(-1, *clips.frames.shape[2:]))

    @jax.jit
    def write(video):
        return models.greedy_words(model, model.video_features(video), 20)

    said = [models.sentence_of(row, names) for row in write(read.reshape(60, 16, *read.shape[1:]))]
    names = [f"{tuple(COLOURS)[c[0]]} {tuple(FIGURES)[s[0]]}" for c, s in
             zip(clips.colours, clips.shapes, strict=True)]  # fmt: skip
    events = [SCENES.events[label] for label in clips.labels]
    assert np.mean([name in text for name, text in zip(names, said, strict=True)]) > 0.5
    assert np.mean([event in text for event, text in zip(events, said, strict=True)]) > 0.4
    assert set(" ".join(said).split()) <= set(VOCABULARY)


def test_frames_of_another_size_are_refused():
    model = models.create("compact_lrcn", "embedded")
    with pytest.raises(ValueError, match="frames have 32 x 32 pixels here"):
        jax.eval_shape(model, jnp.zeros((1, 2, 64, 64, 3)))


def test_videos_have_their_own_names():
    assert models.video_names() == ("compact_lrcn", "compact_captioner")
    assert "compact_lrcn" not in models.names()
