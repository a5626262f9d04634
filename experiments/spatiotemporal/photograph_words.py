"""Phrases of captions of photographs: do they point to what they name? Table 7.5 of the thesis.

A phrase that names a category hits if the peak of its map lies in a box of that category.
"""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import load_file

from experiments.spatiotemporal import coco_captions
from experiments.spatiotemporal.explainers import explain_words
from experiments.spatiotemporal.intervals import interval
from experiments.spatiotemporal.train_coco_captioner import DATA, PARTS, load_cnn, make_network
from jaxground import maps

PICTURES = 10  # captions in a batch
ASKED = 4  # words of a caption that are explained together


def read_rows(images, vocabulary, names, captions: int) -> list[dict]:
    """Returns of each of so many captions of each image what is asked of it, if anything."""
    known, rows = set(vocabulary), []
    for number, image in enumerate(images):
        for caption in image.captions[:captions]:
            phrases = [
                phrase
                for phrase in coco_captions.find_phrases(caption, names)
                if phrase.category in image.boxes
                and known.issuperset(caption[i] for i in phrase.places)
            ]
            places = [place for phrase in phrases for place in phrase.places][:ASKED]
            phrases = [phrase for phrase in phrases if set(phrase.places) <= set(places)]
            if phrases:
                padded = places + [0] * (ASKED - len(places))
                rows.append({"image": number, "caption": caption, "phrases": phrases,
                             "places": places, "padded": padded})  # fmt: skip
    return rows


def hits(found: np.ndarray, row: dict, image) -> list[float]:
    """Returns of each phrase whether the peak of its map is in a box; a flat map misses."""
    scores = []
    for phrase in row["phrases"]:
        at = [row["places"].index(place) for place in phrase.places]
        mean = found[at].mean(0)
        if not mean.max() > mean.min():
            scores.append(0.0)
            continue
        peak = (np.array(np.unravel_index(mean.argmax(), mean.shape)) + 0.5) / mean.shape
        scores.append(float(_inside(peak[1], peak[0], image.boxes[phrase.category])))
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
    rows = read_rows(images, vocabulary, names, captions)
    weights = [load_file(folder / f"part{part}.safetensors") for part in range(PARTS)]
    gathered: dict = {"image": [], "category": [], "centre": [], "random": []}

    def program(name, tap):
        @jax.jit
        def run(weights, video, words, places):
            found, _ = explain_words(name, make_network(weights, cnn), tap, video, words, places)
            return maps.resize(found[:, :, 0], (coco_captions.SIDE,) * 2)

        return run

    programs = {f"{name} at {tap}" if tap else name: program(name, tap) for name, tap in asked}
    for part in range(PARTS):
        mine = [
            row for row in rows if row["image"] % PARTS == (part if chosen else (part + 1) % PARTS)
        ]
        mine = mine[:limit]
        for row in mine:
            image = images[row["image"]]
            for phrase in row["phrases"]:
                boxes = image.boxes[phrase.category]
                gathered["image"].append(row["image"])
                gathered["category"].append(phrase.category)
                gathered["centre"].append(float(_inside(0.5, 0.5, boxes)))
                gathered["random"].append(covered(boxes))
        for start in range(0, len(mine), PICTURES):
            batch = mine[start : start + PICTURES]
            full = batch + [batch[0]] * (PICTURES - len(batch))
            pixels = [coco_captions.read_pixels(images[row["image"]]) for row in full]
            video = cnn.preprocess(np.stack(pixels))[:, None]
            words = coco_captions.encode([row["caption"] for row in full], vocabulary)
            places = np.array([row["padded"] for row in full], np.int32)
            for name, run in programs.items():
                found = np.asarray(run(weights[part], video, words, places))
                for row, each in zip(batch, found, strict=False):
                    gathered.setdefault(name, []).extend(hits(each, row, images[row["image"]]))
        print(f"part {part}: {len(mine)} captions", flush=True)
    return gathered


def summarise(gathered: dict) -> dict:
    """Returns intervals over images: of all phrases, of people, of the rest; and differences."""
    images = np.array(gathered["image"])
    people = np.array(gathered["category"]) == "person"
    methods = {k: np.array(v, float) for k, v in gathered.items() if k not in ("image", "category")}
    found = {}
    for name, values in methods.items():
        parts = {"all": values, "people": np.where(people, values, np.nan),
                 "others": np.where(people, np.nan, values)}  # fmt: skip
        found[name] = {column: interval(each, images) for column, each in parts.items()}
        found[name]["less centre"] = interval(values - methods["centre"], images)
    return {"phrases": len(images), "images": len(set(images.tolist())), "methods": found}
