"""Maps read as contributions: what the removal of pixels is said to take from a score."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.metrics.asking import as_images, ask, on_images
from jaxground.scores import Classifier, Score, check_images

LARGEST = 10 / 28  # squares of up to 10 pixels on MNIST, the only ones the authors' code has


class Infidelity(NamedTuple):
    """How far what a map predicts is from what happens, in squared units of the score.

    Attributes:
      value: `[batch]`, or `[batch, k]`: the mean squared error of the map as it is.
      scaled: The same after the map was multiplied by the factor that makes it least, which the
        authors' code does before it compares methods: a map is not blamed for its unit.
    """

    value: Array
    scaled: Array


def infidelity(
    f: Classifier,
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    *,
    key: Array,
    samples: int = 1000,
    baseline: ArrayLike = 0.0,
    score: Score = "logit",
    batch_size: int = 32,
) -> Infidelity:
    r"""Returns how badly a map predicts what random squares take from the score; low is good.

    .. math:: \mathbb{E}_m \big(m^T \Phi - (f(x) - f(x - m \odot (x - x_0)))\big)^2

    over squares :math:`m` of 1 to 10/28 of the image's shorter side, each square that fits equally
    probable, as in the authors' code. A map :math:`\Phi` here states contributions, such as
    `input_x_gradient` or `integrated_gradients`: it is zero for the former on a linear model. Cost:
    `samples + 1` forward passes, which all targets share.

    Ours, not published: a constant map and one without any number are read as a map of zeros, NaN
    pixels as zero. A map of zeros predicts that nothing ever happens; by `scaled` no map is worse.
    By `value` a map in the wrong unit is: compare methods by `scaled`.

    Args:
      f: Maps images `[batch, height, width, channel]` to logits.
      images: Preprocessed for `f`.
      maps: Contributions `[batch, h, w]`, or `[batch, k, h, w]`, in units of the score; resized to
        the images where need be (which changes their sum, not `scaled`).
      targets: Classes `int[batch]`, or `int[batch, k]`, or a prior.
      key: Of the squares, the same for all images and targets.
      samples: Squares drawn.
      baseline: What removed pixels become, in units of the input.
      score: What is predicted, see `jaxground.scores`.
      batch_size: Images (squares times batch) per forward pass; one square at a time at least.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, no sample.

    Example:
      >>> f = lambda x: x[..., 0].reshape(len(x), -1) @ jnp.array([[1.0], [3.0]])
      >>> contributions = jnp.array([[[1.0, 3.0]]])
      >>> run = lambda images, maps: infidelity(
      ...     f, images, maps, jnp.array([0]), key=jax.random.key(0), samples=8)
      >>> jax.jit(run)(jnp.ones((1, 1, 2, 1)), contributions).value
      Array([0.], dtype=float32)

    References:
      Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 2.1
      and section 2.3 ("square removal"); `infid_sen_utils.py` of the authors.
    """  # fmt: skip
    images = check_images(images)
    if samples < 1:
        raise ValueError(f"samples is {samples}: draw at least one square")
    height, width = images.shape[1:3]
    sides = np.arange(1, math.ceil(LARGEST * min(height, width)) + 1)
    chances = jnp.log((height - sides + 1.0) * (width - sides + 1.0))  # how many of a side fit
    each, place = jax.random.split(key)
    drawn = jax.random.categorical(each, chances, shape=(samples,)) + 1
    corners = jax.random.uniform(place, (samples, 2))
    corners = jnp.floor(corners * (jnp.array([height, width]) - drawn[:, None] + 1))
    drawn, corners = (jnp.concatenate([jnp.zeros_like(x[:1]), x]) for x in (drawn, corners))

    def square(x):
        side, (top, left) = x
        rows, columns = jnp.arange(height) - top, jnp.arange(width) - left
        inside = [(line >= 0) & (line < side) for line in (rows, columns)]
        return inside[0][:, None] & inside[1]

    happened, predicted = _effects(
        f, images, maps, targets, square, (drawn, corners), baseline, score, batch_size
    )
    factor = _ratio((happened * predicted).sum(-1), (predicted**2).sum(-1))

    def error(factor):
        return _per_target(((happened - factor * predicted) ** 2).mean(-1), maps)

    return Infidelity(error(1.0), error(factor[..., None]))


def sensitivity_n(
    f: Classifier,
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    *,
    key: Array,
    sizes: Sequence[int],
    samples: int = 100,
    baseline: ArrayLike = 0.0,
    score: Score = "logit",
    batch_size: int = 32,
) -> Array:
    r"""Returns how well a map predicts what random sets of `n` pixels take from the score.

    For each `n` the Pearson correlation, over random sets :math:`S` of `n` pixels, between
    :math:`\sum_{i \in S} \Phi_i` and :math:`f(x) - f(x_{S \to x_0})`: 1 where the map is exact, as
    that of `input_x_gradient` on a linear model. Cost: `len(sizes) * samples + 1` forward passes,
    which all targets share.

    Ours, not published: where there is nothing to correlate the result is 0: for a constant map
    and one without any number (every set is said to do the same), for a score that does not move,
    for `n` equal to all pixels. NaN pixels count as zero.

    Args:
      f: Maps images `[batch, height, width, channel]` to logits.
      images: Preprocessed for `f`.
      maps: Contributions `[batch, h, w]`, or `[batch, k, h, w]`, any unit; resized to the images
        where need be.
      targets: Classes `int[batch]`, or `int[batch, k]`, or a prior.
      key: Of the sets, the same for all images and targets.
      sizes: Values of `n`, numbers of pixels; the paper takes about 16 from 1 to 80 % of them on a
        logarithmic scale.
      samples: Sets drawn for each `n`; the paper's 100.
      baseline: What removed pixels become, in units of the input.
      score: What is predicted, see `jaxground.scores`.
      batch_size: Images (sets times batch) per forward pass; one set at a time at least.

    Returns:
      Correlations in -1..1, `[batch, len(sizes)]`, or `[batch, k, len(sizes)]`.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, sizes beyond the image.

    Example:
      >>> f = lambda x: x[..., 0].reshape(len(x), -1) @ jnp.array([[1.0], [3.0], [5.0]])
      >>> run = lambda images, maps: sensitivity_n(
      ...     f, images, maps, jnp.array([0]), key=jax.random.key(0), sizes=[1, 2])
      >>> jax.jit(run)(jnp.ones((1, 1, 3, 1)), jnp.array([[[1.0, 3.0, 5.0]]])).round(5)
      Array([[1., 1.]], dtype=float32)

    References:
      Ancona et al., Towards Better Understanding of Gradient-based Attribution Methods for Deep
      Neural Networks, ICLR 2018, section 4.
    """  # fmt: skip
    images = check_images(images)
    height, width = images.shape[1:3]
    if samples < 2 or not len(sizes) or not all(1 <= size <= height * width for size in sizes):
        raise ValueError(
            f"sizes are {list(sizes)} and samples {samples}: give numbers of pixels in "
            f"1..{height * width} and at least two samples"
        )

    def subset(x):
        key, size = x
        return (jax.random.permutation(key, height * width) < size).reshape(height, width)

    counts = jnp.concatenate([jnp.zeros(1, "int32"), jnp.repeat(jnp.array(sizes), samples)])
    keys = jax.random.split(key, len(counts))
    effects = _effects(
        f, images, maps, targets, subset, (keys, counts), baseline, score, batch_size
    )
    happened, predicted = (x.reshape(*x.shape[:2], len(sizes), samples) for x in effects)
    return _per_target(_correlation(happened, predicted), maps)


def _effects(
    f, images, maps, targets, mask, xs, baseline, score, batch_size
) -> tuple[Array, Array]:
    """Returns what masks take from the scores and what the maps say they do, `[batch, k, n]`.

    The first of the `n + 1` masks is empty: the image as it is.
    """
    contributions, single = on_images(maps, images)
    contributions = jnp.nan_to_num(contributions)
    baseline = as_images(baseline, images)
    scores = ask(
        f,
        images,
        lambda x: jnp.where(mask(x)[..., None], baseline, images)[:, None],
        xs,
        targets,
        score=score,
        batch_size=batch_size,
        single=single,
    )
    predicted = lax.map(lambda x: jnp.where(mask(x), contributions, 0).sum((2, 3)), xs)
    return scores[..., :1] - scores[..., 1:], jnp.moveaxis(predicted, 0, -1)[..., 1:]


def _correlation(a: Array, b: Array) -> Array:
    """Returns Pearson's correlation along the last axis, 0 where rounding is all that varies."""

    def centred(x):
        rounding = 8 * jnp.finfo(x.dtype).eps * jnp.abs(x).max(-1, keepdims=True)
        x = x - x.mean(-1, keepdims=True)
        return jnp.where(jnp.abs(x).max(-1, keepdims=True) > rounding, x, 0)

    a, b = centred(a), centred(b)
    return _ratio((a * b).sum(-1), jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1))


def _ratio(a: Array, b: Array) -> Array:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _per_target(values: Array, maps: ArrayLike) -> Array:
    return values[:, 0] if jnp.ndim(maps) == 3 else values
