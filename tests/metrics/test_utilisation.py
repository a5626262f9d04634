"""How much of a layer is used: against NumPy written from the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground.metrics.utilisation import (
    compression,
    domain_share,
    filter_change,
    utilisation,
)

GENERATOR = np.random.default_rng(0)
HIDDEN = np.maximum(GENERATOR.normal(size=(5, 9)), 0).astype(np.float32)
EVIDENCE = (GENERATOR.dirichlet(np.ones(9) / 2, size=5) * 0.8).astype(np.float32)
WEIGHTS = GENERATOR.normal(size=(9, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0])
SHARES = np.array([0.0, 0.05, 0.3, 0.6, 0.95, 1.0])


def probability(hidden):
    exponentials = np.exp(np.asarray(hidden, np.float64) @ WEIGHTS)
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_utilisation_by_definition():
    found = jax.jit(utilisation)(HIDDEN, EVIDENCE)
    np.testing.assert_array_equal(found.neurons_on, [(row > 0).sum() for row in HIDDEN])
    np.testing.assert_allclose(found.peak_evidence, EVIDENCE.max(1))
    for values, entropy in (
        (HIDDEN, found.activation_entropy),
        (EVIDENCE, found.evidence_entropy),
    ):
        shares = values / values.sum(1, keepdims=True)
        expected = [-sum(p * np.log(p) for p in row if p > 0) for row in shares]
        np.testing.assert_allclose(entropy, expected, rtol=1e-5, atol=1e-6)


def test_utilisation_of_a_dead_and_of_a_uniform_layer():
    found = jax.jit(utilisation)(jnp.zeros((1, 2, 2, 3)), jnp.full((1, 2, 2, 3), 1 / 12))
    assert (found.neurons_on, found.activation_entropy) == (0, 0)
    np.testing.assert_allclose(found.evidence_entropy, np.log(12), rtol=1e-6)


@pytest.mark.parametrize("order", ["most", "least"])
def test_compression_removes_neurons_one_by_one_until_the_share_is_reached(order):
    scores, removed = jax.jit(
        lambda *arrays: compression(lambda h: h @ WEIGHTS, *arrays, order=order)
    )(HIDDEN, LABELS, EVIDENCE, SHARES)
    for i, label in enumerate(LABELS):
        ranks = np.argsort(-EVIDENCE[i] if order == "most" else EVIDENCE[i])
        for j, share in enumerate(SHARES):
            off, carried = [], 0.0
            for neuron in ranks if share > 0 else ():
                carried += EVIDENCE[i, neuron] / EVIDENCE[i].sum()
                if carried > share + 1e-6:
                    break
                off.append(neuron)
            kept = HIDDEN[i].copy()
            kept[off] = 0
            assert removed[i, j] == len(off)
            np.testing.assert_allclose(scores[i, j], probability(kept)[label], rtol=1e-4)


def test_compression_without_evidence_removes_nothing_but_all_at_once():
    zeros = jnp.zeros_like(HIDDEN)
    shares = np.array([0.0, 0.5])
    found = jax.jit(lambda *arrays: compression(lambda h: h @ WEIGHTS, *arrays, order="most"))(
        HIDDEN, LABELS, zeros, shares
    )
    np.testing.assert_array_equal(found.removed, [[0, 9]] * 5)


def test_filter_change_is_the_norm_per_filter_of_dense_and_convolution():
    before, after = GENERATOR.normal(size=(2, 3, 3, 2, 6))
    expected = [np.linalg.norm((after - before)[..., i]) for i in range(6)]
    np.testing.assert_allclose(jax.jit(filter_change)(before, after), expected, rtol=1e-5)


def test_domain_share_counts_the_strongest_images():
    responses = GENERATOR.normal(size=(40, 7))
    in_domain = GENERATOR.uniform(size=40) < 0.5
    expected = [in_domain[np.argsort(-r)[:10]].mean() for r in responses.T]
    found = jax.jit(domain_share, static_argnames="top")(responses, in_domain, top=10)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"of the same neurons: got \(5, 9\) and \(5, 4\)"):
        utilisation(HIDDEN, EVIDENCE[:, :4])
    with pytest.raises(ValueError, match="order must be"):
        compression(lambda h: h, HIDDEN, LABELS, EVIDENCE, SHARES, order="random")  # type: ignore
    with pytest.raises(ValueError, match=r"\(5, 9\) and evidence \(4, 9\)"):
        compression(lambda h: h, HIDDEN, LABELS, EVIDENCE[:4], SHARES, order="most")
    with pytest.raises(ValueError, match=r"one shape: got \(2, 2\) and \(2, 3\)"):
        filter_change(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"at least 100 images"):
        domain_share(np.ones((99, 2)), np.ones(99, bool))
