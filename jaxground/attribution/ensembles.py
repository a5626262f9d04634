"""Explainers of noisy images: the mean, the variance and the mean square of their maps."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.passes import chunks
from jaxground.scores import Classifier, check_images, repeat_targets


class NoisyExplainer(Protocol):
    """An explainer that takes a key, and hands all other options on."""

    def __call__(
        self, f: Classifier, images: ArrayLike, targets: ArrayLike, *, key: Array, **options: Any
    ) -> Array:
        """Returns `float32[batch, h, w]`, or `[batch, k, h, w]`."""
        ...


def smooth_grad(
    explainer: Callable[..., Array],
    *,
    samples: int = 50,
    noise: float = 0.15,
    batch_size: int = 32,
) -> NoisyExplainer:
    r"""Returns an explainer: the mean of the maps of noisy copies of an image.

    .. math:: \bar L(x) = \frac{1}{n} \sum_{i=1}^n L(x + \varepsilon_i), \quad
              \varepsilon_i \sim \mathcal{N}\big(0, \sigma^2 (\max x - \min x)^2\big)

    Averaged is what `explainer` returns. For `gradient` that is the size of the gradient; the
    paper averages the signed gradients of every channel, before size and maximum are taken:
    `smooth_grad(signed_gradient)`, and its `abs(...).max(-1)` afterwards. Cost: `samples` times
    that of `explainer`.

    Args:
      explainer: Any `explainer(f, images, targets, **options)` that returns `[batch, ...]`.
      samples: How many copies, :math:`n`; beyond 50 the paper sees little change.
      noise: Standard deviation of the noise, :math:`\sigma`, in parts of each image's own range
        (all its channels); the paper recommends 0.1 to 0.2.
      batch_size: Images (samples times batch) per call of `explainer`; at least one sample of the
        batch is taken at a time.

    Returns:
      `explain(f, images, targets, *, key, **options)`; the options are those of `explainer`. Noise
      number `i` depends on the key and on `i` alone and is the same for all images, scaled by
      their ranges: what an image gets does not depend on its neighbours in the batch (ours).

    Raises:
      ValueError: `samples`, `noise` or `batch_size` out of range; what `explainer` raises, before
        long work starts.

    Example:
      >>> from jaxground.attribution import input_x_gradient
      >>> f = lambda x: (x**2).sum((1, 2, 3))[:, None]
      >>> image = jnp.array([[[[1.0], [0.0], [0.0]]]])
      >>> smooth = smooth_grad(input_x_gradient, samples=400, noise=0.5)
      >>> print(smooth(f, image, jnp.array([0]), key=jax.random.key(0)).round(1))
      [[[2.4 0.5 0.5]]]

    References:
      Smilkov et al., SmoothGrad: removing noise by adding noise, 2017, sections 2 and 3.
    """
    return _noisy(explainer, samples, noise, batch_size, lambda m: m.mean)


def var_grad(
    explainer: Callable[..., Array],
    *,
    samples: int = 50,
    noise: float = 0.15,
    batch_size: int = 32,
) -> NoisyExplainer:
    r"""Returns an explainer: the variance of the maps of noisy copies of an image.

    .. math:: \frac{1}{n} \sum_i \big(L(x + \varepsilon_i) - \bar L(x)\big)^2

    Arguments and errors are those of `smooth_grad`. The map is non-negative, in squares of the
    units of the explainer's; it is large where the map depends on the noise. No difference of
    large squares is taken on the way, so that it is never negative and float32 is enough.

    Example:
      >>> from jaxground.attribution import input_x_gradient
      >>> f = lambda x: (jnp.array([1.0, 2.0, 0.0]) * x[:, 0, :, 0]).sum(1, keepdims=True)
      >>> image = jnp.array([[[[1.0], [0.5], [0.0]]]])
      >>> variance = var_grad(input_x_gradient, samples=400, noise=1.0)
      >>> map = variance(f, image, jnp.array([0]), key=jax.random.key(0))[0, 0]
      >>> print((map / map[0]).round())  # squares of the slopes
      [1. 4. 0.]

    References:
      Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
      Parameter Values, ICLR 2018 workshop; Hooker et al., NeurIPS 2019.
    """
    return _noisy(explainer, samples, noise, batch_size, lambda m: m.variance)


def square_grad(
    explainer: Callable[..., Array],
    *,
    samples: int = 50,
    noise: float = 0.15,
    batch_size: int = 32,
) -> NoisyExplainer:
    r"""Returns an explainer: the mean square of the maps of noisy copies of an image.

    .. math:: \frac{1}{n} \sum_i L(x + \varepsilon_i)^2

    Arguments and errors are those of `smooth_grad`. The map is non-negative, in squares of the
    units of the explainer's. With retraining, Hooker et al. find its pixels, and those of the
    variance, far more informative than those of the mean.

    Example:
      >>> from jaxground.attribution import input_x_gradient
      >>> f = lambda x: (jnp.array([1.0, 2.0, 0.0]) * x[:, 0, :, 0]).sum(1, keepdims=True)
      >>> image = jnp.array([[[[3.0], [2.0], [1.0]]]])
      >>> square = square_grad(input_x_gradient, samples=4, noise=0.0)
      >>> print(square(f, image, jnp.array([0]), key=jax.random.key(0)))
      [[[ 9. 16.  0.]]]

    References:
      Hooker et al., A Benchmark for Interpretability Methods in Deep Neural Networks, NeurIPS
      2019 (SmoothGrad-Squared).
    """
    return _noisy(explainer, samples, noise, batch_size, lambda m: m.mean**2 + m.variance)


class _Moments(NamedTuple):
    """Mean and variance over the samples, `float32[batch, ...]`."""

    mean: Array
    variance: Array


def _noisy(explainer, samples: int, noise: float, batch_size: int, finish) -> NoisyExplainer:
    if samples < 1 or not 0 <= noise < np.inf:
        raise ValueError(f"samples must be at least 1 and noise not negative: {samples=}, {noise=}")
    chunks(samples, 1, batch_size)

    def explain(f, images, targets, *, key, **options):
        images = check_images(images)
        first = jax.eval_shape(lambda x: explainer(f, x, targets, **options), images)
        batch = len(images)
        scale = noise * jnp.ptp(images, axis=(1, 2, 3), keepdims=True)[:, None]

        def add(moments: tuple[Array, _Moments], numbers: Array):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
            # In float32, whatever the type of the images: the same noise from the same key.
            draw = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], jnp.float32))
            noisy = images[:, None] + scale * draw(keys).astype(images.dtype)
            noisy = noisy.reshape(-1, *images.shape[1:])
            maps = explainer(f, noisy, repeat_targets(targets, batch, len(numbers)), **options)
            maps = maps.reshape(batch, len(numbers), *maps.shape[1:])
            drawn = (numbers < samples).reshape(1, -1, *(1,) * (maps.ndim - 2))
            return _updated(moments, maps, drawn), None

        zeros = jnp.zeros(first.shape, jnp.promote_types(first.dtype, jnp.float32))
        start = jnp.zeros((), zeros.dtype), _Moments(zeros, zeros)
        (_, moments), _ = lax.scan(add, start, chunks(samples, batch, batch_size))
        return finish(moments._replace(variance=moments.variance / samples))

    return explain


def _updated(moments: tuple[Array, _Moments], maps: Array, drawn: Array):
    r"""Returns count, mean and sum of squared deviations with those of `maps[batch, n, ...]`.

    Chan, Golub and LeVeque's recurrence: the sum grows by the deviations from the mean of the new
    ones, and by :math:`\delta^2\, n\, n' / (n + n')`, where :math:`\delta` is the step from the
    mean of the :math:`n` before to that of the :math:`n'` new ones. Nothing is subtracted.
    """
    count, (mean, spread) = moments
    new = drawn.sum(dtype=count.dtype)
    average = jnp.where(drawn, maps, 0).sum(1, dtype=mean.dtype) / new
    step, share = average - mean, new / (count + new)
    spread = spread + (jnp.where(drawn, maps - average[:, None], 0) ** 2).sum(1)
    return count + new, _Moments(mean + step * share, spread + step**2 * count * share)
