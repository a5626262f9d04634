"""Where, on test clips of J-HMDB: table 7.1 of the thesis, and where and when at once.

Asked for is what the clip shows, at the last step. Does a map's peak lie on the actor: within 15
pixels of the actor's box, as in the thesis, or on the very pixels of the actor? (15 pixels of
frames of 320 x 240, as UCF101's are; ours are smaller, and so is the tolerance.)
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spatiotemporal.explainers import make_explainers
from experiments.spatiotemporal.jhmdb_clips import LOOK, preprocess, read_frames, show
from jaxground import maps, metrics
from jaxground.data.jhmdb import ActorClip

TAP = "pool5"  # of SqueezeNet's card
TOLERANCE = 15 / 320  # of the width
TABLE = "EB by frame", "EB-R", "cEB by frame", "cEB-R", "BP by frame", "BP-R"
BOTH = "cEB-R", "EB-R", "cEB by frame", "BP-R"


def make_program(networks: tuple, names: Sequence[str]) -> Callable:
    """Returns a compiled function from videos and targets to maps by name.

    Args:
      networks: SqueezeNet, the recurrent network and the frame network.
      names: Of `explainers.make_explainers`.
    """
    cnn, reader, frame_reader = networks

    def features(frames):
        return read_frames(cnn, frames)

    def classify_frames(frames):
        return frame_reader.classify(features(frames)[:, None])[:, 0]

    known = make_explainers(features, reader.classify, classify_frames, at=TAP)
    return jax.jit(lambda video, targets: {n: known[n](video, targets)[0] for n in names})


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Returns the pixels of each mask's box, `bool[..., h, w]`."""

    def between(any_of):
        return (
            np.maximum.accumulate(any_of, -1)
            & np.maximum.accumulate(any_of[..., ::-1], -1)[..., ::-1]
        )

    return between(masks.any(-1))[..., :, None] & between(masks.any(-2))[..., None, :]


@functools.partial(jax.jit, static_argnames="tolerance")
def play(found, masks, *, tolerance: int):
    """Returns the pointing game of a video's maps at the masks' resolution."""
    return metrics.video_pointing_game(
        maps.resize(found, masks.shape[-2:]), masks, tolerance=tolerance
    )


def difference(frames: np.ndarray) -> np.ndarray:
    """Returns `float32[time, h, w]`, how much each pixel changed since the frame before.

    Of the first frame, how much it will change until the next.
    """
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).max(-1)
    return np.concatenate([change[:1], change])


def without_network(shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Returns maps that point to the centre, and to a random pixel, of frames `[time, h, w]`."""
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) for n in shape[1:])
    centre = np.broadcast_to(-np.hypot(rows[:, None], columns), shape).astype(np.float32)
    noise = np.random.default_rng(seed).random(shape, np.float32)
    return {"centre": centre, "chance": noise}


def measure_clip(program: Callable, cnn, clip: ActorClip, seed: int) -> dict[str, dict]:
    """Returns the share of frames in which each method hits "box" and "pixels"."""
    frames = clip.frames()
    size = frames.shape[1], frames.shape[2]
    masks = clip.masks(size)
    video = jnp.asarray(preprocess(cnn, show(frames, LOOK)))[None]
    found = {name: each[0] for name, each in program(video, jnp.array([clip.label])).items()}
    found |= {"frame difference": difference(frames), **without_network(frames.shape[:3], seed)}
    near = round(TOLERANCE * size[1])
    return {
        name: {
            "box": float(play(each, boxes_of(masks), tolerance=near).mean),
            "pixels": float(play(each, masks, tolerance=0).mean),
        }
        for name, each in found.items()
    }


def measure_both(program: Callable, cnn, clip: ActorClip, other: ActorClip, first: bool, seed: int):
    """Returns whether the one peak of a spliced clip's maps lies on the actor who is asked for.

    Half of the clip's frames are every second one of the action, first or last, and half those of
    another. "where and when" is the peak over all frames, on pixels; "when", in the right half.
    """
    halves = [each.frames() for each in ((clip, other) if first else (other, clip))]
    # Each half by itself: the cut is no motion.
    pictures = np.concatenate([show(half, LOOK)[::2] for half in halves])
    changes = np.concatenate([difference(half[::2]) for half in halves])
    size = changes.shape[1], changes.shape[2]
    masks = clip.masks(size)[::2]
    nothing = np.zeros_like(masks)
    masks = np.concatenate([masks, nothing] if first else [nothing, masks])
    video = jnp.asarray(preprocess(cnn, pictures))[None]
    found = {name: each[0] for name, each in program(video, jnp.array([clip.label])).items()}
    found["frame difference"] = changes
    found["chance"] = without_network(changes.shape, seed)["chance"]
    half = np.broadcast_to(masks.any((1, 2))[:, None, None], masks.shape)
    return {
        name: {
            "when": float(play(each, half, tolerance=0).peak),
            "where and when": float(play(each, masks, tolerance=0).peak),
        }
        for name, each in found.items()
    }
