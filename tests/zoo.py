"""One small network with a convolution, a residual block, pooling and a classifier, five times.

As a plain function, in Flax NNX and Linen, in Equinox and in Haiku, with the same weights and the
taps `image`, `conv`, `block` and `pool`. All take images `[batch, 6, 6, 2]` to three logits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxground.core import tap

IMAGE, CHANNELS, CLASSES = (6, 6, 2), 4, 3


def normal(*shape, seed=0, dtype=np.float32):
    """Returns the same normal numbers at every call."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def weights(seed=20, dtype=np.float32):
    """Returns signed weights by name, kernels as `[height, width, in, out]`.

    With those of the default seed every class has evidence at every layer, and the branches of the
    block are of both signs.
    """
    return {
        "conv": normal(3, 3, IMAGE[-1], CHANNELS, seed=seed, dtype=dtype),
        "conv_bias": normal(CHANNELS, seed=seed, dtype=dtype),
        "block": normal(3, 3, CHANNELS, CHANNELS, seed=seed, dtype=dtype) / 4,
        "dense": normal(CHANNELS, CLASSES, seed=seed, dtype=dtype),
        "dense_bias": normal(CLASSES, seed=seed, dtype=dtype),
    }


def images(batch=2, seed=0, dtype=np.float32):
    """Returns non-negative images."""
    return np.abs(normal(batch, *IMAGE, seed=seed, dtype=dtype))


def priors(batch=2, dtype=np.float32):
    """Returns one-hot priors, another class for every image."""
    return np.eye(CLASSES, dtype=dtype)[np.arange(batch) % CLASSES]


def convolve(x, kernel, strides=(1, 1), padding="SAME"):
    """Returns a convolution in the layout of this project."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x):
    """Returns the maxima of windows of 2 x 2."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def head(x, conv, block, dense):
    """Returns the logits, given the three layers with weights."""
    x = tap(x, "image")
    x = tap(jax.nn.relu(conv(x)), "conv")
    x = tap(jax.nn.relu(x + block(x)), "block")
    x = tap(max_pool(x), "pool")
    return dense(x.mean((1, 2)))


def plain(w):
    """Returns the network as a function that closes over its weights."""
    return lambda x: head(
        x,
        lambda x: convolve(x, w["conv"]) + w["conv_bias"],
        lambda x: convolve(x, w["block"]),
        lambda x: x @ w["dense"] + w["dense_bias"],
    )


def nnx(w):
    """Returns the network as a Flax NNX module."""
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(IMAGE[-1], CHANNELS, (3, 3), rngs=rngs)
            self.block = nnx.Conv(CHANNELS, CHANNELS, (3, 3), use_bias=False, rngs=rngs)
            self.dense = nnx.Linear(CHANNELS, CLASSES, rngs=rngs)

        def __call__(self, x):
            return head(x, self.conv, self.block, self.dense)

    network = Network(nnx.Rngs(0))
    network.conv.kernel.set_value(jnp.asarray(w["conv"]))
    network.conv.bias.set_value(jnp.asarray(w["conv_bias"]))
    network.block.kernel.set_value(jnp.asarray(w["block"]))
    network.dense.kernel.set_value(jnp.asarray(w["dense"]))
    network.dense.bias.set_value(jnp.asarray(w["dense_bias"]))
    return network


def linen(w):
    """Returns the network as a bound Flax Linen module."""
    from flax import linen

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            return head(
                x,
                linen.Conv(CHANNELS, (3, 3), name="first"),
                linen.Conv(CHANNELS, (3, 3), use_bias=False, name="second"),
                linen.Dense(CLASSES, name="classifier"),
            )

    params = {
        "first": {"kernel": w["conv"], "bias": w["conv_bias"]},
        "second": {"kernel": w["block"]},
        "classifier": {"kernel": w["dense"], "bias": w["dense_bias"]},
    }
    return lambda x: Network().apply({"params": params}, x)


def equinox(w):
    """Returns the network of Equinox layers, which take one image, channels first."""
    import equinox as eqx

    key = jax.random.key(0)
    conv = eqx.nn.Conv2d(IMAGE[-1], CHANNELS, 3, padding=1, key=key)
    block = eqx.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, use_bias=False, key=key)
    dense = eqx.nn.Linear(CHANNELS, CLASSES, key=key)

    def planes(kernel):
        return jnp.asarray(kernel.transpose(3, 2, 0, 1))

    bias = jnp.asarray(w["conv_bias"][:, None, None])
    conv = eqx.tree_at(lambda m: (m.weight, m.bias), conv, (planes(w["conv"]), bias))
    block = eqx.tree_at(lambda m: m.weight, block, planes(w["block"]))
    new = (jnp.asarray(w["dense"].T), jnp.asarray(w["dense_bias"]))
    dense = eqx.tree_at(lambda m: (m.weight, m.bias), dense, new)

    def channels_last(layer):
        return lambda x: jax.vmap(layer)(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)

    return lambda x: head(x, channels_last(conv), channels_last(block), jax.vmap(dense))


def haiku(w):
    """Returns the network as a transformed Haiku function with its parameters."""
    import haiku as hk

    def forward(x):
        return head(
            x,
            hk.Conv2D(CHANNELS, 3, name="first"),
            hk.Conv2D(CHANNELS, 3, with_bias=False, name="second"),
            hk.Linear(CLASSES, name="classifier"),
        )

    params = {
        "first": {"w": w["conv"], "b": w["conv_bias"]},
        "second": {"w": w["block"]},
        "classifier": {"w": w["dense"], "b": w["dense_bias"]},
    }
    network = hk.without_apply_rng(hk.transform(forward))
    return lambda x: network.apply(params, x)
