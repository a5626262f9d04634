"""Captions of COCO, their vocabulary, and which of their words name a category of objects."""

import collections
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

LENGTH = 16  # words of a caption, at most, its end among them
SIDE = 224
END, UNKNOWN = "<end>", "<unk>"
LEAST = 20  # captions that a word is in; rarer ones are unknown

# What else people call a category; plurals are found by rule.
SYNONYMS = {
    "person": "man men woman women people boy girl child children kid guy lady gentleman player "
    "skier surfer skateboarder snowboarder rider batter pitcher catcher baby toddler",
    "airplane": "plane jet airliner",
    "motorcycle": "motorbike",
    "bicycle": "bike",
    "couch": "sofa",
    "tv": "television",
    "cell phone": "phone,cellphone",
    "potted plant": "plant",
    "dining table": "table",
    "donut": "doughnut",
    "refrigerator": "fridge",
    "boat": "ship sailboat",
    "sports ball": "ball",
    "hair drier": "hairdryer,hair dryer",
    "bus": "buses",
    "knife": "knives",
    "sheep": "lamb",
    "cow": "bull cattle calf",
    "dog": "puppy",
    "cat": "kitten",
    "horse": "pony",
    "wine glass": "glass,glasses",
    "cup": "mug",
    "laptop": "computer",
    "car": "suv van",
    "frisbee": "disc,disk",
    "tennis racket": "racket,racquet,tennis racquet",
    "baseball bat": "bat",
    "teddy bear": "teddy,stuffed bear",
    "suitcase": "luggage",
    "handbag": "purse",
}


class Image(NamedTuple):
    """A picture of `coco_mini` with captions."""

    path: Path
    size: tuple[int, int]
    captions: tuple[tuple[str, ...], ...]
    boxes: dict[str, np.ndarray]  # of each category, [n, 4]: x0, y0, x1, y1, in parts of the sides


class Phrase(NamedTuple):
    """Words of a caption that name a category."""

    category: str
    places: tuple[int, ...]


def split_words(caption: str) -> tuple[str, ...]:
    """Returns the words of a caption in lower case, as many as fit before the end."""
    return tuple(re.findall(r"[a-z]+", caption.lower()))[: LENGTH - 1]


def read_images(folder: Path) -> tuple[list[Image], list[tuple[str, ...]]]:
    """Returns the images of `coco_mini` with captions, and all captions of other images."""
    content = json.loads((folder / "annotations.json").read_text())
    images = []
    for record in content["images"]:
        if not record["captions"]:
            continue
        sides = np.array([record["width"], record["height"]] * 2, np.float32)
        boxes = collections.defaultdict(list)
        for thing in record["objects"]:
            if not thing["iscrowd"]:
                x, y, width, height = thing["bbox_xywh"]
                boxes[thing["category"]].append((x, y, x + width, y + height) / sides)
        captions = tuple(map(split_words, record["captions"]))
        size = record["height"], record["width"]
        found = {category: np.array(rows) for category, rows in boxes.items()}
        images.append(Image(folder / record["file"], size, captions, found))
    known = {record["coco_id"] for record in content["images"]}
    rows = (line.split("\t") for line in (folder / "captions_val2017.tsv").open())
    others = [split_words(text) for number, text in rows if int(number) not in known]
    return images, others


def make_vocabulary(captions: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the words that are in many captions, after the end and the unknown word."""
    counts = collections.Counter(word for caption in captions for word in set(caption))
    return END, UNKNOWN, *sorted(word for word, count in counts.items() if count >= LEAST)


def encode(captions, vocabulary: tuple[str, ...], length: int = LENGTH) -> np.ndarray:
    """Returns `int32[n, length]`, zeros from the end on."""
    places = {word: i for i, word in enumerate(vocabulary)}
    rows = np.zeros((len(captions), length), np.int32)
    for row, caption in zip(rows, captions, strict=True):
        row[: len(caption)] = [places[w if w in places else UNKNOWN] for w in caption]
    return rows


def category_names(categories) -> dict[tuple[str, ...], str]:
    """Returns the category of each name: its own, synonyms, and plurals of both."""
    names = {}
    for category in categories:
        others = SYNONYMS.get(category, "")
        listed = others.split(",") if "," in others else others.split()
        for name in (category, *listed):
            for plural in ("", "s", "es"):
                names[tuple(f"{name}{plural}".split())] = category
    return names


def find_phrases(caption, names: dict[tuple[str, ...], str]) -> list[Phrase]:
    """Returns what names a category, the longest names first, no word twice."""
    found, taken = [], set()
    for length in (2, 1):
        for start in range(len(caption) - length + 1):
            places = tuple(range(start, start + length))
            category = names.get(tuple(caption[start : start + length]))
            if category and not taken & set(places):
                found.append(Phrase(category, places))
                taken |= set(places)
    return found


def read_pixels(image: Image) -> np.ndarray:
    """Returns `uint8[224, 224, 3]`, the whole picture, warped."""
    from PIL import Image as pictures

    return warp(np.asarray(pictures.open(image.path).convert("RGB")), SIDE)


def warp(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns `uint8[side, side, 3]`, the whole of a picture."""
    from PIL import Image as pictures

    picture = pictures.fromarray(pixels)
    return np.asarray(picture.resize((side, side), pictures.Resampling.BILINEAR))
