"""ResNets of depth 6n + 2 for 32x32 images, with shortcuts that have no parameters."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, global_average_pool
from jaxground.models.network import Network, checked


class Block(nnx.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, strides: int, make: Layers):
        """Makes the layers."""
        self.strides, self.widened = strides, width - inputs
        self.conv1 = make.convolution(inputs, width, 3, strides=strides, padding=1, bias=False)
        self.bn1 = make.batch_norm(width)
        self.conv2 = make.convolution(width, width, 3, padding=1, bias=False)
        self.bn2 = make.batch_norm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h / strides, w / strides, width]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.widened:  # option A: every other pixel, and new channels of zeros on both sides
            zeros = (self.widened // 2, self.widened // 2)
            x = x[:, :: self.strides, :: self.strides]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), zeros))
        return nnx.relu(y + x)


class CifarResNet(Network):
    """A convolution and three stages of n residual blocks with 16, 32 and 64 channels.

    Taps, all after the ReLU: conv1, every block (layer1.0 ...), every stage (layer1 ... layer3),
    pool (the average over positions).

    References:
      He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        *,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes a network of `depth` 6n + 2; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        self.spatial = spatial
        self.conv1 = make.convolution(3, 16, 3, padding=1, bias=False)
        self.bn1 = make.batch_norm(16)
        inputs = 16
        for stage, width in enumerate((16, 32, 64), 1):
            blocks = []
            for i in range((depth - 2) // 6):
                strides = 2 if i == 0 and stage > 1 else 1
                blocks.append(Block(inputs, width, strides, make))
                inputs = width
            setattr(self, f"layer{stage}", nnx.List(blocks))
        self.fc = make.classifier(64, num_classes)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = self.bn1(self.conv1(checked(images)))
        x = tap(nnx.relu(x), "conv1")  # [b, 32, 32, 16]
        for stage in ("layer1", "layer2", "layer3"):  # to [b, 8, 8, 64]
            for i, block in enumerate(getattr(self, stage)):
                x = tap(block(x), f"{stage}.{i}")
            x = tap(x, stage)
        if not self.spatial:
            x = tap(global_average_pool(x), "pool")  # [b, 64]
        return self.fc(x)
