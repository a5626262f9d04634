"""The picture that comes with the package, for commands without a photograph, and its mosaics."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxground.data.annotations import Dataset
from jaxground.data.images import read_image
from jaxground.data.mosaics import draw_dataset

EXAMPLE_TARGETS = ("airplane", "ship")  # what is in it, by the names of CIFAR-10

SIDE = 80  # pixels of a piece: what the embedded network usually reads
GRID = 3  # pieces along each side of a mosaic
VARIANTS = 8  # lights of each piece, and of its mirror image
PIECES = {  # where in the photograph: left, top, right, bottom
    "airplane": (20, 0, 350, 260),
    "ship": (250, 150, 630, 410),
    "sky": (350, 0, 640, 170),
    "sea": (0, 330, 260, 480),
    "horizon": (0, 250, 250, 420),
}
THINGS = {  # drawn onto a piece: which, colour, and outline in parts of its side
    "balloon": ("sky", "crimson", [(0.3, 0.3), (0.5, 0.15), (0.7, 0.3), (0.7, 0.6), (0.5, 0.85),
                                   (0.3, 0.6)]),
    "kite": ("sky", "gold", [(0.5, 0.1), (0.8, 0.4), (0.5, 0.9), (0.2, 0.4)]),
    "buoy": ("sea", "orange", [(0.4, 0.2), (0.6, 0.2), (0.85, 0.8), (0.15, 0.8)]),
    "rock": ("sea", "dimgray", [(0.1, 0.85), (0.3, 0.35), (0.55, 0.2), (0.7, 0.5), (0.95, 0.85)]),
}  # fmt: skip


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

    Each picture is a mosaic of nine pieces in random order, mirrored and lit at random: airplane,
    ship, sky, sea and horizon from the photograph, and four with something drawn onto sky or sea
    that the embedded network does not know. So it can be played anywhere, and tells methods apart:
    chance is a ninth.

    Args:
      count: Number of pictures.
      seed: Of the draw.

    Example:
      >>> data = example_mosaics(2)
      >>> data.examples[0].image().shape, sorted(data.examples[0].categories)[:4]
      ((240, 240, 3), ['airplane', 'balloon', 'buoy', 'horizon'])
    """
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    photograph = Image.fromarray(read_image(example_photograph()))
    pieces = {name: photograph.crop(box).resize((SIDE, SIDE)) for name, box in PIECES.items()}
    for name, (piece, colour, outline) in THINGS.items():
        pieces[name] = pieces[piece].copy()
        corners = [(x * SIDE, y * SIDE) for x, y in outline]
        ImageDraw.Draw(pieces[name]).polygon(corners, fill=colour)
    images, labels = [], []
    for label, piece in enumerate(map(np.asarray, pieces.values())):
        for mirror in (slice(None), slice(None, None, -1)):
            for light in rng.uniform(0.7, 1.15, VARIANTS):
                lit = piece[:, mirror] * light + rng.normal(0, 4, piece.shape)
                images.append(lit.clip(0, 255).astype(np.uint8))
                labels.append(label)
    found = draw_dataset(
        np.stack(images), np.array(labels), tuple(pieces), count=count, grid=GRID, seed=seed
    )
    return dataclasses.replace(found, name="mosaics", class_indices=None)  # to be found by name
