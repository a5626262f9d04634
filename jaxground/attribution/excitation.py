"""Excitation Backprop and its contrastive form."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.attribution.signals import backward, channel_sum
from jaxground.core import EXCITATION, Composite, Rules
from jaxground.scores import Classifier, Score


def excitation_backprop(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    rules: Rules | Composite = EXCITATION,
    score: Score = "logit",
) -> Array:
    r"""Returns where the evidence for the targets stands: the marginal winning probability.

    A prior at the target's logit is passed down; each parent :math:`i` shares its mass among its
    excitatory children :math:`j`,

    .. math:: P(j) = \sum_i P(i) \frac{x_j w_{ij}^+}{\sum_k x_k w_{ik}^+}, \quad w^+ = \max(w, 0),

    and the map is the sum over the channels of the tap. Cost: one forward pass and, above the tap
    only, one pass of normalisers and one backward pass, shared by the images and, but for the
    backward pass, by the targets.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits `float[batch, classes]`, or
        to spatial logits `float[batch, h, w, classes]`. What it closes over is weight.
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior (see `signals.prior`).
      at: A tap of `f`, `[batch, h, w, channel]`; `None` grounds at the image itself, where the
        theory asks for non-negative values and negative pixels receive no mass.
      rules: The table: `EXCITATION`, or `CAFFE` to reproduce the authors' numbers;
        `EXCITATION | ATTENTION` for transformers; or a `Composite` of tables by depth.
      score: What is explained of a target: `"logit"`, `"probability"`, `"log_probability"` or a
        function of the outputs (see `jaxground.scores`).

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]` for `k` targets. From a one-hot prior each map
      is non-negative and sums to one less what parents without excitatory child dropped (see
      `mass`); from a signed prior, such as that of the log-probability, it is signed.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range.
      KeyError: No such tap; the message lists those there.
      MissingRuleError: An operation above the tap has no rule.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(x, "x").mean((1, 2)) @ jnp.array([[1.0, -1.0], [-1.0, 1.0]])
      >>> images = jnp.array([[[[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 0.0]]]])
      >>> excitation_backprop(f, images, jnp.array([0]), at="x")
      Array([[[0.25, 0.  ],
              [0.75, 0.  ]]], dtype=float32)

    References:
      Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016; IJCV 2018.
    """
    signals = backward(f, images, targets, at=at, rules=rules, score=score)
    return signals.per_target(channel_sum(signals.values))


def contrastive_excitation_backprop(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    rules: Rules | Composite = EXCITATION,
    score: Score = "logit",
) -> Array:
    """Returns where the evidence for the targets exceeds that for their negation.

    The dual unit has the negated weights of the last weighted linear map. Its mass is subtracted
    from the target's below that map, and the signed difference passed on; the map is the sum over
    channels, clipped at zero afterwards. Without any negative weight to the target the dual unit
    has no mass, and the map is that of `excitation_backprop`. A map may be zero everywhere.

    Arguments, errors and cost are those of `excitation_backprop`. There must be a dense layer or a
    convolution between tap and logits.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]` for `k` targets, non-negative.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(x, "x").mean((1, 2)) @ jnp.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
      >>> images = jnp.array([[[[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]]])
      >>> contrastive_excitation_backprop(f, images, jnp.array([0]), at="x")
      Array([[[0.6666667, 0.       ]]], dtype=float32)

    References:
      Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, section 3.3.
    """
    signals = backward(f, images, targets, at=at, rules=rules, score=score, contrastive=True)
    return signals.per_target(jnp.maximum(channel_sum(signals.values), 0))
