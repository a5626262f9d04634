"""How likely a neuron is kept: by its evidence, by the training step, by its own input."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground.core import ground, tap
from jaxground.scores import prior

Head: TypeAlias = Callable[[Array], Array]
Units: TypeAlias = Literal["neuron", "channel", "position"]


def excitation_keep_probability(evidence: ArrayLike, base: ArrayLike) -> Array:
    r"""Returns the probability of keeping each neuron: the lower, the more evidence it carries.

    .. math:: 1 - \frac{(1 - P)(N - 1)\, p_{EB}}{((1 - P) N - 1)\, p_{EB} + P}

    It falls from one, for a neuron without evidence, over the base :math:`P` at :math:`1 / N`, to
    zero for a neuron that carries the decision alone.

    Args:
      evidence: `float[..., N]`, the marginal winning probabilities of the `N` neurons of a layer;
        `N` is the width of the layer, whether its neurons are active or not.
      base: The probability :math:`P` of keeping a neuron where all carry the same, in (0, 1).

    Returns:
      `float32[..., N]` in [0, 1].

    Raises:
      ValueError: `base` is outside (0, 1), or the layer has one neuron.

    Example:
      >>> excitation_keep_probability(jnp.array([0.0, 0.25, 1.0, 0.25]), 0.5)
      Array([1. , 0.5, 0. , 0.5], dtype=float32)

    References:
      Zunino et al., Excitation Dropout, IJCV 2021, equation 1 (thesis of S. A. Bargal, eq. 5.1).
    """
    evidence, base = jnp.asarray(evidence, jnp.float32), check_probability("base", base)
    width = evidence.shape[-1]
    if width < 2:
        raise ValueError(
            f"a layer of {width} neuron has no choice of what to drop: evidence {evidence.shape} "
            "must have at least two neurons in its last axis"
        )
    share = (1 - base) * evidence
    # Positive for evidence in [0, 1]: linear in it, P at zero and (1 - P)(N - 1) at one.
    dropped = share * (width - 1) / (share * width - evidence + base)
    return jnp.clip(1 - dropped, 0, 1)  # rounding alone leaves the interval


def curriculum_keep_probability(
    step: ArrayLike, final: ArrayLike = 0.5, decay: float = 5e-4
) -> Array:
    r"""Returns the probability of keeping a neuron at a training step: from one down to `final`.

    .. math:: (1 - p) \exp(-\gamma t) + p

    Args:
      step: Steps taken so far, `int[...]`.
      final: The limit :math:`p`, in (0, 1).
      decay: :math:`\gamma` per step; 5e-4 is what Excitation Dropout was compared with.

    Raises:
      ValueError: `final` is outside (0, 1), or `decay` negative.

    Example:
      >>> curriculum_keep_probability(jnp.array([0, 2000, 100_000]))
      Array([1.       , 0.6839397, 0.5      ], dtype=float32)

    References:
      Morerio et al., Curriculum Dropout, ICCV 2017, equation 2.
    """
    final = check_probability("final", final)
    check_decay(decay)
    return (1 - final) * jnp.exp(-decay * jnp.asarray(step, jnp.float32)) + final


def standout_keep_probability(
    preactivations: ArrayLike, slope: float = 1.0, offset: float = 0.0
) -> Array:
    r"""Returns the probability of keeping each neuron: the higher, the stronger its own input.

    .. math:: \sigma(\alpha \sum_i w_{ij} a_i + \beta)

    Args:
      preactivations: `float[...]`, what enters the neurons' activation functions: the weights of
        the dropout are those of the layer.
      slope: :math:`\alpha`.
      offset: :math:`\beta`.

    Example:
      >>> standout_keep_probability(jnp.array([-100.0, 0.0, 100.0]))
      Array([0. , 0.5, 1. ], dtype=float32)

    References:
      Ba and Frey, Adaptive dropout for training deep neural networks, NeurIPS 2013, section 3.
    """
    return jax.nn.sigmoid(slope * jnp.asarray(preactivations, jnp.float32) + offset)


def excitation_evidence(
    head: Head, hidden: Array, labels: ArrayLike | None = None, *, units: Units = "neuron"
) -> Array:
    """Returns the evidence that each unit of a layer carries for the labels.

    It is Excitation Backprop from the label's logit down to `hidden`, through the head alone, and
    takes no part in differentiation. Cost: one forward pass of the head, one of its normalisers,
    and one backward pass of it.

    Args:
      head: The network from the layer on: maps `hidden` to logits `float[batch, classes]`.
      hidden: The activations of the layer, `float[batch, ...]`.
      labels: `int[batch]`; `None` takes the classes that the head predicts.
      units: What is kept or dropped as one: `"neuron"`, or in a convolutional layer
        `[batch, ..., channel]` a `"channel"`, or a `"position"` with all its channels.

    Returns:
      `float32[batch, ...]` in the shape of `hidden`, with ones for the axes summed over. The sum
      of an image is one, less what parents without excitatory child dropped.

    Raises:
      TypeError: Activations or logits that are not floating point, labels that are no integers.
      ValueError: NaN activations, labels out of range or of another batch, a head whose logits
        have the wrong shape or do not depend on `hidden`.
      MissingRuleError: An operation of the head has no rule.

    Example:
      >>> head = lambda h: h @ jnp.array([[3.0, 0.0], [1.0, 1.0]])
      >>> excitation_evidence(head, jnp.ones((1, 2)), jnp.array([0]))
      Array([[0.75, 0.25]], dtype=float32)
    """
    hidden = check_hidden(hidden)
    axes = summed_axes(hidden, units)
    outputs, _, pull = ground(lambda h: head(tap(h, "hidden")), hidden, at="hidden")
    if getattr(outputs, "ndim", None) != 2:
        raise ValueError(
            f"the head must return logits [batch, classes], got {jnp.shape(outputs)} for hidden "
            f"activations {hidden.shape}: does it reach the logits?"
        )
    if labels is None:
        labels = jnp.argmax(outputs, axis=-1)
    if jnp.ndim(labels) != 1 or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(
            f"labels must be int[batch], got {jnp.result_type(labels)}{list(jnp.shape(labels))}"
        )
    priors, _ = prior(outputs, labels)
    mass = pull(priors[:, 0]).astype(jnp.float32)
    return jax.lax.stop_gradient(mass.sum(axes, keepdims=True) if axes else mass)


def excitation_keep(
    head: Head,
    hidden: Array,
    labels: ArrayLike | None,
    base: ArrayLike,
    *,
    units: Units = "neuron",
) -> Array:
    """Returns the probability of keeping each unit of a layer, in the shape of its evidence.

    Example:
      >>> head = lambda h: h @ jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
      >>> excitation_keep(head, jnp.ones((1, 4)), jnp.array([0]), 0.5)
      Array([[0.25, 0.25, 1.  , 1.  ]], dtype=float32)
    """
    check_probability("base", base)  # before the head is traced
    evidence = excitation_evidence(head, hidden, labels, units=units)
    keep = excitation_keep_probability(evidence.reshape(len(evidence), -1), base)
    return keep.reshape(evidence.shape)


def summed_axes(hidden: Array, units: Units) -> tuple[int, ...]:
    """Returns the axes of a layer that belong to one unit."""
    last = hidden.ndim - 1
    axes = {"neuron": (), "channel": tuple(range(1, last)), "position": (last,)}
    if units not in axes:
        raise ValueError(f"units must be {', '.join(map(repr, axes))}, got {units!r}")
    if units != "neuron" and hidden.ndim < 3:
        raise ValueError(
            f"{units}s are units of a layer [batch, ..., channel]; hidden activations "
            f'{hidden.shape} have neurons: units="neuron"'
        )
    if math.prod(n for axis, n in enumerate(hidden.shape) if axis and axis not in axes[units]) < 2:
        raise ValueError(f"hidden activations {hidden.shape} have a single {units} to drop")
    return axes[units]


def check_hidden(hidden: ArrayLike) -> Array:
    """Returns the activations of a layer as an array, or says what is wrong."""
    given, hidden = hidden, jnp.asarray(hidden)
    if not jnp.issubdtype(hidden.dtype, jnp.floating) or hidden.ndim < 2:
        raise TypeError(
            "hidden activations must be floating point [batch, ...], got "
            f"{hidden.dtype}{list(hidden.shape)}"
        )
    if not isinstance(given, Tracer):
        with jax.ensure_compile_time_eval():  # known values, even under the jit of a key
            finite = jnp.isfinite(jnp.asarray(given)).all(axis=tuple(range(1, hidden.ndim)))
            finite = np.asarray(finite)
        if not finite.all():
            broken = np.flatnonzero(~finite).tolist()
            raise ValueError(f"hidden activations of images {broken} have NaN or infinite values")
    return hidden


def check_probability(name: str, value: ArrayLike) -> Array:
    """Returns a probability strictly between zero and one, or says what is wrong."""
    if not isinstance(value, Tracer):
        known = np.asarray(value)
        if not ((known > 0) & (known < 1)).all():
            raise ValueError(f"{name} must be a probability in (0, 1), got {value}")
    return jnp.asarray(value, jnp.float32)


def check_decay(decay: ArrayLike) -> None:
    """Raises `ValueError` for a decay under which a probability of keeping a neuron would grow."""
    if not isinstance(decay, Tracer) and not (np.asarray(decay) >= 0).all():
        raise ValueError(f"decay must be zero or more per step, got {decay}")
