"""ResNets for ImageNet, torchvision's "v1.5": the stride is in the 3x3 convolution."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, global_average_pool, max_pool
from jaxground.models.network import Network, checked


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, strides: int, make: Layers):
        """Makes the layers; a shortcut that changes shape is a strided 1x1 convolution."""
        self.conv1 = make.convolution(inputs, width, 3, strides=strides, padding=1, bias=False)
        self.bn1 = make.batch_norm(width)
        self.conv2 = make.convolution(width, width, 3, padding=1, bias=False)
        self.bn2 = make.batch_norm(width)
        self.downsample = _downsample(inputs, width, strides, make)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h / strides, w / strides, width]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + _shortcut(self.downsample, x))


class Bottleneck(nnx.Module):
    """A 3x3 convolution between two 1x1 ones, which reduce and restore the channels."""

    expansion = 4

    def __init__(self, inputs: int, width: int, strides: int, make: Layers):
        """Makes the layers; a shortcut that changes shape is a strided 1x1 convolution."""
        self.conv1 = make.convolution(inputs, width, 1, bias=False)
        self.bn1 = make.batch_norm(width)
        self.conv2 = make.convolution(width, width, 3, strides=strides, padding=1, bias=False)
        self.bn2 = make.batch_norm(width)
        self.conv3 = make.convolution(width, 4 * width, 1, bias=False)
        self.bn3 = make.batch_norm(4 * width)
        self.downsample = _downsample(inputs, 4 * width, strides, make)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h / strides, w / strides, 4 * width]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nnx.relu(y + _shortcut(self.downsample, x))


def _downsample(inputs: int, outputs: int, strides: int, make: Layers) -> nnx.List | None:
    if inputs == outputs and strides == 1:
        return None
    projection = make.convolution(inputs, outputs, 1, strides=strides, bias=False)
    return nnx.List([projection, make.batch_norm(outputs)])


def _shortcut(downsample: nnx.List | None, x: jax.Array) -> jax.Array:
    for layer in downsample or ():
        x = layer(x)
    return x


class ResNet(Network):
    """A convolution and four stages of residual blocks.

    Taps, all after the ReLU: conv1, pool1, every block (layer1.0 ...), every stage
    (layer1 ... layer4), pool5 (the average over positions).

    References:
      He et al., "Deep residual learning for image recognition", CVPR 2016.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes `depths[i]` blocks in stage i; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        self.spatial = spatial
        self.conv1 = make.convolution(3, 64, 7, strides=2, padding=3, bias=False)
        self.bn1 = make.batch_norm(64)
        inputs = 64
        for stage, depth in enumerate(depths, 1):
            width, blocks = 32 * 2**stage, []
            for i in range(depth):
                strides = 2 if i == 0 and stage > 1 else 1
                blocks.append(block(inputs, width, strides, make))
                inputs = block.expansion * width
            setattr(self, f"layer{stage}", nnx.List(blocks))
        self.fc = make.classifier(inputs, num_classes)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = self.bn1(self.conv1(checked(images)))
        x = tap(nnx.relu(x), "conv1")  # [b, 112, 112, 64] of 224 x 224
        x = tap(max_pool(x, 3, 2, padding=1), "pool1")  # [b, 56, 56, 64]
        for stage in ("layer1", "layer2", "layer3", "layer4"):  # to [b, 7, 7, 512 or 2048]
            for i, block in enumerate(getattr(self, stage)):
                x = tap(block(x), f"{stage}.{i}")
            x = tap(x, stage)
        if not self.spatial:
            x = tap(global_average_pool(x), "pool5")  # [b, 512 or 2048]
        return self.fc(x)
