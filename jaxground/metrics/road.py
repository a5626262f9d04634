"""Remove and debias: pixels removed by imputing them from their neighbours."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.sparse.linalg import cg
from jax.typing import ArrayLike

from jaxground.metrics.asking import ask, on_images
from jaxground.metrics.curves import Curve
from jaxground.metrics.ranking import removal_ranks
from jaxground.metrics.regions import Order
from jaxground.scores import Classifier, Score, check_images

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NOISE = 0.01  # `NoisyLinearImputer` of the authors
TOLERANCE = 1e-5  # of the residual, relative: errors stay below a quarter of the noise


def road(
    f: Classifier,
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    *,
    key: Array,
    order: Order = "morf",
    fractions: Sequence[float] = FRACTIONS,
    noise: float = NOISE,
    score: Score = "probability",
    batch_size: int = 32,
) -> Curve:
    """Returns how the score changes while pixels are removed by noisy linear imputation.

    Removed pixels are filled in from those around them (`impute`), so that the shape of what is
    removed tells the network little. Most relevant first (`"morf"`), a low area is good; least
    relevant first (`"lerf"`), a high one. Cost: one forward pass for each fraction and map, and for
    each a sparse linear system, solved on the device.

    The paper plots accuracy: `score=lambda logits: jax.nn.one_hot(logits.argmax(-1), classes)`.

    Ours, not published: pixels of equal relevance rank as the least relevant of them (see
    `ranking.removal_ranks`). A constant map (or one that is NaN throughout) removes nothing, the
    worst in `"morf"`, or everything at once, the worst in `"lerf"`.

    Args:
      f: Maps images `[batch, height, width, channel]` to logits.
      images: Preprocessed for `f`.
      maps: Relevance `[batch, h, w]`, or `[batch, k, h, w]`; resized to the images where need be.
      targets: Classes `int[batch]`, or `int[batch, k]`, or a prior.
      key: Of the noise.
      order: `"morf"` or `"lerf"`.
      fractions: Shares of the image's pixels removed, in 0..1, static.
      noise: Standard deviation of what is added to imputed pixels, in units of the input.
      score: What is plotted of a target, see `jaxground.scores`.
      batch_size: Images (fractions times batch times `k`) per pass; one at a time at least.

    Returns:
      `Curve`: `scores` in the order of `fractions`, and as `area` their mean.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class or fraction out of range, no such order.

    Example:
      >>> f = lambda x: x.mean((1, 2))
      >>> images = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1].set(16.0)  # one bright pixel
      >>> maps = images[..., 0] + jnp.arange(16.0).reshape(4, 4) / 16
      >>> run = lambda images, maps: road(
      ...     f, images, maps, jnp.array([0]), key=jax.random.key(0), fractions=[0, 1 / 16],
      ...     noise=0.0, score="logit")
      >>> jax.jit(run)(images, maps).scores.round(5)
      Array([[1., 0.]], dtype=float32)

    References:
      Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
      2022, section 5; constants from `road/imputations.py` of the authors.
    """  # fmt: skip
    images = check_images(images)
    relevance, single = on_images(maps, images)
    if not len(fractions) or not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError(f"fractions are {list(fractions)}: give shares of the pixels in 0..1")
    ranks = removal_ranks(relevance, order)
    pixels = relevance.shape[2] * relevance.shape[3]
    counts = jnp.array([round(fraction * pixels) for fraction in fractions])

    def version(x):
        count, key = x
        removed = ranks < count
        filled = impute(images[:, None], removed)
        specks = noise * jax.random.normal(key, filled.shape, filled.dtype)
        return jnp.where(removed[..., None], filled + specks, filled)

    scores = ask(
        f,
        images,
        version,
        (counts, jax.random.split(key, len(fractions))),
        targets,
        score=score,
        batch_size=batch_size,
        single=single,
    )
    area = scores.mean(-1)
    return Curve(scores[:, 0], area[:, 0]) if single else Curve(scores, area)


def impute(images: Array, removed: Array) -> Array:
    r"""Returns the images with removed pixels set to the weighted mean of their neighbours.

    Each removed pixel :math:`p` solves :math:`\sum_q w_{pq} (x_p - x_q) = 0` over its eight
    neighbours inside the image, weights 1/6 beside and 1/12 across; neighbours may themselves be
    removed. The system is symmetric and positive definite, and conjugate gradients solve it, all
    images and channels at once, from the image's mean on, to a relative residual of 1e-5. Where no
    pixel is left the image becomes its own mean.

    Args:
      images: `[..., height, width, channel]`, without NaN.
      removed: `bool[..., height, width]`; leading axes broadcast against those of the images.

    Example:
      >>> image, removed = jnp.array([[[0.0], [9.0], [2.0]]]), jnp.array([[False, True, False]])
      >>> jax.jit(impute)(image, removed)[0, :, 0].round(5)
      Array([0., 1., 2.], dtype=float32)

    References:
      Rong et al., ICML 2022, section 5.1.
    """
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    mean = wide.mean((-3, -2), keepdims=True)
    centred = jnp.where(removed[..., None], 0, wide - mean)
    planes = jnp.moveaxis(centred, -1, -3)  # [..., channel, height, width]
    masks = jnp.broadcast_to(removed[..., None, :, :], planes.shape)
    totals = _neighbours(jnp.ones(planes.shape[-2:], planes.dtype))

    def solve(plane, unknown):
        def residual(x):  # at the unknown pixels, 0 at the others
            return jnp.where(unknown, totals * x - _neighbours(x), 0)

        # For what is to be added to the plane, which is 0 at known pixels. Below the rounding of
        # the plane itself there is nothing to gain: a flat image ends at once.
        least = jnp.finfo(plane.dtype).eps * jnp.linalg.norm(plane)
        change, _ = cg(residual, -residual(plane), tol=TOLERANCE, atol=least, maxiter=plane.size)
        return plane + change

    flat = planes.reshape(-1, *planes.shape[-2:])
    solved = jax.vmap(solve)(flat, masks.reshape(flat.shape)).reshape(planes.shape)
    filled = jnp.moveaxis(solved, -3, -1) + mean
    return jnp.where(removed[..., None], filled, wide).astype(images.dtype)


def _neighbours(x: Array) -> Array:
    """Returns the sum over the eight neighbours inside the image, 1/6 beside and 1/12 across."""

    def spread(x, axis):
        margins = [(1, 1) if i == axis else (0, 0) for i in range(2)]
        x = jnp.pad(x, margins)
        left, centre, right = (
            jax.lax.slice_in_dim(x, i, i + x.shape[axis] - 2, axis=axis) for i in range(3)
        )
        return left + 2 * centre + right

    return (spread(spread(x, 0), 1) - 4 * x) / 12  # (1 2 1)(1 2 1) less its centre
