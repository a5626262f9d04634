"""How metrics ask a network: many versions of a batch of images, in constant memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxground.maps import resize
from jaxground.metrics.validity import is_flat, known
from jaxground.passes import forward_passes
from jaxground.scores import Classifier, Score

RANGE_LEVELS = 2**17  # about 1e-5, what `validity.is_flat` takes for constant


def ask(
    f: Classifier,
    images: Array,
    versions: Callable[[Any], Array],
    xs: Any,
    targets: ArrayLike,
    *,
    score: Score,
    batch_size: int,
    single: bool,
) -> Array:
    """Returns the score of every target on every version of the images.

    Args:
      f: The network.
      images: `[batch, h, w, channel]`.
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
      >>> ask(f, images, lambda x: x * images[:, None], jnp.arange(3.0), jnp.array([1]),
      ...     score="logit", batch_size=2, single=True)
      Array([[[-0., -1., -2.]]], dtype=float32)
    """  # fmt: skip
    passes = forward_passes(f, images, targets, score)
    if passes.single != single:
        raise ValueError(
            f"targets {jnp.shape(targets)} do not go with the maps: maps [batch, h, w] take one "
            "target per image, maps [batch, k, h, w] take k"
        )
    count = len(jax.tree.leaves(xs)[0])
    k = jax.eval_shape(versions, jax.tree.map(lambda x: x[0], xs)).shape[1]
    if k not in (1, passes.targets):
        raise ValueError(f"{k} maps do not go with {passes.targets} targets")
    own = k > 1

    def alter(numbers: Array) -> Array:
        chosen = jax.tree.map(lambda x: x[jnp.minimum(numbers, count - 1)], xs)
        made = jax.vmap(versions, out_axes=1)(chosen)  # [batch, n, k, h, w, channel]
        return made if own else made[:, :, 0]

    return passes.scores_of(alter, count, batch_size, own=own)


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
