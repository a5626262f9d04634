"""What a classifier is asked: the images, the targets, and the score of a target.

Every explainer and every metric of faithfulness asks the same question: how does the *score* of a
target depend on the image? The score is the logit by default; `score=` asks another one.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

Classifier: TypeAlias = Callable[[Array], Array]
Score: TypeAlias = Literal["logit", "probability", "log_probability"] | Callable[[Array], Array]


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


def score_values(outputs: Array, targets: ArrayLike, score: Score = "logit") -> tuple[Array, bool]:
    """Returns the score of each target, and whether there was one target per image.

    Args:
      outputs: What `f` returned: logits `float[batch, classes]`, or `float[batch, h, w, classes]`,
        of which the logit of a class is the log-sum-exp over positions. A `score` of one's own may
        be asked of outputs of any shape `[batch, ...]`.
      targets: `int[batch]`, `int[batch, k]`, or a prior `float` in the shape of `outputs`, or with
        an axis `k` after the first: the score is then their inner product.
      score: `"logit"`; `"probability"`, the softmax of the logits; `"log_probability"`, its
        logarithm, which weighs a target against the other classes; or a function of the outputs
        that returns `float[batch, n]`, of which the targets choose: for categories of several
        classes `any_of`, for regression `lambda outputs: outputs`, for an embedding the
        similarities with `n` references.

    Returns:
      `float[batch, k]` and whether `k` was absent from `targets`.

    Raises:
      TypeError: Outputs that are not floating point, targets that are neither.
      ValueError: A wrong shape, a class out of range, an unknown score.

    Example:
      >>> score_values(jnp.array([[0.0, 0.0, 5.0]]), jnp.array([2]))[0]
      Array([[5.]], dtype=float32)
      >>> score_values(jnp.array([[1.0, 1.0]]), jnp.array([[0, 1]]), "probability")[0]
      Array([[0.5, 0.5]], dtype=float32)
    """
    asked = _as_targets(targets)
    question = _question(outputs, asked, score)
    if question is None:
        priors, single = _own_prior(outputs, asked)
        return jax.vmap(jax.vmap(jnp.vdot, (0, None)))(priors, outputs), single
    values = question(outputs)
    chosen, single = _chosen(values.shape[1], asked)
    inside = (chosen >= 0) & (chosen < values.shape[1])
    picked = jnp.take_along_axis(values, jnp.where(inside, chosen, 0), axis=1)
    return jnp.where(inside, picked, 0), single


def repeat_targets(targets: ArrayLike, batch: int, times: int) -> Array | np.ndarray:
    """Returns targets for images that are each repeated `times` in a row.

    Targets whose values are known stay known, so that they can be checked.

    Raises:
      ValueError: They are not those of `batch` images.

    Example:
      >>> repeat_targets([3, 5], 2, 2).tolist()
      [3, 3, 5, 5]
    """
    asked = _as_targets(targets)
    if asked.array.shape[:1] != (batch,):
        raise ValueError(f"targets {asked.array.shape} do not match the batch of {batch} images")
    if asked.known is None:
        return jnp.repeat(asked.array, times, axis=0)
    return np.repeat(asked.known, times, axis=0)


def prior(outputs: Array, targets: ArrayLike, score: Score = "logit") -> tuple[Array, bool]:
    """Returns the gradient of each target's score by the outputs: where a backward pass starts.

    For the logit that is one-hot; where the classifier is fully convolutional, the softmax of the
    class's score over all positions (Zhang et al., ECCV 2016, section 4.1). For the log-probability
    it is `onehot - softmax(logits)`. Arguments and errors are those of `score_values`; a prior of
    one's own is returned as it is. Under `jit` a class out of range cannot be reported and gives a
    prior of zeros.

    Returns:
      `float[batch, k, ...]` and whether `k` was absent from `targets`.

    >>> prior(jnp.zeros((2, 3)), jnp.array([0, 2]))[0][:, 0]
    Array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    >>> prior(jnp.zeros((1, 2)), jnp.array([0]), "log_probability")[0][:, 0]
    Array([[ 0.5, -0.5]], dtype=float32)
    """
    asked = _as_targets(targets)
    question = _question(outputs, asked, score)
    if question is None:
        priors, single = _own_prior(outputs, asked)
        return priors.astype(outputs.dtype), single
    values, pull = jax.vjp(question, outputs)
    chosen, single = _chosen(values.shape[1], asked)
    one_hot = jax.nn.one_hot(chosen, values.shape[1], dtype=values.dtype)  # [batch, k, n]
    (priors,) = jax.vmap(pull, in_axes=1, out_axes=1)(one_hot)
    return priors, single


def any_of(categories: Sequence[Sequence[int]]) -> Callable[[Array], Array]:
    r"""Returns a score of categories, each of several classes: is it any of them?

    A label such as "dog" is 118 classes of ImageNet. The logit of one breed does not ask for a dog,
    and its log-probability sets it against the other breeds. This score is the log-probability that
    the class is *any* of a category :math:`C`:

    .. math:: \log \sum_{c \in C} \mathrm{softmax}(\mathrm{logits})_c

    Its gradient is the softmax within the category minus the softmax over all classes. Where the
    classifier is fully convolutional, logits are pooled by log-sum-exp over positions.

    Args:
      categories: The classes of each category. They may overlap.

    Returns:
      A `score=` for every explainer and metric; `targets` choose among the categories by index.

    Raises:
      ValueError: There is no category, or one has no class; when asked: a class is out of range.
      TypeError: A class is not an integer.

    Example:
      >>> pets = any_of([[0, 1], [2]])  # two breeds of dog and a cat
      >>> logits = jnp.log(jnp.array([[0.3, 0.3, 0.4]]))
      >>> jnp.exp(score_values(logits, jnp.array([[0, 1]]), pets)[0]).round(3)
      Array([[0.6, 0.4]], dtype=float32)

    The question is ours. What it changed on photographs: `experiments/score_prior`.
    """
    members = [np.asarray(category) for category in categories]
    empty = [i for i, classes in enumerate(members) if classes.size == 0]
    if not members or empty:
        raise ValueError(f"categories {empty} have no class" if empty else "there is no category")
    if not all(classes.ndim == 1 and classes.dtype.kind in "iu" for classes in members):
        raise TypeError("each category must be a list of classes (integers)")

    def score(outputs: Array) -> Array:
        width = outputs.shape[-1]
        inside = np.zeros((len(members), width), bool)
        for row, classes in zip(inside, members, strict=True):
            outside = classes[(classes < 0) | (classes >= width)]
            if outside.size:
                raise ValueError(
                    f"classes {outside.tolist()} are out of range: f has {width} classes"
                )
            row[classes] = True
        log_probabilities = _values("log_probability", outputs)
        return jax.nn.logsumexp(log_probabilities[:, None], axis=-1, where=inside)

    return score


def _question(outputs, targets: "_Targets", score) -> Callable[[Array], Array] | None:
    """Returns the function of the outputs of which targets choose, `None` for a prior."""
    if not isinstance(outputs, jax.Array) or not _is_float(outputs):
        kind = getattr(outputs, "dtype", type(outputs).__name__)
        raise TypeError(f"f must return floating-point logits, got {kind}: apply no argmax in f")
    named = isinstance(score, str)
    if score not in _NAMED if named else not callable(score):
        names = ", ".join(map(repr, _NAMED))
        raise ValueError(f"score must be {names} or a function of the outputs, got {score!r}")
    if named and outputs.ndim not in (2, 4):
        raise ValueError(
            f"f must return logits [batch, classes] or [batch, h, w, classes], got {outputs.shape}"
        )
    shape, kind = targets.array.shape, targets.array.dtype
    if shape and shape[0] != outputs.shape[0]:
        raise ValueError(f"targets {shape} do not match the batch of {outputs.shape[0]} images")
    if 0 in shape:
        raise ValueError(f"targets {shape} ask for nothing: give each image at least one class")
    if _is_float(targets.array):
        if score != "logit":
            raise ValueError(
                f"a prior of one's own leaves no choice of score; with score={score!r} targets "
                "are classes (integers)"
            )
        return None
    if not jnp.issubdtype(kind, jnp.integer):
        raise TypeError(f"targets must be classes (integers) or a prior (floats), got {kind}")
    if len(shape) not in (1, 2):
        raise ValueError(f"targets must be int[batch] or int[batch, k], got shape {shape}")
    return functools.partial(_values, score)


def _values(score, outputs: Array) -> Array:
    if isinstance(score, str):
        wide = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        if outputs.ndim == 4:
            wide = jax.nn.logsumexp(wide, axis=(1, 2))
        return _NAMED[score](wide).astype(outputs.dtype)
    values = score(outputs)
    array = isinstance(values, jax.Array)
    if not array or values.ndim != 2 or len(values) != len(outputs) or not _is_float(values):
        found = f"{values.dtype}{list(values.shape)}" if array else type(values).__name__
        raise ValueError(
            f"score must return float[batch, n] for outputs {list(outputs.shape)}, got {found}"
        )
    return values


def _is_float(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


_NAMED: dict[str, Callable[[Array], Array]] = {
    "logit": lambda logits: logits,
    "probability": jax.nn.softmax,
    "log_probability": jax.nn.log_softmax,
}


class _Targets(NamedTuple):
    """Targets as an array, and their values where these are known while tracing."""

    array: Array
    known: np.ndarray | None


def _as_targets(targets: ArrayLike) -> _Targets:
    if any(isinstance(t, Tracer) for t in jax.tree.leaves(targets)):
        return _Targets(jnp.asarray(targets), None)
    with jax.ensure_compile_time_eval():  # known values, even under the jit of other arguments
        array = jnp.asarray(targets)
        return _Targets(array, np.asarray(array))


def _chosen(count: int, targets: _Targets) -> tuple[Array, bool]:
    """Returns classes `int[batch, k]`, and whether `k` was absent."""
    if targets.known is not None:
        outside = targets.known[(targets.known < 0) | (targets.known >= count)]
        if outside.size:
            raise ValueError(
                f"classes {np.unique(outside).tolist()} are out of range: f has {count} classes"
            )
    single = targets.array.ndim == 1
    return (targets.array[:, None] if single else targets.array), single


def _own_prior(outputs: Array, targets: _Targets) -> tuple[Array, bool]:
    own = targets.array
    single = own.shape == outputs.shape
    if not single and (own.ndim < 2 or own.shape[:1] + own.shape[2:] != outputs.shape):
        raise ValueError(
            f"a prior must have the shape of the logits, {outputs.shape}, or an axis of targets "
            f"after the first; got {own.shape}"
        )
    return (own[:, None] if single else own), single
