"""Drawn scenes: the same whoever draws them, and masks that are exactly what is seen."""

import jax
import numpy as np
import pytest

from jaxground.data.figures import ANGLES, FIGURES
from jaxground.data.scenes import Scenes, draw_dataset, draw_scenes

CROWDED = Scenes(
    side=48,
    attributes=("texture", "colour", "shape"),
    objects=(1, 4),
    distractors=(0, 2),
    overlap=0.6,
)


draw = jax.jit(draw_scenes, static_argnums=0)  # compiles once for each kind and number


@pytest.fixture(scope="module")
def drawn():
    """64 crowded scenes."""
    return jax.device_get(draw(CROWDED, np.arange(64), seed=0))


# All things apart and of one size, on one colour.
NEAT = Scenes(
    side=48,
    attributes=("colour", "shape"),
    objects=(4, 4),
    distractors=(0, 0),
    overlap=0.0,
    diameter=(0.3, 0.3),
    clutter=0.0,
)


@pytest.fixture(scope="module")
def neat():
    return jax.device_get(draw(NEAT, np.arange(32), seed=0))


def test_a_scene_depends_on_seed_and_index_alone(drawn):
    some = np.array([40, 3, 3])
    alone = draw(CROWDED, some, seed=0)
    for found, wanted in zip(alone, drawn, strict=True):
        # A compiler may round otherwise for another number of scenes: one grey level at most.
        assert np.abs(np.asarray(found, int) - wanted[some].astype(int)).max() <= 1
    other = np.asarray(draw(CROWDED, some, seed=1).images)
    assert (other != drawn.images[some]).any((1, 2, 3)).all()


def test_masks_are_disjoint_and_every_label_is_visible(drawn):
    assert drawn.images.dtype == np.uint8 and drawn.images.shape == (64, 48, 48, 3)
    assert drawn.masks.sum(1).max() == 1, "a pixel shows one thing"
    np.testing.assert_array_equal(drawn.masks.any((2, 3)), drawn.labels >= 0)
    counts = (drawn.labels >= 0).sum(1)
    assert counts.min() >= 1 and counts.max() == 4
    assert drawn.labels.max() < len(CROWDED.categories) == 4 * 6 * 8
    assert len(np.unique(drawn.labels)) > 60, "all kinds of things"


def test_pixels_of_a_mask_have_the_colours_of_their_category(neat):
    strongest = {"red": 0, "green": 1, "blue": 2}
    seen = 0
    for image, masks, labels in zip(*neat, strict=True):
        for mask, label in zip(masks, labels, strict=True):
            if label < 0:
                continue
            colours = np.unique(image[mask], axis=0)
            assert len(colours) <= 2, "of the thing and of its texture"
            channel = strongest.get(NEAT.categories[label].split()[0])
            if channel is not None:
                seen += 1
                assert (colours.argmax(1) == channel).all()
        outside = image[~masks.any(0)].astype(int)
        assert (outside == outside[0]).all(), "without clutter, the ground has one colour"
    assert seen > 10


def test_overlap_is_limited(neat):
    assert (neat.labels >= 0).sum() > 3 * 32
    for masks in neat.masks:
        centres = [np.argwhere(mask).mean(0) for mask in masks if mask.any()]
        for i, centre in enumerate(centres):
            # Discs of diameter 14.4; the middle of a triangle or star lies within a pixel of its.
            assert all(np.hypot(*(centre - other)) > 12.4 for other in centres[:i])


def test_size_of_the_shapes():
    areas = {
        "disc": np.pi,
        "ring": np.pi * (1 - 0.55**2),
        "triangle": 3 * np.sqrt(3) / 4,
        "square": 2.0,
        "bar": 4 * 3 / 10,  # sides in the ratio of 3, in a circle of radius 1
    }
    for name, area in areas.items():
        outline, hole = FIGURES[name]
        assert outline.max() == pytest.approx(1, abs=1e-3)
        angles = np.unwrap(np.append(ANGLES, ANGLES[:1]))
        slices = 0.5 * np.append(outline, outline[:1]) ** 2
        swept = np.sum((slices[1:] + slices[:-1]) / 2 * np.diff(angles))
        assert swept - np.pi * hole**2 == pytest.approx(area, rel=0.01)


def test_dataset():
    data = draw_dataset(CROWDED, count=5, seed=3)
    drawn = jax.device_get(draw(CROWDED, np.arange(64), seed=3))
    assert data.categories == CROWDED.categories and data.name == "scenes/48"
    assert len(data.examples) == 5 and data.class_indices is not None
    for i, example in enumerate(data.examples):
        assert example.key == f"scene-3-{i}" and example.size == (48, 48)
        difference = np.asarray(example.image(), int) - drawn.images[i].astype(int)
        assert np.abs(difference).max() <= 1
        for category in example.categories:
            (label,) = data.class_indices[category]
            union = drawn.masks[i][drawn.labels[i] == label].any(0)
            np.testing.assert_array_equal(example.mask(category), union)
        for instance in example.instances:
            rows, columns = np.nonzero(instance.mask(example.size))
            x0, y0, x1, y1 = instance.box
            assert (x0, y0) == (columns.min(), rows.min())
            assert (x1, y1) == (columns.max() + 1, rows.max() + 1)
    data.examples[0].image()[:] = 0
    assert data.examples[0].image().any(), "a picture is handed out as a copy"
    assert not draw_dataset(CROWDED, count=0).examples


@pytest.mark.parametrize(
    "wrong",
    [
        {"attributes": ()},
        {"attributes": ("size",)},
        {"objects": (0, 2)},
        {"objects": (3, 2)},
        {"distractors": (-1, 2)},
        {"attributes": ("colour",)},
        {"diameter": (0.0, 0.3)},
        {"diameter": (0.5, 1.3)},
        {"side": 3},
    ],
)
def test_what_cannot_be_drawn(wrong):
    with pytest.raises(ValueError, match=r"attributes|objects|distractors|diameters"):
        Scenes(**wrong)
