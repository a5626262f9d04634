"""From images and targets to the signal at a tap: what all backward methods have in common."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.core import Rules, ground
from jaxground.scores import Classifier, Score, check_images, prior


class Signals(NamedTuple):
    """What arrived at a tap.

    Attributes:
      values: `float[batch, k, h, w, channel]`, the mass or gradient, one row per target.
      activations: `float[batch, h, w, channel]`, the values of the forward pass there.
      single: Whether the caller gave one target per image, and wants no axis `k` back.
    """

    values: Array
    activations: Array
    single: bool

    def per_target(self, maps: Array) -> Array:
        """Returns `maps[batch, k, ...]`, without the axis `k` if one target was asked for."""
        return maps[:, 0] if self.single else maps


def backward(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None,
    rules: Rules,
    score: Score = "logit",
    contrastive: bool = False,
) -> Signals:
    """Returns the signals of one forward and one backward pass, all targets on the same forward.

    Raises:
      TypeError: Images that are not floating point, or logits that are not.
      ValueError: Images, targets or a tap of the wrong shape, NaN pixels, a class out of range.
      KeyError: There is no such tap.
    """
    images = check_images(images)
    outputs, activations, pull = ground(f, images, at=at, rules=rules, contrastive=contrastive)
    priors, single = prior(outputs, targets, score)
    if activations.ndim != 4:
        raise ValueError(
            f"tap {at!r} has shape {activations.shape}; a map needs [batch, height, width, "
            "channel]. For the mass of single neurons use jaxground.ground(f, images, at=...)."
        )
    values = jax.vmap(pull, in_axes=1, out_axes=1)(priors)
    return Signals(values, activations, single)


def channel_sum(values: Array) -> Array:
    """Returns the sum over channels, accumulated in float32 or wider."""
    return values.sum(-1, dtype=jnp.promote_types(values.dtype, jnp.float32))
