"""Networks of every framework ground unmodified, and the same network gives the same map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import zoo

from jaxground.core import excite, ground, taps

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


@functools.cache
def _expected():
    w = {k: v.astype(np.float64) for k, v in zoo.weights().items()}
    pairs = zip(zoo.images().astype(np.float64), zoo.priors(), strict=True)
    of_each = [_chain(image, prior, w) for image, prior in pairs]
    return {name: np.stack([masses[name] for masses in of_each]) for name in TAPS}


@pytest.mark.parametrize("framework", ["plain", "nnx", "linen", "equinox", "haiku"])
def test_the_same_network_gives_the_same_map_in(framework):
    f = _network(framework)
    x, prior = zoo.images(), zoo.priors()
    for name, found in _maps(f, x, prior, at=tuple(TAPS)).items():
        np.testing.assert_allclose(found, _expected()[name], atol=1e-6, err_msg=f"{name}")
    found = taps(f, x)
    assert {name: found[name].shape for name in TAPS} == TAPS


# --- other people's modules, as they are ----------------------------------------------------------


def _assert_grounded(f, x, prior, *, total=None):
    """Checks the values, and that what arrives is a sub-probability, or `total`."""

    outputs, mass = jax.jit(lambda x, p: (excite(f)(x), ground(f, x).pull(p)))(x, prior)
    np.testing.assert_allclose(outputs, f(x), rtol=1e-4, atol=1e-5)
    arrived, given = mass.sum(tuple(range(1, mass.ndim))), prior.reshape(len(prior), -1).sum(1)
    assert (np.asarray(mass) >= 0).all()
    assert (arrived <= given + 1e-5).all() and arrived.max() > 0.1
    if total is not None:
        np.testing.assert_allclose(arrived, total * given, atol=1e-5)
    return mass


@pytest.fixture
def frames():
    return abs(zoo.normal(2, 5, 4))  # [batch, time, features]


def test_stax():
    from jax.example_libraries import stax

    init, apply = stax.serial(
        stax.Conv(4, (3, 3), padding="SAME"),
        stax.Relu,
        stax.FanOut(2),
        stax.parallel(stax.Conv(3, (1, 1)), stax.MaxPool((1, 1))),
        stax.FanInConcat(),
        stax.AvgPool((2, 2)),
        stax.Flatten,
        stax.Dense(5),
    )
    params = jax.jit(lambda key: init(key, (2, *zoo.IMAGE))[1])(jax.random.key(0))
    prior = np.ones((2, 5), np.float32)
    _assert_grounded(jax.jit(lambda x: apply(params, x)), zoo.images(), prior)


def test_flax_nnx_sequential():
    from flax import nnx

    rngs = nnx.Rngs(0)
    network = nnx.Sequential(
        nnx.Conv(2, 4, (3, 3), rngs=rngs),
        nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
        nnx.relu,
        lambda x: nnx.avg_pool(x, (2, 2), (2, 2)),
        nnx.Dropout(0.5, deterministic=True, rngs=rngs),
        lambda x: x.reshape(len(x), -1),
        nnx.Linear(36 * 4 // 4, 3, rngs=rngs),
    )
    _assert_grounded(network, zoo.images(), zoo.priors(), total=1)


def test_flax_nnx_rnn(frames):
    from flax import nnx

    rnn = nnx.RNN(nnx.OptimizedLSTMCell(4, 3, rngs=nnx.Rngs(0)))
    at_last = np.zeros((2, 5, 3), np.float32)
    at_last[:, -1] = 1
    _assert_grounded(rnn, frames, at_last)


@pytest.mark.parametrize("cell", ["LSTMCell"])
def test_flax_linen_rnn_sees_the_past_not_the_future(cell, frames):
    from flax import linen

    rnn = linen.RNN(getattr(linen, cell)(3))
    params = jax.jit(rnn.init)(jax.random.key(0), frames)
    prior = np.ones((2, 3), np.float32)
    mass = _assert_grounded(jax.jit(lambda x: rnn.apply(params, x)[:, 2]), frames, prior)
    assert (mass[:, :3].sum(-1) > 0).all()
    assert not mass[:, 3:].any()


def test_equinox_mlp_is_the_chain_of_its_layers():
    eqx = pytest.importorskip("equinox", reason=f"equinox {EXTRA}")
    network = eqx.nn.MLP(4, 3, 8, depth=2, key=jax.random.key(1))
    x, prior = abs(zoo.normal(4)), np.array([0.0, 1.0, 2.0], np.float32)
    children, transitions = x.astype(np.float64), []
    for layer in network.layers:
        weight, bias = np.asarray(layer.weight, np.float64), np.asarray(layer.bias)
        transitions.insert(0, oracle.transition(weight, children))
        children = np.maximum(weight @ children + bias, 0)
    expected = oracle.chain(prior, transitions)
    assert expected.sum() > 0.1
    found = jax.jit(lambda x: ground(network, x).pull(prior))(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_equinox_convolution_and_recurrence():
    eqx = pytest.importorskip("equinox", reason=f"equinox {EXTRA}")
    first, second = jax.random.split(jax.random.key(0))
    eyes = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(2, 4, 3, groups=2, key=first),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel),
        ]
    )
    cell = eqx.nn.GRUCell(16, 3, key=second)

    def network(video):
        features = jax.vmap(eyes)(video)
        return jax.lax.scan(lambda h, x: (cell(x, h), None), jnp.zeros(3), features)[0]

    video = abs(zoo.normal(2, 4, 2, 6, 6))  # [batch, time, channel, height, width]
    _assert_grounded(jax.jit(jax.vmap(network)), video, np.ones((2, 3), np.float32))


def test_haiku_mobilenet():
    hk = pytest.importorskip("haiku", reason=f"haiku {EXTRA}")

    def forward(x, training):
        network = hk.nets.MobileNetV1(strides=(1, 2), channels=(4, 8), num_classes=3)
        return network(x, is_training=training)

    network, x = hk.transform_with_state(forward), zoo.images()
    start = jax.jit(network.init, static_argnums=2)
    params, state = start(jax.random.key(0), x, True)

    @jax.jit
    def f(x):
        return network.apply(params, state, None, x, False)[0]

    _assert_grounded(f, x, zoo.priors())
    found = taps(f, x)
    assert found["mobile_net_v1/mobile_net_v1_block"].shape == (2, 2, 2, 4)
    assert found["mobile_net_v1/mobile_net_v1_block_1"].shape == (2, 1, 1, 8)
