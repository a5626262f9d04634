"""Drawn clips and sentences about them as arrays, and what a frame shows and a sentence says."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxground import models
from jaxground.data.figures import FIGURES
from jaxground.data.moving_scenes import EVENTS, MovingScenes, draw_clips
from jaxground.data.scenes import COLOURS
from jaxground.data.sentences import describe_clips
from jaxground.models.compact_captioner import SCENES
from jaxground.models.compact_lrcn import SIDE

WORDS = models.create("compact_captioner").card.class_names
LENGTH = 12  # of the longest sentence about two figures, with its end
KINDS = len(COLOURS) * len(FIGURES)
DRAWN = 100  # clips at a time
OF_FRAMES = dataclasses.replace(SCENES, events=tuple(EVENTS))  # what the CNN sees


def draw(
    count: int, seed: int, *, scenes: MovingScenes = SCENES, first: int = 0
) -> tuple[np.ndarray, ...]:
    """Returns frames `uint8[n, time, 32, 32, 3]`, figures and sentences of clips.

    Figures are `int32[n, time, objects, 6]`: box, colour and shape, the box zeros if not to be
    seen. Sentences are `int32[n, 12]`, their ends zeros.
    """
    parts = []
    for start in range(first, first + count, DRAWN):
        clips = draw_clips(scenes, range(start, min(start + DRAWN, first + count)), seed=seed)
        n, time, side = clips.frames.shape[:3]
        small = clips.frames.reshape(n, time, SIDE, side // SIDE, SIDE, side // SIDE, 3)
        kinds = np.stack([clips.colours, clips.shapes], -1)[:, :, None].repeat(time, 2)
        figures = np.concatenate([clips.boxes, kinds], -1).swapaxes(1, 2)
        sentences = np.zeros((n, LENGTH), np.int32)
        told_of = describe_clips(clips, scenes.events, seed=start)
        for row, told in zip(sentences, told_of, strict=True):
            row[: len(told.words)] = models.word_indices(str(told), WORDS)
        frames = small.mean((3, 5)).round().astype(np.uint8)
        parts.append((frames, figures.astype(np.int32), sentences))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def draw_once(folder: Path, count: int, seed: int, **options) -> list[np.ndarray]:
    """Returns what `draw` does, from the files of an earlier run if they are there."""
    files = [folder / f"{name}.npy" for name in ("frames", "figures", "sentences")]
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        for file, array in zip(files, draw(count, seed, **options), strict=True):
            np.save(file, array)
    return [np.load(file) for file in files]


def read_frame(figures):
    """Returns what a frame shows: `[kinds, colours and shapes]`, `[colours, 4]`, and which count.

    Of two figures in a colour there is no one place.
    """
    box, colour, shape = figures[:, :4], figures[:, 4], figures[:, 5]
    seen = (box[:, 2] > box[:, 0]) & (colour >= 0)
    colours = jax.nn.one_hot(colour, len(COLOURS)) * seen[:, None]
    shapes = jax.nn.one_hot(shape, len(FIGURES)) * seen[:, None]
    kinds = jnp.einsum("nc,ns->cs", colours, shapes).reshape(-1)
    names = jnp.concatenate([kinds, colours.max(0), shapes.max(0)])
    centre = (box[:, :2] + box[:, 2:]) / 2 / SCENES.side
    size = (box[:, 2:] - box[:, :2]) / SCENES.side
    places = jnp.einsum("nc,nk->ck", colours, jnp.concatenate([centre, size], 1))
    return jnp.minimum(names, 1), places, colours.sum(0) == 1


def read_sentence(words) -> dict:
    """Returns what a sentence, a row of indices, says: the event, who does it, and who is there."""
    text = models.sentence_of(words, WORDS).split()
    names = [i for i in range(len(text) - 1) if text[i] in COLOURS and text[i + 1] in FIGURES]
    event = [e for e in SCENES.events if f" {e} " in f" {' '.join(text)} "]
    does = text.index(event[0].split()[0]) if event else -1
    return {
        "event": event[:1],
        "actor": text[max(does - 2, 0) : does] if event else [],
        "figures": sorted(" ".join(text[i : i + 2]) for i in names),
    }
