"""Score-CAM: channels weighted by what the network says of the image seen through them."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground import maps
from jaxground.core import GRADIENT
from jaxground.core.taps import slot_of
from jaxground.core.transform import evaluate, trace
from jaxground.passes import forward_passes
from jaxground.scores import Classifier, Score


def score_cam(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str,
    score: Score = "logit",
    batch_size: int = 32,
) -> Array:
    r"""Returns the channels of a layer weighted by the score they let through, clipped at zero.

    .. math:: L = \max\Big(0, \sum_c \alpha_c A_c\Big), \quad
              \alpha = \mathrm{softmax}_c\; s(x \odot H_c)

    where :math:`H_c` is channel :math:`c`, enlarged bilinearly to the image and stretched to 0..1.
    The score of the baseline image that the paper subtracts from each :math:`s` cancels in the
    softmax and is not computed. Cost: one forward pass and one per channel, whatever the number of
    targets.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits (before any softmax).
      images: Preprocessed for `f`: zero, the mean of the data, is what a channel hides with.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior.
      at: A tap `[batch, h, w, channel]`, as a rule the last convolutional layer.
      score: What is asked of a channel: the `"logit"`, the `"probability"`, the
        `"log_probability"` or a function of the outputs (see `jaxground.scores`). The scale of
        the score is the temperature of the softmax: with `"probability"` the weights are nearly
        equal.
      batch_size: Images (channels times batch) per forward pass.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, at the resolution of the tap, non-negative, in
      units of the activations. A constant channel shows nothing and weighs nothing; if all are
      constant, the map is zero.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range.
      KeyError: No such tap.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: 100 * tap(x, "x").mean((1, 2))
      >>> image = jnp.array([[[[2.0, 0.0], [0.0, 2.0]]]])  # one channel left, one right
      >>> score_cam(f, image, jnp.array([1]), at="x")
      Array([[[0., 2.]]], dtype=float32)

    References:
      Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks,
      CVPR 2020 workshops, equations 5 to 8 and algorithm 1.
    """
    passes = forward_passes(f, images, targets, score)
    activations = _activations(f, passes.images, at)
    channels = jnp.moveaxis(activations, -1, 1)  # [batch, channel, h, w]
    _, height, width, _ = passes.images.shape
    count = channels.shape[1]

    def show(numbers: Array) -> Array:
        chosen = jnp.take(channels, numbers, axis=1, mode="clip")
        shown = maps.normalise(maps.resize(chosen, (height, width), method="linear"))[..., None]
        return passes.images[:, None] * shown.astype(passes.images.dtype)

    scores = passes.scores_of(show, count, batch_size)
    alive = (channels.max((2, 3)) > channels.min((2, 3)))[:, None]
    weights = jnp.where(alive, jax.nn.softmax(scores, where=alive), 0)
    sums = jnp.einsum("bkc,bchw->bkhw", weights, channels, precision="highest")
    return passes.per_target(jnp.maximum(sums, 0))


def _activations(f: Classifier, images: Array, at: str) -> Array:
    """Returns the values of a tap `float32[batch, h, w, channel]`, without differentiating."""
    program, _ = trace(f, GRADIENT, images)
    _, (values,) = evaluate(program, [images], read=[slot_of(program, at)])
    if values.ndim != 4:
        raise ValueError(
            f"tap {at!r} has shape {values.shape}; score_cam needs [batch, height, width, channel]"
        )
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
