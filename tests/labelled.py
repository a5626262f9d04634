"""Tiny archives of labelled images, laid out as the official ones unpack."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = {"n02123045": "tabby, tabby cat", "n01440764": "tench, Tinca tinca"}


def write_image(path: Path, height=12, width=16, *, seed=0, mode="RGB", **options) -> np.ndarray:
    """Writes noise; returns what a decoder finds in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **options)
    return np.asarray(Image.open(path).convert("RGB"))


def xml(objects, *, height=12, width=16) -> str:
    """Returns an annotation in the form of VOC: objects are (name, corners, difficult)."""
    text = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    for name, corners, difficult in objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        text += (
            f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
            f"<difficult>{difficult}</difficult><bndbox>{box}</bndbox>"
            f"<part><name>head</name><bndbox>{box}</bndbox></part></object>"
        )
    return f"<annotation><filename>../../x.jpg</filename>{text}</annotation>"


def write_voc(folder: Path, objects: dict[str, list], *, year="2007", part="test") -> Path:
    """Writes VOCdevkit with the objects of each image; returns VOC<year>."""
    root = folder / "VOCdevkit" / f"VOC{year}"
    for seed, (name, those) in enumerate(objects.items()):
        write_image(root / f"JPEGImages/{name}.jpg", seed=seed)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / f"Annotations/{name}.xml").write_text(xml(those))
    (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    (root / f"ImageSets/Main/{part}.txt").write_text("\n".join(objects) + "\n")
    return root


def coco_file(annotations, *, images=("000000000009.jpg",), height=12, width=16) -> dict:
    """Returns the content of instances_*.json with numbers filled in."""
    return {
        "info": {},
        "licenses": [],
        "images": [
            {"id": 100 + i, "file_name": name, "height": height, "width": width}
            for i, name in enumerate(images)
        ],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 18, "name": "dog", "supercategory": "animal"},
        ],
        "annotations": [
            {"id": 7 + i, "image_id": 100, "category_id": 18, "iscrowd": 0} | annotation
            for i, annotation in enumerate(annotations)
        ],
    }


def write_coco(folder: Path, content, *, split="val2017", mode="RGB") -> Path:
    """Writes the archives of one split; returns the JSON file."""
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for seed, image in enumerate(content["images"]):
        size = image["height"], image["width"]
        write_image(folder / split / image["file_name"], *size, seed=seed, mode=mode)
    return path


def write_imagenet(folder: Path, objects: list[list]) -> Path:
    """Writes the validation set of the localisation task; returns its folder of annotations."""
    annotations = folder / "ILSVRC/Annotations/CLS-LOC/val"
    annotations.mkdir(parents=True)
    for number, those in enumerate(objects, 1):
        name = f"ILSVRC2012_val_{number:08}"
        write_image(folder / f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG", seed=number)
        (annotations / f"{name}.xml").write_text(xml(those))
    lines = [f"{wnid} {names}\n" for wnid, names in WNIDS.items()]
    (folder / "LOC_synset_mapping.txt").write_text("".join(lines))
    return annotations
