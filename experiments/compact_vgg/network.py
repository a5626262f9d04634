"""CompactVGG as it is trained: plain arrays, batch norm, and folding that into what ships."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxground.models.compact_vgg import MEAN, STAGES, STD

CLASSES = 10
EPSILON = 1e-5  # of batch norm


class Network(NamedTuple):
    """Trainable arrays by name, and the running batch statistics of each convolution."""

    weights: dict[str, jax.Array]
    statistics: dict[str, jax.Array]


def convolutions() -> list[tuple[str, int]]:
    """Returns the convolutions with their widths, input to output."""
    return [
        (f"conv{stage}_{index}", width)
        for stage, widths in enumerate(STAGES, start=1)
        for index, width in enumerate(widths, start=1)
    ]


def create(key: jax.Array) -> Network:
    """Returns a He-initialised network."""
    weights, statistics, inputs = {}, {}, 3
    for number, (name, width) in enumerate(convolutions()):
        noise = jax.random.normal(jax.random.fold_in(key, number), (3, 3, inputs, width))
        weights[f"{name}.kernel"] = noise * np.sqrt(2 / (9 * inputs))
        weights[f"{name}.scale"] = jnp.ones(width)
        weights[f"{name}.bias"] = jnp.zeros(width)
        statistics[f"{name}.mean"] = jnp.zeros(width)
        statistics[f"{name}.variance"] = jnp.ones(width)
        inputs = width
    head = jax.random.normal(jax.random.fold_in(key, 99), (inputs, CLASSES))
    weights["head.kernel"] = head / np.sqrt(inputs)
    weights["head.bias"] = jnp.zeros(CLASSES)
    return Network(weights, statistics)


def unfold(folded: dict[str, np.ndarray], images: jax.Array) -> Network:
    """Returns the network of shipped weights with batch norm again, at the scale of `create`.

    Batch norm takes the statistics of `images` in [0, 1], on which the outputs stay the same.
    """
    folded = {name: np.float32(value) for name, value in folded.items()}
    weights = {"head.kernel": folded["head.weight"].T, "head.bias": folded["head.bias"]}
    statistics = {}
    x = (images - jnp.array(MEAN)) / jnp.array(STD)
    for name, _ in convolutions():
        kernel, bias = folded[f"{name}.weight"].transpose(2, 3, 1, 0), folded[f"{name}.bias"]
        # Batch norm undoes the scale of a kernel, but a training step is relative to it.
        unit = np.sqrt((kernel**2).sum((0, 1, 2)) / 2) + 1e-6
        kernel = kernel / unit
        x = pool_before(name, x)
        y = convolve(x, kernel)
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        statistics |= {f"{name}.mean": mean, f"{name}.variance": variance}
        weights |= {f"{name}.kernel": jnp.asarray(kernel)}
        weights |= {f"{name}.scale": unit * jnp.sqrt(variance + EPSILON)}
        weights |= {f"{name}.bias": bias + unit * mean}
        x = jax.nn.relu(y * unit + bias)
    return Network(jax.tree.map(jnp.asarray, weights), statistics)


def extract(weights, images) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the last feature map of images in [0, 1] under batch statistics, and those."""
    x = (images - jnp.array(MEAN)) / jnp.array(STD)
    statistics = {}
    for name, _ in convolutions():
        x = pool_before(name, x)
        x = convolve(x, weights[f"{name}.kernel"])
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        statistics |= {f"{name}.mean": mean, f"{name}.variance": variance}
        scale = weights[f"{name}.scale"] * lax.rsqrt(variance + EPSILON)
        x = jax.nn.relu((x - mean) * scale + weights[f"{name}.bias"])
    return x, statistics


def pool_before(name, x):
    """Returns `x` halved by max pooling where convolution `name` begins a later stage."""
    if not name.endswith("_1") or name == "conv1_1":
        return x
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def convolve(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def fold(network: Network) -> dict[str, np.ndarray]:
    """Returns the network without batch norm, as it ships: float16, torch's names and axes."""
    weights, statistics = jax.tree.map(np.asarray, network)
    folded = {"head.weight": weights["head.kernel"].T, "head.bias": weights["head.bias"]}
    for name, _ in convolutions():
        scale = weights[f"{name}.scale"] / np.sqrt(statistics[f"{name}.variance"] + EPSILON)
        kernel = weights[f"{name}.kernel"] * scale
        folded[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1)  # OIHW
        folded[f"{name}.bias"] = weights[f"{name}.bias"] - statistics[f"{name}.mean"] * scale
    return {name: np.ascontiguousarray(value, np.float16) for name, value in folded.items()}
