"""What the order of frames is worth to a network that reads clips of J-HMDB."""

from collections.abc import Callable

import jax
import numpy as np

from experiments.spatiotemporal.intervals import interval
from experiments.spatiotemporal.jhmdb_clips import LOOK, ActionReader, preprocess, read_frames, show

SEED = 0


def make_orders(time: int, count: int) -> dict[str, np.ndarray]:
    """Returns which frames are shown, `int[count, time]`, by name."""
    rng = np.random.default_rng(SEED)
    as_it_is = np.tile(np.arange(time), (count, 1))
    return {
        "as they are": as_it_is,
        "shuffled": rng.permuted(as_it_is, axis=1),
        "backwards": as_it_is[:, ::-1],
        "the middle one repeated": np.full((count, time), time // 2),
    }


def make_answer(cnn, reader: ActionReader) -> Callable:
    """Returns a function from the frames of a clip to the class that is answered."""

    @jax.jit
    def answer(pictures):
        logits = reader.classify(read_frames(cnn, pictures)[None])
        return jax.nn.softmax(logits).mean(1).argmax(-1)[0]

    return lambda frames: int(answer(preprocess(cnn, show(frames, LOOK))))


def measure_order(clips: list, answer: Callable) -> dict[str, list[float]]:
    """Returns how many clips are right, with interval, for orders of their frames.

    Frames are moved before anything is made of them: pictures of motion are of moved frames, too.
    """
    orders = make_orders(len(clips[0].frames()), len(clips))
    right: dict[str, list[bool]] = {name: [] for name in orders}
    for number, clip in enumerate(clips):
        frames = clip.frames()
        for name, order in orders.items():
            right[name].append(answer(frames[order[number]]) == clip.label)
    groups = np.array([clip.group for clip in clips])
    return {name: interval(np.array(each, float), groups) for name, each in right.items()}
