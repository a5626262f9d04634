"""What captions and sentences are taken to say, and what counts as a hit."""

import json

import numpy as np
import pytest

from experiments.spatiotemporal import captions, coco_captions, phrases
from experiments.spatiotemporal.drawn_sentences import (
    KINDS,
    WORDS,
    draw,
    read_frame,
    read_sentence,
)
from experiments.spatiotemporal.explainers import OF_WORDS
from jaxground import models
from jaxground.data.figures import FIGURES
from jaxground.data.scenes import COLOURS

NAMES = coco_captions.category_names(["person", "dining table", "hot dog", "dog", "cell phone"])


def test_phrases_that_name_a_category():
    found = coco_captions.find_phrases(
        "two men eat hot dogs at a dining table with phones and tables".split(), NAMES
    )
    assert found == [
        ("hot dog", (3, 4)),
        ("dining table", (7, 8)),
        ("person", (1,)),
        ("cell phone", (10,)),
        ("dining table", (12,)),
    ]
    assert coco_captions.split_words("A man's 2 dogs.") == ("a", "man", "s", "dogs")
    vocabulary = coco_captions.make_vocabulary([("a", "dog")] * 20 + [("a", "emu", "emu")] * 15)
    assert vocabulary == ("<end>", "<unk>", "a", "dog")
    assert coco_captions.encode([("a", "emu")], vocabulary)[0, :3].tolist() == [2, 1, 0]


def test_what_hits():
    """The mean of the maps of a phrase's words, by hand; a flat one misses a box of everything."""
    boxes = np.array([[0.0, 0.0, 0.25, 0.5], [0.5, 0.5, 1.0, 1.0]])
    everywhere = {"dog": boxes, "person": boxes * 0 + [0, 0, 1, 1]}
    assert phrases.covered(boxes) == pytest.approx(0.125 + 0.25)
    found = np.zeros((4, 4, 4))
    found[0, 0, 3], found[1, 3, 3], found[2, 0, 0] = 2, 3, 1.5
    asked = [
        coco_captions.Phrase("dog", (5, 6)),  # 3 in the lower right corner beats 2
        coco_captions.Phrase("dog", (9,)),
        coco_captions.Phrase("person", (10,)),
    ]
    assert phrases.hits(found, phrases.Question(0, (), asked, everywhere)) == [1, 1, 0]
    found[1] = 0  # leaves the upper right corner
    assert phrases.hits(found, phrases.Question(0, (), asked, everywhere)) == [0, 1, 0]


def test_what_a_sentence_says():
    sentence = "while a purple bar stands still a red ring moves up"
    said = read_sentence(models.word_indices(sentence, WORDS))
    assert said == {
        "event": ["moves up"],
        "actor": ["red", "ring"],
        "figures": ["purple bar", "red ring"],
    }
    assert read_sentence([0]) == {"event": [], "actor": [], "figures": []}


def test_what_a_frame_shows():
    _, figures, words = draw(3, 0)
    said = read_sentence(words[2])
    names, places, known = map(np.asarray, read_frame(figures[2, 15]))  # all are there by then
    kinds = [f"{c} {s}" for c in COLOURS for s in FIGURES]
    assert [kinds[i] for i in np.flatnonzero(names[:KINDS])] == sorted(
        said["figures"], key=kinds.index
    )
    for box, colour, there in zip(
        figures[2, 15, :, :4], figures[2, 15, :, 4], (True, False), strict=True
    ):
        if there and known[colour]:
            np.testing.assert_allclose(places[colour, 0] * 64, (box[0] + box[2]) / 2, rtol=1e-5)


def test_the_committed_table_is_whole():
    found = json.loads(captions.OUTPUT.read_text())
    assert set(OF_WORDS) <= set(found["clips"]["scores"])
    methods = found["photographs"]["methods"]
    assert {*OF_WORDS, "centre", "random"} == {name.split(" at ")[0] for name in methods}
    for row in methods.values():
        mean, low, high = row["all"]
        assert low <= mean <= high
