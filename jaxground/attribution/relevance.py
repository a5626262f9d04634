"""Layer-wise relevance propagation."""

from jax import Array
from jax.typing import ArrayLike

from jaxground.attribution.signals import backward, channel_sum
from jaxground.core import Composite, Rules, epsilon
from jaxground.scores import Classifier, Score


def lrp(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None = None,
    rules: Rules | Composite | None = None,
    score: Score = "logit",
) -> Array:
    r"""Returns how much each position contributes to the score: its relevance, signed.

    The relevance of the output is the score's value, :math:`R = f_c(x)`. Every layer shares it
    among its inputs by the rule of the table, so that the maps of all layers sum to the score, less
    what falls to biases and stabilisers (`jaxground.mass` of the prior times the logits says how
    much). Cost: a forward pass and, above the tap, for every term of the rule one more and a
    backward pass: one for `epsilon` and `gamma`, two for `z_plus`, three for `z_box`, four for
    `alpha_beta`. Targets share the forward passes.

    Published for networks with batch norm folded into the weights: explain `fold_batch_norm(f)`.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits `float[batch, classes]`, or
        to spatial logits `float[batch, h, w, classes]`. What it closes over is weight.
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior (see `jaxground.scores`).
      at: A tap of `f`, `[batch, h, w, channel]`; `None` is the image itself.
      rules: The table: `epsilon()` by default, `gamma()`, `alpha_beta()`, `z_plus()`; for
        transformers `attn_lrp()`; or a `Composite` of tables by depth.
      score: What is explained of a target: `"logit"`, `"probability"`, `"log_probability"` or a
        function of the outputs. Of another score than the logit the logits' parts, gradient times
        logit, are propagated: they sum to its linearisation. Ours, not published.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]` for `k` targets, in logits. Under `epsilon` and
      `gamma` positive relevance speaks for the target and negative against it. `z_plus` and
      `alpha_beta` share the value as such: of a negative logit their maps are turned about.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range.
      KeyError: No such tap, neither `at` nor in the composite; the message lists those there.
      MissingRuleError: An operation above the tap has no rule.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxground.core import Composite, epsilon, gamma, tap
      >>> kernel = jnp.array([[1.0, -1.0], [2.0, 1.0]])
      >>> f = lambda x: tap(x @ kernel, "hidden").mean((1, 2)) @ jnp.array([[1.0], [-1.0]])
      >>> images = jnp.array([[[[1.0, 0.0], [0.0, 2.0]]]])
      >>> f(images), lrp(f, images, jnp.array([0]), rules=epsilon(0))
      (Array([[2.]], dtype=float32), Array([[[1., 1.]]], dtype=float32))
      >>> rules = Composite({"hidden": gamma(1.0)}, above=epsilon(0))
      >>> lrp(f, images, jnp.array([0]), rules=rules)
      Array([[[1., 1.]]], dtype=float32)

    References:
      Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
      Relevance Propagation, PLOS ONE 2015; Montavon et al., Layer-Wise Relevance Propagation: An
      Overview, 2019.
    """
    rules = epsilon() if rules is None else rules
    signals = backward(f, images, targets, at=at, rules=rules, score=score, relevance=True)
    return signals.per_target(channel_sum(signals.values))
