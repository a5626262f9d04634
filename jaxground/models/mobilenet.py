"""MobileNet v1: depthwise convolutions followed by 1x1 ones."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.depthwise import depthwise_convolution
from jaxground.models.layers import Layers, global_average_pool
from jaxground.models.network import Network, checked

# Stride of each depthwise convolution and channels of the 1x1 one that follows it.
BLOCKS = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512),
    (1, 512), (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024),
)  # fmt: skip


class DepthwiseConvolution(nnx.Module):
    """A 3x3 filter of its own for each channel."""

    def __init__(self, channels: int, strides: int, make: Layers, *, bias: bool):
        """Makes the parameters; padding is "SAME"."""
        self.strides, self.dtype = (strides, strides), make.dtype
        init = nnx.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=(0, 1))
        kernel = init(make.rngs.params(), (3, 3, 1, channels), make.param_dtype)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros(channels, make.param_dtype)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h / strides, w / strides, channels]`."""
        kernel = self.kernel[...].astype(self.dtype)
        x = depthwise_convolution(x.astype(self.dtype), kernel, self.strides, "SAME")
        return x if self.bias is None else x + self.bias[...].astype(self.dtype)


class MobileNetV1(Network):
    """A convolution and thirteen pairs of a depthwise and a 1x1 convolution, relu6 after each.

    Without batch norm every convolution has a bias, which is what published weights become when
    batch norm is folded into them; with it, it is the network to train.

    Taps, all after the activation: conv1, conv2_depthwise, conv2, ..., conv14_depthwise, conv14,
    pool (the average over positions).

    References:
      Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision
      applications", 2017.
    """

    def __init__(
        self,
        num_classes: int = 1001,
        *,
        batch_norm: bool = False,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the layers; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        bias = not batch_norm
        self.spatial = spatial
        self.batch_norm = batch_norm
        self.conv1 = make.convolution(3, 32, 3, strides=2, padding="SAME", bias=bias)
        norms = {"conv1": 32}
        inputs = 32
        for i, (strides, outputs) in enumerate(BLOCKS, 2):
            depthwise = DepthwiseConvolution(inputs, strides, make, bias=bias)
            setattr(self, f"conv{i}_depthwise", depthwise)
            setattr(self, f"conv{i}", make.convolution(inputs, outputs, 1, bias=bias))
            norms |= {f"conv{i}_depthwise": inputs, f"conv{i}": outputs}
            inputs = outputs
        if batch_norm:
            for name, channels in norms.items():
                setattr(self, f"bn_{name}", make.batch_norm(channels, epsilon=1e-3))
        self.fc = make.classifier(inputs, num_classes)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = self._layer("conv1", checked(images))  # [b, 112, 112, 32] of 224 x 224
        for i in range(2, 2 + len(BLOCKS)):  # to [b, 7, 7, 1024]
            x = self._layer(f"conv{i}_depthwise", x)
            x = self._layer(f"conv{i}", x)
        if not self.spatial:
            x = tap(global_average_pool(x), "pool")  # [b, 1024]
        return self.fc(x)

    def _layer(self, name: str, x: jax.Array) -> jax.Array:
        x = getattr(self, name)(x)
        if self.batch_norm:
            x = getattr(self, f"bn_{name}")(x)
        return tap(nnx.relu6(x), name)
