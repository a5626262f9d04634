"""The experiments on J-HMDB, on clips and networks of a few numbers."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import save_file

from experiments.spatiotemporal import (
    jhmdb_clips,
    jhmdb_order,
    jhmdb_space,
    jhmdb_time,
    train_jhmdb,
)
from experiments.spatiotemporal.jhmdb_clips import ActionReader, Features, split_sources
from experiments.spatiotemporal.jhmdb_time import Signals
from experiments.training import loop

WIDTH, TIME, CLASSES = 6, 4, 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(jhmdb_clips, "WIDTH", WIDTH)
    for module in (jhmdb_clips, train_jhmdb):
        monkeypatch.setattr(module, "UNITS", 16)


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    values = rng.random((24, 2, TIME, WIDTH), np.float32)
    groups = np.array([f"video {i // 2}" for i in range(24)])
    return Features(values, np.arange(24) // 2 % CLASSES, groups, np.arange(24) >= 18)


def test_parts_share_no_video_and_all_classes():
    rng = np.random.default_rng(0)
    videos = rng.integers(0, 40, 200)
    labels = np.where(videos == 7, rng.integers(0, 4, 200), videos % 4)  # one video of all classes
    parts = split_sources(labels, videos, 3)
    assert all(len(set(parts[videos == video])) == 1 for video in videos)
    counts = np.array([np.bincount(parts[labels == each], minlength=3) for each in range(4)])
    assert (np.ptp(counts, 1) <= 12).all() and set(parts) == {0, 1, 2}


def test_a_folded_network_reads_of_inputs_what_it_read_of_standardised_ones(features):
    reader = ActionReader("relu", CLASSES, rngs=nnx.Rngs(0))
    inputs = np.asarray(reader.inputs(features.values[:, 0]))
    assert (inputs >= 0).all(), "as Excitation Backprop wants them"
    mean, deviation = inputs.mean((0, 1)), inputs.std((0, 1)) + 0.1

    def read(inputs):
        return inputs @ np.asarray(reader.lstm.kernel[...]) + np.asarray(reader.lstm.bias[...])

    before = read((inputs - mean) / deviation)
    reader.fold(mean, deviation)
    np.testing.assert_allclose(read(inputs), before, atol=1e-5)


def test_what_changed_is_read_whether_it_rose_or_fell():
    reader = ActionReader("relu", CLASSES, rngs=nnx.Rngs(0))
    features = jnp.array([[[1.0] * WIDTH, [3.0] * WIDTH, [2.5] * WIDTH]])
    change = reader.inputs(features)[0, :, WIDTH:]
    np.testing.assert_allclose(change[:, 0], [0, 2, 0.5])


def test_networks_learn_from_no_label_of_what_they_are_measured_on(features):
    setting = train_jhmdb.Setting("frame", 0.5, 0.01)
    graph, weights = nnx.split(ActionReader("frame", CLASSES, rngs=nnx.Rngs(0)))
    optimiser = optax.sgd(0.1)
    key = jax.random.key_data(jax.random.key(0))
    step = jax.jit(train_jhmdb.make_step(graph, setting, optimiser, np.float32(0), np.float32(1)))
    parts = np.arange(24) // 2 % 4

    def learn(labels, held):
        state = loop.TrainState(0, weights, optimiser.init(weights), key, held)
        state, _ = step(state, features.values, np.stack([labels, parts], 1))
        return state.weights["classifier"]["kernel"][...]

    others = np.where(parts == 2, (features.labels + 1) % CLASSES, features.labels)
    np.testing.assert_array_equal(learn(features.labels, 2), learn(others, 2))
    assert not np.allclose(learn(features.labels, 1), learn(others, 1)), "learnt from there"


def test_a_training_says_something_of_all_clips_and_goes_on_with_nothing_else(tmp_path, features):
    setting = train_jhmdb.Setting("frame", 0.5, 0.01, steps=10)
    parts = np.where(features.is_test, train_jhmdb.PARTS, np.arange(24) // 2 % 3)
    held = [train_jhmdb.PARTS, train_jhmdb.PARTS]
    said, weights = train_jhmdb.train(setting, features, parts, held, tmp_path)
    assert said.shape == (2, 24, TIME, CLASSES) and np.isfinite(said).all()
    assert not np.allclose(said[0], said[1]), "two seeds"
    arrays = {".".join(map(str, p)): v[...][1] for p, v in nnx.to_flat_state(weights)}
    save_file(arrays, tmp_path / "frame.safetensors")
    reader = jhmdb_clips.load_reader(tmp_path / "frame.safetensors", "frame", CLASSES)
    again = nnx.softmax(reader.classify(features.values[:, 0]))
    np.testing.assert_allclose(again, said[1], atol=1e-6)
    with pytest.raises(ValueError, match="another recipe: held"):
        train_jhmdb.train(setting, features, parts, [1, 2], tmp_path)


def test_windows_are_found_by_signals_that_know_them_and_not_by_flat_ones(features):
    values = np.broadcast_to(features.labels[:, None, None, None], features.values.shape)
    known = features._replace(values=values.astype(np.float32))

    def signals(features, targets):
        inside = (features[..., 0] == targets[:, None]).astype(np.float32)
        of = {"cEB-R": 2 * inside - 1, "thresholded probability": 0 * inside}
        return Signals(of, np.ones(len(targets)))

    scores, means, groups = jhmdb_time.measure_place(known, signals, 10, 3)
    assert len(groups) == features.is_test.sum()
    for name, share in [("cEB-R", 1), ("thresholded probability", 0)]:
        for metric in ("known", "unknown", "pointing"):
            assert scores[name][metric].mean() == share
        assert means[name] == {"known": 100 * share, "unknown": 100 * share}
    assert scores["chance"]["pointing"].mean() == pytest.approx(0.3)
    assert scores["chance"]["unknown"].mean() == 0  # all ten frames overlap by 0.3


def test_spliced_clips_are_grouped_by_the_source_of_the_action(features):
    numbers = np.arange(24, dtype=np.float32)[:, None, None, None]
    known = features._replace(values=np.broadcast_to(numbers, features.values.shape))
    spliced = jhmdb_time.splice(known, length=10, inside=3)
    for (start, _), frames, group in zip(
        spliced.plan.times, spliced.features, spliced.groups, strict=True
    ):
        assert group == features.groups[int(frames[int(start), 0])]


def test_chance_is_the_share_of_windows_that_overlap_by_half():
    by_hand = [2 / 8, 3 / 8]  # of [0, 3): starts 0, 1; of [4, 7): 3, 4, 5
    np.testing.assert_allclose(jhmdb_time.chance(np.array([0, 4]), 10, 3), by_hand)


def test_orders_of_frames_reach_a_network_that_looks_for_them():
    """Frames are their numbers; each network answers rightly to one order alone."""

    class Numbered(Clip):
        group = "video"

        def frames(self):
            return np.arange(6)

    def right_if(known):
        return lambda frames: int(not known(frames))

    def found(known):
        measured = jhmdb_order.measure_order([Numbered()] * 4, right_if(known))
        return {name: mean for name, (mean, *_) in measured.items()}

    steps = lambda frames: np.diff(frames).tolist()  # noqa: E731
    names = "as they are", "shuffled", "backwards", "the middle one repeated"
    for number, known in enumerate(
        [
            lambda frames: steps(frames) == [1] * 5,
            lambda frames: len({abs(each) for each in steps(frames)}) > 1,
            lambda frames: steps(frames) == [-1] * 5,
            lambda frames: frames.tolist() == [3] * 6,
        ]
    ):
        assert found(known) == {name: 100.0 * (name == names[number]) for name in names}
    orders = jhmdb_order.make_orders(6, 4)["shuffled"]
    assert (np.sort(orders, 1) == np.arange(6)).all() and len({*map(tuple, orders)}) > 1


def test_signals_are_those_of_the_paper(features):
    readers = [ActionReader(kind, CLASSES, rngs=nnx.Rngs(1)) for kind in ("relu", "frame")]
    readers[0].lstm.kernel[...] *= 50
    found = jhmdb_time.make_signals(*readers)(features.values[:3, 0], features.labels[:3])
    np.testing.assert_allclose(found.of["cEB-R"].sum(1), 0, atol=1e-5)
    np.testing.assert_allclose(found.of["EB-R"].sum(1), 1, atol=1e-5)
    assert set(found.of["thresholded probability"].ravel()) <= {-1, 1}
    both = found.of["probability + cEB-R"]
    assert both.min() >= 0 and both.max() <= 2


class Clip:
    """A clip of one moving actor, three pixels wide, on nothing."""

    label, key = 0, "clip"

    def frames(self):
        return np.repeat(np.uint8(255) * self.masks()[..., None], 3, -1)

    def masks(self, size=None):
        masks = np.zeros((4, 20, 40), bool)
        for time in range(4):
            masks[time, 10:13, 5 + 4 * time :][:, :3] = True
        return masks


class Other(Clip):
    def frames(self):
        return np.zeros((4, 20, 40, 3), np.uint8)


def test_in_pictures_of_motion_what_moves_stands_out_and_the_rest_is_faded():
    frames = Clip().frames()
    assert jhmdb_clips.show(frames, "frames") is frames
    pictures = jhmdb_clips.show(frames, "motion")
    still = np.repeat(frames[:1], 4, 0)
    faded = jhmdb_clips.show(still, "motion")
    assert set(faded.ravel()) == {64, 191}, "half of black and of white, on grey"
    where = Clip().masks()
    assert (pictures[1][where[2]] == 255).all() and (pictures[1][where[0]] == 0).all()
    away = ~where.any(0)
    np.testing.assert_array_equal(pictures[:, away], faded[:, away])
    mirrored = jhmdb_clips.show(frames[:, :, ::-1], "motion")
    np.testing.assert_array_equal(mirrored, pictures[:, :, ::-1])


def test_a_clip_is_read_from_any_frame_on_faster_or_slower_and_back_from_its_end():
    features = 100 * jnp.arange(200)[:, None, None] + jnp.arange(16)[:, None]
    found = np.asarray(jax.jit(train_jhmdb.replay)(jax.random.key(0), features))[..., 0]
    clips, times = found // 100, found % 100
    assert (clips == np.arange(200)[:, None]).all()
    assert set(times[:, 0]) == set(range(16))
    steps = np.diff(times, axis=1)
    assert set(np.abs(steps).ravel()) == {0, 1, 2}, "half to one and a half frames, rounded down"
    turns = (times[:, 1:-1] >= 14) | (times[:, 1:-1] <= 1)
    assert turns[steps[:, 1:] * steps[:, :-1] < 0].all(), "turned elsewhere than at an end"


def test_maps_that_show_the_actor_point_to_it_and_others_do_not(monkeypatch):
    monkeypatch.setattr(jhmdb_space, "LOOK", "frames")
    card = types.SimpleNamespace(preprocess=lambda x, crop: x / np.float32(255))
    cnn = types.SimpleNamespace(card=card)

    def program(video, targets):
        shown = video.mean(-1) * (1 + jnp.arange(40) / 400)  # the peak is the last column
        return {"right": shown, "wrong": jnp.roll(shown, 20, 3), "near": jnp.roll(shown, -3, 3)}

    found = jhmdb_space.measure_clip(program, cnn, Clip(), 0)
    assert found["right"] == {"box": 1, "pixels": 1} and found["wrong"] == {"box": 0, "pixels": 0}
    assert found["near"] == {"box": 1, "pixels": 0}, "one pixel away"
    for first in (True, False):
        both = jhmdb_space.measure_both(program, cnn, Clip(), Other(), first, 0)
        assert both["right"] == {"when": 1, "where and when": 1}
        assert both["wrong"] == {"when": 1, "where and when": 0}


def test_the_difference_of_frames_points_to_what_moves_in_every_frame():
    clip = Clip()
    found = jhmdb_space.difference(clip.frames())
    assert found.shape == (4, 20, 40)
    moved = clip.masks()[1:] | clip.masks()[:-1]
    np.testing.assert_array_equal(found[1:] > 0, moved)
    np.testing.assert_array_equal(found[0], found[1])


def test_a_cut_between_two_clips_is_no_motion():
    seen = []

    def program(video, targets):
        seen.append(np.asarray(video))
        return {"some": video.mean(-1)}

    card = types.SimpleNamespace(preprocess=lambda x, crop: x / np.float32(255))
    cnn = types.SimpleNamespace(card=card)
    jhmdb_space.measure_both(program, cnn, Clip(), Other(), True, 0)
    pictures = [jhmdb_clips.show(each.frames(), "motion")[::2] for each in (Clip(), Other())]
    np.testing.assert_allclose(seen[0][0], np.concatenate(pictures) / 255, rtol=1e-6)


def test_boxes_are_those_of_all_pixels():
    masks = np.zeros((2, 6, 7), bool)
    masks[0, 1, 2] = masks[0, 4, 5] = True
    boxes = jhmdb_space.boxes_of(masks)
    assert boxes[0, 1:5, 2:6].all() and boxes[0].sum() == 16 and not boxes[1].any()
