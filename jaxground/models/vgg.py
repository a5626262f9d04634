"""VGG: stages of 3x3 convolutions, with or without batch norm."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, adaptive_average_pool, dense_on_grid, max_pool
from jaxground.models.network import Network, checked

WIDTHS = (64, 128, 256, 512, 512)


class VGG(Network):
    """Five stages of convolutions, each ended by a max pooling, and three fully connected layers.

    Taps, all after the ReLU: conv1_1 ... conv5_4 as deep as the network is, pool1 ... pool5, fc6,
    fc7.

    References:
      Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
      recognition", ICLR 2015.
    """

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        batch_norm: bool = False,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes `depths[i]` convolutions in stage i; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        self.spatial = spatial
        self.batch_norm = batch_norm
        self.depths = tuple(depths)
        inputs = 3
        for stage, width in enumerate(WIDTHS, 1):
            for i in range(1, depths[stage - 1] + 1):
                setattr(self, f"conv{stage}_{i}", make.convolution(inputs, width, 3, padding=1))
                if batch_norm:
                    setattr(self, f"bn{stage}_{i}", make.batch_norm(width))
                inputs = width
        self.fc6 = make.linear(7 * 7 * 512, 4096)
        self.fc7 = make.linear(4096, 4096)
        self.fc8 = make.classifier(4096, num_classes)
        self.dropout = make.dropout()

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = checked(images)
        for stage, depth in enumerate(self.depths, 1):
            for i in range(1, depth + 1):
                x = getattr(self, f"conv{stage}_{i}")(x)
                if self.batch_norm:
                    x = getattr(self, f"bn{stage}_{i}")(x)
                x = tap(nnx.relu(x), f"conv{stage}_{i}")  # [b, h, w, WIDTHS[stage - 1]]
            x = tap(max_pool(x, 2, 2), f"pool{stage}")  # [b, h / 2, w / 2, same]
        if self.spatial:
            x = dense_on_grid(self.fc6, x, (7, 7))  # [b, h, w, 4096]
        else:
            x = adaptive_average_pool(x, (7, 7))  # [b, 7, 7, 512]
            x = self.fc6(x.reshape(x.shape[0], -1))  # [b, 4096]
        x = tap(nnx.relu(x), "fc6")
        x = self.dropout(x, rngs=rngs)
        x = tap(nnx.relu(self.fc7(x)), "fc7")
        x = self.dropout(x, rngs=rngs)
        return self.fc8(x)
