"""Training canvases of 64x64 pixels: photographs painted into boxes, with the truth of where.

A canvas has five layers: one Tiny ImageNet photograph (64x64), then four of CIFAR-10 (32x32). A
layer is resampled into its box by two small matrices (flip, shift, scale and crop at once), so
the whole augmentation is a handful of matrix products inside the jitted training step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SIDE = 64
STRIDE = 8  # of the last feature map
LAYERS = 5


class Canvases(NamedTuple):
    """Pixels in [0, 1], the visible share of each layer per feature cell, and what it shows."""

    images: jax.Array  # [batch, 64, 64, 3]
    masks: jax.Array  # [batch, layer, 8, 8], in [0, 1]
    labels: jax.Array  # int[batch, layer], 0-9 or OTHER


def paint(key, sources, labels, boxes, soft) -> Canvases:
    """Returns canvases with each layer's photograph painted over the layers before it.

    Args:
      key: Random key of the augmentation (window, flip, colour).
      sources: Photographs per layer, each `[batch, side, side, 3]` in [0, 1].
      labels: `int[batch, layer]`.
      boxes: `[batch, layer, 4]`, y0 x0 y1 x1 in pixels; an empty box hides the layer.
      soft: `bool[batch, layer]`, a rounded outline in place of the rectangle.
    """
    batch = labels.shape[0]
    image = jnp.zeros((batch, SIDE, SIDE, 3))
    masks = jnp.zeros((batch, 0, SIDE, SIDE))
    for layer, source in enumerate(sources):
        window_key, colour_key, outline_key = jax.random.split(jax.random.fold_in(key, layer), 3)
        box = boxes[:, layer]
        rows, columns = _resampling(window_key, box, source.shape[1])
        pixels = jnp.einsum("byh,bhwc,bxw->byxc", rows, source, columns)
        alpha = _outline(outline_key, box, soft[:, layer])
        image += alpha[..., None] * (_recolour(colour_key, pixels) - image)
        masks = jnp.concatenate([masks * (1 - alpha[:, None]), alpha[:, None]], axis=1)
    cells = SIDE // STRIDE
    masks = masks.reshape(batch, -1, cells, STRIDE, cells, STRIDE).mean((3, 5))
    return Canvases(jnp.clip(image, 0, 1), masks, labels)


def lay_out(key, labels, *, mosaics, splits, photographs) -> tuple[jax.Array, jax.Array]:
    """Returns the boxes and outlines of one batch: four kinds of canvas, in this order.

    Args:
      key: Random key.
      labels: `int[batch, layer]`, used for the batch size and to see which layer 0 is an object.
      mosaics: How many canvases are equal 2x2 mosaics of CIFAR-10 photographs.
      splits: How many are mosaics cut at a random point.
      photographs: How many show one photograph on the whole canvas.
        The rest are objects of 24 to 56 pixels upon a Tiny ImageNet photograph.
    """
    batch = labels.shape[0]
    cut_key, cell_key, swap_key, whole_key, box_key, soft_key = jax.random.split(key, 6)
    kind = jnp.digitize(
        jnp.arange(batch), jnp.array([mosaics, mosaics + splits, mosaics + splits + photographs])
    )
    # Mosaics: four cells around a cut; in one canvas of four, layer 0 takes over a cell.
    cut = jnp.where((kind == 1)[:, None], jax.random.randint(cut_key, (batch, 2), 2, 7) * 8, 32)
    y, x = cut[:, 0], cut[:, 1]
    zero, side = jnp.zeros_like(y), jnp.full_like(y, SIDE)
    cells = [(zero, zero, y, x), (zero, x, y, side), (y, zero, side, x), (y, x, side, side)]
    cells = jnp.stack([jnp.stack(cell, -1) for cell in cells], 1)
    swapped = jax.random.bernoulli(swap_key, 0.25, (batch,))
    taken = jax.nn.one_hot(jax.random.randint(cell_key, (batch,), 0, 4), 4) * swapped[:, None]
    taken = taken[..., None].astype(cells.dtype)
    mosaic = jnp.concatenate([(cells * taken).sum(1, keepdims=True), cells * (1 - taken)], 1)
    # One photograph: of layer 0 where that shows an object and chance agrees, else of layer 1.
    whole = jnp.array([0, 0, SIDE, SIDE])
    first = (jax.random.bernoulli(whole_key, 0.6, (batch,)) & (labels[:, 0] < 10))[:, None, None]
    single = jnp.zeros((batch, LAYERS, 4), cells.dtype)
    single = jnp.where(first, single.at[:, 0].set(whole), single.at[:, 1].set(whole))
    # Objects upon a photograph: one, or two that may overlap.
    extent_key, corner_key, count_key = jax.random.split(box_key, 3)
    extent = jax.random.randint(extent_key, (batch, 2, 1), 24, 57)
    corner = jax.random.uniform(corner_key, (batch, 2, 2)) * (SIDE - extent)
    corner = corner.astype(cells.dtype)
    objects = jnp.concatenate([corner, corner + extent], -1)
    objects = objects.at[:, 1].mul(jax.random.bernoulli(count_key, 0.4, (batch, 1)))
    scene = jnp.zeros((batch, LAYERS, 4), cells.dtype).at[:, 0].set(whole).at[:, 1:3].set(objects)
    kinds = kind[:, None, None]
    boxes = jnp.where(kinds < 2, mosaic, jnp.where(kinds == 2, single, scene))
    layers = jnp.arange(LAYERS) > 0
    soft = jax.random.bernoulli(soft_key, 0.5, (batch, LAYERS)) & layers & (kind == 3)[:, None]
    return boxes.astype(jnp.float32), soft


def _resampling(key, box, side):
    """Returns matrices `[batch, 64, side]` that resample a random window of a source to `box`."""
    scale_key, exact_key, shift_key, flip_key, tilt_key = jax.random.split(key, 5)
    batch = box.shape[0]
    extent = jnp.maximum(box[:, 2:] - box[:, :2], 1.0)
    fit = extent.max(-1) / side
    stretch = jnp.exp(jax.random.uniform(scale_key, (batch,), minval=-0.25, maxval=0.3))
    stretch = jnp.where(jax.random.bernoulli(exact_key, 0.5, (batch,)), 1.0, stretch)
    tilt = jnp.exp(jax.random.uniform(tilt_key, (batch,), minval=-0.1, maxval=0.1))
    tilt = jnp.where(stretch == 1.0, 1.0, tilt)
    scale = jnp.stack([fit * stretch * tilt, fit * stretch / tilt], -1)
    window = extent / scale
    slack = jnp.abs(side - window) + side / 8
    start = (side - window) / 2 + slack * jax.random.uniform(
        shift_key, (batch, 2), minval=-0.5, maxval=0.5
    )
    start = jnp.where(scale == 1.0, jnp.round(start), start)
    flip = jax.random.bernoulli(flip_key, 0.5, (batch,))
    axes = []
    for axis in (0, 1):
        pixel = (jnp.arange(SIDE) + 0.5 - box[:, axis, None]) / scale[:, axis, None]
        centre = jnp.clip(pixel + start[:, axis, None] - 0.5, 0, side - 1)
        if axis == 1:
            centre = jnp.where(flip[:, None], side - 1 - centre, centre)
        reach = jnp.maximum(1.0, 1.0 / scale[:, axis])[:, None, None]
        hat = jnp.maximum(0, 1 - jnp.abs(centre[..., None] - jnp.arange(side)) / reach)
        axes.append(hat / hat.sum(-1, keepdims=True))
    return axes


def _outline(key, box, soft):
    """Returns the opacity `[batch, 64, 64]` of a box: a rectangle, or a soft superellipse."""
    centre, half = (box[:, :2] + box[:, 2:]) / 2, jnp.maximum((box[:, 2:] - box[:, :2]) / 2, 1e-6)
    grid = jnp.arange(SIDE) + 0.5
    y, x = (jnp.abs(grid - centre[:, axis, None]) / half[:, axis, None] for axis in (0, 1))
    inside = ((y < 1)[:, :, None] & (x < 1)[:, None, :]).astype(jnp.float32)
    power = jax.random.uniform(key, (box.shape[0], 1), minval=2.0, maxval=6.0)
    level = jnp.minimum(y, 2.0)[:, :, None] ** power[..., None]
    level = level + jnp.minimum(x, 2.0)[:, None, :] ** power[..., None]
    return jnp.where(soft[:, None, None], inside * jnp.clip(4 * (1 - level), 0, 1), inside)


def _recolour(key, pixels):
    gain_key, offset_key, saturation_key = jax.random.split(key, 3)
    batch = pixels.shape[0]
    grey = pixels.mean(-1, keepdims=True)
    saturation = jax.random.uniform(saturation_key, (batch, 1, 1, 1), minval=0.4, maxval=1.3)
    gain = jax.random.uniform(gain_key, (batch, 1, 1, 4), minval=-1.0, maxval=1.0)
    gain = jnp.exp(0.15 * gain[..., :1] + 0.06 * gain[..., 1:])
    offset = jax.random.uniform(offset_key, (batch, 1, 1, 1), minval=-0.08, maxval=0.08)
    return (grey + saturation * (pixels - grey)) * gain + offset
