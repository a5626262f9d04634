"""Schemes of dropout: each a value, and a function from a layer's activations to factors."""

import dataclasses
from typing import Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxground.dropout.keeping import (
    Head,
    Units,
    check_decay,
    check_probability,
    curriculum_keep_probability,
    excitation_keep,
    standout_keep_probability,
)

Rescale: TypeAlias = Literal["mean", "none", "unit"]


class Scheme(Protocol):
    """What `Dropout` asks of a scheme. A scheme takes what it needs of the keyword arguments."""

    def factors(
        self,
        key: Array,
        hidden: Array,
        *,
        head: Head | None = None,
        labels: ArrayLike | None = None,
        step: ArrayLike | None = None,
        preactivations: ArrayLike | None = None,
    ) -> Array:
        """Returns what multiplies the activations of a training step, broadcastable to them."""
        ...

    def expected(self, *, preactivations: ArrayLike | None = None) -> Array | None:
        """Returns what multiplies the activations at test time, `None` for nothing."""
        ...


@dataclasses.dataclass(frozen=True)
class Standard:
    """Drops every neuron with the same probability.

    Attributes:
      keep: Probability of keeping a neuron, in (0, 1).
      per: `"image"` draws a mask for each image, `"batch"` one for the whole batch, as the
        Excitation Dropout paper describes standard dropout.

    Example:
      >>> Standard(0.5).factors(jax.random.key(0), jnp.ones((1, 4)))
      Array([[0., 0., 2., 2.]], dtype=float32)

    References:
      Srivastava et al., Dropout, JMLR 2014. Kept neurons are divided by `keep`, so that nothing
      happens at test time.
    """

    keep: float = 0.5
    per: Literal["image", "batch"] = "image"

    def __post_init__(self):
        """Checks the values."""
        check_probability("keep", self.keep)
        if self.per not in ("image", "batch"):
            raise ValueError(f'per must be "image" or "batch", got {self.per!r}')

    def factors(self, key, hidden, **_) -> Array:
        """Returns zero, or one over `keep`, for each neuron."""
        shape = hidden.shape if self.per == "image" else (1, *hidden.shape[1:])
        return jax.random.bernoulli(key, self.keep, shape) / jnp.float32(self.keep)

    def expected(self, **_) -> None:
        """Returns `None`: nothing happens at test time."""


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """Drops nothing at first, and more and more neurons as training goes on.

    Attributes:
      keep: What the probability of keeping a neuron approaches, in (0, 1).
      decay: How fast, per step (see `curriculum_keep_probability`).

    Example:
      >>> Curriculum().factors(jax.random.key(0), jnp.ones((1, 3)), step=0)
      Array([[1., 1., 1.]], dtype=float32)

    References:
      Morerio et al., Curriculum Dropout, ICCV 2017.
    """

    keep: float = 0.5
    decay: float = 5e-4

    def __post_init__(self):
        """Checks the values."""
        check_probability("keep", self.keep)
        check_decay(self.decay)

    def factors(self, key, hidden, *, step=None, **_) -> Array:
        """Returns zero, or one over the step's probability of being kept, for each neuron."""
        if step is None:
            raise ValueError("curriculum dropout depends on the training step: give step=")
        keep = curriculum_keep_probability(step, self.keep, self.decay)
        return jax.random.bernoulli(key, keep, hidden.shape) / keep

    def expected(self, **_) -> None:
        """Returns `None`: nothing happens at test time."""


@dataclasses.dataclass(frozen=True)
class Standout:
    r"""Keeps a neuron the more likely, the stronger its input: adaptive dropout.

    Nothing is rescaled in training; at test time activations are multiplied by the probability of
    being kept, as published, so this scheme alone is no identity then.

    Attributes:
      slope: :math:`\alpha` of `standout_keep_probability`.
      offset: :math:`\beta`.

    Example:
      >>> Standout().expected(preactivations=jnp.zeros((1, 2)))
      Array([[0.5, 0.5]], dtype=float32)

    References:
      Ba and Frey, Adaptive dropout for training deep neural networks, NeurIPS 2013.
    """

    slope: float = 1.0
    offset: float = 0.0

    def factors(self, key, hidden, *, preactivations=None, **_) -> Array:
        """Returns zero or one for each neuron."""
        keep = self.expected(preactivations=preactivations)
        if keep.shape != hidden.shape:
            raise ValueError(
                f"preactivations {keep.shape} must have the shape of the activations {hidden.shape}"
            )
        return jax.random.bernoulli(key, keep).astype(jnp.float32)

    def expected(self, *, preactivations=None, **_) -> Array:
        """Returns the probability of keeping each neuron."""
        if preactivations is None:
            raise ValueError(
                "adaptive dropout depends on the input of the neurons: give preactivations="
            )
        keep = standout_keep_probability(preactivations, self.slope, self.offset)
        return jax.lax.stop_gradient(keep)


@dataclasses.dataclass(frozen=True)
class Excitation:
    """Drops the neurons that carry the decision, so that the network learns other paths.

    Attributes:
      base: Probability of keeping a neuron where all carry the same evidence, in (0, 1).
      rescale: `"mean"` divides the kept activations of an image by the share of its units that
        were kept, as the authors' code of 2023 does; `"none"` leaves them, as that of 2019, with
        which the published numbers were made; `"unit"` divides each by its own probability of
        being kept, which alone preserves the expectation.
      units: What is kept or dropped as one (see `excitation_evidence`).

    Example:
      >>> head = lambda h: h @ jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> scheme = Excitation(rescale="none")
      >>> scheme.factors(jax.random.key(0), jnp.ones((1, 2)), head=head, labels=jnp.array([1]))
      Array([[1., 0.]], dtype=float32)

    References:
      Zunino et al., Excitation Dropout: Encouraging Plasticity in Deep Neural Networks, IJCV 2021.
    """

    base: float = 0.5
    rescale: Rescale = "mean"
    units: Units = "neuron"

    def __post_init__(self):
        """Checks the values."""
        check_probability("base", self.base)
        check_rescale(self.rescale)

    def factors(self, key, hidden, *, head=None, labels=None, **_) -> Array:
        """Returns the factor of each unit, zero where it is dropped."""
        if head is None:
            raise ValueError(
                "excitation dropout needs the network above the layer: give head=, the function "
                "from the layer's activations to the logits"
            )
        keep = excitation_keep(head, hidden, labels, self.base, units=self.units)
        return drawn(key, keep, self.rescale)

    def expected(self, **_) -> None:
        """Returns `None`: nothing happens at test time."""


def check_rescale(rescale: Rescale) -> None:
    """Raises `ValueError` for an unknown rule of rescaling."""
    if rescale not in ("mean", "none", "unit"):
        raise ValueError(f'rescale must be "mean", "none" or "unit", got {rescale!r}')


def drawn(key: Array, keep: Array, rescale: Rescale) -> Array:
    """Returns a mask per image drawn with probabilities `keep`, rescaled."""
    mask = jax.random.bernoulli(key, keep).astype(jnp.float32)
    if rescale == "unit":
        return jnp.where(mask > 0, 1 / jnp.maximum(keep, jnp.finfo(jnp.float32).tiny), 0)
    if rescale == "mean":
        kept = mask.mean(axis=tuple(range(1, mask.ndim)), keepdims=True)
        return mask / jnp.where(kept > 0, kept, 1)
    return mask
