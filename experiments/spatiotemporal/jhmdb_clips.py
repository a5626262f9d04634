"""Clips of J-HMDB as networks read them, and the networks that read them.

The CNN is SqueezeNet as it was trained on ImageNet. It looks at the frames as they are, or at
pictures in which what moves stands out. What it makes of one, the mean and the maximum over
positions of each channel of its last fire module, is computed once: features of a clip as it is
and of its mirror image. An LSTM reads them, and how much each changed since the last frame.
"""

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from safetensors.numpy import load_file

from experiments.training.records import claim
from jaxground import models
from jaxground.core import split
from jaxground.data.jhmdb import ActorClip, read_jhmdb
from jaxground.models.layers import Layers
from jaxground.models.recurrent import LSTM, uniform
from jaxground.weights import sha256

DATA = Path(os.environ.get("JAXGROUND_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
CLIPS = DATA / "jhmdb12" / "jhmdb12.npz"
WEIGHTS = DATA / "weights" / "squeezenet1_1.safetensors"
LAST, WIDTH = "fire9", 1024
UNITS = 64
REMEMBER = 2.0  # bias of the forget gate at the start: an LSTM that forgets sees two frames
Kind = Literal["relu", "tanh", "frame"]
Look = Literal["frames", "motion"]
LOOK: Look = "motion"  # of the networks that are explained
GAIN = 2.0  # of motion, beside frames that are faded by half


class ActionReader(nnx.Module):
    """Says at every frame which action is done: from that frame alone, or with all before it.

    `features` are of frames, `classify` takes features of clips to logits at every step, as
    `spatiotemporal_grounding` wants its two halves. Both are positive, as Excitation Backprop
    wants its activations.
    """

    def __init__(self, kind: Kind, classes: int, *, rngs: nnx.Rngs):
        """Makes the layers after the CNN.

        Args:
          kind: The activation of the LSTM, "relu" or "tanh", or "frame": no LSTM, no memory.
          classes: How many.
          rngs: Where the weights are drawn from.
        """
        make = Layers(rngs, jnp.float32)
        if kind == "frame":
            self.lstm = None
        else:
            small = uniform(0.01)  # as in Caffe: larger ones learn the training clips by heart
            self.lstm = LSTM(2 * WIDTH, UNITS, activation=kind, kernel_init=small, rngs=rngs)
            bias = self.lstm.bias[...].at[UNITS : 2 * UNITS].set(REMEMBER)
            self.lstm.bias[...] = bias
        self.classifier = make.classifier(WIDTH if kind == "frame" else UNITS, classes)

    @property
    def reading(self) -> Any:
        """Returns the layer that reads the inputs: it has `kernel` and `bias`."""
        return self.classifier if self.lstm is None else self.lstm

    def inputs(self, features: Array) -> Array:
        """Returns what the first layer reads: features, and how much each of them changed."""
        if self.lstm is None:
            return features
        before = jnp.concatenate([features[:, :1], features[:, :-1]], 1)
        change = jax.nn.relu(features - before) + jax.nn.relu(before - features)
        return jnp.concatenate([features, change], -1)

    def answer(self, inputs: Array, keep: Array | float = 1) -> Array:
        """Returns logits of inputs, with factors `keep` on what the LSTM says to the classifier."""
        return self.classifier(inputs if self.lstm is None else self.lstm(inputs) * keep)

    def classify(self, features: Array) -> Array:
        """Returns logits `[batch, time, classes]` of features `[batch, time, width]`."""
        return self.answer(self.inputs(features))

    def fold(self, mean: Array, deviation: Array) -> None:
        """Makes a network that was trained on standardised inputs one that reads them as they are.

        Excitation Backprop wants inputs that are not negative, and does not see biases.
        """
        kernel, bias = self.reading.kernel, self.reading.bias
        kernel[...] = kernel[...] / deviation[:, None]
        bias[...] = bias[...] - mean @ kernel[...]


def read_frames(cnn, frames: Array) -> Array:
    """Returns features `[n, width]` of preprocessed frames: each channel's mean and maximum."""
    hidden = split(cnn, frames, at=LAST).hidden
    return jnp.concatenate([hidden.mean((1, 2)), hidden.max((1, 2))], -1)


class Features(NamedTuple):
    """What SqueezeNet makes of the clips."""

    values: np.ndarray  # float32[clips, 2, time, width], as they are and mirrored
    labels: np.ndarray  # int[clips]
    groups: np.ndarray  # str[clips], their source videos
    is_test: np.ndarray  # bool[clips]


def make_cnn():
    """Returns SqueezeNet with its weights from ImageNet."""
    return models.create("squeezenet1_1", WEIGHTS)


def read_clips(limit: int | None = None) -> tuple[list[ActorClip], tuple[str, ...]]:
    """Returns the clips, with a limit some of all classes and of both parts, and their classes."""
    clips, classes = read_jhmdb(CLIPS)
    return (clips if limit is None else clips[:: len(clips) // limit][:limit]), classes


def show(frames: np.ndarray, look: Look) -> np.ndarray:
    """Returns the pictures `uint8[time, h, w, 3]` that SqueezeNet looks at, of a clip's frames.

    "motion" is the frame, half faded to grey, with what changes from the frame before to the one
    after. Who moves has a light edge and a dark one, and what stands still is still seen.
    """
    if look == "frames":
        return frames
    padded = np.pad(frames.astype(np.float32), ((1, 1), (0, 0), (0, 0), (0, 0)), mode="edge")
    faded = (padded[1:-1] + 128) / 2
    return np.clip(faded + GAIN * (padded[2:] - padded[:-2]), 0, 255).astype(np.uint8)


def preprocess(cnn, pictures: np.ndarray) -> np.ndarray:
    """Returns whole pictures as SqueezeNet reads them, their shorter side 224 pixels."""
    return cnn.card.preprocess(pictures, crop=False)


def compute_features(clips: list[ActorClip], look: Look, folder: Path) -> Features:
    """Returns the features of clips, from `folder` where they were computed before.

    Raises:
      ValueError: The folder has those of other clips, weights or pictures.
    """
    recipe = {"clips": len(clips), "archive": sha256(CLIPS), "weights": sha256(WEIGHTS)}
    claim(folder, recipe | {"gain": GAIN})
    path = folder / f"{look}.npy"
    if not path.exists():
        cnn = make_cnn()
        read = jax.jit(lambda frames: read_frames(cnn, frames))
        rows = []
        for clip in clips:
            pictures = show(clip.frames(), look)
            both = [read(preprocess(cnn, each)) for each in (pictures, pictures[:, :, ::-1])]
            rows.append(np.stack(both).astype(np.float16))
        beside = path.with_suffix(".part.npy")
        np.save(beside, np.stack(rows))
        os.replace(beside, path)
    return Features(
        np.load(path).astype(np.float32),
        np.array([each.label for each in clips]),
        np.array([each.group for each in clips]),
        np.array([each.is_test for each in clips]),
    )


def split_sources(labels: np.ndarray, groups: np.ndarray, parts: int) -> np.ndarray:
    """Returns which of some parts each clip belongs to, `int[clips]`, whole source videos each.

    Of each class the videos with most clips go first, each to the part with the fewest of it.
    """
    chosen = np.full(len(labels), -1)
    for label in np.unique(labels):
        new = (labels == label) & (chosen < 0)  # some videos have clips of two classes
        videos, sizes = np.unique(groups[new], return_counts=True)
        for video in videos[np.argsort(-sizes, kind="stable")]:
            filled = [((labels == label) & (chosen == part)).sum() for part in range(parts)]
            chosen[groups == video] = np.argmin(filled)
    return chosen


def load_reader(path: Path, kind: Kind, classes: int) -> ActionReader:
    """Returns a network that `train_jhmdb` has written."""
    reader, arrays = ActionReader(kind, classes, rngs=nnx.Rngs(0)), load_file(path)
    flat = nnx.to_flat_state(nnx.state(reader))
    filled = [(path, v.replace(jnp.asarray(arrays[".".join(map(str, path))]))) for path, v in flat]
    nnx.update(reader, nnx.from_flat_state(filled))
    return reader
