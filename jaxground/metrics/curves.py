"""What happens to a score while pixels go or come in the order of a map."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.metrics.asking import as_images, ask, on_images
from jaxground.metrics.ranking import removal_ranks
from jaxground.metrics.validity import is_flat
from jaxground.scores import Classifier, Score, check_images

STEPS = 28  # RISE's 224 * 8 pixels per step on 224 x 224
BLUR_SIZE, BLUR_SIGMA = 11, 5.0  # `gkern(11, 5)` in RISE's notebook Evaluation


class Curve(NamedTuple):
    """Scores along a path of images, and the normalised area under them.

    Attributes:
      scores: `[batch, points]`, or `[batch, k, points]`.
      area: `[batch]`, or `[batch, k]`: the mean score along the path, by the trapezoid rule; in the
        units of the score, so that the area of a constant curve is its value.
    """

    scores: Array
    area: Array


def deletion(
    f: Classifier,
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    *,
    step: int | None = None,
    baseline: ArrayLike = 0.0,
    score: Score = "probability",
    batch_size: int = 32,
) -> Curve:
    """Returns how the score falls while the most relevant pixels are removed; low is good.

    RISE's protocol: `step` pixels at a time, most relevant first, until none is left; removed
    pixels become zero in the network's normalised input. Cost: `ceil(h w / step) + 1` forward
    passes for each map (29 by default); memory is that of one pass.

    Ours, not published: ties. RISE takes equal pixels in an arbitrary order, and an arbitrary order
    can win: of three photographs, pixels in random order had a smaller mean area than Grad-CAM and
    the gradient had (experiments/sanity/README.md). Here equal pixels go when the last is due (see
    `removal_ranks`); NaN pixels go last. A constant map, zero or not, or one that is NaN
    throughout, removes everything at one step: the last or, where the baseline scores higher than
    the image, the first. It has the larger of the two areas and never wins.

    Args:
      f: Maps images `[batch, height, width, channel]` to logits.
      images: Preprocessed for `f`.
      maps: Relevance `[batch, h, w]`, or `[batch, k, h, w]`, any unit; other resolutions than the
        images' are resized first (`maps.resize`, cubic).
      targets: Classes `int[batch]`, or `int[batch, k]`, or a prior.
      step: Pixels per step; by default a 28th of the image, RISE's 224 * 8 at 224 x 224.
      baseline: What removed pixels become, in units of the input: anything that broadcasts
        against `images`.
      score: What is plotted of a target, see `jaxground.scores`; the published one by default.
      batch_size: Images (steps times batch times `k`) per pass; one step at a time at least.

    Returns:
      `Curve`, with `ceil(h w / step) + 1` points from the image to the baseline.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, a step below one.

    Example:
      >>> f = lambda x: x[..., 0].reshape(len(x), -1) @ jnp.array([[1.0], [3.0]])
      >>> deletion(f, jnp.ones((1, 1, 2, 1)), jnp.array([[[1.0, 3.0]]]), jnp.array([0]),
      ...          step=1, score="logit")
      Curve(scores=Array([[4., 1., 0.]], dtype=float32), area=Array([1.5], dtype=float32))

    References:
      Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models,
      BMVC 2018, section 4.2; constants from `evaluation.py` of the authors.
    """  # fmt: skip
    images = check_images(images)
    baseline = as_images(baseline, images)
    return _replaced(f, images, baseline, maps, targets, step, score, batch_size, jnp.maximum)


def insertion(
    f: Classifier,
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    *,
    step: int | None = None,
    baseline: ArrayLike | None = None,
    score: Score = "probability",
    batch_size: int = 32,
) -> Curve:
    """Returns how the score rises while the most relevant pixels are put in; high is good.

    RISE's protocol: from a blurred copy of the image (`blur`) to the image. Arguments, errors, cost
    and the rule for ties are those of `deletion`: a constant map puts in everything at one step,
    and has the smaller area of the last and the first.

    Args:
      f: As for `deletion`.
      images: As for `deletion`.
      maps: As for `deletion`.
      targets: As for `deletion`.
      step: As for `deletion`.
      baseline: Where the path starts, by default `blur(images)`.
      score: As for `deletion`.
      batch_size: As for `deletion`.

    Returns:
      `Curve`, from the baseline to the image.

    Example:
      >>> f = lambda x: x[..., 0].reshape(len(x), -1) @ jnp.array([[1.0], [3.0]])
      >>> insertion(f, jnp.ones((1, 1, 2, 1)), jnp.array([[[1.0, 3.0]]]), jnp.array([0]),
      ...           step=1, score="logit", baseline=0.0)
      Curve(scores=Array([[0., 3., 4.]], dtype=float32), area=Array([2.5], dtype=float32))

    References:
      Petsiuk et al., RISE, BMVC 2018, section 4.2.
    """  # fmt: skip
    images = check_images(images)
    baseline = blur(images) if baseline is None else as_images(baseline, images)
    return _replaced(f, baseline, images, maps, targets, step, score, batch_size, jnp.minimum)


def blur(images: Array) -> Array:
    """Returns the images blurred as RISE does before insertion.

    The kernel is what SciPy's `gaussian_filter` of sigma 5 makes of a point in a field of 11x11
    pixels, whose mirrored borders fold the tails back; it sums to one, and zeros lie beyond the
    images' borders, which darken.

    Args:
      images: `[batch, height, width, channel]`, normalised for the network.

    Example:
      >>> blur(jnp.ones((1, 21, 21, 1)))[0, 10, 10].round(3)
      Array([1.], dtype=float32)
    """
    centre = BLUR_SIZE // 2
    radius = int(4 * BLUR_SIGMA + 0.5)  # SciPy's truncation
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / BLUR_SIGMA) ** 2)
    # The point and its mirror images, period 2 * 11; 3 periods cover the radius of 20.
    mirrored = [m * 2 * BLUR_SIZE + p for m in range(-3, 4) for p in (centre, -1 - centre)]
    distance = np.subtract.outer(np.arange(BLUR_SIZE), mirrored)
    near = np.abs(distance) <= radius
    kernel = np.where(near, weights[np.where(near, distance, 0) + radius], 0).sum(1) / weights.sum()
    blurred = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    for axis in (1, 2):
        side = np.arange(images.shape[axis])
        offset = np.subtract.outer(side, side) + centre
        inside = (offset >= 0) & (offset < BLUR_SIZE)
        matrix = np.where(inside, kernel[np.where(inside, offset, 0)], 0)
        matrix = jnp.asarray(matrix, blurred.dtype)
        blurred = jnp.tensordot(blurred, matrix, (axis, 1), precision=lax.Precision.HIGHEST)
        blurred = jnp.moveaxis(blurred, -1, axis)
    return blurred.astype(images.dtype)


def _replaced(f, start, end, maps, targets, step, score, batch_size, worse) -> Curve:
    """Returns the scores on the way from `start` to `end`, the most relevant pixels first.

    All pixels of a flat map are due at once: at the last step or at the first, whichever is `worse`
    by the scores of the ends.
    """
    relevance, single = on_images(maps, start)
    pixels = relevance.shape[2] * relevance.shape[3]
    step = -(-pixels // STEPS) if step is None else step
    if step < 1:
        raise ValueError(f"step is {step}: give the pixels per step, one or more")
    ranks = removal_ranks(relevance, "morf")
    counts = step * jnp.arange(-(-pixels // step) + 1)
    scores = ask(
        f,
        start,
        lambda count: jnp.where(ranks[..., None] < count, end[:, None], start[:, None]),
        counts,
        targets,
        score=score,
        batch_size=batch_size,
        single=single,
    )
    first, last = scores[..., :1], scores[..., -1:]
    inner = jnp.where(is_flat(relevance)[..., None], worse(first, last), scores[..., 1:-1])
    scores = jnp.concatenate([first, inner, last], axis=-1)
    area = (scores.sum(-1) - (scores[..., 0] + scores[..., -1]) / 2) / (len(counts) - 1)
    return Curve(scores[:, 0], area[:, 0]) if single else Curve(scores, area)
