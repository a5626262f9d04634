"""How metrics ask a network: many versions of a batch of images, in constant memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.maps import resize
from jaxground.metrics.validity import is_flat, known
from jaxground.scores import Classifier, Score, score_values

RANGE_LEVELS = 2**17  # about 1e-5, what `validity.is_flat` takes for constant


def ask(
    f: Classifier,
    versions: Callable[[Any], Array],
    xs: Any,
    targets: ArrayLike,
    *,
    score: Score,
    batch_size: int,
    single: bool,
) -> Array:
    """Returns the score of every target on every version of the images.

    Versions are made, looked at and forgotten inside a `lax.map`: memory does not depend on their
    number. The batch of images stays the major axis throughout, so that it may be sharded.

    Args:
      f: The network.
      versions: From one element of `xs` to a version of the images: `[batch, k, h, w, channel]`,
        one for each target, or `[batch, 1, h, w, channel]`, which the targets share.
      xs: A tree of arrays `[n, ...]`.
      targets: As for `score_values`.
      score: As for `score_values`.
      batch_size: Images per forward pass; one version of the batch goes at a time at least.
      single: Whether the maps have no axis `k`: then the targets must have none, either.

    Returns:
      `[batch, k, n]`, float32 or wider.

    Raises:
      ValueError: Targets that do not go with the maps, or a `batch_size` below one.

    Example:
      >>> images = jnp.ones((1, 1, 1, 1))
      >>> f = lambda x: jnp.concatenate([x[:, 0, 0], -x[:, 0, 0]], 1)
      >>> ask(f, lambda x: x * images[:, None], jnp.arange(3.0), jnp.array([1]),
      ...     score="logit", batch_size=2, single=True)
      Array([[[-0., -1., -2.]]], dtype=float32)
    """  # fmt: skip
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: at least one image makes a pass")
    count = len(jax.tree.leaves(xs)[0])
    batch, k, *_ = jax.eval_shape(versions, jax.tree.map(lambda x: x[0], xs)).shape
    passes = -(-count // max(1, batch_size // (batch * k)))
    size = -(-count // passes)  # passes as equal as can be; the last version fills the last pass
    rows = jnp.minimum(jnp.arange(passes * size), count - 1).reshape(passes, size)

    def values(outputs):  # [batch, classes]
        values, alone = score_values(outputs, targets, score)
        if alone != single:
            raise ValueError(
                f"targets {jnp.shape(targets)} do not go with the maps: maps [batch, h, w] take "
                "one target per image, maps [batch, k, h, w] take k"
            )
        return values.astype(jnp.promote_types(values.dtype, jnp.float32))

    def chunk(rows):
        images = jax.vmap(versions, out_axes=1)(jax.tree.map(lambda x: x[rows], xs))
        several = images.shape[:3]  # batch, size, k
        outputs = f(images.reshape(-1, *images.shape[3:]))
        outputs = jax.tree.map(lambda x: x.reshape(*several, *x.shape[1:]), outputs)
        answers = jax.vmap(jax.vmap(values, 1, 1), 1, 1)(outputs)  # [batch, size, k or 1, k]
        if several[2] == 1:
            return answers[:, :, 0]
        if several[2] != answers.shape[3]:
            raise ValueError(f"{several[2]} maps do not go with {answers.shape[3]} targets")
        return jnp.diagonal(answers, axis1=2, axis2=3)  # of each version its own target

    answers = lax.map(chunk, rows)  # [chunks, batch, size, k]
    answers = jnp.transpose(answers, (1, 3, 0, 2))
    return answers.reshape(*answers.shape[:2], -1)[..., :count]


def on_images(maps: ArrayLike, images: Array) -> tuple[Array, bool]:
    """Returns maps at the images' resolution as `[batch, k, h, w]`, and whether `k` was absent.

    Other resolutions go through `maps.resize` (cubic), and are rounded to 2^-17 of the map's range:
    the rounding of a resize must not tell pixels apart that the map does not. Flat maps (see
    `validity.is_flat`) become zero everywhere. What is no number is NaN.

    Raises:
      ValueError: The maps are not `[batch, h, w]` or `[batch, k, h, w]`.

    Example:
      >>> on_images(jnp.array([[[0.1, 0.2]]]), jnp.zeros((1, 2, 2, 3)))
      (Array([[[[0.1, 0.2],
               [0.1, 0.2]]]], dtype=float32), True)
    """
    maps = jnp.asarray(maps)
    if maps.ndim not in (3, 4) or len(maps) != len(images) or 0 in maps.shape:
        raise ValueError(
            f"maps {maps.shape} do not go with images {images.shape}: expected [batch, h, w], or "
            "[batch, k, h, w] for k targets of each image"
        )
    single = maps.ndim == 3
    maps = contrasted(maps[:, None] if single else maps)
    if maps.shape[2:] != images.shape[1:3]:
        low, high = (limit(maps, (2, 3), keepdims=True) for limit in (jnp.nanmin, jnp.nanmax))
        level = jnp.where(high > low, high - low, 1) / RANGE_LEVELS
        height, width = images.shape[1:3]
        maps = jnp.round(resize(maps - low, (height, width)) / level) * level + low
    return maps, single


def contrasted(maps: ArrayLike) -> Array:
    """Returns maps with NaN for what is no number, and zeros for flat maps.

    Example:
      >>> contrasted(jnp.array([[[0.0, 1.0, jnp.inf]], [[2.0, jnp.nan, 2.0]]])).tolist()
      [[[0.0, 1.0, nan]], [[0.0, 0.0, 0.0]]]
    """
    maps = known(maps)
    return jnp.where(is_flat(maps)[..., None, None], 0, maps)


def as_images(baseline: ArrayLike, images: Array) -> Array:
    """Returns what removed pixels become, in the shape and type of the images.

    Raises:
      ValueError: It does not broadcast against them.

    Example:
      >>> as_images(0.5, jnp.ones((1, 1, 2, 1))).ravel()
      Array([0.5, 0.5], dtype=float32)
    """
    baseline = jnp.asarray(baseline, images.dtype)
    if np.broadcast_shapes(baseline.shape, images.shape) != images.shape:
        raise ValueError(f"baseline {baseline.shape} does not broadcast to images {images.shape}")
    return jnp.broadcast_to(baseline, images.shape)
