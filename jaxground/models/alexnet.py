"""AlexNet, the single-tower version of "One weird trick" as torchvision has it."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, adaptive_average_pool, dense_on_grid, max_pool
from jaxground.models.network import Network, checked


class AlexNet(Network):
    """Five convolutions and three fully connected layers.

    Taps: relu1, pool1, relu2, pool2, relu3, relu4, relu5, pool5, fc6, fc7.

    References:
      Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012;
      Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the layers; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        self.spatial = spatial
        self.conv1 = make.convolution(3, 64, 11, strides=4, padding=2)
        self.conv2 = make.convolution(64, 192, 5, padding=2)
        self.conv3 = make.convolution(192, 384, 3, padding=1)
        self.conv4 = make.convolution(384, 256, 3, padding=1)
        self.conv5 = make.convolution(256, 256, 3, padding=1)
        self.fc6 = make.linear(6 * 6 * 256, 4096)
        self.fc7 = make.linear(4096, 4096)
        self.fc8 = make.classifier(4096, num_classes)
        self.dropout = make.dropout()

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = tap(nnx.relu(self.conv1(checked(images))), "relu1")  # [b, 55, 55, 64] of 224 x 224
        x = tap(max_pool(x, 3, 2), "pool1")  # [b, 27, 27, 64]
        x = tap(nnx.relu(self.conv2(x)), "relu2")  # [b, 27, 27, 192]
        x = tap(max_pool(x, 3, 2), "pool2")  # [b, 13, 13, 192]
        x = tap(nnx.relu(self.conv3(x)), "relu3")  # [b, 13, 13, 384]
        x = tap(nnx.relu(self.conv4(x)), "relu4")  # [b, 13, 13, 256]
        x = tap(nnx.relu(self.conv5(x)), "relu5")  # [b, 13, 13, 256]
        x = tap(max_pool(x, 3, 2), "pool5")  # [b, 6, 6, 256]
        x = self.dropout(x, rngs=rngs)
        if self.spatial:
            x = dense_on_grid(self.fc6, x, (6, 6))  # [b, h, w, 4096]
        else:
            x = adaptive_average_pool(x, (6, 6))
            x = self.fc6(x.reshape(x.shape[0], -1))  # [b, 4096]
        x = tap(nnx.relu(x), "fc6")
        x = self.dropout(x, rngs=rngs)
        x = tap(nnx.relu(self.fc7(x)), "fc7")
        return self.fc8(x)
