"""CompactVGG: the small network that this project trained and ships with the package."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, global_average_pool, max_pool
from jaxground.models.network import Network, checked

STAGES = ((32,), (64, 64), (128, 128), (256, 256))  # channels of the convolutions of each stage
MEAN = (0.4914, 0.4822, 0.4465)  # of CIFAR-10
STD = (0.2470, 0.2435, 0.2616)


class CompactVGG(Network):
    """Seven 3x3 convolutions in four stages, the mean over positions, one linear map.

    1.2 million weights, 43 million multiply-adds on 32x32 pixels. Runs on images of any size from
    8x8 up. Trained with batch norm, which `experiments/compact_vgg/network.py` folds into the
    convolutions: convolution, bias, ReLU and pooling are all there is.

    The mean is taken before the linear map, not after a 1x1 convolution: then contrastive
    Excitation Backprop subtracts at the pooled features, where the mass of a class and that of its
    dual unit lie on different channels, hence at different positions.

    Taps: conv1_1, pool1, conv2_1, conv2_2, pool2, conv3_1, conv3_2, pool3, conv4_1, conv4_2 (all
    convolutions after the ReLU) and pool (the mean over positions).
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        spatial: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the layers; see `Network` for `spatial`."""
        make = Layers(rngs, dtype)
        self.spatial = spatial
        inputs = 3
        for stage, widths in enumerate(STAGES, 1):
            for i, width in enumerate(widths, 1):
                setattr(self, f"conv{stage}_{i}", make.convolution(inputs, width, 3, padding=1))
                inputs = width
        self.head = make.classifier(inputs, num_classes)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = checked(images)  # [b, 64, 64, 3]
        for stage, widths in enumerate(STAGES, 1):  # to [b, 8, 8, 256]
            if stage > 1:
                x = tap(max_pool(x, 2, 2), f"pool{stage - 1}")
            for i, _ in enumerate(widths, 1):
                name = f"conv{stage}_{i}"
                x = tap(nnx.relu(getattr(self, name)(x)), name)
        if not self.spatial:
            x = tap(global_average_pool(x), "pool")  # [b, 256]
        return self.head(x)
