"""Class activation maps: weighted sums of the channels of a convolutional layer."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.attribution.signals import backward, channel_sum
from jaxground.core import GRADIENT
from jaxground.core.taps import check_affine
from jaxground.scores import Classifier, Score, check_images


def grad_cam(
    f: Classifier, images: ArrayLike, targets: ArrayLike, *, at: str, score: Score = "logit"
) -> Array:
    r"""Returns the channels of a layer weighted by their average gradient, clipped at zero.

    .. math:: L = \max\Big(0, \sum_k \alpha_k A_k\Big), \quad
              \alpha_k = \frac{1}{hw} \sum_{ij} \frac{\partial s}{\partial A_{kij}}

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits (before any softmax).
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior.
      at: A tap `[batch, h, w, channel]`, as a rule the last convolutional layer.
      score: What is explained of a target: `"logit"`, `"probability"`, `"log_probability"` or a
        function of the outputs (see `jaxground.scores`).

    Returns:
      `float[batch, h, w]`, or `[batch, k, h, w]`, non-negative, in logits.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range.
      KeyError: No such tap.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(x, "x").mean((1, 2))
      >>> grad_cam(f, jnp.array([[[[3.0, 0.0], [-1.0, 5.0]]]]), jnp.array([0]), at="x")
      Array([[[1.5, 0. ]]], dtype=float32)

    References:
      Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    return jnp.maximum(_weighted(f, images, targets, at, score, jnp.mean), 0)


def cam(
    f: Classifier, images: ArrayLike, targets: ArrayLike, *, at: str, score: Score = "logit"
) -> Array:
    r"""Returns the class activation map :math:`\sum_k w_k A_k`, signed, without the bias.

    Only where global average pooling and one linear layer lie between tap and logits is
    :math:`w_k`, the weight of channel :math:`k` to the class, defined; anything else is refused.

    Arguments and other errors are those of `grad_cam`.

    Returns:
      `float[batch, h, w]`, or `[batch, k, h, w]`, signed: its mean is the logit without bias.

    Raises:
      ValueError: The network above the tap is not linear; the message names the operation.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(x, "x").mean((1, 2)) @ jnp.array([[2.0], [1.0]])
      >>> cam(f, jnp.array([[[[3.0, 0.0], [-1.0, 5.0]]]]), jnp.array([0]), at="x")
      Array([[[6., 3.]]], dtype=float32)

    References:
      Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, equation 2.
    """
    images = check_images(images)
    check_affine(f, images, at)
    return _weighted(f, images, targets, at, score, jnp.sum)


def _weighted(f, images, targets, at, score, reduce) -> Array:
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score)
    weights = reduce(signals.values, axis=(2, 3), keepdims=True)  # [batch, k, 1, 1, channel]
    return signals.per_target(channel_sum(weights * signals.activations[:, None]))
