"""Phrases of captions of photographs: do they point to what they name?

A phrase hits if the peak of its map, the mean of the maps of its words, lies in a box of what it
names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.spatiotemporal.coco_captions import Phrase
from experiments.spatiotemporal.explainers import explain_words
from experiments.spatiotemporal.intervals import interval
from jaxground import maps

PICTURES = 10  # captions in a batch
ASKED = 4  # words of a caption that are explained together
THESIS = {"cEB-R": 51.2, "caption-guided saliency": 50.1, "centre": 49.2, "random": 26.8}


class Question(NamedTuple):
    """What is asked about one caption of a picture."""

    image: int
    """The picture's number: phrases of one are alike."""
    caption: tuple[str, ...]
    phrases: list[Phrase]
    boxes: Mapping[str, np.ndarray]
    """Of each category, `[n, 4]`: x0, y0, x1, y1, in parts of the sides."""

    @property
    def places(self) -> list[int]:
        """Where words stand whose maps are asked for."""
        return [place for phrase in self.phrases for place in phrase.places]


def hits(found: np.ndarray, question: Question) -> list[float]:
    """Returns of each phrase whether the peak of its map is in a box; a flat map misses.

    Args:
      found: The map of each word, `[places, h, w]`.
      question: What was asked.
    """
    scores, places = [], question.places
    for phrase in question.phrases:
        mean = found[[places.index(place) for place in phrase.places]].mean(0)
        if not mean.max() > mean.min():
            scores.append(0.0)
            continue
        peak = (np.array(np.unravel_index(mean.argmax(), mean.shape)) + 0.5) / mean.shape
        scores.append(float(_inside(peak[1], peak[0], question.boxes[phrase.category])))
    return scores


def _inside(x: float, y: float, boxes: np.ndarray) -> bool:
    low, high = boxes[:, :2] <= (x, y), boxes[:, 2:] > (x, y)
    return bool((low & high).all(1).any())


def covered(boxes: np.ndarray) -> float:
    """Returns which part of the image boxes cover."""
    grid = (np.arange(64) + 0.5) / 64
    x0, y0, x1, y1 = boxes.T[..., None]
    rows, columns = (grid >= y0) & (grid < y1), (grid >= x0) & (grid < x1)
    return float((rows[:, :, None] & columns[:, None]).any(0).mean())


def make_program(name: str, tap: str, side: int, rebuild: Callable) -> Callable:
    """Returns a compiled function from weights, videos of one frame, words and places to maps.

    Args:
      name: The method.
      tap: Where its maps are read.
      side: Of the square maps that are returned.
      rebuild: Makes a captioner of weights.
    """

    @jax.jit
    def run(weights, video, words, places):
        found, _ = explain_words(name, rebuild(weights), tap, video, words, places)
        return maps.resize(found[:, :, 0], (side, side))

    return run


def measure_batch(
    programs: Mapping[str, Callable], weights: Any, questions: Sequence[Question], video, words
) -> dict[str, list[float]]:
    """Returns hits of every phrase by method, and those of the centre and of a random place.

    Args:
      programs: Of each method, from `make_program`.
      weights: What the programs take.
      questions: As many as videos.
      video: `[batch, 1, h, w, 3]`, preprocessed.
      words: `int[batch, length]`.
    """
    boxes = [asked.boxes[phrase.category] for asked in questions for phrase in asked.phrases]
    scores = {
        "centre": [float(_inside(0.5, 0.5, each)) for each in boxes],
        "random": [covered(each) for each in boxes],
    }
    parts = [
        (number, asked.places[start : start + ASKED])
        for number, asked in enumerate(questions)
        for start in range(0, len(asked.places), ASKED)
    ]
    found: dict[str, list[list]] = {name: [[] for _ in questions] for name in programs}
    for start in range(0, len(parts), PICTURES):
        some = parts[start : start + PICTURES]
        full = some + [some[0]] * (PICTURES - len(some))
        numbers = np.array([number for number, _ in full])
        places = np.array([each + [0] * (ASKED - len(each)) for _, each in full], np.int32)
        for name, run in programs.items():
            rows = np.asarray(run(weights, video[numbers], words[numbers], places))
            for (number, each), row in zip(some, rows, strict=False):
                found[name][number].extend(row[: len(each)])
    for name, rows in found.items():
        pairs = zip(rows, questions, strict=True)
        scores[name] = [hit for row, asked in pairs for hit in hits(np.array(row), asked)]
    return scores


def summarise(scores: Mapping[str, Sequence[float]], images, parts: Mapping) -> dict:
    """Returns intervals over images of all phrases, of parts, and of the lead over the centre.

    Args:
      scores: Of each phrase, by method.
      images: The number of each phrase's image.
      parts: Which phrases are in which part, `bool[n]` by name.
    """
    found = {}
    for name, listed in scores.items():
        values = np.array(listed, float)
        found[name] = {"all": interval(values, images)}
        for part, mine in parts.items():
            found[name][part] = interval(np.where(mine, values, np.nan), images)
        found[name]["less centre"] = interval(values - np.array(scores["centre"]), images)
    return {"phrases": len(images), "images": len(set(images.tolist())), "methods": found}
