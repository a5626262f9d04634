"""Shapes of the drawn scenes: outlines around a centre, as tables of radius by direction.

A direction is a number from 0 to 4 that grows with the angle and needs no arc tangent: along
|x| + |y| = 1, from (1, 0) by (0, 1), (-1, 0) and (0, -1).
"""

import numpy as np

DIRECTIONS = 1024  # of a table; the nearest one is looked up


def _angles() -> np.ndarray:
    direction = np.arange(DIRECTIONS) * (4 / DIRECTIONS)
    x, y = (np.abs((direction - turn) % 4 - 2) - 1 for turn in (0, 1))
    return np.arctan2(y, x)


ANGLES = _angles()  # of the directions, in radians


def _polygon(*vertices: tuple[float, float]) -> np.ndarray:
    """Returns where the rays from the origin meet a polygon that every one meets once."""
    start = np.array(vertices)
    edge = np.roll(start, -1, axis=0) - start
    x, y = np.cos(ANGLES)[:, None], np.sin(ANGLES)[:, None]
    # The ray t (x, y) meets the line start + s edge.
    across = x * edge[:, 1] - y * edge[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (start[:, 0] * edge[:, 1] - start[:, 1] * edge[:, 0]) / across
        s = (start[:, 0] * y - start[:, 1] * x) / across
    met = (t > 0) & (s > -1e-9) & (s < 1 + 1e-9)
    return np.where(met, t, np.inf).min(1) / np.hypot(*start.T).max()


def _regular(corners: int, waist: float | None = None) -> np.ndarray:
    """Returns a regular polygon, or a star whose inner corners are at the waist."""
    radii = [1.0] if waist is None else [1.0, waist]
    count = corners * len(radii)
    return _polygon(
        *(
            (radii[i % len(radii)] * np.cos(2 * np.pi * i / count),
             radii[i % len(radii)] * np.sin(2 * np.pi * i / count))
            for i in range(count)
        )
    )  # fmt: skip


def _cross(arm: float) -> np.ndarray:
    corners = [(1, -arm), (1, arm), (arm, arm)]  # of the right arm
    turns = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]
    return _polygon(*((a * x + b * y, c * x + d * y) for a, b, c, d in turns for x, y in corners))


# Radius by direction of the outline, and of a hole in the middle; the largest radius is 1.
FIGURES: dict[str, tuple[np.ndarray, float]] = {
    "disc": (np.ones(DIRECTIONS), 0.0),
    "ring": (np.ones(DIRECTIONS), 0.55),
    "triangle": (_regular(3), 0.0),
    "square": (_regular(4), 0.0),
    "bar": (_polygon((3, -1), (3, 1), (-3, 1), (-3, -1)), 0.0),
    "star": (_regular(5, 0.42), 0.0),
    "cross": (_cross(0.33), 0.0),
    "flower": ((1 + 0.4 * np.cos(6 * ANGLES)) / 1.4, 0.0),
}
OUTLINES = np.stack([outline for outline, _ in FIGURES.values()]).astype(np.float32)
HOLES = np.array([hole for _, hole in FIGURES.values()], np.float32)
