"""GoogLeNet with batch norm, as torchvision has it."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers, global_average_pool, max_pool
from jaxground.models.network import Network, checked

# 1x1, 3x3 reduced and full, 5x5 reduced and full, pool projection: table 1 of the paper
WIDTHS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class NormalisedConvolution(nnx.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, make: Layers, strides: int = 1):
        """Makes the layers; the padding keeps the size at stride 1."""
        self.conv = make.convolution(
            inputs, outputs, size, strides=strides, padding=size // 2, bias=False
        )
        self.bn = make.batch_norm(outputs, epsilon=1e-3)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h, w, outputs]`."""
        return nnx.relu(self.bn(self.conv(x)))


class Inception(nnx.Module):
    """Four branches side by side: 1x1, 3x3, "5x5" and pooled.

    The third branch's filters are 3x3, a slip of torchvision that its weights have made a fact.
    """

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int], make: Layers):
        """Makes the branches, `widths` as in the table of the paper."""
        one, three_reduced, three, five_reduced, five, pooled = widths
        self.branch1 = NormalisedConvolution(inputs, one, 1, make)
        self.branch2 = nnx.List([
            NormalisedConvolution(inputs, three_reduced, 1, make),
            NormalisedConvolution(three_reduced, three, 3, make),
        ])  # fmt: skip
        self.branch3 = nnx.List([
            NormalisedConvolution(inputs, five_reduced, 1, make),
            NormalisedConvolution(five_reduced, five, 3, make),
        ])  # fmt: skip
        self.branch4 = NormalisedConvolution(inputs, pooled, 1, make)
        self.outputs = one + three + five + pooled

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[b, h, w, outputs]`."""
        one = self.branch1(x)
        three = self.branch2[1](self.branch2[0](x))
        five = self.branch3[1](self.branch3[0](x))
        pooled = self.branch4(max_pool(x, 3, 1, padding=1, ceil=True))
        return jnp.concatenate([one, three, five, pooled], axis=-1)


class GoogLeNet(Network):
    """Three convolutions and nine inception modules; runs on images of any size.

    Taps: conv1, pool1, conv2_reduce, conv2, pool2, inception_3a ... inception_5b, pool3, pool4,
    pool5 (the average). The auxiliary classifiers, which only training used, are left out.

    torchvision's published weights want pixels in [-1, 1]; there the network itself turns its
    usual normalisation into that (`transform_input=True`), here the `Preprocess` of the registry
    produces it.

    References:
      Szegedy et al., "Going deeper with convolutions", CVPR 2015.
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
        self.conv1 = NormalisedConvolution(3, 64, 7, make, strides=2)
        self.conv2_reduce = NormalisedConvolution(64, 64, 1, make)
        self.conv2 = NormalisedConvolution(64, 192, 3, make)
        channels = 192
        for name, widths in WIDTHS.items():
            inception = Inception(channels, widths, make)
            setattr(self, f"inception_{name}", inception)
            channels = inception.outputs
        self.dropout = make.dropout(0.2)
        self.fc = make.classifier(channels, num_classes)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = tap(self.conv1(checked(images)), "conv1")  # [b, 112, 112, 64] of 224 x 224
        x = tap(max_pool(x, 3, 2, ceil=True), "pool1")  # [b, 56, 56, 64]
        x = tap(self.conv2_reduce(x), "conv2_reduce")  # [b, 56, 56, 64]
        x = tap(self.conv2(x), "conv2")  # [b, 56, 56, 192]
        x = tap(max_pool(x, 3, 2, ceil=True), "pool2")  # [b, 28, 28, 192]
        for name in WIDTHS:
            x = tap(getattr(self, f"inception_{name}")(x), f"inception_{name}")
            if name == "3b":
                x = tap(max_pool(x, 3, 2, ceil=True), "pool3")  # [b, 14, 14, 480]
            elif name == "4e":
                x = tap(max_pool(x, 2, 2, ceil=True), "pool4")  # [b, 7, 7, 832]
        if not self.spatial:
            x = tap(global_average_pool(x), "pool5")  # [b, 1024]
        return self.fc(self.dropout(x, rngs=rngs))
