"""CompactLRCN: the small network for videos that this project trained and ships."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers
from jaxground.models.network import Card, checked
from jaxground.models.recurrent import LRCN

# Channels, size and stride of the convolutions; strides in place of pooling, whose gradient takes
# most of the time on a CPU.
CONVOLUTIONS = (16, 5, 2), (24, 3, 2), (24, 3, 1)
SIDE = 32  # pixels of a frame; positions are told apart, so that frames have one size
FEATURES, UNITS = 64, 96


class FrameCNN(nnx.Module):
    """Three convolutions and a hidden linear map of all positions, for 32x32 frames.

    Taps: conv1 (16x16), conv2, conv3 (8x8) and fc, all after the ReLU.
    """

    def __init__(self, make: Layers):
        """Makes the layers."""
        inputs = 3
        for i, (width, size, strides) in enumerate(CONVOLUTIONS, 1):
            convolution = make.convolution(inputs, width, size, strides=strides, padding=size // 2)
            setattr(self, f"conv{i}", convolution)
            inputs = width
        self.fc = make.linear((SIDE // 4) ** 2 * inputs, FEATURES)

    def grid(self, frames: jax.Array) -> jax.Array:
        """Returns conv3, `[batch, 8, 8, 24]`, of `[batch, 32, 32, 3]` frames."""
        x = checked(frames)
        if x.shape[1:3] != (SIDE, SIDE):
            raise ValueError(f"frames have {SIDE} x {SIDE} pixels here, not {x.shape[1:3]}")
        for i, _ in enumerate(CONVOLUTIONS, 1):
            x = tap(nnx.relu(getattr(self, f"conv{i}")(x)), f"conv{i}")
        return x

    def positions(self, grid: jax.Array) -> jax.Array:
        """Returns fc, `[batch, 64]`, which tells positions apart, of conv3."""
        return tap(nnx.relu(self.fc(grid.reshape(len(grid), -1))), "fc")

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Returns `[batch, 64]` features of `[batch, 32, 32, 3]` frames."""
        return self.positions(self.grid(frames))


class CompactLRCN(LRCN):
    """A small CNN and a ReLU-LSTM that say what moves how in the clips of `data.moving_scenes`.

    170 thousand weights, 1 million multiply-adds a frame. Clips of any length.
    """

    card: Card

    def __init__(self, num_classes: int = 8, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Makes the layers."""
        cnn = FrameCNN(Layers(rngs, dtype))
        super().__init__(cnn, "fc", num_classes, units=UNITS, dtype=dtype, rngs=rngs)

    @property
    def width(self) -> int:
        """Returns how many features a frame has."""
        return FEATURES
