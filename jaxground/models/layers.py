"""What the networks share: layers that Flax lacks, one place for types and random streams."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]


class Layers(NamedTuple):
    """Makes the layers of one network from one random stream, for one type of arithmetic.

    Parameters are kept in float32 (float64 when that is the type of the arithmetic), whatever
    `dtype` the layers compute in. Nothing made here holds a random state: dropout draws from the
    `rngs` it is called with, so that a network is parameters and statistics alone.
    """

    rngs: nnx.Rngs
    dtype: DTypeLike = jnp.float32
    kernel_init: nnx.Initializer = nnx.initializers.he_normal()  # of all but the classifier
    bias_init: nnx.Initializer = nnx.initializers.zeros_init()  # of convolutions

    @property
    def param_dtype(self) -> np.dtype:
        """Returns the type that parameters are kept in."""
        return jnp.promote_types(self.dtype, jnp.float32)

    def convolution(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        strides: int = 1,
        padding: Padding = 0,
        bias: bool = True,
    ) -> nnx.Conv:
        """Returns a square convolution of NHWC images; an integer pads that much on all sides."""
        return nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides=(strides, strides),
            padding=_pairs(padding),
            use_bias=bias,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            rngs=self.rngs,
        )

    def linear(self, inputs: int, outputs: int) -> nnx.Linear:
        """Returns a hidden fully connected layer, made for a ReLU to follow."""
        return nnx.Linear(
            inputs,
            outputs,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            rngs=self.rngs,
        )

    def classifier(self, inputs: int, outputs: int) -> nnx.Linear:
        """Returns the layer of the logits; it computes in the parameters' type, not in 16 bits."""
        return nnx.Linear(
            inputs,
            outputs,
            kernel_init=nnx.initializers.normal(0.01),
            dtype=self.param_dtype,
            param_dtype=self.param_dtype,
            rngs=self.rngs,
        )

    def batch_norm(self, features: int, *, epsilon: float = 1e-5) -> nnx.BatchNorm:
        """Returns batch norm that uses its running statistics until the network's `train()`."""
        norm = nnx.BatchNorm(
            features,
            use_running_average=True,
            momentum=0.9,  # PyTorch's 0.1, which weighs the new batch instead
            epsilon=epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            rngs=self.rngs,
        )
        norm.mean = nnx.BatchStat(jnp.zeros(features, self.param_dtype))  # Flax: always float32
        norm.var = nnx.BatchStat(jnp.ones(features, self.param_dtype))
        return norm

    def dropout(self, rate: float = 0.5) -> nnx.Dropout:
        """Returns dropout that is the identity until the network's `train()`."""
        return nnx.Dropout(rate, deterministic=True)


def max_pool(
    x: jax.Array,
    size: int,
    strides: int,
    *,
    padding: int | Literal["SAME"] = 0,
    ceil: bool = False,
) -> jax.Array:
    """Returns the largest value of each square window of an NHWC array.

    Args:
      x: `[batch, height, width, channels]`.
      size: Side of the window.
      strides: Step between windows.
      padding: Rows and columns of minus infinity on all sides, or "SAME".
      ceil: Whether a last window that only partly lies in the image counts (`ceil_mode` of
        torchvision, the rule of Caffe); a window that begins beyond it never does.

    Example:
      >>> max_pool(jnp.arange(6.0).reshape(1, 1, 6, 1), 1, 2).ravel()
      Array([0., 2., 4.], dtype=float32)
      >>> [max_pool(jnp.ones((1, 6, 6, 1)), 3, 2, ceil=c).shape[1] for c in (False, True)]
      [2, 3]
    """
    window, steps = (1, size, size, 1), (1, strides, strides, 1)
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(x.shape, window, steps, padding)
    else:
        excess = [ceil * _excess(length, size, strides, padding) for length in x.shape[1:3]]
        pads = [(0, 0), *((padding, padding + e) for e in excess), (0, 0)]
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, window, steps, pads)


def _excess(length: int, size: int, strides: int, padding: int) -> int:
    """Returns by how much the last window of ceil mode reaches over the padded end."""
    windows = math.ceil((length + 2 * padding - size) / strides) + 1
    if (windows - 1) * strides >= length + padding:  # it would begin in the padding
        windows -= 1
    return max(0, (windows - 1) * strides + size - length - 2 * padding)


def global_average_pool(x: jax.Array) -> jax.Array:
    """Returns the mean over all positions: `[batch, height, width, c]` to `[batch, c]`."""
    return x.mean((1, 2))


def adaptive_average_pool(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Returns the means of `grid` nearly equal, possibly overlapping regions of an NHWC array.

    Region `i` of `n` along a side of length `L` is `floor(i L / n) ... ceil((i + 1) L / n)`, the
    rule of PyTorch. It is written as two products with constant, non-negative matrices, so that
    one rule explains it at every size, and is the identity where the sizes agree.

    Example:
      >>> adaptive_average_pool(jnp.arange(5.0).reshape(1, 5, 1, 1), (2, 1)).ravel()
      Array([1., 3.], dtype=float32)
    """
    for axis, regions in zip((1, 2), grid, strict=True):
        if x.shape[axis] != regions:
            means = jnp.asarray(_region_means(x.shape[axis], regions), x.dtype)
            pooled = jnp.tensordot(x, means, (axis, 0), precision=lax.Precision.HIGHEST)
            x = jnp.moveaxis(pooled, -1, axis)
    return x


def _region_means(length: int, regions: int) -> np.ndarray:
    """Returns `[length, regions]`, whose column i takes the mean of region i."""
    begin = np.arange(regions) * length // regions
    end = -(-(np.arange(regions) + 1) * length // regions)
    inside = (np.arange(length)[:, None] >= begin) & (np.arange(length)[:, None] < end)
    return inside / inside.sum(0)


def dense_on_grid(layer: nnx.Linear, x: jax.Array, grid: Sequence[int]) -> jax.Array:
    """Returns a fully connected layer applied to every window of the size of its `grid`.

    Args:
      layer: Its inputs are a flattened `[*grid, channels]` window, in that order.
      x: `[batch, height, width, channels]`.
      grid: Height and width of the window.

    Returns:
      `[batch, height - grid[0] + 1, width - grid[1] + 1, outputs]`: the layer as a convolution
      (Long et al., "Fully convolutional networks", CVPR 2015).
    """
    if x.shape[1] < grid[0] or x.shape[2] < grid[1]:
        raise ValueError(
            f"the image is too small: its features are {x.shape[1]} x {x.shape[2]} where the first "
            f"fully connected layer reads {grid[0]} x {grid[1]}; use a larger image, or "
            "spatial=False, which pools to that size"
        )
    kernel = layer.kernel[...].reshape(*grid, x.shape[-1], -1).astype(layer.dtype)
    x = lax.conv_general_dilated(
        x.astype(layer.dtype), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return x if layer.bias is None else x + layer.bias[...].astype(x.dtype)


def _pairs(padding: Padding) -> str | Sequence[tuple[int, int]]:
    return ((padding, padding),) * 2 if isinstance(padding, int) else padding
