"""Photographs of many shapes on few canvases, so that few programs are compiled for SqueezeNet.

Several shapes share a canvas, and the network sets to zero what lies beyond a photograph after each
of its layers. That is what the padding of its convolutions and poolings reads there: the same
numbers.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from PIL import Image

from jaxground import tap
from jaxground.models.layers import max_pool

CANVASES = (1.35, 1.52)  # longer sides up to which photographs share one, in shorter sides


def within(x: Array, sizes: Array) -> Array:
    """Returns values `[batch, h, w, channel]`, zero beyond the height and width of each image."""
    rows, columns = jnp.arange(x.shape[1])[:, None], jnp.arange(x.shape[2])
    height, width = sizes[:, :1, None], sizes[:, 1:, None]
    return jnp.where(((rows < height) & (columns < width))[..., None], x, 0)


def squeezenet_on_canvases(model: Any, images: Array, sizes: Array) -> Array:
    """Returns the logits of SqueezeNet 1.1 for images of many sizes.

    Values beyond an image are zero before each layer, as padding is; and as they follow a ReLU, a
    pooling that reads over the border finds the maximum of what is there.

    Args:
      model: The network.
      images: `float[batch, height, width, 3]`, each image in the top left corner.
      sizes: Their heights and widths, `int[batch, 2]`.
    """
    sizes = (sizes - 3) // 2 + 1
    x = tap(within(nnx.relu(model.conv1(images)), sizes), "conv1")
    for number in range(2, 10):
        if number in (2, 4, 6):
            sizes = (sizes - 2) // 2 + 1  # ceil((n - 3) / 2) + 1
            name = {2: "pool1", 4: "pool3", 6: "pool5"}[number]
            x = tap(within(max_pool(x, 3, 2, ceil=True), sizes), name)
        fire = getattr(model, f"fire{number}")
        x = within(nnx.relu(fire.squeeze(x)), sizes)  # its bias would be read over the border
        sides = nnx.relu(fire.expand1x1(x)), nnx.relu(fire.expand3x3(x))
        x = tap(within(jnp.concatenate(sides, axis=-1), sizes), f"fire{number}")
    x = tap(within(nnx.relu(model.conv10(x)), sizes), "conv10")
    return x.sum((1, 2)) / jnp.prod(sizes, axis=1, keepdims=True)


def canvases(
    sizes: Sequence[tuple[int, int]], short: int
) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Yields rows whose photographs share a canvas, and its height and width."""
    shapes = [resized(size, short) for size in sizes]
    groups: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for row, (height, width) in enumerate(shapes):
        longer = max(height, width) / short
        groups[width >= height, int(np.digitize(longer, CANVASES))].append(row)
    for rows in groups.values():
        height, width = np.max([shapes[row] for row in rows], axis=0).tolist()
        yield rows, (height, width)


def resized(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Returns height and width of a photograph whose shorter side becomes `short`."""
    height, width = (short if side == min(size) else int(short * side / min(size)) for side in size)
    return height, width


def point(
    canvas_map: np.ndarray, canvas: tuple[int, int], shape: Sequence[int], size: tuple[int, int]
) -> np.ndarray:
    """Returns row and column of the first maximum of a map, once it has a photograph's size.

    Args:
      canvas_map: A map of the canvas.
      canvas: Height and width of the canvas, in pixels of the network's input.
      shape: Those of the photograph on it.
      size: Those of the photograph as stored.
    """
    picture = Image.fromarray(valid_part(canvas_map, canvas, shape).astype(np.float32))
    large = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return np.array(np.unravel_index(large.argmax(), large.shape))


def valid_part(canvas_map: np.ndarray, canvas: tuple[int, int], shape: Sequence[int]) -> np.ndarray:
    """Returns the part of a map of the canvas, `[..., h, w]`, that is the photograph's."""
    stage = stages(canvas[0]).index(canvas_map.shape[-2])
    height, width = (stages(side)[stage] for side in shape)
    return canvas_map[..., :height, :width]


def stages(side: int) -> list[int]:
    """Returns the side of SqueezeNet's layers for an image: itself, conv1, pool1, pool3, pool5."""
    sides = [side, (side - 3) // 2 + 1]
    for _ in range(3):
        sides.append((sides[-1] - 2) // 2 + 1)
    return sides
