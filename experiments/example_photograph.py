"""Draws the picture that comes with the package: an airplane above a ship at sea.

    python -m experiments.example_photograph --output jaxground/data/example.jpg

Drawn, so that it is ours to give away, and of two things that the embedded network knows.
Needs Pillow and NumPy, takes a second; the same bits wherever their versions are the same.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 640, 480
SCALE = 4  # drawn larger, then reduced: smooth edges
HORIZON = 0.66  # of the height

Point = tuple[float, float]
Colour = tuple[int, int, int]


def draw() -> Image.Image:
    """Returns the picture."""
    random = np.random.default_rng(1)
    canvas = sky_and_sea(random)
    pen = ImageDraw.Draw(canvas)
    airplane(pen, left=0.06, top=0.04, width=0.46)
    ship(pen, left=0.44, top=0.36, width=0.50)
    picture = canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    picture = picture.filter(ImageFilter.GaussianBlur(0.6))
    grain = random.normal(0, 3, (HEIGHT, WIDTH, 1))
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def sky_and_sea(random: np.random.Generator) -> Image.Image:
    """Returns the background at drawing scale: clouds above the horizon, waves below."""
    width, height = WIDTH * SCALE, HEIGHT * SCALE
    horizon = int(height * HORIZON)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(shade(width, horizon, (74, 134, 205), (214, 229, 240)), (0, 0))
    canvas.paste(shade(width, height - horizon, (78, 118, 146), (24, 58, 92)), (0, horizon))

    clouds = Image.new("L", canvas.size, 0)
    pen = ImageDraw.Draw(clouds)
    for x, y, size in random.uniform((0, 0.40, 15), (1, HORIZON - 0.04, 45), (40, 3)):
        x, y, size = x * width, y * height, size * SCALE
        pen.ellipse((x - 2 * size, y - size / 2, x + 2 * size, y + size / 2), fill=150)
    clouds.paste(0, (0, horizon, width, height))
    clouds = clouds.filter(ImageFilter.GaussianBlur(14 * SCALE))
    clouds.paste(0, (0, horizon, width, height))
    canvas.paste(Image.new("RGB", canvas.size, "white"), (0, 0), clouds)

    pen = ImageDraw.Draw(canvas)
    for x, depth, length, light in random.random((420, 4)):
        depth = depth**1.5  # waves are denser and shorter towards the horizon
        y = horizon + depth * (height - horizon)
        grey = int(95 + 55 * light - 40 * depth)
        line = (x * width, y, x * width + (6 + 50 * depth) * SCALE * length, y)
        pen.line(line, fill=(grey - 20, grey + 10, grey + 30), width=SCALE // 2)
    return canvas


def shade(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    """Returns a vertical blend of two colours."""
    t = np.linspace(0, 1, height)[:, None, None]
    rows = np.array(top) * (1 - t) + np.array(bottom) * t
    return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))


class Shape:
    """Draws polygons and ellipses in units of the shape's width, from its top left corner."""

    def __init__(self, pen: ImageDraw.ImageDraw, *, left: float, top: float, width: float):
        """Places the shape, in units of the picture."""
        self.pen, self.unit = pen, width * WIDTH * SCALE
        self.left, self.top = left * WIDTH * SCALE, top * HEIGHT * SCALE

    def polygon(self, colour: Colour, *points: Point) -> None:
        """Draws a polygon."""
        self.pen.polygon([self._place(point) for point in points], fill=colour)

    def ellipse(self, colour: Colour, first: Point, last: Point) -> None:
        """Draws the ellipse between two corners."""
        self.pen.ellipse([self._place(first), self._place(last)], fill=colour)

    def _place(self, point: Point) -> Point:
        return self.left + point[0] * self.unit, self.top + point[1] * self.unit


def airplane(pen: ImageDraw.ImageDraw, *, left: float, top: float, width: float) -> None:
    """Draws an airliner that flies to the right."""
    shape = Shape(pen, left=left, top=top, width=width)
    shape.polygon((122, 130, 146), (0.52, 0.38), (0.30, 0.06), (0.38, 0.05), (0.67, 0.37))
    shape.ellipse((228, 231, 236), (0.06, 0.34), (0.98, 0.465))
    shape.polygon((38, 76, 150), (0.09, 0.40), (0.01, 0.14), (0.10, 0.14), (0.26, 0.365))
    shape.polygon((122, 130, 146), (0.13, 0.41), (0.01, 0.475), (0.08, 0.485), (0.25, 0.43))
    shape.polygon((160, 167, 180), (0.46, 0.425), (0.24, 0.74), (0.34, 0.75), (0.68, 0.445))
    for x, y in ((0.46, 0.54), (0.38, 0.63)):
        shape.ellipse((92, 98, 110), (x, y), (x + 0.11, y + 0.055))
    shape.polygon((40, 52, 74), (0.895, 0.375), (0.945, 0.40), (0.875, 0.40))
    for x in np.arange(0.25, 0.84, 0.038):
        shape.ellipse((62, 78, 100), (x, 0.388), (x + 0.013, 0.408))


def ship(pen: ImageDraw.ImageDraw, *, left: float, top: float, width: float) -> None:
    """Draws a passenger steamer with two funnels."""
    shape = Shape(pen, left=left, top=top, width=width)
    shape.polygon((152, 36, 30), (0.00, 0.42), (1.00, 0.39), (0.89, 0.60), (0.08, 0.60))
    shape.polygon((30, 34, 48), (0.00, 0.42), (1.00, 0.39), (0.96, 0.475), (0.03, 0.49))
    shape.polygon((241, 241, 237), (0.12, 0.42), (0.12, 0.30), (0.72, 0.29), (0.77, 0.40))
    shape.polygon((226, 227, 225), (0.19, 0.30), (0.19, 0.21), (0.57, 0.205), (0.61, 0.295))
    for x in (0.26, 0.42):
        shape.polygon((202, 62, 42), (x, 0.02), (x + 0.10, 0.02), (x + 0.10, 0.21), (x, 0.21))
        shape.polygon((30, 30, 32), (x, 0.02), (x + 0.10, 0.02), (x + 0.10, 0.07), (x, 0.07))
    for x in np.arange(0.16, 0.70, 0.05):
        shape.polygon((62, 84, 106), (x, 0.335), (x + 0.02, 0.335), (x + 0.02, 0.365), (x, 0.365))
    shape.polygon((66, 54, 42), (0.845, 0.40), (0.845, 0.08), (0.857, 0.08), (0.857, 0.40))
    shape.polygon((176, 200, 214), (0.00, 0.60), (0.97, 0.60), (1.05, 0.635), (-0.06, 0.635))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draws the example photograph.")
    parser.add_argument("--output", type=Path, required=True, help="JPEG file to write")
    draw().save(parser.parse_args().output, quality=90)
