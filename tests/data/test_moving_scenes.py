"""Moving scenes: the truth that is told of them is what their pixels show."""

import numpy as np
import pytest

from jaxground.data.figures import FIGURES
from jaxground.data.moving_scenes import EVENTS, MovingScenes, draw_clips
from jaxground.data.scenes import COLOURS
from jaxground.data.sentences import VOCABULARY, describe_clips
from jaxground.data.shapes import mask_boxes

SCENES = MovingScenes(side=48, objects=(1, 3), distractors=(0, 2))
PLAIN = MovingScenes(side=48, objects=(1, 1), distractors=(0, 0), clutter=0)


@pytest.fixture(scope="module")
def clips():
    return draw_clips(SCENES, range(96))


@pytest.fixture(scope="module")
def plain():
    return draw_clips(PLAIN, range(96))


def test_a_clip_depends_on_seed_and_index_alone(clips):
    some = np.array([40, 3, 3])
    for found, wanted in zip(draw_clips(SCENES, some), clips, strict=True):
        np.testing.assert_array_equal(found, wanted[some])
    other = draw_clips(SCENES, some, seed=1)
    assert (other.frames != clips.frames[some]).any((1, 2, 3, 4)).all()
    assert draw_clips(SCENES, []).frames.shape == (0, 16, 48, 48, 3)


def test_the_actor_changes_in_the_frames_of_the_event_and_no_others(plain):
    actor = plain.masks[:, 0]
    changes = (plain.frames[:, 1:] != plain.frames[:, :-1]).any((2, 3, 4))
    time = np.arange(1, 16)
    during = (plain.times[:, :1] <= time) & (time < plain.times[:, 1:])
    assert not changes[~during].any()
    # A slow change may skip a frame where it is less than a pixel, but not the ends.
    assert changes[during].mean() > 0.95
    lasts = plain.times[:, 1] - plain.times[:, 0]
    assert lasts.min() == 4 and lasts.max() == 10
    assert plain.times.min() == 1 and plain.times.max() == 16
    np.testing.assert_array_equal((actor[:, 1:] != actor[:, :-1]).any((2, 3)), changes)


def test_every_event_is_what_it_is_called(plain):
    areas = plain.masks[:, 0].sum((2, 3))
    rows, columns = (plain.boxes[:, 0, :, i] + plain.boxes[:, 0, :, i + 2] for i in (1, 0))
    first, last = plain.times[:, 0] - 1, plain.times[:, 1] - 1
    clip = np.arange(96)
    seen = set()
    for i, event in zip(clip, plain.events, strict=True):
        before, after = (np.array([x[i, t[i]] for x in (rows, columns, areas)])
                         for t in (first, last))  # fmt: skip
        down, right, more = (after - before).tolist()
        name = PLAIN.events[event]
        seen.add(name)
        size = 48 * 2  # boxes were added up: twice the centre
        travel = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
        if name.startswith("moves"):
            wanted = travel[name.split()[1]]
            assert more == 0 and np.sign([down, right]).tolist() == [*wanted]
            assert 0.25 * size <= abs(down + right) <= 0.6 * size
        elif name in ("grows", "shrinks"):
            assert abs(down) <= 2 and abs(right) <= 2
            assert 2.5 < after[2] / before[2] < 6.5 or 2.5 < before[2] / after[2] < 6.5
            assert (more > 0) == (name == "grows")
        else:
            none, full = (before, after) if name == "appears" else (after, before)
            assert none[2] == 0 and full[2] > 10
            order = areas[i] if name == "appears" else areas[i, ::-1]
            assert (np.diff(order) >= 0).all()
    assert seen == set(EVENTS)


def test_no_set_of_frames_tells_an_event_from_its_opposite(plain):
    """Backwards, an event is its opposite, at times that are as likely."""
    starts, ends = plain.times.T
    backwards = np.stack([17 - ends, 17 - starts], 1)
    assert backwards.min() >= 1 and backwards.max() <= 16
    changed = (plain.masks[:, 0, 1:] != plain.masks[:, 0, :-1]).any((2, 3))[:, ::-1]
    time = np.arange(1, 16)
    assert not changed[(time < backwards[:, :1]) | (time >= backwards[:, 1:])].any()


