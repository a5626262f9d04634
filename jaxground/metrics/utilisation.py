"""How much of a network is used: the neurons that carry a decision, and those that never learnt."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.scores import score_values

Order: TypeAlias = Literal["most", "least"]


class Utilisation(NamedTuple):
    """How a layer is used by each image, all `float32[batch]`.

    Attributes:
      neurons_on: Neurons with a positive activation.
      peak_evidence: The largest share of the evidence that one neuron carries.
      activation_entropy: Entropy of the positive activations as a distribution, in nats.
      evidence_entropy: Entropy of the evidence as a distribution, in nats.
    """

    neurons_on: Array
    peak_evidence: Array
    activation_entropy: Array
    evidence_entropy: Array


def utilisation(activations: ArrayLike, evidence: ArrayLike) -> Utilisation:
    """Returns how many neurons of a layer an image uses, and how evenly.

    Entropies are between zero, all in one neuron, and the logarithm of the number of neurons. An
    image without any positive activation, or evidence, has entropy zero.

    Args:
      activations: Of the layer, `float[batch, ...]`.
      evidence: `dropout.excitation_evidence`, in the same shape.

    Raises:
      ValueError: The shapes differ.

    Example:
      >>> found = utilisation(jnp.array([[1.0, 1.0, 0.0]]), jnp.array([[0.5, 0.5, 0.0]]))
      >>> found.neurons_on, found.peak_evidence, found.evidence_entropy
      (Array([2.], dtype=float32), Array([0.5], dtype=float32), Array([0.6931472], dtype=float32))

    References:
      Zunino et al., Excitation Dropout, IJCV 2021, section 4.3; the entropy of activations is that
      of Mittal et al., Recovering from Random Pruning, WACV 2018. The base of the logarithm is
      published nowhere; nats fit the published figures.
    """
    activations, evidence = (_rows(x) for x in (activations, evidence))
    if activations.shape != evidence.shape:
        raise ValueError(
            f"activations and evidence are of the same neurons: got {activations.shape} and "
            f"{evidence.shape} per image"
        )
    return Utilisation(
        (activations > 0).sum(1, dtype=jnp.float32),
        evidence.max(1),
        _entropy(activations),
        _entropy(evidence),
    )


class Compression(NamedTuple):
    """What is left of a decision as neurons are switched off.

    Attributes:
      scores: `float32[batch, n]`, the score of the label with `removed` neurons off.
      removed: `int32[batch, n]`, how many neurons were off.
    """

    scores: Array
    removed: Array


def compression(
    head: Callable[[Array], Array],
    hidden: ArrayLike,
    labels: ArrayLike,
    evidence: ArrayLike,
    shares: ArrayLike,
    *,
    order: Order,
) -> Compression:
    """Returns the probability of the label as relevant neurons, or irrelevant ones, are removed.

    Neurons are switched off in the order of their evidence until what they carried together reaches
    a share of all evidence: the most neurons whose sum does not exceed it. Cost: one forward pass
    of the head for each share; memory does not depend on their number.

    Args:
      head: The network from the layer on: maps `hidden` to logits `float[batch, classes]`.
      hidden: Activations of the layer, `float[batch, ...]`.
      labels: `int[batch]`.
      evidence: `dropout.excitation_evidence` in the shape of `hidden`. Any order may be given: with
        `jax.random.uniform` in its place the neurons are switched off at random.
      shares: `float[n]`, shares of the evidence in [0, 1]; published are 0, 0.05, ..., 0.95.
      order: `"most"` relevant first, or `"least"`.

    Raises:
      ValueError: An unknown order, shapes that differ.

    Example:
      >>> head = lambda h: h @ jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
      >>> hidden, label = jnp.ones((1, 3)), jnp.array([0])
      >>> evidence = jnp.array([[2 / 3, 1 / 3, 0.0]])
      >>> compression(head, hidden, label, evidence, [0.0, 0.7, 1.0], order="most").removed
      Array([[0, 1, 3]], dtype=int32)

    References:
      Zunino et al., Excitation Dropout, IJCV 2021, section 4.4 and figure 5.
    """
    hidden, relevance = jnp.asarray(hidden), _rows(evidence)
    if order not in ("most", "least"):
        raise ValueError(f'order must be "most" or "least", got {order!r}')
    if hidden.shape != jnp.shape(evidence):
        raise ValueError(
            f"hidden activations {hidden.shape} and evidence {jnp.shape(evidence)} are of the "
            "same neurons"
        )
    ranks = jnp.argsort(-relevance if order == "most" else relevance, axis=1)
    places = jnp.argsort(ranks, axis=1)  # of each neuron in the order
    carried = jnp.cumsum(jnp.take_along_axis(relevance, ranks, axis=1), axis=1)
    carried = carried / jnp.where(carried[:, -1:] > 0, carried[:, -1:], 1)

    def at(share):
        # Rounding of the sum must not decide whether the last neuron of a share is in it.
        removed = jnp.where(share > 0, (carried <= share + 1e-6).sum(1), 0)
        kept = (places >= removed[:, None]).reshape(hidden.shape)
        score, _ = score_values(head(hidden * kept.astype(hidden.dtype)), labels, "probability")
        return score[:, 0].astype(jnp.float32), removed

    scores, removed = lax.map(at, jnp.asarray(shares, jnp.float32))
    return Compression(scores.T, removed.T)


def filter_change(before: ArrayLike, after: ArrayLike) -> Array:
    r"""Returns how far training moved each filter, :math:`\Delta = \|\hat w - w\|`.

    A filter that moved less than some threshold is *conservative*: it still serves what it was
    initialised or trained for before. Count them by `(filter_change(a, b) < threshold).sum()`.

    Args:
      before: Kernel of a dense or convolutional layer, `float[..., filters]`; without bias.
      after: The same after training.

    Returns:
      `float32[filters]`, the Euclidean norm of the difference.

    Raises:
      ValueError: The shapes differ.

    Example:
      >>> filter_change(jnp.zeros((2, 2)), jnp.array([[3.0, 0.0], [4.0, 0.1]]))
      Array([5. , 0.1], dtype=float32)

    References:
      Ma et al., Do Less and Achieve More: Training CNNs for Action Recognition Utilizing Action
      Images from the Web, Pattern Recognition 2017, section 5.
    """
    if jnp.shape(before) != jnp.shape(after):
        raise ValueError(
            f"kernels before and after training have one shape: got {jnp.shape(before)} and "
            f"{jnp.shape(after)}"
        )
    change = jnp.asarray(after, jnp.float32) - jnp.asarray(before, jnp.float32)
    return jnp.sqrt((change**2).reshape(-1, change.shape[-1]).sum(0))


def domain_share(responses: ArrayLike, in_domain: ArrayLike, *, top: int = 100) -> Array:
    r"""Returns for each filter the share :math:`\alpha` of a domain in what excites it most.

    Args:
      responses: `float[images, filters]`, the largest response of each filter in each image.
      in_domain: `bool[images]`, which images are of the domain, video frames for example.
      top: How many images count for each filter; 100 as published.

    Returns:
      `float32[filters]` in [0, 1]. Of images that excite a filter alike the first count.

    Raises:
      ValueError: The shapes do not go together, or there are fewer than `top` images.

    Example:
      >>> responses = jnp.array([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
      >>> domain_share(responses, jnp.array([True, True, False]), top=2)
      Array([1. , 0.5], dtype=float32)

    References:
      Ma et al., Pattern Recognition 2017, section 5.
    """
    responses, in_domain = jnp.asarray(responses), jnp.asarray(in_domain)
    if responses.ndim != 2 or in_domain.shape != responses.shape[:1] or len(responses) < top:
        raise ValueError(
            f"responses must be [images, filters] of at least {top} images and in_domain [images],"
            f" got {responses.shape} and {in_domain.shape}"
        )
    _, strongest = lax.top_k(responses.T, top)  # [filters, top]
    return in_domain[strongest].mean(1, dtype=jnp.float32)


def _rows(values: ArrayLike) -> Array:
    values = jnp.asarray(values, jnp.float32)
    return values.reshape(len(values), -1)


def _entropy(values: Array) -> Array:
    positive = jnp.maximum(values, 0)
    total = positive.sum(1, keepdims=True)
    return jax.scipy.special.entr(positive / jnp.where(total > 0, total, 1)).sum(1)
