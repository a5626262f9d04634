"""Mosaics: every cell shows a picture of the class it is said to show."""

import numpy as np
import pytest

from jaxground.data.mosaics import cell_masks, draw_dataset, draw_mosaics

LABELS = np.arange(40) % 7
# Each picture is its number, so that every cell tells which one it is.
IMAGES = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 5, 8, 3))


@pytest.mark.parametrize("grid", [1, 2])
def test_cells_show_their_class(grid):
    images, classes = draw_mosaics(IMAGES, LABELS, count=50, grid=grid, seed=1)
    assert images.shape == (50, grid * 5, grid * 8, 3) and images.dtype == np.uint8
    assert all(len(set(row)) == grid * grid for row in classes), "different classes"
    masks = cell_masks(grid, *images.shape[1:3])
    assert (masks.sum(0) == 1).all(), "the cells tile the mosaic"
    for cell, mask in enumerate(masks):
        shown = images[:, mask]
        assert (shown == shown[:, :1]).all(), "one picture"
        np.testing.assert_array_equal(LABELS[shown[:, 0, 0]], classes[:, cell])
    again = draw_mosaics(IMAGES, LABELS, count=50, grid=grid, seed=1)
    np.testing.assert_array_equal(images, again.images)
    assert (images != draw_mosaics(IMAGES, LABELS, count=50, grid=grid, seed=2).images).any()


def test_classes_are_drawn_alike_however_rare():
    labels = np.where(np.arange(40) < 2, 9, np.arange(40) % 3)
    images, classes = draw_mosaics(IMAGES, labels, count=600, grid=1)
    assert np.unique(classes).tolist() == [0, 1, 2, 9]
    assert np.unique(classes, return_counts=True)[1].min() > 110
    assert len(np.unique(images)) == 40, "every picture is used"


def test_as_data_set():
    names = [f"thing {i}" for i in range(7)]
    data = draw_dataset(IMAGES, LABELS, names, count=4, seed=5)
    images, classes = draw_mosaics(IMAGES, LABELS, count=4, seed=5)
    masks = cell_masks(2, 10, 16)
    for example, image, shown in zip(data.examples, images, classes, strict=True):
        np.testing.assert_array_equal(example.image(), image)
        assert example.categories == tuple(names[label] for label in shown)
        for label, mask in zip(shown, masks, strict=True):
            np.testing.assert_array_equal(example.mask(names[label]), mask)
    assert data.class_indices == {name: (i,) for i, name in enumerate(names)}
    assert draw_dataset(IMAGES, LABELS, names, count=0).examples == []


def test_what_cannot_be_tiled():
    with pytest.raises(ValueError, match="9 cells need as many classes, the labels have 7"):
        draw_mosaics(IMAGES, LABELS, count=1, grid=3)
    with pytest.raises(ValueError, match=r"40 images need as many labels, got shape \(39,\)"):
        draw_mosaics(IMAGES, LABELS[:-1], count=1)
    with pytest.raises(ValueError, match=r"there are 5 names, none for the labels \[5, 6\]"):
        draw_dataset(IMAGES, LABELS, list("abcde"), count=1)
    with pytest.raises(ValueError, match="two classes have one name"):
        draw_dataset(IMAGES, LABELS, ["a"] * 7, count=1)
    with pytest.raises(ValueError, match="8 bits, got float32"):
        draw_dataset(IMAGES.astype(np.float32), LABELS, list("abcdefg"), count=1)
