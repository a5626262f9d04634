"""CNN-2, the small network of the dropout papers."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, dense_on_grid, max_pool
from jaxground.models.network import Network, checked


class CNN2(Network):
    """Three convolutions and three fully connected layers, for square images of one size.

    Taps, all after the ReLU: conv1, pool1, conv2, pool2, conv3, pool3, fc1, fc2. Dropout acts on
    fc1 alone, where the papers compare their schemes.

    References:
      Morerio et al., "Curriculum dropout", ICCV 2017; Zunino et al., "Excitation dropout", IJCV
      2021, whose initial values are used: normal(0.01), biases of convolutions 0.1.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        size: int = 32,
        width: float = 1.0,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the layers for images of side `size`, a multiple of 8; see `Network`.

        Every layer has `width` times the published number of channels or neurons, and initial
        weights larger by its root, so that their sums are as large as published.
        """
        if size % 8:
            raise ValueError(f"cnn_2 halves its images three times: no side of {size} pixels")
        normal, constant = (
            nnx.initializers.normal(0.01 / width**0.5),
            nnx.initializers.constant(0.1),
        )
        make = Layers(rngs, dtype, kernel_init=normal, bias_init=constant)
        self.spatial = spatial
        self.grid = (size // 8, size // 8)
        first, second, third, full = (round(width * n) for n in (96, 128, 256, 2048))
        self.conv1 = make.convolution(3, first, 5, padding=2)
        self.conv2 = make.convolution(first, second, 5, padding=2)
        self.conv3 = make.convolution(second, third, 5, padding=2)
        self.fc1 = make.linear(third * self.grid[0] ** 2, full)
        self.fc2 = make.linear(full, full)
        self.fc3 = make.classifier(full, num_classes)
        self.dropout = make.dropout()

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, size, size, 3]` images."""
        x = tap(nnx.relu(self.conv1(checked(images))), "conv1")  # [b, 32, 32, 96]
        x = tap(max_pool(x, 3, 2, padding="SAME"), "pool1")  # [b, 16, 16, 96]
        x = tap(nnx.relu(self.conv2(x)), "conv2")  # [b, 16, 16, 128]
        x = tap(max_pool(x, 3, 2, padding="SAME"), "pool2")  # [b, 8, 8, 128]
        x = tap(nnx.relu(self.conv3(x)), "conv3")  # [b, 8, 8, 256]
        x = tap(max_pool(x, 3, 2, padding="SAME"), "pool3")  # [b, 4, 4, 256]
        if self.spatial:
            x = dense_on_grid(self.fc1, x, self.grid)  # [b, h, w, 2048]
        elif x.shape[1:3] == self.grid:
            x = self.fc1(x.reshape(x.shape[0], -1))  # [b, 2048]
        else:
            raise ValueError(f"made for {8 * self.grid[0]} x {8 * self.grid[1]} images, "
                             f"given {images.shape[1]} x {images.shape[2]}")  # fmt: skip
        x = tap(nnx.relu(x), "fc1")
        x = self.dropout(x, rngs=rngs)
        x = tap(nnx.relu(self.fc2(x)), "fc2")
        return self.fc3(x)
