"""CompactCaptioner: the small captioner of videos that this project trained and ships."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.data.moving_scenes import MovingScenes
from jaxground.models.captioners import MeanPoolCaptioner
from jaxground.models.compact_lrcn import CONVOLUTIONS, FEATURES, FrameCNN
from jaxground.models.layers import Layers
from jaxground.models.network import Card

# What it was trained on. The mean of all frames is the same backwards: of two events that are each
# other's reverse there is one.
SCENES = MovingScenes(
    events=("moves right", "moves up", "grows", "appears"),
    objects=(1, 2),
    distractors=(0, 0),
    diameter=(0.35, 0.48),
)
NAMES = 48  # channels of conv4: as many as there are figures in a colour
EMBEDDING, UNITS = 48, 72


class NamingCNN(FrameCNN):
    """A `FrameCNN` that tells, besides where something is, what is anywhere in the frame.

    A fourth convolution has its maximum taken over all positions. Taps: conv1 (16x16), conv2,
    conv3, conv4 (8x8), fc, and features, which is fc and those maxima in a row.
    """

    def __init__(self, make: Layers):
        """Makes the layers."""
        super().__init__(make)
        self.conv4 = make.convolution(CONVOLUTIONS[-1][0], NAMES, 3, strides=1, padding=1)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Returns `[batch, 112]` features of `[batch, 32, 32, 3]` frames."""
        grid = self.grid(frames)
        names = tap(nnx.relu(self.conv4(grid)), "conv4").max((1, 2))
        return tap(jnp.concatenate([self.positions(grid), names], axis=-1), "features")


class CompactCaptioner(MeanPoolCaptioner):
    """A small CNN, the mean of all frames and two ReLU-LSTMs, that put moving scenes into words.

    231 thousand weights, 1.5 million multiply-adds a frame. Clips of any length.
    """

    card: Card

    def __init__(self, num_classes: int = 31, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Makes the layers; the classes are words."""
        super().__init__(
            NamingCNN(Layers(rngs, dtype)),
            "features",
            num_classes,
            embedding=EMBEDDING,
            units=UNITS,
            dtype=dtype,
            rngs=rngs,
        )

    @property
    def width(self) -> int:
        """Returns how many features a frame has."""
        return FEATURES + NAMES