def test_masks_are_disjoint_exact_and_boxed(clips, plain):
    assert clips.masks.sum(1).max() == 1, "a pixel shows one thing"
    np.testing.assert_array_equal(clips.boxes, mask_boxes(clips.masks))
    for clip, figure, time in [(0, 0, 3), (5, 1, 9), (70, 0, 15)]:
        rows, columns = np.nonzero(clips.masks[clip, figure, time])
        if len(rows):
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert clips.boxes[clip, figure, time].tolist() == [*box]
    present = clips.shapes >= 0
    np.testing.assert_array_equal(clips.masks.any((2, 3, 4)), present)
    np.testing.assert_array_equal(clips.colours >= 0, present)
    assert present[:, 0].all() and set(present.sum(1)) == {1, 2, 3}
    # Bystanders stand still, and nothing comes in front of them but by the rounding of a pixel.
    still = clips.masks[:, 1:].any(2)
    assert (clips.masks[:, 1:].sum(2) == 16)[still].mean() > 0.99
    # Where there is no figure the ground is grey; on a figure there is one colour.
    for i in range(8):
        painted = plain.frames[i][plain.masks[i, 0]]
        assert (painted == painted[0]).all() and np.ptp(painted[0].astype(int)) > 30
        assert np.ptp(plain.frames[i][~plain.masks[i, 0]].astype(int)) == 0, "no clutter"


def test_distractors_sway_and_are_in_no_mask():
    scenes = MovingScenes(side=48, objects=(1, 1), distractors=(2, 2), clutter=0)
    clips = draw_clips(scenes, range(24))
    rest = np.where(clips.masks[:, 0, ..., None], 0, clips.frames)
    ground = np.median(rest, (2, 3), keepdims=True)
    others = (rest != ground).any(-1) & ~clips.masks[:, 0]
    assert others.any((2, 3)).all(1).mean() > 0.9
    assert (others[:, 1:] != others[:, :-1]).any((1, 2, 3)).mean() > 0.9


def test_labels():
    scenes = MovingScenes(side=32, attributes=("colour", "shape", "event"), events=("grows",))
    clips = draw_clips(scenes, range(20))
    assert len(scenes.categories) == len(COLOURS) * len(FIGURES)
    for i in range(20):
        colour, shape = clips.colours[i, 0], clips.shapes[i, 0]
        name = f"{[*COLOURS][colour]} {[*FIGURES][shape]} grows"
        assert scenes.categories[clips.labels[i]] == name


def test_sentences_name_what_is_there(clips):
    sentences = describe_clips(clips, SCENES.events, seed=3)
    assert sentences == describe_clips(clips, SCENES.events, seed=3)
    firsts = {sentence.words[0] for sentence in sentences}
    assert firsts == {"a", "beside", "while"}
    for i, (words, objects, event) in enumerate(sentences):
        assert set(words) <= set(VOCABULARY) and len(words) == len(objects)
        assert " ".join(words[slice(*event)]) == SCENES.events[clips.events[i]]
        assert set(objects[slice(*event)]) == {0}
        figures = np.flatnonzero(clips.shapes[i] >= 0).tolist()
        assert set(objects) - {-1} == set(figures)
        names = []
        for figure in figures:
            colour, shape = clips.colours[i, figure], clips.shapes[i, figure]
            names.append((colour, shape))
            named = [w for w, o in zip(words, objects, strict=True) if o == figure]
            assert named[:3] == ["a", [*COLOURS][colour], [*FIGURES][shape]]
        assert len(set(names)) == len(names), "a name means one figure"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attributes": ("size",)}, "attributes are some of colour, shape, event"),
        ({"events": ("flies",)}, "events are some of moves left"),
        ({"duration": (4, 16)}, "longer than it: frames=16"),
        ({"objects": (0, 1)}, "objects go from at least 1"),
        ({"objects": (1, 49)}, "48 kinds of figures, not 49"),
        ({"diameter": (0.3, 0.9)}, "no room to move"),
    ],
)
def test_what_cannot_be_drawn(wrong, message):
    with pytest.raises(ValueError, match=message):
        MovingScenes(**wrong)
