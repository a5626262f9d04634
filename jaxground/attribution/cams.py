"""Class activation maps: weighted sums of the channels of a convolutional layer."""

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground import maps
from jaxground.attribution.gradients import guided_backprop
from jaxground.attribution.signals import Signals, backward, channel_sum
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
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score)
    return jnp.maximum(_sum(signals, signals.values.mean((2, 3))), 0)


def grad_cam_plus_plus(
    f: Classifier, images: ArrayLike, targets: ArrayLike, *, at: str, score: Score = "logit"
) -> Array:
    r"""Returns the channels of a layer weighted by their positive gradients, clipped at zero.

    .. math:: L = \max\Big(0, \sum_k w_k A_k\Big), \quad
              w_k = \sum_{ij} \alpha_{kij} \max(0, g_{kij}), \quad
              \alpha_{kij} = \frac{g_{kij}^2}{2 g_{kij}^2 + g_{kij}^3 \sum_{ab} A_{kab}}

    where :math:`g = \partial s / \partial A`. The weights make the map of a class found in
    several places cover them all. They come from second and third derivatives of a score
    :math:`Y`; the authors take :math:`Y = \exp(s)`, whose derivatives are
    :math:`\exp(s)\, g^n` where :math:`s` is piecewise linear above the tap, and the factor
    :math:`\exp(s)` cancels in :math:`\alpha`. It multiplies the whole map of the paper, where
    the stretch to 0..1 removes it; here it is left out, for it overflows. So `score` is the
    :math:`s` of the formula: with `"logit"` :math:`Y = \exp(s)` as published, with
    `"log_probability"` :math:`Y` is the probability. A score that is not piecewise linear (the
    softmax, a smooth activation) has its own second derivative, which the formula, like the
    authors' code, leaves out.

    :math:`\alpha` is computed as :math:`1 / (2 + g \sum A)`: powers of small gradients do not
    underflow, and a zero gradient, for which the fraction is 0/0, weighs nothing. On activations
    that are not negative, for which it is meant, the denominator is 2 or more where it counts;
    where it is zero all the same, :math:`\alpha` is zero (the authors' code divides by one). That
    code also makes the :math:`\alpha` of a channel sum to one, which the paper does not.

    Arguments and errors are those of `grad_cam`. Cost: one forward pass and, above the tap, one
    backward pass.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, non-negative, in scores.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: 4 * tap(x, "x").mean((1, 2))
      >>> grad_cam_plus_plus(f, jnp.array([[[[3.0], [0.0]]]]), jnp.array([0]), at="x")
      Array([[[1.5, 0. ]]], dtype=float32)

    References:
      Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep
      Convolutional Networks, WACV 2018, equations 5 and 19.
    """
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score)
    totals = signals.activations.sum((1, 2), keepdims=True, dtype=_wide(signals.activations))
    below = 2 + signals.values * totals[:, None]
    alphas = jnp.where(below == 0, 0, 1 / jnp.where(below == 0, 1, below))
    return jnp.maximum(_sum(signals, (alphas * jnp.maximum(signals.values, 0)).sum((2, 3))), 0)


def layer_cam(
    f: Classifier, images: ArrayLike, targets: ArrayLike, *, at: str, score: Score = "logit"
) -> Array:
    r"""Returns the activations of a layer, each weighted by its own positive gradient.

    .. math:: L = \max\Big(0, \sum_k \max(0, g_k)\, A_k\Big), \quad
              g = \frac{\partial s}{\partial A}

    Where Grad-CAM has one weight per channel, here each position has its own: finer maps at
    earlier taps, where the gradient of a channel differs from place to place.

    Arguments and errors are those of `grad_cam`. Cost: one forward pass and, above the tap, one
    backward pass.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, non-negative, in scores.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: (jnp.array([[[1.0], [-1.0], [2.0]]]) * tap(x, "x")).sum((1, 2))
      >>> layer_cam(f, jnp.array([[[[3.0], [5.0], [1.0]]]]), jnp.array([0]), at="x")
      Array([[[3., 0., 2.]]], dtype=float32)

    References:
      Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE
      Transactions on Image Processing 2021, equations 5 to 7.
    """
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score)
    weighted = jnp.maximum(signals.values, 0) * signals.activations[:, None]
    return signals.per_target(jnp.maximum(channel_sum(weighted), 0))


def guided_grad_cam(
    f: Classifier, images: ArrayLike, targets: ArrayLike, *, at: str, score: Score = "logit"
) -> Array:
    """Returns guided backprop at the image, times Grad-CAM enlarged bilinearly to the image.

    Arguments and errors are those of `grad_cam`; `at` is where Grad-CAM is read. The product is
    that of the maps: the paper multiplies the three channels of guided backprop, and since
    Grad-CAM is not negative, the largest of them is the product of the largest. Cost: one forward
    and two backward passes, if compiled together (XLA merges the two forward passes).

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, non-negative, at the resolution of the images.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(x, "x").mean((1, 2))
      >>> guided_grad_cam(f, jnp.array([[[[4.0], [0.0]]]]), jnp.array([0]), at="x")
      Array([[[1., 0.]]], dtype=float32)

    References:
      Selvaraju et al., Grad-CAM, ICCV 2017, section 3.2.
    """
    coarse = grad_cam(f, images, targets, at=at, score=score)
    fine = guided_backprop(f, images, targets, score=score)
    height, width = fine.shape[-2:]
    return fine * maps.resize(coarse, (height, width), method="linear")


def cam(
    f: Classifier, images: ArrayLike, targets: ArrayLike, *, at: str, score: Score = "logit"
) -> Array:
    r"""Returns the class activation map :math:`\sum_k w_k A_k`, signed, without the bias.

    Only where global average pooling and one linear layer lie between tap and logits, or a linear
    layer at every position, is :math:`w_k`, the weight of channel :math:`k` to the class, defined;
    anything else is refused. Under `jit`, where values cannot be looked at, a head that weighs
    positions differently gives NaN.

    Arguments and other errors are those of `grad_cam`.

    Returns:
      `float[batch, h, w]`, or `[batch, k, h, w]`, signed: its mean is the logit without bias.

    Raises:
      ValueError: The network above the tap is not linear, and the message names the operation; or
        it weighs positions differently.

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
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score, evenly=True)
    values = signals.values.astype(_wide(signals.values))
    weights = values.mean((2, 3), keepdims=True)
    largest, apart = (jnp.abs(x).max((2, 3, 4)) for x in (values, values - weights))
    even = apart <= jnp.finfo(signals.values.dtype).eps ** 0.5 * largest  # [batch, k]
    if not isinstance(even, Tracer) and not even.all():
        raise ValueError(
            f"the outputs weigh the positions of tap {at!r} differently. A class activation map "
            "needs global average pooling and one linear layer above the tap; use grad_cam."
        )
    positions = values.shape[2] * values.shape[3]
    weights = jnp.where(even[..., None], positions * weights[:, :, 0, 0], jnp.nan)
    return _sum(signals, weights)


def _sum(signals: Signals, weights: Array) -> Array:
    """Returns the sum over channels of the activations, weighted by `[batch, k, channel]`.

    As a matrix product: the CPU compiler of jaxlib 0.10.2 now and then turns the product and sum
    of two broadcasts into wrong numbers (SqueezeNet's fire5, two targets: stripes).
    """
    wide = (x.astype(_wide(x)) for x in (weights, signals.activations))
    return signals.per_target(jnp.einsum("bkc,bhwc->bkhw", *wide, precision="highest"))


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)
