"""Finds out when explaining the log-probability in place of the logit helps, and why.

    python -m experiments.score_prior.when --output experiments/score_prior/when.json

Four kinds of pictures, each with boxes: one object or several, on a network whose classifier is
a 1x1 convolution (SqueezeNet) and on one with a linear map above the mean (CompactVGG). Of every
picture and target: whether the peak lies in the box, the share of positive mass in it, and the
correlation of the target's map with that of another target (several objects) and with the
expected map of all classes, `sum_j p_j map_j`, which is what the score prior takes away.
Intervals are a bootstrap over pictures. A few minutes on two cores.
"""

import argparse
import dataclasses
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxground import attribution, data, maps, metrics, models, prepare
from jaxground.data import mosaics
from jaxground.scores import Score

DATA = Path(os.environ.get("JAXGROUND_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
METHODS: dict[str, tuple[Callable, str]] = {  # and the field of the card with its tap
    "excitation_backprop": (attribution.excitation_backprop, "ground_at"),
    "grad_cam": (attribution.grad_cam, "cam_at"),
}
SCORES: dict[str, Score] = {
    "logit": "logit",
    "log_probability": "log_probability",
    "log_probability at temperature 2": lambda logits: jax.nn.log_softmax(logits / 2),
}
BATCH = 20


class Pictures(NamedTuple):
    """Pictures of one size; each target has a box."""

    images: np.ndarray  # uint8[n, h, w, 3]
    targets: np.ndarray  # int[n, k]
    boxes: np.ndarray  # [n, k, 4], x0 y0 x1 y1


def cifar_mosaics(count: int) -> Pictures:
    """Returns 2x2 mosaics of test photographs of CIFAR-10 (JPEG), 64x64 in all."""
    images, labels, _ = _archive("cifar10_jpeg/cifar10_jpeg.npz", "test_", 2000)
    return _mosaics(images, labels, count)


def cifar_objects(count: int) -> Pictures:
    """Returns one test photograph of CIFAR-10 (JPEG) somewhere upon grey noise, 64x64."""
    images, labels, _ = _archive("cifar10_jpeg/cifar10_jpeg.npz", "test_", count)
    rng = np.random.default_rng(0)
    canvas = rng.normal(118, 20, (count, 64, 64, 1)).clip(0, 255).repeat(3, -1).astype(np.uint8)
    corners = rng.integers(0, 33, (count, 2))
    for picture, image, (y, x) in zip(canvas, images, corners, strict=True):
        picture[y : y + 32, x : x + 32] = image
    boxes = np.concatenate([corners[:, ::-1], corners[:, ::-1] + 32], axis=1)
    return Pictures(canvas, labels[:, None], boxes[:, None].astype(float))


def imagenet_mosaics(count: int) -> Pictures:
    """Returns 2x2 mosaics of photographs of ImageNet, 224x224 in all."""
    folder = DATA / "imagenet_sample_500"
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    pictures = []
    for name, *_ in rows:
        picture = data.read_image(folder / "images" / name)
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        pictures.append(_resized(picture[top : top + side, left : left + side], 112))
    return _mosaics(np.stack(pictures), np.array([int(label) for _, label, *_ in rows]), count)


def tiny_imagenet_objects(count: int) -> Pictures:
    """Returns single objects of Tiny ImageNet's validation part, enlarged to 224x224."""
    images, labels, archive = _archive("tiny_imagenet_subset/tiny_imagenet.npz", "val_", count)
    boxes = archive["val_boxes_xyxy"][:count].astype(float)
    boxes[:, 2:] += 1  # ends are inside
    targets = archive["imagenet1k_index"][labels][:, None]
    large = np.stack([_resized(image, 224) for image in images])
    return Pictures(large, targets, boxes[:, None] * 3.5)


def _archive(path: str, split: str, count: int):
    archive = np.load(DATA / path)
    stream, ends = archive[split + "jpeg"], archive[split + "offsets"]
    files = (io.BytesIO(stream[ends[i] : ends[i + 1]].tobytes()) for i in range(count))
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return images, archive[split + "labels"][:count].astype(int), archive


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def _mosaics(images: np.ndarray, labels: np.ndarray, count: int) -> Pictures:
    drawn = mosaics.draw_mosaics(images, labels, count=count)
    boxes = np.array(mosaics.cell_boxes(2, *drawn.images.shape[1:3]))
    return Pictures(drawn.images, drawn.classes, np.broadcast_to(boxes, (count, 4, 4)))


def measure(f, images, targets, masks, *, explainer: Callable, at: str, score: Score) -> dict:
    """Returns what is measured of every picture and target, `float[batch, k]` each.

    Args:
      f: The network.
      images: `float[batch, h, w, 3]`.
      targets: `int[batch, k]`.
      masks: `bool[batch, k, h, w]`.
      explainer: Which.
      at: Tap.
      score: What is asked.
    """
    logits = f(images)
    found = explainer(f, images, targets, at=at, score=score)
    expected = explainer(f, images, jax.nn.softmax(logits), at=at)  # the map of the mean class
    large = maps.resize(found, masks.shape[-2:])
    answers = {
        "pointing": metrics.pointing_game(large, masks, tolerance=0),
        "energy": metrics.energy_pointing_game(large, masks),
        "probability": jnp.take_along_axis(jax.nn.softmax(logits), targets, axis=1),
        "like_expected": _correlation(found, expected[:, None]),
    }
    if targets.shape[1] > 1:
        answers["like_next"] = _correlation(found, jnp.roll(found, 1, axis=1))
    return answers


def _correlation(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns Pearson's correlation of maps `[..., h, w]`, zero where one is flat."""
    a, b = (m - m.mean((-2, -1), keepdims=True) for m in (a, b))
    norms = jnp.sqrt((a * a).sum((-2, -1)) * (b * b).sum((-2, -1)))
    return (a * b).sum((-2, -1)) / jnp.where(norms > 0, norms, 1)


def study(model: models.Network, pictures: Pictures) -> dict[str, dict]:
    """Returns mean and 95 % bootstrap interval of everything measured, by method and score."""
    height, width = pictures.images.shape[1:3]
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    x0, y0, x1, y1 = np.moveaxis(pictures.boxes[..., None, None], 2, 0)
    masks = (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
    preprocess = dataclasses.replace(model.preprocess, size=height, crop=height)
    results = {}
    for name, (explainer, tap) in METHODS.items():
        for label, score in SCORES.items():
            at = getattr(model.card, tap)
            run = prepare(measure, model, explainer=explainer, at=at, score=score)
            parts = [
                jax.device_get(
                    run(
                        preprocess(pictures.images[i : i + BATCH]),
                        pictures.targets[i : i + BATCH],
                        masks[i : i + BATCH],
                    )
                )
                for i in range(0, len(masks), BATCH)
            ]
            answers = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            results[f"{name}, {label}"] = {k: interval(v.mean(1)) for k, v in answers.items()}
    return results


def interval(values: np.ndarray) -> dict[str, float]:
    """Returns the mean over pictures and its 95 % interval over 2,000 bootstrap samples."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


STUDIES = {
    "compact_vgg, mosaics": ("compact_vgg", cifar_mosaics, 500),
    "compact_vgg, one object": ("compact_vgg", cifar_objects, 500),
    "squeezenet1_1, mosaics": ("squeezenet1_1", imagenet_mosaics, 160),
    "squeezenet1_1, one object": ("squeezenet1_1", tiny_imagenet_objects, 200),
}


def main() -> None:
    """Runs the four studies, prints a table and writes all numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    weights = {
        "compact_vgg": "embedded",
        "squeezenet1_1": DATA / "weights" / "squeezenet1_1.safetensors",
    }
    results = {}
    for name, (network, draw, count) in STUDIES.items():
        results[name] = study(models.create(network, weights[network]), draw(count))
        for method, numbers in results[name].items():
            cells = (
                f"{key} {v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]"
                for key, v in numbers.items()
            )
            print(f"{name:26} {method:42}", *cells, sep="  ", flush=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
