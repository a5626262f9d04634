"""Masks: against arithmetic by pixel, and strings written by COCO's own tools."""

import numpy as np
import pytest

from jaxground.data.annotations import Example, Instance
from jaxground.data.shapes import (
    check_polygon,
    decode_runs,
    decompress_runs,
    encode_runs,
    fill_box,
    fill_polygon,
)


def inside(polygon, size):
    """Even-odd rule by the sum of one ray per pixel centre, in plain Python."""
    mask = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
                if (y0 <= y) != (y1 <= y):
                    mask[row, column] ^= x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return mask


@pytest.mark.parametrize("seed", range(6))
def test_polygon_holds_the_pixels_whose_centre_it_holds(seed):
    rng = np.random.default_rng(seed)
    # Reaches over every border, crosses itself, and has vertices on centres and on lines.
    polygon = np.round(rng.uniform(-6, 22, (rng.integers(3, 9), 2)) * 2) / 2
    filled = fill_polygon(np.zeros((11, 15), bool), polygon)
    np.testing.assert_array_equal(filled, inside(polygon, (11, 15)))


def test_polygons_that_share_an_edge_share_no_pixel():
    left = np.array([[0, 0], [7.5, 0], [3.5, 9], [0, 9]])
    right = np.array([[7.5, 0], [12, 0], [12, 9], [3.5, 9]])
    masks = [fill_polygon(np.zeros((9, 12), bool), polygon) for polygon in (left, right)]
    assert (np.sum(masks, axis=0) == 1).all()


def test_polygon_without_pixels():
    for polygon in (np.zeros((0, 2)), np.ones((1, 2)), np.array([[1, 1], [8, 8]]), [[0, 0]] * 9):
        assert not fill_polygon(np.zeros((9, 9), bool), np.array(polygon)).any()
    far = np.array([[-1e30, -1e30], [1e30, -1e30], [1e30, 1e30], [-1e30, 1e30]])
    assert fill_polygon(np.zeros((3, 4), bool), far).all(), "a polygon may cover everything"


def test_a_box_never_vanishes():
    for box, pixel in [
        ((2.1, 1.2, 2.3, 1.4), (1, 2)),
        ((4.0, 3.0, 4.0, 3.0), (2, 3)),  # a point on the far corner
        ((0.0, 0.0, 0.0, 0.0), (0, 0)),
    ]:
        mask = fill_box(np.zeros((3, 4), bool), box)
        assert np.argwhere(mask).tolist() == [list(pixel)]


# Written by pycocotools 2.0 from the masks beside them.
COMPRESSED = (
    "_d0;j06L2M4M2N2N2O0O2N2O000O2O00000000000000000001N10001N2N101N2N2N3L3N4J_8JjG0000000e8"
)
NOISE = """\
.###.......
#.#.#..####
...#.....##
..##..#.#.#
#.#.#..#.##
##.#####.#.
#.##..#.##.
..#.#..#...
#...#...#.."""


def test_run_lengths_of_coco():
    y, x = np.mgrid[:40, :70]
    discs = ((y - 20) ** 2 + (x - 33) ** 2 < 18**2) | ((y - 5) ** 2 + (x - 60) ** 2 < 9)
    runs = decompress_runs(COMPRESSED)
    np.testing.assert_array_equal(decode_runs(runs, (40, 70)), discs)
    np.testing.assert_array_equal(encode_runs(discs), runs)
    noise = np.array([[character == "#" for character in line] for line in NOISE.split()])
    runs = decompress_runs("1122OO3OO1N0000O01002OO1O04O10K12OO1OO10O010O00101211")
    np.testing.assert_array_equal(decode_runs(runs, noise.shape), noise)


@pytest.mark.parametrize("fill", [0, 1])
def test_runs_of_one_colour(fill):
    mask = np.full((3, 5), bool(fill))
    np.testing.assert_array_equal(decode_runs(encode_runs(mask), (3, 5)), mask)


def test_broken_runs():
    for text in ("1122OO3o", "11 2", "é", "oooooooooooooooooooo0"):
        with pytest.raises(ValueError, match="compressed run lengths"):
            decompress_runs(text)
    for runs in ([3, 2], [-1, 16], [2**62, 2**62, 2**62, 2**62, 15]):
        with pytest.raises(ValueError, match="of an image of 3 x 5"):
            decode_runs(np.array(runs), (3, 5))


def test_masks_of_instances_and_categories():
    size = (6, 8)
    square = np.array([[1, 1], [3, 1], [3, 3], [1, 3]], np.float32)
    thin = np.array([[5.1, 1], [5.2, 1], [5.2, 4]], np.float32)
    runs = encode_runs(np.eye(6, 8, dtype=bool))
    box = (0.0, 0.0, 8.0, 6.0)
    two = Instance("dog", box, (square, square + np.array([3, 2])))
    assert two.mask(size).sum() == 8, "the union of its polygons, not the box"
    assert Instance("dog", (5.1, 1.0, 5.2, 4.0), (thin,)).mask(size).sum() == 3
    assert Instance("dog", box, (square,), runs).mask(size).sum() == 6, "runs go before polygons"
    cat = Instance("cat", (0.0, 0.0, 1.0, 1.0), difficult=True)
    dogs = [two, Instance("dog", box, runs=runs, crowd=True)]
    example = Example("a.jpg", None, size, (cat, *dogs))
    assert example.categories == ("cat", "dog")
    assert example.mask("dog").sum() == 8 + 6 - 3, "they share the pixels 1,1, 2,2 and 4,4"
    assert example.mask("cat").sum() == 1
    assert example.mask("bird").shape == size and not example.mask("bird").any()


def test_a_polygon_without_bound_is_refused_and_fine_outlines_are_not():
    size = 40, 60
    zigzag = np.stack([np.linspace(0, 60, 500), np.arange(500) % 2 * 40.0], axis=1)
    with pytest.raises(ValueError, match="500 vertices crosses rows 20,000 times"):
        check_polygon(zigzag, size)
    check_polygon(zigzag[:240], size)  # four times as often as there are pixels
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = np.stack([30 + 15 * np.cos(angles), 20 + 15 * np.sin(angles)], axis=1)
    check_polygon(circle, size)
    check_polygon(np.zeros((0, 2)), size)
