"""The vision transformer."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxground.core.taps import tap
from jaxground.models.layers import Layers
from jaxground.models.network import Network, checked


class ViT(Network):
    """Patches as tokens, layers of self-attention before a perceptron, and a class token.

    Images of other sizes than the weights were made for, multiples of the patch, have the position
    embedding resized. Taps: conv_proj, the embedded patches, and encoder_layer_0 ..., the patch
    tokens after each layer but the last, whose patch tokens nothing reads; all are maps
    `[batch, h, w, channel]`, without the class token.

    References:
      Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at
      scale", ICLR 2021.
    """

    def __init__(
        self,
        patch: int,
        depth: int,
        width: int,
        heads: int,
        num_classes: int = 1000,
        *,
        size: int = 224,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes `depth` layers of `width` channels for images of `size` and patches of `patch`."""
        make = Layers(rngs, dtype, kernel_init=nnx.initializers.xavier_uniform())
        self.spatial = False
        tokens = (size // patch) ** 2 + 1
        positions = nnx.initializers.normal(0.02)(rngs.params(), (1, tokens, width))
        self.conv_proj = make.convolution(3, width, patch, strides=patch)
        self.class_token = nnx.Param(jnp.zeros((1, 1, width), make.param_dtype))
        self.pos_embedding = nnx.Param(positions.astype(make.param_dtype))
        self.layers = nnx.List([EncoderLayer(width, heads, make) for _ in range(depth)])
        self.ln = _layer_norm(width, make)
        self.head = make.classifier(width, num_classes)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns `[batch, classes]` logits of `[batch, height, width, 3]` images."""
        x = checked(images)
        patch = self.conv_proj.kernel_size[0]
        if x.shape[1] % patch or x.shape[2] % patch:
            raise ValueError(
                f"images are {x.shape[1]} x {x.shape[2]} where sides are multiples of {patch}, the "
                "patch; resize or crop them"
            )
        x = tap(self.conv_proj(x), "conv_proj")  # [b, h, w, width]
        grid = (x.shape[1], x.shape[2])
        token = jnp.broadcast_to(self.class_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([token, x.reshape(len(x), -1, x.shape[-1])], axis=1)
        x = x + self._positions(grid).astype(x.dtype)  # [b, 1 + h w, width]
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i + 1 < len(self.layers):
                x = _tapped(x, grid, f"encoder_layer_{i}")
        return self.head(self.ln(x[:, 0]))

    def _positions(self, grid: tuple[int, int]) -> jax.Array:
        """Returns the position embedding, of the patches resized to their grid."""
        embedding = self.pos_embedding[...]
        side = round((embedding.shape[1] - 1) ** 0.5)
        if grid == (side, side):
            return embedding
        width = embedding.shape[-1]
        patches = embedding[:, 1:].reshape(1, side, side, width)
        resized = jax.image.resize(patches, (1, *grid, width), "bicubic", antialias=False)
        return jnp.concatenate([embedding[:, :1], resized.reshape(1, -1, width)], axis=1)


class EncoderLayer(nnx.Module):
    """Self-attention and a perceptron, each on the normalised tokens and added to them."""

    def __init__(self, width: int, heads: int, make: Layers):
        """Makes a layer of `heads` heads; the perceptron is four times as wide."""
        self.heads = heads
        self.ln_1 = _layer_norm(width, make)
        self.in_proj = make.linear(width, 3 * width)
        self.out_proj = make.linear(width, width)
        self.ln_2 = _layer_norm(width, make)
        self.fc1 = make.linear(width, 4 * width)
        self.fc2 = make.linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[batch, tokens, width]` for the same."""
        batch, tokens, width = x.shape
        projected = self.in_proj(self.ln_1(x)).reshape(batch, tokens, 3, self.heads, -1)
        query, key, value = (projected[:, :, i] for i in range(3))  # [b, n, heads, width / heads]
        attended = jax.nn.dot_product_attention(query, key, value)
        x = x + self.out_proj(attended.reshape(batch, tokens, width))
        return x + self.fc2(nnx.gelu(self.fc1(self.ln_2(x)), approximate=False))


def _layer_norm(width: int, make: Layers) -> nnx.LayerNorm:
    return nnx.LayerNorm(
        width, epsilon=1e-6, dtype=make.dtype, param_dtype=make.param_dtype, rngs=make.rngs
    )


def _tapped(x: jax.Array, grid: tuple[int, int], name: str) -> jax.Array:
    """Returns the tokens, those of the patches tapped as a map."""
    batch, _, width = x.shape
    patches = tap(x[:, 1:].reshape(batch, *grid, width), name)
    return jnp.concatenate([x[:, :1], patches.reshape(batch, -1, width)], axis=1)
