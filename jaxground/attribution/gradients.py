"""Gradients at the image, plain and with other rules at the ReLUs."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.attribution.signals import backward, channel_sum
from jaxground.core import DECONVNET, GRADIENT, GUIDED, Rules
from jaxground.scores import Classifier, Score


def gradient(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    score: Score = "logit",
) -> Array:
    """Returns how strongly each pixel moves the target's logit: max over channels of `|d s / d x|`.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits (before any softmax).
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior: the direction in logit space.
      at: A tap, or `None` for the image, as published.
      score: What is explained of a target: `"logit"`, `"probability"`, `"log_probability"` or a
        function of the outputs (see `jaxground.scores`).

    Returns:
      `float[batch, h, w]`, or `[batch, k, h, w]`, non-negative, in logits per unit of the input.
      The benchmarks smooth it afterwards (`maps.smooth`).

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range.
      KeyError: No such tap.

    Example:
      >>> f = lambda x: x.mean((1, 2)) @ jnp.array([[4.0, 0.0], [-8.0, 0.0]])
      >>> gradient(f, jnp.ones((1, 1, 2, 2)), jnp.array([0]))
      Array([[[4., 4.]]], dtype=float32)

    References:
      Simonyan et al., Deep Inside Convolutional Networks, ICLR 2014 workshop.
    """
    return _strongest(f, images, targets, at, score, GRADIENT)


def signed_gradient(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    score: Score = "logit",
) -> Array:
    """Returns the gradient itself, with its sign and its channels: not yet a map.

    For what is done before the channels are: `smooth_grad(signed_gradient)` averages as its paper
    does. Arguments and errors are those of `gradient`.

    Returns:
      `float[batch, h, w, channel]`, or `[batch, k, h, w, channel]`.

    Example:
      >>> f = lambda x: x.mean((1, 2)) @ jnp.array([[4.0, 0.0], [-8.0, 0.0]])
      >>> signed_gradient(f, jnp.ones((1, 1, 2, 2)), jnp.array([0]))
      Array([[[[ 2., -4.],
               [ 2., -4.]]]], dtype=float32)

    References:
      Simonyan et al., Deep Inside Convolutional Networks, ICLR 2014 workshop.
    """
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score)
    return signals.per_target(signals.values)


def input_x_gradient(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    score: Score = "logit",
) -> Array:
    r"""Returns the image times the gradient, summed over channels, with its sign.

    .. math:: L = \sum_c x_c \frac{\partial s}{\partial x_c}

    Signed, because the sum then means something: it is what the score would lose, to first order,
    if the pixel went to zero, and a network of ReLUs without biases has its logit shared out
    exactly. The absolute values of channels, or of their sum, would add up to neither. Zero is the
    mean of the data for the networks of `jaxground.models`: grey pixels get nothing.

    Arguments and errors are those of `gradient`. Cost: one forward and one backward pass.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, signed, in scores; at a tap, its activations
      stand for the image.

    Example:
      >>> f = lambda x: x.mean((1, 2)) @ jnp.array([[4.0, 0.0], [-8.0, 0.0]])
      >>> images = jnp.array([[[[1.0, 0.0], [1.0, 1.0]]]])
      >>> input_x_gradient(f, images, jnp.array([0]))
      Array([[[ 2., -2.]]], dtype=float32)

    References:
      Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating
      Activation Differences, 2016; Ancona et al., ICLR 2018, table 1.
    """
    signals = backward(f, images, targets, at=at, rules=GRADIENT, score=score)
    return signals.per_target(channel_sum(signals.values * signals.activations[:, None]))


def guided_backprop(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    score: Score = "logit",
) -> Array:
    """Returns the gradient with `p * 1[p > 0] * 1[x > 0]` at every ReLU, max over channels of `||`.

    A ReLU is `jax.nn.relu` (or Flax's) or `max(x, 0)`. Arguments, result and errors are those of
    `gradient`.

    Example:
      >>> import jax
      >>> f = lambda x: -jax.nn.relu(x).sum((1, 2))
      >>> guided_backprop(f, jnp.ones((1, 1, 2, 1)), jnp.array([0]))
      Array([[[0., 0.]]], dtype=float32)

    References:
      Springenberg et al., Striving for Simplicity: The All Convolutional Net, ICLR 2015 workshop.
      (What Caffe-ExcitationBP calls `deconv` is this method.)
    """
    return _strongest(f, images, targets, at, score, GUIDED)


def deconvnet(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    score: Score = "logit",
) -> Array:
    """Returns the deconvnet's reconstruction: `p * 1[p > 0]` at every ReLU, whatever its input.

    Max-pooling is undone at the winners of the forward pass. Arguments, result and errors are
    those of `gradient`.

    Example:
      >>> import jax
      >>> f = lambda x: jax.nn.relu(x).sum((1, 2))
      >>> deconvnet(f, -jnp.ones((1, 1, 2, 1)), jnp.array([0]))
      Array([[[1., 1.]]], dtype=float32)

    References:
      Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """
    return _strongest(f, images, targets, at, score, DECONVNET)


def _strongest(f, images, targets, at, score, rules: Rules) -> Array:
    signals = backward(f, images, targets, at=at, rules=rules, score=score)
    return signals.per_target(jnp.abs(signals.values).max(-1))
