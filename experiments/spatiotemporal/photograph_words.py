"""Phrases of captions of COCO: table 7.5 of the thesis, on what there is.

A phrase that names a category belongs in any box of that category.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from experiments.spatiotemporal import coco_captions, phrases
from experiments.spatiotemporal.phrases import ASKED, PICTURES, Question
from experiments.spatiotemporal.train_coco_captioner import DATA, PARTS, load_cnn, make_network


def read_questions(images, vocabulary, names, captions: int) -> list[Question]:
    """Returns of each of so many captions of each image what is asked of it, if anything."""
    known, questions = set(vocabulary), []
    for number, image in enumerate(images):
        for caption in image.captions[:captions]:
            found = [
                phrase
                for phrase in coco_captions.find_phrases(caption, names)
                if phrase.category in image.boxes
                and known.issuperset(caption[i] for i in phrase.places)
            ]
            places = [place for phrase in found for place in phrase.places][:ASKED]
            found = [phrase for phrase in found if set(phrase.places) <= set(places)]
            if found:
                questions.append(Question(number, caption, found, image.boxes))
    return questions


def measure_photographs(folder: Path, asked: list[tuple[str, str]], *, captions: int, chosen: bool,
                        limit: int | None = None) -> dict:  # fmt: skip
    """Returns hits of every phrase by method and tap, with the number of its image and category.

    Args:
      folder: Of the trained captioners.
      asked: Methods and taps.
      captions: Of each image.
      chosen: Whether each captioner looks at its part for the table, or at that to choose by.
      limit: Images of a part, for a quick look.
    """
    vocabulary = tuple(json.loads((folder / "vocabulary.json").read_text()))
    images, _ = coco_captions.read_images(DATA / "coco_mini")
    content = json.loads((DATA / "coco_mini" / "annotations.json").read_text())
    names = coco_captions.category_names(content["categories"])
    cnn = load_cnn()
    questions = read_questions(images, vocabulary, names, captions)
    weights = [load_file(folder / f"part{part}.safetensors") for part in range(PARTS)]
    gathered: dict = {"image": [], "category": []}
    programs = {
        f"{name} at {tap}" if tap else name: phrases.make_program(
            name, tap, coco_captions.SIDE, lambda weights: make_network(weights, cnn)
        )
        for name, tap in asked
    }
    for part in range(PARTS):
        turn = part if chosen else (part + 1) % PARTS
        mine = [each for each in questions if each.image % PARTS == turn][:limit]
        for each in mine:
            gathered["image"] += [each.image] * len(each.phrases)
            gathered["category"] += [phrase.category for phrase in each.phrases]
        for start in range(0, len(mine), PICTURES):
            batch = mine[start : start + PICTURES]
            pixels = [coco_captions.read_pixels(images[each.image]) for each in batch]
            video = cnn.preprocess(np.stack(pixels))[:, None]
            words = coco_captions.encode([each.caption for each in batch], vocabulary)
            scores = phrases.measure_batch(programs, weights[part], batch, video, words)
            for name, values in scores.items():
                gathered.setdefault(name, []).extend(values)
        print(f"part {part}: {len(mine)} captions", flush=True)
    return gathered


def summarise(gathered: dict) -> dict:
    """Returns intervals over images: of all phrases, of people, of the rest; and differences."""
    people = np.array(gathered["category"]) == "person"
    scores = {k: v for k, v in gathered.items() if k not in ("image", "category")}
    parts = {"people": people, "others": ~people}
    return phrases.summarise(scores, np.array(gathered["image"]), parts)
