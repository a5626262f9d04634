"""Robustness: how much an explanation changes when the image hardly does."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.metrics.validity import is_flat, known
from jaxground.scores import check_images


class MaxSensitivity(NamedTuple):
    """The largest change of a map found near an image, by the Euclidean norm.

    Attributes:
      value: `[batch]`, or `[batch, k]`, in units of the map.
      relative: `value` divided by the norm of the map less its mean: 1 is a change as large as
        everything the map shows. Comparable between methods.
    """

    value: Array
    relative: Array


def max_sensitivity(
    explain: Callable[[Array, ArrayLike], Array],
    images: ArrayLike,
    targets: ArrayLike,
    *,
    key: Array,
    radius: float = 0.2,
    samples: int = 50,
) -> MaxSensitivity:
    r"""Returns how far a map moves, at most, when every pixel moves by up to `radius`; low is good.

    .. math:: \max_{\|\delta\|_\infty \le r} \|\Phi(x + \delta) - \Phi(x)\|_2

    over random :math:`\delta`, uniform in the cube, as in the authors' code: a lower bound of the
    maximum. Cost: `samples + 1` explanations of the batch; memory does not depend on `samples`.

    Ours, not published: `relative` leaves out the map's mean (the authors divide by the whole norm,
    so that a map passes for robust by a large constant in it). A flat map (constant, or without a
    number in it) never moves and says nothing: both values are infinite. NaN pixels count as zero.

    Args:
      explain: From `images` and `targets` to maps `[batch, h, w]`, or `[batch, k, h, w]`, such as
        `lambda images, targets: gradient(model, images, targets)`; put weights under `jax.jit` as
        arguments, see `jaxground.prepare`.
      images: Preprocessed `[batch, height, width, channel]`.
      targets: Passed on to `explain`.
      key: Of the perturbations.
      radius: Largest change of a value, in units of the input; the authors' 0.2 or 0.1, where
        values lie in 0..1. (After division by ImageNet's standard deviation that is 0.9 or 0.4.)
      samples: Perturbed images, the authors' 50.

    Raises:
      TypeError: Images are not floating point.
      ValueError: A wrong shape, NaN pixels, no sample, a negative radius.

    Example:
      >>> square = lambda images, targets: images[..., 0] ** 2
      >>> max_sensitivity(square, jnp.array([[[[0.0], [1.0]]]]), jnp.array([0]),
      ...                 key=jax.random.key(0), radius=0.0).value
      Array([0.], dtype=float32)

    References:
      Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 3.1;
      `infid_sen_utils.py` and `config.py` of the authors.
    """  # fmt: skip
    images = check_images(images)
    if samples < 1 or radius < 0:
        raise ValueError(f"samples is {samples} and radius {radius}: give one or more, and >= 0")

    def moved(x):
        key, reach = x
        noise = jax.random.uniform(key, images.shape, images.dtype, -1, 1)
        return known(explain(images + reach * noise, targets))

    def farther(carry, x):  # the first turn moves nothing and keeps the map
        original, most = carry
        number, *x = x
        maps = moved(x)
        original = jnp.where(number == 0, maps, original)
        change = _norm(jnp.nan_to_num(maps) - jnp.nan_to_num(original))
        return (original, jnp.maximum(most, change)), None

    reaches = jnp.full(samples + 1, radius, images.dtype).at[0].set(0)
    xs = jnp.arange(samples + 1), jax.random.split(key, samples + 1), reaches
    shape = jax.eval_shape(moved, jax.tree.map(lambda x: x[0], xs[1:]))
    start = jnp.zeros(shape.shape, shape.dtype), jnp.zeros(shape.shape[:-2], shape.dtype)
    (maps, most), _ = lax.scan(farther, start, xs)
    flat, maps = is_flat(maps), jnp.nan_to_num(maps)
    size = jnp.where(flat, 1, _norm(maps - maps.mean((-2, -1), keepdims=True)))
    return MaxSensitivity(jnp.where(flat, jnp.inf, most), jnp.where(flat, jnp.inf, most / size))


def _norm(maps: Array) -> Array:
    return jnp.sqrt((maps**2).sum((-2, -1)))
