"""SqueezeNet 1.0 and 1.1."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, global_average_pool, max_pool
from jaxground.models.network import Network, checked


class Fire(nnx.Module):
    """Squeezes to few channels, then expands by 1x1 and by 3x3 filters side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int, make: Layers):
        """Makes the three convolutions; there are `2 * expand` channels in the end."""
        self.squeeze = make.convolution(inputs, squeeze, 1)
        self.expand1x1 = make.convolution(squeeze, expand, 1)
        self.expand3x3 = make.convolution(squeeze, expand, 3, padding=1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h, w, 2 * expand]`."""
        x = nnx.relu(self.squeeze(x))  # [b, h, w, squeeze]
        sides = nnx.relu(self.expand1x1(x)), nnx.relu(self.expand3x3(x))
        return jnp.concatenate(sides, axis=-1)


class SqueezeNet(Network):
    """A convolution, eight fire modules and a convolution whose channels are the classes.

    Runs on images of any size. Taps: conv1, pool1, fire2 ... fire9, conv10 (the map of each class,
    after its ReLU), and the poolings pool4, pool8 (version 1.0) or pool3, pool5 (1.1), each named
    by the module before it.

    References:
      Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016.
    """

    def __init__(
        self,
        version: str = "1.1",
        num_classes: int = 1000,
        *,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the layers of version "1.0" or "1.1"; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        self.spatial = spatial
        if version == "1.0":
            self.pooled = ("fire4", "fire8")
            self.conv1 = make.convolution(3, 96, 7, strides=2)
        else:
            self.pooled = ("fire3", "fire5")
            self.conv1 = make.convolution(3, 64, 3, strides=2)
        self.fire2 = Fire(self.conv1.out_features, 16, 64, make)
        self.fire3 = Fire(128, 16, 64, make)
        self.fire4 = Fire(128, 32, 128, make)
        self.fire5 = Fire(256, 32, 128, make)
        self.fire6 = Fire(256, 48, 192, make)
        self.fire7 = Fire(384, 48, 192, make)
        self.fire8 = Fire(384, 64, 256, make)
        self.fire9 = Fire(512, 64, 256, make)
        self.conv10 = make.convolution(512, num_classes, 1)
        self.dropout = make.dropout()

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = self.conv1(checked(images))
        x = tap(nnx.relu(x), "conv1")  # [b, 111, 111, 64] of 224 x 224, in version 1.1
        x = tap(max_pool(x, 3, 2, ceil=True), "pool1")  # [b, 55, 55, 64]
        for i in range(2, 10):
            x = tap(getattr(self, f"fire{i}")(x), f"fire{i}")
            if f"fire{i}" in self.pooled:
                x = tap(max_pool(x, 3, 2, ceil=True), f"pool{i}")  # [b, 27, 27, .], [b, 13, 13, .]
        x = self.dropout(x, rngs=rngs)  # [b, 13, 13, 512]
        x = tap(nnx.relu(self.conv10(x)), "conv10")  # [b, 13, 13, classes]
        return x if self.spatial else global_average_pool(x)
