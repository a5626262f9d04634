"""Region perturbation: square regions replaced by noise in the order of a map."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.metrics.asking import ask, on_images
from jaxground.metrics.ranking import removal_ranks
from jaxground.scores import Classifier, Score, check_images

Order = Literal["morf", "lerf"]


class Perturbation(NamedTuple):
    """Scores while regions are replaced.

    Attributes:
      scores: `[batch, steps + 1]`, or `[batch, k, steps + 1]`, from the image on.
      aopc: `[batch]`, or `[batch, k]`: area over the perturbation curve, the mean over all points
        of how far the score is below that of the image, in units of the score.
    """

    scores: Array
    aopc: Array


def region_perturbation(
    f: Classifier,
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    *,
    key: Array,
    order: Order = "morf",
    side: int = 9,
    steps: int = 100,
    score: Score = "logit",
    batch_size: int = 32,
) -> Perturbation:
    r"""Returns how far the score falls while regions of the image are replaced by noise.

    A grid of `side x side` pixels is laid over the image; its regions are replaced one at a time by
    noise, uniform in every channel between the image's smallest and largest value there,

    .. math:: \mathrm{AOPC} = \frac{1}{L + 1} \sum_{k=0}^{L} f(x^{(0)}) - f(x^{(k)}).

    Most relevant first (`"morf"`), a large AOPC is good; least relevant first (`"lerf"`), a small
    one. Cost: `steps + 1` forward passes for each map. The authors average over ten draws of
    the noise: `jax.vmap` over keys.

    Ours, not published: the last regions of a row and column may be smaller, and the relevance of
    a region is therefore its mean (the paper's sum, divided by the area), NaN pixels left out.
    Regions of equal relevance rank as the least relevant of them (see `ranking.removal_ranks`): a
    constant map replaces nothing (`"morf"`) or everything at the first step (`"lerf"`), the worst
    in either order.

    Args:
      f: Maps images `[batch, height, width, channel]` to logits.
      images: Preprocessed for `f`.
      maps: Relevance `[batch, h, w]`, or `[batch, k, h, w]`; resized to the images where need be.
      targets: Classes `int[batch]`, or `int[batch, k]`, or a prior.
      key: Of the noise; every target of an image meets the same.
      order: `"morf"` or `"lerf"`.
      side: Of a region in pixels; the paper's 9.
      steps: Regions replaced, the paper's 100; at most the number of regions.
      score: What is plotted of a target, see `jaxground.scores`.
      batch_size: Images (steps times batch times `k`) per pass; one step at a time at least.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, no region or step, no such order.

    Example:
      >>> f = lambda x: x.sum((1, 2))
      >>> images, maps = jnp.array([[[[1.0], [5.0]]]]), jnp.array([[[0.0, 1.0]]])
      >>> morf, lerf = (
      ...     region_perturbation(f, images, maps, jnp.array([0]), key=jax.random.key(0),
      ...                         side=1, steps=1, order=order).aopc
      ...     for order in ("morf", "lerf"))
      >>> (morf > 0 > lerf).item()  # the noise is smaller than 5, larger than 1
      True

    References:
      Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, TNNLS
      2017, equations 10 to 12.
    """  # fmt: skip
    images = check_images(images)
    relevance, single = on_images(maps, images)
    height, width = relevance.shape[2:]
    rows, columns = -(-height // side) if side > 0 else 0, -(-width // side) if side > 0 else 0
    steps = min(steps, rows * columns)
    if side < 1 or steps < 1:
        raise ValueError(f"side is {side} and steps {steps}: both must be one or more")
    ranks = removal_ranks(_means(relevance, side, rows, columns), order)
    ranks = ranks.repeat(side, 2)[:, :, :height].repeat(side, 3)[..., :width]
    low, high = (limit((1, 2), keepdims=True) for limit in (images.min, images.max))
    noise = low + (high - low) * jax.random.uniform(key, images.shape, images.dtype)
    scores = ask(
        f,
        images,
        lambda count: jnp.where(ranks[..., None] < count, noise[:, None], images[:, None]),
        jnp.arange(steps + 1),
        targets,
        score=score,
        batch_size=batch_size,
        single=single,
    )
    aopc = (scores[..., :1] - scores).mean(-1)
    return Perturbation(scores[:, 0], aopc[:, 0]) if single else Perturbation(scores, aopc)


def _means(maps: Array, side: int, rows: int, columns: int) -> Array:
    """Returns the mean of each region above the lowest pixel; a flat map gives exact zeros."""
    known = ~jnp.isnan(maps)
    low = jnp.min(maps, (2, 3), keepdims=True, initial=jnp.inf, where=known)
    margins = (0, 0), (0, 0), (0, rows * side - maps.shape[2]), (0, columns * side - maps.shape[3])

    def totals(values):
        padded = jnp.pad(values, margins)
        return padded.reshape(*maps.shape[:2], rows, side, columns, side).sum((3, 5))

    return totals(jnp.where(known, maps - low, 0)) / totals(known)  # no known pixel: NaN
