"""Explainers of an image at several sizes and of its mirror image."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxground.maps import resize
from jaxground.scores import check_images, repeat_targets


def multi_scale(
    explainer: Callable[..., Array], *, sizes: Sequence[int] = (224, 352, 480), mirror: bool = True
) -> Callable[..., Array]:
    r"""Returns an explainer: the mean of the maps of an image at several sizes, and mirrored.

    A network sees small things in a large image and whole things in a small one; where the maps
    agree is the better answer. Every map :math:`L_i`, of `h_i w_i` pixels, is brought to mean
    absolute value one, so that no size outvotes another by its units or by the number of its
    pixels, mirrored back, and resized (linearly) to the largest of them:

    .. math:: L = \frac{1}{n} \sum_{i=1}^n
              \mathrm{resize}\Big(\frac{h_i w_i}{\sum |L_i|} L_i\Big)

    A map that is zero everywhere has no vote. So the result has no unit, and is neither linear in
    the prior nor conserving; from maps without sign it has mean one, up to the resize. Cost: that
    of `explainer` on all sizes, twice with `mirror`: sizes 224, 352 and 480 of a square image have
    16 times the pixels of size 224 in all. An image and its mirror image share a call, sizes have
    one each.

    Args:
      explainer: Any `explainer(f, images, targets, **options)` that returns `[batch, h, w]` or
        `[batch, k, h, w]`.
      sizes: Pixels of the shorter side, in place of that of the images given; the other side
        follows, rounded down. Shrinking averages (bilinear with anti-aliasing, as `preprocess`
        does). Give images of the largest size: enlarging adds nothing.
      mirror: Whether mirror images (left for right) take part.

    Returns:
      `explain(f, images, targets, **options)`; the options are those of `explainer`. Networks must
      run on images of any size.

    Raises:
      ValueError: There are no sizes, or one is not positive; what `explainer` raises.

    Example:
      >>> brightness = lambda f, images, targets: images.sum(-1)
      >>> explain = multi_scale(brightness, sizes=(1, 2))
      >>> explain(None, jnp.array([[[[3.0], [1.0]], [[0.0], [0.0]]]]), jnp.array([0]))
      Array([[[2. , 1. ],
              [0.5, 0.5]]], dtype=float32)

    References:
      Averages over sizes and mirror images are old practice at test time (Krizhevsky et al., 2012;
      Simonyan and Zisserman, 2015). This form of them, for maps, is ours.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes are {tuple(sizes)}: give the pixels of at least one shorter side")

    def explain(f, images: ArrayLike, targets: ArrayLike, **options: Any) -> Array:
        images = check_images(images)
        asked = repeat_targets(targets, len(images), 2) if mirror else targets
        found = []
        for short in sizes:
            shown = _at_size(images, short)
            if mirror:  # beside its image, so that a sharded batch stays where it is
                both = jnp.stack([shown, shown[:, :, ::-1]], axis=1)
                shown = both.reshape(-1, *both.shape[2:])
            values = _unit(explainer(f, shown, asked, **options))
            if mirror:
                values = values.reshape(-1, 2, *values.shape[1:])
                values = (values[:, 0] + values[:, 1, ..., ::-1]) / 2
            found.append(values)
        largest = max((values.shape[-2:] for values in found), key=np.prod)
        return sum(resize(v, largest, method="linear") for v in found) / len(found)  # pyright: ignore

    return explain


def _at_size(images: Array, short: int) -> Array:
    batch, height, width, channels = images.shape
    least = min(height, width)
    if least == short:
        return images
    size = (short * height // least, short * width // least)
    return jax.image.resize(images, (batch, *size, channels), "linear", antialias=True)


def _unit(maps: Array) -> Array:
    """Returns maps of mean absolute value one; a map of zeros remains one."""
    maps = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
    size = jnp.abs(maps).mean((-2, -1), keepdims=True)
    return maps / jnp.where(size > 0, size, 1)
