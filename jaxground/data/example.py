"""The picture that comes with the package, for commands without a photograph, and its mosaics."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxground.data.annotations import Dataset
from jaxground.data.images import read_image
from jaxground.data.mosaics import draw_dataset

EXAMPLE_TARGETS = ("airplane", "ship")  # what is in it, by the names of CIFAR-10

SIDE = 80  # pixels of a piece: what the embedded network usually reads
VARIANTS = 8  # lights of each piece, and of its mirror image
PIECES = {  # where in the photograph: left, top, right, bottom
    "airplane": (20, 0, 350, 260),
    "ship": (250, 150, 630, 410),
    "sky": (350, 0, 640, 170),
    "sea": (0, 330, 260, 480),
}


def example_photograph() -> Path:
    """Returns the path of a JPEG of 640 x 480 pixels: an airplane above a ship at sea.

    It was drawn for this project by `experiments/example_photograph.py`.

    Example:
      >>> from jaxground.data.images import measure_image
      >>> measure_image(example_photograph())
      (480, 640)
    """
    return Path(__file__).with_name("example.jpg")


def example_mosaics(count: int = 32, *, seed: int = 0) -> Dataset:
    """Returns a small pointing game with exact truth, made from the example photograph.

    Each picture is a mosaic of four pieces of it in random order, mirrored and lit at random: the
    airplane, the ship, sky and sea. So it can be played anywhere, with the embedded network.

    Args:
      count: Number of pictures.
      seed: Of the draw.

    Example:
      >>> data = example_mosaics(2)
      >>> data.examples[0].image().shape, sorted(data.examples[0].categories)
      ((160, 160, 3), ['airplane', 'sea', 'ship', 'sky'])
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    photograph = Image.fromarray(read_image(example_photograph()))
    images, labels = [], []
    for label, box in enumerate(PIECES.values()):
        piece = np.asarray(photograph.crop(box).resize((SIDE, SIDE)))
        for mirror in (slice(None), slice(None, None, -1)):
            for light in rng.uniform(0.7, 1.15, VARIANTS):
                lit = piece[:, mirror] * light + rng.normal(0, 4, piece.shape)
                images.append(lit.clip(0, 255).astype(np.uint8))
                labels.append(label)
    found = draw_dataset(np.stack(images), np.array(labels), tuple(PIECES), count=count, seed=seed)
    return dataclasses.replace(found, name="mosaics", class_indices=None)  # to be found by name
