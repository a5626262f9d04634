"""What makes two data sets the same data: annotations and drawn pixels, every bit of them."""

from dataclasses import replace

import numpy as np

from jaxground.data import Dataset, Example, Instance
from jaxground.evaluation.identity import identify_data

TRIANGLE = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
CAT = Instance("cat", (0.0, 0.0, 4.0, 4.0), polygons=(TRIANGLE,))
PHOTO = Example("a.png", None, (5, 6), (CAT,), lambda: np.zeros((5, 6, 3), np.uint8))


def identity(example):
    return identify_data(Dataset("pets", [example], ("cat",)))["sha256"]


def test_the_same_data_are_the_same():
    again = replace(CAT, polygons=(TRIANGLE.copy(),))
    assert identity(replace(PHOTO, instances=(again,))) == identity(PHOTO)


def test_every_part_of_an_annotation_counts():
    others = [
        replace(CAT, polygons=(TRIANGLE * (1 + 1e-6),)),
        replace(CAT, polygons=()),
        replace(CAT, polygons=(TRIANGLE[:2], TRIANGLE[2:])),
        replace(CAT, runs=np.array([3, 2, 25])),
        replace(CAT, runs=np.array([3, 3, 24])),
        replace(CAT, box=(0.0, 0.0, 4.0, 3.0)),
        replace(CAT, difficult=True),
        replace(CAT, crowd=True),
    ]
    found = [identity(replace(PHOTO, instances=(other,))) for other in others]
    assert len({*found, identity(PHOTO)}) == len(others) + 1


def test_drawn_pixels_count():
    drawn = np.zeros((5, 6, 3), np.uint8)
    drawn[4, 5, 2] = 1
    assert identity(replace(PHOTO, draw=lambda: drawn)) != identity(PHOTO)
