"""From images and targets to the signal at a tap: what all backward methods have in common."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.core import Composite, Rules, ground
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
    rules: Rules | Composite,
    score: Score = "logit",
    contrastive: bool = False,
    evenly: bool = False,
    relevance: bool = False,
) -> Signals:
    """Returns the signals of one forward and one backward pass, all targets on the same forward.

    Args:
      f: As for every explainer.
      images: As for every explainer.
      targets: As for every explainer.
      at: A tap, or `None` for the image.
      rules: The table.
      score: As for every explainer.
      contrastive: As for `ground`.
      evenly: Ask all positions of spatial logits alike, not those where the class stands out.
      relevance: Start from the prior times the logits: each logit's part of the score.

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
    if evenly and outputs.ndim == 4:
        priors = jnp.broadcast_to(priors.mean((2, 3), keepdims=True), priors.shape)
    if relevance:
        priors = priors * outputs[:, None]
    values = jax.vmap(pull, in_axes=1, out_axes=1)(priors)
    return Signals(values, activations, single)


def channel_sum(values: Array) -> Array:
    """Returns the sum over channels, accumulated in float32 or wider."""
    return values.sum(-1, dtype=jnp.promote_types(values.dtype, jnp.float32))
