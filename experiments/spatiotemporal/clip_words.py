"""Words about drawn clips: what they are read from, where the truth is known exactly.

Of the frames in which a figure can be seen, in how many does the peak lie on it, for words that
name it; do they have more on it than on the other figure, by area; and does the signal of words
for an event peak in it?
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spatiotemporal.drawn_sentences import LENGTH, WORDS
from experiments.spatiotemporal.explainers import OF_WORDS, explain_words
from experiments.spatiotemporal.intervals import interval
from jaxground import maps, metrics, models
from jaxground import spatiotemporal as through
from jaxground.data.moving_scenes import draw_clips
from jaxground.data.sentences import describe_clips
from jaxground.models.compact_captioner import SCENES

SEED, BATCH = 0, 25


def measure_clips(model, at: str, indices: range) -> dict:
    """Returns scores of words about drawn clips, by method: rows of intervals by column."""
    every = jnp.tile(jnp.arange(LENGTH), (BATCH, 1))
    programs = {
        name: jax.jit(functools.partial(_measure_batch, name, model, at)) for name in OF_WORDS
    }
    gathered: dict = {name: {} for name in [*OF_WORDS, "chance"]}
    for start in range(indices.start, indices.stop, BATCH):
        clips = draw_clips(SCENES, range(start, start + BATCH), seed=SEED)
        told = describe_clips(clips, SCENES.events, seed=start)
        words = np.zeros((BATCH, LENGTH), np.int32)
        figure = np.full((BATCH, LENGTH), -1)
        event = np.zeros((BATCH, LENGTH), bool)
        for row, sentence in enumerate(told):
            words[row, : len(sentence.words)] = models.word_indices(str(sentence), WORDS)
            places = through.content_places(str(sentence))
            figure[row, list(places)] = np.array(sentence.objects)[list(places)]
            event[row, sentence.event[0] : sentence.event[1]] = True
        named = (figure >= 0) & ~event
        frames = model.card.preprocess(clips.frames.reshape(-1, *clips.frames.shape[2:]))
        video = frames.reshape(*clips.frames.shape[:2], *frames.shape[1:])
        rows = np.arange(BATCH)[:, None]
        masks = clips.masks[rows, np.maximum(figure, 0)]  # [batch, words, time, side, side]
        others = clips.masks[rows, 1 - np.maximum(figure, 0)]
        inside = np.asarray(metrics.frames_inside(clips.times[:, None], length=video.shape[1]))
        acting = masks & inside[:, None, :, None, None]
        kept = {"named": named, "event": event, "two": named & others.any((2, 3, 4))}
        for name, program in programs.items():
            scores = program(video, words, every, masks, others, acting, inside)
            _gather(gathered[name], scores, kept)
        shown = masks.any((3, 4))
        chance = {
            "named": (masks.mean((3, 4)) * shown).sum(2) / np.maximum(shown.sum(2), 1),
            "which": np.full(figure.shape, 0.5),
            "event": (acting.mean((3, 4))).sum(2) / inside.sum(1)[:, None],
            "when": np.broadcast_to(inside.mean(1)[:, None], figure.shape),
        }
        _gather(gathered["chance"], chance, kept)
    found = {name: {c: interval(np.concatenate(v)) for c, v in columns.items()}
             for name, columns in gathered.items()}  # fmt: skip
    when = found["caption-guided saliency"]["when"]
    found["caption-guided saliency"] = {"when": when}  # features are of whole frames: no place
    return found


def _measure_batch(name, model, at, video, words, places, masks, others, acting, inside):
    """Returns scores `[batch, words]` of all words, those too to which a score does not apply."""
    found, signal = explain_words(name, model, at, video, words, places)
    large = maps.resize(found, masks.shape[-2:])
    positive = jnp.maximum(large, 0)

    def density(figure):  # of the word's evidence, on the pixels of a figure
        return (positive * figure).sum((2, 3, 4)) / jnp.maximum(figure.sum((2, 3, 4)), 1)

    def pointing(figure):
        return metrics.video_pointing_game(large, figure, tolerance=0).mean

    which = density(masks) > density(others)
    when = metrics.temporal_pointing_game(signal, jnp.broadcast_to(inside[:, None], signal.shape))
    return {"named": pointing(masks), "which": which, "event": pointing(acting), "when": when}


def _gather(into: dict, scores: dict, kept: dict) -> None:
    """Adds to each column, for each clip, the mean over its words; NaN for none."""
    of_words = {"named": "named", "which": "two", "event": "event", "when": "event"}
    for column, words in of_words.items():
        values = np.where(kept[words], np.asarray(scores[column], float), np.nan)
        counts = (~np.isnan(values)).sum(1)
        means = np.where(counts, np.nansum(values, 1) / np.maximum(counts, 1), np.nan)
        into.setdefault(column, []).append(means)
