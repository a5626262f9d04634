"""Networks of every framework ground unmodified, and the same network gives the same map."""

import jax
import numpy as np
import oracle
import pytest
import zoo

from jaxground.core import ground, taps

TAPS = {"image": (2, 6, 6, 2), "conv": (2, 6, 6, 4), "block": (2, 6, 6, 4), "pool": (2, 3, 3, 4)}
EXTRA = "comes with the extra `frameworks`"


def _network(framework):
    module = {"haiku": "haiku", "equinox": "equinox"}.get(framework, "flax")
    pytest.importorskip(module, reason=f"{module} {EXTRA}")
    return getattr(zoo, framework)(zoo.weights())


def _maps(f, x, prior, at=None):
    return jax.jit(lambda x, prior: ground(f, x, at=at).pull(prior))(x, prior)


def _chain(x, prior, w):
    """Returns the masses at image, conv, block and pool by dense matrices, for one image."""
    pads = oracle.same_padding(zoo.IMAGE[:2], (3, 3), (1, 1))

    def conv(x, kernel):
        return oracle.convolve(x, kernel, (1, 1), pads)

    children = np.maximum(conv(x, w["conv"]) + w["conv_bias"], 0)
    branch = conv(children, w["block"])
    joined = np.maximum(children + branch, 0)
    winner = oracle.winners(joined, (2, 2), (2, 2))
    pooled = (winner @ joined.ravel()).reshape(3, 3, zoo.CHANNELS)
    mean = oracle.matrix(lambda e: e.mean((0, 1)), pooled.shape)
    eye = np.eye(children.size)
    summands = np.concatenate([children, branch], axis=None)
    steps = {
        "pool": [
            oracle.transition(w["dense"].T, pooled.mean((0, 1))),
            oracle.transition(mean, pooled),
        ],
        "block": [winner],
        "conv": [
            oracle.transition(np.hstack([eye, eye]), summands),
            np.vstack(
                [
                    eye,
                    oracle.transition(
                        oracle.matrix(lambda e: conv(e, w["block"]), children.shape), children
                    ),
                ]
            ),
        ],
        "image": [oracle.transition(oracle.matrix(lambda e: conv(e, w["conv"]), x.shape), x)],
    }
    shapes = {"pool": pooled.shape, "block": joined.shape, "conv": children.shape, "image": x.shape}
    masses, mass = {}, prior
    for name, transitions in steps.items():
        mass = oracle.chain(mass, transitions)
        masses[name] = mass.reshape(shapes[name])
    return masses


@pytest.mark.parametrize("framework", ["plain", "nnx", "linen", "equinox", "haiku"])
def test_the_same_network_gives_the_same_map_in(framework):
    f = _network(framework)
    x, prior = zoo.images(), zoo.priors()
    w = {k: v.astype(np.float64) for k, v in zoo.weights().items()}
    expected = [_chain(a, p, w) for a, p in zip(x.astype(np.float64), prior, strict=True)]
    for name, found in _maps(f, x, prior, at=tuple(TAPS)).items():
        reference = np.stack([e[name] for e in expected])
        np.testing.assert_allclose(found, reference, atol=1e-6, err_msg=f"{name}")
    found = taps(f, x)
    assert {name: found[name].shape for name in TAPS} == TAPS
