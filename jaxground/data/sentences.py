"""Sentences about moving scenes, and which of their words stands for which figure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxground.data.figures import FIGURES
from jaxground.data.moving_scenes import EVENTS, Clips
from jaxground.data.scenes import COLOURS

_JOINTS = "a and beside stand stands still while".split()
VOCABULARY = tuple(sorted({*COLOURS, *FIGURES, *_JOINTS, *" ".join(EVENTS).split()}))


class Sentence(NamedTuple):
    """What is to be seen in a clip, and what its words mean."""

    words: tuple[str, ...]
    objects: tuple[int, ...]
    """The figure that each word stands for, an index into the masks of the clip; -1 for none."""
    event: tuple[int, int]
    """The words that say what happens, half open: what they mean lasts for the clip's `times`."""

    def __str__(self) -> str:
        """Returns the words with spaces between them."""
        return " ".join(self.words)


def describe_clips(clips: Clips, events: Sequence[str], *, seed: int = 0) -> list[Sentence]:
    """Returns a sentence about each clip that mentions every figure once and no distractor.

    No two figures of a clip share colour and shape, so that a name means one of them. The actor
    comes first or last, and bystanders in random order: where a word stands in a sentence does
    not tell what it means. Every word is in `VOCABULARY`.

    Args:
      clips: As drawn.
      events: The events of the scenes, see `MovingScenes.events`.
      seed: Of the choice of words.

    Example:
      >>> from jaxground.data.moving_scenes import MovingScenes, draw_clips
      >>> scenes = MovingScenes()
      >>> sentence = describe_clips(draw_clips(scenes, [8]), scenes.events)[0]
      >>> print(sentence)
      while a purple square stands still a purple cross grows
      >>> sentence.objects
      (-1, 1, 1, 1, -1, -1, 0, 0, 0, 0)
    """
    rng = np.random.default_rng(seed)
    names = tuple(COLOURS), tuple(FIGURES)
    sentences = []
    for colours, shapes, event in zip(clips.colours, clips.shapes, clips.events, strict=True):
        others = [int(i) for i in rng.permutation(np.flatnonzero(shapes[1:] >= 0) + 1)]
        named = [
            [(word, figure) for word in ("a", names[0][colours[figure]], names[1][shapes[figure]])]
            for figure in (0, *others)
        ]
        actor, does = named[0], [(word, 0) for word in events[int(event)].split()]
        told = [pair for name in named[1:] for pair in [("and", -1), *name]][1:]
        stand = [("stands" if len(others) == 1 else "stand", -1), ("still", -1)]
        forms = [
            [*actor, *does, ("while", -1), *told, *stand],
            [*actor, *does, ("beside", -1), *told],
            [("beside", -1), *told, *actor, *does],
            [("while", -1), *told, *stand, *actor, *does],
        ]
        chosen = forms[rng.integers(len(forms))] if others else [*actor, *does]
        words, objects = zip(*chosen, strict=True)
        first = words.index(does[0][0])
        sentences.append(Sentence(words, objects, (first, first + len(does))))
    return sentences
