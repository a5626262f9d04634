"""From images and targets to the signal at a tap: what all backward methods have in common."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground.core import Rules, ground

Classifier = Callable[[Array], Array]


class Signals(NamedTuple):
    """What arrived at a tap.

    Attributes:
      values: `float[batch, k, h, w, channel]`, the mass or gradient, one row per target.
      activations: `float[batch, h, w, channel]`, the values of the forward pass there.
      single: Whether the caller gave one target per image, and wants no axis `k` back.
    """

    values: Array
    activations: Array
    single: bool

    def per_target(self, maps: Array) -> Array:
        """Returns `maps[batch, k, ...]`, without the axis `k` if one target was asked for."""
        return maps[:, 0] if self.single else maps


def backward(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    at: str | None,
    rules: Rules,
    contrastive: bool = False,
) -> Signals:
    """Returns the signals of one forward and one backward pass, all targets on the same forward.

    Raises:
      TypeError: Images that are not floating point, or logits that are not.
      ValueError: Images, targets or a tap of the wrong shape, NaN pixels, a class out of range.
      KeyError: There is no such tap.
    """
    images = check_images(images)
    outputs, activations, pull = ground(f, images, at=at, rules=rules, contrastive=contrastive)
    priors, single = prior(outputs, targets)
    if activations.ndim != 4:
        raise ValueError(
            f"tap {at!r} has shape {activations.shape}; a map needs [batch, height, width, "
            "channel]. For the mass of single neurons use jaxground.ground(f, images, at=...)."
        )
    values = jax.vmap(pull, in_axes=1, out_axes=1)(priors)
    return Signals(values, activations, single)


def check_images(images: ArrayLike) -> Array:
    """Returns images as an array `[batch, height, width, channel]`, or says what is wrong."""
    if not isinstance(images, (jax.Array, np.ndarray)):
        raise TypeError(
            f"images must be an array [batch, height, width, channel], not {type(images).__name__}"
        )
    if images.ndim != 4:
        hint = "; for one image write images[None]" if images.ndim == 3 else ""
        raise ValueError(
            f"images must be [batch, height, width, channel], got shape {images.shape}{hint}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"images must be floating point and preprocessed for the network, got {images.dtype}; "
            "see model.preprocess"
        )
    if images.shape[0] == 0:
        raise ValueError(f"images must hold at least one image, got shape {images.shape}")
    if not isinstance(images, Tracer):
        with jax.ensure_compile_time_eval():  # known values, even under the jit of other arguments
            finite = np.asarray(jnp.isfinite(jnp.asarray(images)).all(axis=(1, 2, 3)))
        if not finite.all():
            broken = np.flatnonzero(~finite).tolist()
            raise ValueError(f"images {broken} have NaN or infinite pixels")
    return jnp.asarray(images)


def prior(outputs: Array, targets: ArrayLike) -> tuple[Array, bool]:
    """Returns the prior of each target, and whether there was one target per image.

    A class starts from one-hot. Where the classifier is fully convolutional, it starts from the
    softmax of the class's score over all positions (Zhang et al., ECCV 2016, section 4.1).

    Args:
      outputs: Logits `float[batch, classes]` or `float[batch, h, w, classes]`.
      targets: `int[batch]`, `int[batch, k]`, or a prior of one's own: `float` in the shape of
        `outputs`, or with an axis `k` after the first. Under `jit` a class out of range cannot be
        reported and gives a prior of zeros.

    Returns:
      `float[batch, k, ...]` and whether `k` was absent from `targets`.

    >>> prior(jnp.zeros((2, 3)), jnp.array([0, 2]))[0][:, 0]
    Array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    if not isinstance(outputs, jax.Array) or not jnp.issubdtype(outputs.dtype, jnp.floating):
        kind = getattr(outputs, "dtype", type(outputs).__name__)
        raise TypeError(f"f must return floating-point logits, got {kind}: apply no argmax in f")
    if outputs.ndim not in (2, 4):
        raise ValueError(
            f"f must return logits [batch, classes] or [batch, h, w, classes], got {outputs.shape}"
        )
    known = not any(isinstance(t, Tracer) for t in jax.tree.leaves(targets))
    with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
        targets = jnp.asarray(targets)
    batch, classes = outputs.shape[0], outputs.shape[-1]
    if targets.ndim and targets.shape[0] != batch:
        raise ValueError(f"targets {targets.shape} do not match the batch of {batch} images")
    if jnp.issubdtype(targets.dtype, jnp.floating):
        single = targets.shape == outputs.shape
        if not single and (
            targets.ndim < 2 or targets.shape[:1] + targets.shape[2:] != outputs.shape
        ):
            raise ValueError(
                f"a prior must have the shape of the logits, {outputs.shape}, or an axis of "
                f"targets after the first; got {targets.shape}"
            )
        priors = targets[:, None] if single else targets
        return priors.astype(outputs.dtype), single
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(
            f"targets must be classes (integers) or a prior (floats), got {targets.dtype}"
        )
    if targets.ndim not in (1, 2):
        raise ValueError(f"targets must be int[batch] or int[batch, k], got shape {targets.shape}")
    if known and targets.size:
        values = np.asarray(targets)
        outside = np.unique(values[(values < 0) | (values >= classes)])
        if outside.size:
            raise ValueError(
                f"classes {outside.tolist()} are out of range: f has {classes} classes"
            )
    single = targets.ndim == 1
    chosen = targets[:, None] if single else targets
    one_hot = jax.nn.one_hot(chosen, classes, dtype=outputs.dtype)  # [batch, k, classes]
    if outputs.ndim == 2:
        return one_hot, single
    where = jax.nn.softmax(outputs.astype(jnp.float32), axis=(1, 2)).astype(outputs.dtype)
    return where[:, None] * one_hot[:, :, None, None, :], single


def channel_sum(values: Array) -> Array:
    """Returns the sum over channels, accumulated in float32 or wider."""
    return values.sum(-1, dtype=jnp.promote_types(values.dtype, jnp.float32))
