"""Every rule against a random walk written in NumPy, and against the formulas of the papers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import linen
from jax import lax
from zoo import normal as single

from jaxground.core import (
    CAFFE,
    DECONVNET,
    EXCITATION,
    GRADIENT,
    GUIDED,
    excitation_conv,
    excitation_dense,
    excite,
    linear_map,
)

EXACT = 1e-12  # float64 against the oracle

pytestmark = pytest.mark.usefixtures("float64")
normal = functools.partial(single, dtype=np.float64)


def pull(f, x, prior, rules=EXCITATION):
    """Returns the mass at `x`, an array or a tuple of them."""
    return pulls({"f": f}, x, prior, rules)["f"]


def pulls(functions, x, prior, rules=EXCITATION):
    """Returns the mass at `x` by name of the function, compiled in one go."""

    def every(x, prior):
        return {k: jax.vjp(excite(f, rules), x)[1](prior)[0] for k, f in functions.items()}

    return jax.jit(every)(x, prior)


def walk(prior, *layers, clamp=True):
    """Returns the mass below layers `(matrix, input)`, given from the output down."""
    return oracle.chain(prior, [oracle.transition(w, x, clamp) for w, x in layers])


def assert_close(found, expected):
    np.testing.assert_allclose(np.ravel(found), np.ravel(expected), rtol=EXACT, atol=EXACT)


# --- share: linear maps ---------------------------------------------------------------------------

SPACES = {1: "H", 2: "HW", 3: "DHW"}


def _conv(space, window, inputs, outputs, *, strides=1, padding="VALID", lhs=1, rhs=1, groups=1):
    """Returns a convolution in JAX, the same one in NumPy, and the shape of its input."""
    dims = len(space)
    strides, lhs, rhs = (np.broadcast_to(n, dims).tolist() for n in (strides, lhs, rhs))
    kernel = normal(*window, inputs // groups, outputs)
    pads = padding
    if padding == "SAME":
        pads = oracle.same_padding(space, window, strides, rhs)
    elif padding == "VALID":
        pads = [(0, 0)] * dims
    layout = (f"N{SPACES[dims]}C", f"{SPACES[dims]}IO", f"N{SPACES[dims]}C")

    def ours(x):
        return lax.conv_general_dilated(
            x[None], kernel, strides, padding, lhs, rhs, layout, feature_group_count=groups
        )[0]

    reference = functools.partial(
        oracle.convolve,
        kernel=kernel,
        strides=strides,
        padding=pads,
        lhs_dilation=lhs,
        rhs_dilation=rhs,
        groups=groups,
    )
    return ours, reference, (*space, inputs)


def _transposed_conv(space, window, small, large, *, stride, padding):
    """Returns the exact transpose of a strided convolution, as decoders use it."""
    kernel = normal(*window, large, small)
    outer = [n * stride for n in space]
    pads = oracle.same_padding(outer, window, stride) if padding == "SAME" else [(0, 0)] * 2
    if padding == "VALID":
        outer = [(n - 1) * stride + k for n, k in zip(space, window, strict=True)]
    forward = oracle.matrix(lambda e: oracle.convolve(e, kernel, stride, pads), (*outer, large))

    def ours(x):
        return lax.conv_transpose(
            x[None],
            kernel,
            (stride, stride),
            padding,
            transpose_kernel=True,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]

    return ours, lambda x: forward.T @ x.ravel(), (*space, small)


def _average_pool(space, window, strides, padding, count):
    pads = [(0, 0)] * 2 if padding == "VALID" else oracle.same_padding(space, window, strides)

    def ours(x):
        return linen.avg_pool(x[None], window, strides, padding, count_include_pad=count)[0]

    return ours, lambda x: oracle.average_pool(x, window, strides, pads, count), (*space, 2)


def _same(f, *shape):
    """Returns a case whose function runs in JAX and in NumPy alike."""
    return f, f, shape


W45, W54, W235 = normal(4, 5), normal(5, 4), normal(2, 3, 5)

LINEAR = {
    "x @ W": _same(lambda x: x @ W45, 3, 4),
    "W @ x": _same(lambda x: W54 @ x, 4, 3),
    "dense of many axes": (
        lambda x: jnp.einsum("bij,ijk->bk", x, W235),
        lambda x: np.einsum("bij,ijk->bk", x, W235),
        (2, 2, 3),
    ),
    "batched product": (
        lambda x: jnp.einsum("kij,ki->jk", W235, x),
        lambda x: np.einsum("kij,ki->jk", W235, x),
        (2, 3),
    ),
    "sum": _same(lambda x: x.sum(1), 2, 3, 2),
    "mean": _same(lambda x: x.mean((0, 1)), 3, 4, 2),
    "cumsum": (lambda x: jnp.cumsum(x, 1), lambda x: np.cumsum(x, 1), (2, 4)),
    "conv 1d": _conv((7,), (3,), 2, 3),
    "conv 1d, stride, same": _conv((8,), (3,), 2, 3, strides=2, padding="SAME"),
    "conv 2d, same": _conv((4, 5), (3, 2), 2, 3, padding="SAME"),
    "conv 2d, strides, same": _conv((5, 6), (3, 3), 2, 2, strides=(2, 3), padding="SAME"),
    "conv 2d, uneven padding": _conv((4, 4), (3, 3), 2, 2, padding=[(2, 0), (0, 3)]),
    "conv 2d, padding cut": _conv((6, 6), (3, 3), 1, 2, strides=4, padding=[(1, 1), (1, 1)]),
    "conv 2d, dilated kernel": _conv((6, 6), (2, 3), 2, 2, rhs=(3, 2), padding="SAME"),
    "conv 2d, dilated input": _conv((3, 4), (3, 3), 2, 2, lhs=(2, 3), padding=[(1, 2), (2, 2)]),
    "conv 2d, groups": _conv((4, 4), (3, 3), 4, 6, groups=2),
    "conv 2d, depthwise": _conv((5, 5), (3, 3), 3, 6, groups=3, strides=2, padding="SAME"),
    "conv 3d": _conv((3, 4, 3), (2, 2, 3), 2, 2, strides=(1, 2, 1), padding="SAME"),
    "transposed conv, same": _transposed_conv((3, 3), (3, 3), 2, 2, stride=2, padding="SAME"),
    "transposed conv, valid": _transposed_conv((3, 2), (3, 3), 2, 1, stride=2, padding="VALID"),
    "average pool": _average_pool((4, 4), (2, 2), (2, 2), "VALID", True),
    "average pool, padding counted": _average_pool((5, 5), (3, 3), (2, 2), "SAME", True),
    "average pool, padding left out": _average_pool((5, 5), (3, 3), (2, 2), "SAME", False),
}


@pytest.mark.parametrize("case", LINEAR)
def test_a_linear_map_shares_like_the_oracle(case):
    ours, reference, shape = LINEAR[case]
    x = normal(*shape, seed=1)  # of both signs
    value = reference(x)
    prior = normal(*value.shape, seed=2)

    @jax.jit
    def both(x, prior):
        out, of_caffe = jax.vjp(excite(ours, CAFFE), x)
        return out, jax.vjp(excite(ours), x)[1](prior)[0], of_caffe(prior)[0]

    out, clamped, signed = both(x, prior.reshape(jax.eval_shape(ours, x).shape))
    assert_close(out, value)  # the oracle speaks of the same map
    layer = (oracle.matrix(reference, shape), x)
    assert_close(clamped, walk(prior, layer))
    assert_close(signed, walk(prior, layer, clamp=False))


def test_the_two_oracles_agree():
    layers = [(normal(2, 3), normal(3)), (normal(3, 4), normal(4)), (normal(4, 2), normal(2))]
    steps = [oracle.transition(w, x) for w, x in layers]
    assert_close(oracle.chain([0.3, 0.7], steps), oracle.paths([0.3, 0.7], steps))


def test_a_deep_network_is_the_sum_over_its_paths():
    w = [normal(3, 4), normal(4, 3), np.abs(normal(3, 2))]
    x = np.abs(normal(3))
    layers, f = [], x
    for kernel in w:
        layers.insert(0, (kernel.T, f))
        f = np.maximum(f @ kernel, 0)
    expected = oracle.paths([0.0, 1.0], [oracle.transition(*layer) for layer in layers])

    def ours(x):
        return jax.nn.relu(jax.nn.relu(jax.nn.relu(x @ w[0]) @ w[1]) @ w[2])

    assert expected.sum() > 0.5
    assert_close(pull(ours, x, np.array([0.0, 1.0])), expected)


def test_the_explicit_layers_share():
    x, prior = normal(2, 4, seed=1), normal(2, 5, seed=2)
    image, kernel = normal(1, 2, 5, 5), normal(3, 2, 3, 3)  # NCHW and OIHW: Caffe's layout
    parameters = {"window_strides": (2, 2), "padding": "SAME"}
    of_image = normal(1, 3, 3, 3)

    @jax.jit
    def explicit(x, image):
        conv = functools.partial(excitation_conv, kernel=kernel, **parameters)
        return (
            jax.vjp(lambda x: excitation_dense(x, W45), x)[1](prior)[0],
            jax.vjp(conv, image)[1](of_image)[0],
        )

    dense, conv = explicit(x, image)
    assert_close(dense, pull(lambda x: x @ W45, x, prior))
    implicit = lambda x: lax.conv_general_dilated(x, kernel, **parameters)  # noqa: E731
    assert_close(conv, pull(implicit, image, of_image))


def test_linear_map_makes_one_operation_of_many():
    w = normal(3, 4)

    def shifted(x, w):  # what a depthwise convolution is on a CPU
        padded = jnp.pad(x, [(1, 1), (0, 0)])
        return sum(padded[i : i + 5] * w[i] for i in range(3))

    def reference(x):
        return oracle.convolve(x, w[:, None], (1,), [(1, 1)], groups=4)

    x, prior = normal(5, 4), normal(5, 4, seed=1)
    expected = walk(prior, (oracle.matrix(reference, x.shape), x))
    assert_close(pull(lambda x: linear_map(shifted)(x, w), x, prior), expected)


def test_a_parent_without_excitatory_child_drops_its_mass():
    w = np.array([[1.0, -1.0, 0.0], [2.0, -3.0, 0.0]])
    x = np.array([[1.0, 1.0], [0.0, 0.0], [-1.0, 0.0]])
    assert_close(pull(lambda x: x @ w, x, np.ones((3, 3))), [[1 / 3, 2 / 3], [0, 0], [0, 0]])


@pytest.mark.parametrize("rules", [EXCITATION, CAFFE], ids=["excitation", "caffe"])
def test_empty_normalisers_leave_derivatives_of_the_map_finite(rules):
    def energy(w, x):  # training through a map
        f = excite(lambda x: jax.nn.relu(x @ w) + x, rules)
        return (jax.vjp(f, x)[1](jnp.ones_like(x))[0] ** 2).sum()

    x = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    derivatives = jax.jit(jax.grad(energy, argnums=(0, 1)))(normal(3, 3), x)
    assert all(np.isfinite(d).all() for d in derivatives)
    assert all(np.abs(d).max() > 0 for d in derivatives)


def test_a_table_may_be_a_static_argument():
    run = jax.jit(
        lambda x, rules: jax.vjp(excite(jax.nn.relu, rules), x)[1](-x)[0], static_argnums=1
    )
    assert run(np.array([1.0]), GRADIENT) == -1
    assert run(np.array([1.0]), GUIDED) == 0
    assert hash(GUIDED) == hash(GRADIENT | dict(GUIDED.table)) != hash(GRADIENT)


# --- join, subtract, pass through -----------------------------------------------------------------


def test_a_bias_takes_no_mass():
    b, x, prior = normal(5, seed=3), normal(3, 4), normal(3, 5)
    expected = walk(prior, (oracle.matrix(lambda x: x @ W45, x.shape), x))
    with_bias = {
        "last": lambda x: x @ W45 + b,
        "first": lambda x: b + x @ W45,
        "subtracted": lambda x: x @ W45 - b,
    }
    for found in pulls(with_bias, x, prior).values():
        assert_close(found, expected)


def _branches(prior, a, b, clamp=True):
    """Returns the mass of two summands by the oracle: weights of one, children side by side."""
    eye = np.eye(a.size)
    mass = walk(prior, (np.hstack([eye, eye]), np.concatenate([a, b], None)), clamp=clamp)
    return mass[: a.size], mass[a.size :]


@pytest.mark.parametrize("rules", [EXCITATION, CAFFE], ids=["excitation", "caffe"])
def test_branches_share_by_their_values(rules):
    a, b, prior = normal(6), normal(6, seed=1), normal(6, seed=2)
    found = pull(lambda ab: jnp.tanh(ab[0]) + ab[1], (a, b), prior, rules)
    expected = _branches(prior, np.tanh(a), b, clamp=rules is EXCITATION)
    assert_close(np.stack(found), np.stack(expected))


def test_a_residual_block_is_a_sum_of_values():
    w, x, prior = normal(4, 4), np.abs(normal(4)), normal(4, seed=2)
    skip, branch = _branches(prior, x, x @ w)
    expected = skip + walk(branch, (w.T, x))
    found = pulls({"skip first": lambda x: x + x @ w, "last": lambda x: x @ w + x}, x, prior)
    assert_close(found["skip first"], expected)
    assert_close(found["last"], expected)


def test_a_sum_of_more_than_linear_maps_is_a_sum_of_values():
    """With a skip in it, a branch is no linear map, whatever else is added to it."""
    w, u, prior = normal(3, 3), normal(3, 3, seed=1), normal(3, seed=3)
    x, h = np.abs(normal(3)), np.abs(normal(3, seed=1))
    left, right = _branches(prior, x @ w + np.tanh(h), h @ u)
    first, skip = _branches(left, x @ w, np.tanh(h))
    found = pull(lambda xh: (xh[0] @ w + jnp.tanh(xh[1])) + xh[1] @ u, (x, h), prior)
    assert_close(found[0], walk(first, (w.T, x)))
    assert_close(found[1], skip + walk(right, (u.T, h)))


def test_caffe_sums_give_negative_branches_negative_mass_and_lose_nothing():
    a, b = np.array([3.0, 1.0, 1.0]), np.array([-1.0, 1.0, -1.0])
    left, right = pull(lambda ab: ab[0] + ab[1], (a, b), np.ones(3), CAFFE)
    assert_close(left, [1.5, 0.5, 0])  # the last sum is zero: nothing is passed
    assert_close(right, [-0.5, 0.5, 0])
    clamped = pull(lambda ab: ab[0] + ab[1], (a, b), np.ones(3))
    assert_close(np.stack(clamped), [[1, 0.5, 1], [0, 0.5, 0]])


B, C = normal(5, seed=7), normal(5, seed=8)
W, U, V = normal(4, 5), normal(3, 5), normal(2, 5)
SUMS = {
    "two": lambda x, h, s: x @ W + h @ U,
    "bias last": lambda x, h, s: x @ W + h @ U + B,
    "bias first": lambda x, h, s: (B + x @ W) + h @ U,
    "two biases": lambda x, h, s: (x @ W + B) + (h @ U + C),
    "three": lambda x, h, s: x @ W + (h @ U + s @ V),
    "either operand order": lambda x, h, s: (W.T @ x.T).T + h @ U,
    "reshaped": lambda x, h, s: ((x @ W).reshape(2, 5, 1) + (h @ U)[..., None])[..., 0],
    "sliced": lambda x, h, s: (x @ np.hstack([W, W]))[:, 5:] + h @ U,
}


def test_a_sum_of_linear_maps_is_the_concatenated_map():
    args = normal(2, 4), normal(2, 3), normal(2, 2)
    prior = normal(2, 5, seed=2)

    def expected(*maps):
        joined, kernel = np.concatenate(args[: len(maps)], axis=1), np.concatenate(maps)
        mass = walk(prior, (oracle.matrix(lambda x: x @ kernel, joined.shape), joined))
        return mass.reshape(joined.shape)

    found = pulls({k: lambda a, f=f: f(*a) for k, f in SUMS.items()}, args, prior)
    assert_close(np.concatenate(found.pop("three"), axis=1), expected(W, U, V))
    for name, mass in found.items():
        np.testing.assert_allclose(
            np.concatenate(mass[:2], axis=1), expected(W, U), rtol=EXACT, err_msg=name
        )


def test_halves_of_a_sum_of_linear_maps_keep_their_history():
    def gated(args):  # the LSTM's way: one product for all gates, then split
        x, h = args
        first, second = jnp.split(x @ W[:, :4] + h @ U[:, :4] + B[:4], 2, axis=1)
        return first + jnp.zeros_like(second)

    x, h, prior = normal(2, 4), normal(2, 3), normal(2, 2)
    kernel, joined = np.concatenate([W, U])[:, :2], np.concatenate([x, h], axis=1)
    expected = walk(prior, (oracle.matrix(lambda x: x @ kernel, joined.shape), joined))
    assert_close(np.concatenate(pull(gated, (x, h), prior), axis=1), expected)


def test_convolutions_sum_like_the_convolution_of_their_concatenation():
    first, numpy_first, shape = _conv((4, 4), (3, 3), 2, 3, padding="SAME")
    second, numpy_second, _ = _conv((4, 4), (2, 2), 2, 3, padding="SAME")
    a, b, prior = normal(*shape), normal(*shape, seed=1), normal(4, 4, 3)
    kernel = np.hstack([oracle.matrix(numpy_first, shape), oracle.matrix(numpy_second, shape)])
    expected = walk(prior, (kernel, np.stack([a, b])))
    assert_close(np.stack(pull(lambda ab: first(ab[0]) + second(ab[1]), (a, b), prior)), expected)


def test_a_broadcast_sum_of_linear_maps():
    x, position = normal(3, 4), normal(3, 5, seed=5)

    def f(x):  # a global context, told its position, and a local map
        return (x.mean(0, keepdims=True) @ W + position) + x @ W[::-1]

    mean, prior = x.mean(0), normal(3, 5)
    kernels = np.vstack([W, W[::-1]])
    expected = np.zeros(4), np.zeros((3, 4))
    for row in range(3):
        mass = walk(prior[row], (kernels.T, np.concatenate([mean, x[row]])))
        expected[0][:] += mass[:4]
        expected[1][row] += mass[4:]
    through_mean = walk(expected[0], (oracle.matrix(lambda e: e.mean(0), x.shape), x))
    assert_close(pull(f, x, prior), through_mean + expected[1].ravel())


def test_a_recurrent_sum_of_linear_maps_inside_scan():
    w, u, b = np.abs(normal(2, 3)), normal(3, 3), normal(3, seed=4)
    x, prior = np.abs(normal(3, 2)), np.array([0.2, 0.3, 0.5])

    def f(x):
        def step(h, x):
            return jax.nn.relu(x @ w + h @ u + b), None

        return lax.scan(step, jnp.zeros(3), x)[0]

    states = [np.zeros(3)]
    for frame in x:
        states.append(np.maximum(frame @ w + states[-1] @ u + b, 0))
    mass, expected = prior, np.zeros_like(x)
    for t in reversed(range(3)):
        mass = mass * (states[t + 1] > 0)
        mass = walk(mass, (np.vstack([w, u]).T, np.concatenate([x[t], states[t]])))
        expected[t], mass = mass[:2], mass[2:]
    assert expected[0].sum() > 0  # the past has a share
    assert_close(pull(f, x, prior), expected)


def test_a_difference_excites_the_minuend_alone():
    a, b, prior = np.array([2.0, -1.0, 3.0]), np.array([1.0, 1.0, 5.0]), np.array([0.5, 0.3, 0.2])
    left, right = pull(lambda ab: ab[0] - ab[1], (a, b), prior)
    assert_close(left, [0.5, 0, 0.2])  # a negative minuend excites nobody
    assert_close(right, [0, 0, 0])
    assert_close(pull(lambda a: a - b, a, prior), prior)


def test_broadcasting_sums_the_mass():
    weight, prior = normal(3, 4), normal(3, 4, seed=1)
    elementwise = {
        "scale": lambda x: x * weight,  # of either sign
        "shift": lambda x: x + weight,
        "centre": lambda x: x - weight,
        "divide": lambda x: x / weight,
        "after a map": lambda x: weight * jnp.tanh(x),
    }
    for shape, axes in ((3, 1), 1), ((1, 4), 0), ((4,), 0), ((), (0, 1)):
        for found in pulls(elementwise, normal(*shape), prior).values():
            assert_close(found, prior.sum(axes))


def test_elementwise_maps_pass_the_mass():
    maps = "tanh exp expm1 log log1p sqrt cbrt abs square".split()
    functions = {name: getattr(jnp, name) for name in maps} | {
        "sigmoid": jax.nn.sigmoid,
        "erf": jax.scipy.special.erf,
        "rsqrt": lax.rsqrt,
        "power": lambda x: x**2.5,
        "cube": lambda x: x**3,
        "leaky relu": lambda x: jax.nn.leaky_relu(x - 1, 0.1),
        "softplus of a bound": lambda x: jnp.log(1 + jnp.exp(x)),
    }
    x, prior = np.abs(normal(4)), normal(4, seed=1)
    for name, found in pulls(functions, x, prior).items():
        np.testing.assert_array_equal(found, prior, err_msg=name)


# --- gates ----------------------------------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _relu(x):
    return np.maximum(x, 0)


def test_a_product_gives_its_mass_to_the_signal_not_to_the_gate():
    x, h, prior = normal(2, 4), normal(2, 5), normal(2, 5)
    twice, sigmoid = np.hstack([W, W]), jax.nn.sigmoid
    products = {
        "gate first": lambda x, h: sigmoid(x @ W) * h,
        "gate last": lambda x, h: h * sigmoid(x @ W),
        "complement": lambda x, h: (1 - sigmoid(x @ W)) * h,
        "scaled": lambda x, h: (2 * sigmoid(x @ W) - 0.5).reshape(2, 5) * h,
        "sliced": lambda x, h: sigmoid(x @ twice)[:, 5:] * h,
        "split": lambda x, h: jnp.split(sigmoid(x @ twice), 2, 1)[1] * h,
        "negated": lambda x, h: -sigmoid(x @ W) * h,
        "of a gate": lambda x, h: sigmoid(h @ W.T @ W * sigmoid(x @ W)) * h,
    }
    found = pulls({k: lambda xh, f=f: f(*xh) for k, f in products.items()}, (x, h), prior)
    for of_x, of_h in found.values():
        assert_close(of_x, np.zeros_like(x))
        assert_close(of_h, prior)


def test_a_gate_weights_a_linear_map():
    values, scores, prior = np.abs(normal(3, 4)), normal(2, 3), normal(2, 4)

    def attend(args):  # attention by sigmoids: the values are the signal
        scores, values = args
        return jax.nn.sigmoid(scores) @ values

    expected = walk(prior, (oracle.matrix(lambda v: _sigmoid(scores) @ v, values.shape), values))
    of_scores, of_values = pull(attend, (scores, values), prior)
    assert_close(of_values, expected)
    assert_close(of_scores, np.zeros_like(scores))


def test_an_lstm_cell_conserves_mass():
    """The formulas of the paper's cell: gates are weights, g is a linear map of (x, h)."""
    weights = {k: (normal(3, 4, seed=i), normal(4, 4, seed=i)) for i, k in enumerate("ifog")}
    weights["g"] = tuple(map(np.abs, weights["g"]))
    x, h, c = (np.abs(a) for a in (normal(3), normal(4), normal(4, seed=1)))

    def cell(args, sigmoid=jax.nn.sigmoid, relu=jax.nn.relu):
        x, h, c = args
        i, f, o, g = (x @ w + h @ u for w, u in weights.values())
        new = sigmoid(f) * c + sigmoid(i) * relu(g)
        return sigmoid(o) * relu(new), new

    r_h, r_c = np.abs(normal(4, seed=2)), np.abs(normal(4, seed=3))
    i, f, _, g = (x @ w + h @ u for w, u in weights.values())
    _, new = cell((x, h, c), _sigmoid, _relu)
    total = r_c + r_h
    to_c, to_g = total * _sigmoid(f) * c / new, total * _sigmoid(i) * g / new
    share = walk(to_g, (np.vstack(weights["g"]).T, np.concatenate([x, h])))
    of_x, of_h, of_c = pull(cell, (x, h, c), (r_h, r_c))
    assert_close(of_c, to_c)
    assert_close(np.concatenate([of_x, of_h]), share)
    assert_close(of_x.sum() + of_h.sum() + of_c.sum(), total.sum())


def test_a_gru_cell_conserves_mass():
    z, r, n = ((normal(3, 4, seed=i), normal(4, 4, seed=i)) for i in range(3))
    n = tuple(map(np.abs, n))
    x, h, prior = np.abs(normal(3)), np.abs(normal(4)), np.abs(normal(4, seed=1))

    def cell(args):
        x, h = args
        update, reset = (jax.nn.sigmoid(x @ w + h @ u) for w, u in (z, r))
        new = jax.nn.relu(x @ n[0] + (reset * h) @ n[1])
        return (1 - update) * new + update * h

    update, reset = (_sigmoid(x @ w + h @ u) for w, u in (z, r))
    new = x @ n[0] + (reset * h) @ n[1]
    to_new, to_h = _branches(prior, (1 - update) * new, update * h)
    share = walk(to_new, (np.vstack(n).T, np.concatenate([x, reset * h])))
    of_x, of_h = pull(cell, (x, h), prior)
    assert_close(of_x, share[:3])
    assert_close(of_h, share[3:] + to_h)
    assert_close(of_x.sum() + of_h.sum(), prior.sum())


def test_a_reset_gate_scales_the_weights_of_its_linear_map():
    """Flax's GRU resets after the product: r * (h @ U) is h @ (r * U), part of one linear map."""
    z, r, n = ((normal(3, 4, seed=i), normal(4, 4, seed=i)) for i in range(3))
    x, h, prior = np.abs(normal(3)), np.abs(normal(4)), np.abs(normal(4, seed=1))

    def cell(args):
        x, h = args
        update, reset = (jax.nn.sigmoid(x @ w + h @ u) for w, u in (z, r))
        new = jax.nn.relu(x @ n[0] + reset * (h @ n[1] + 0.1))
        return (1 - update) * new + update * h

    update, reset = (_sigmoid(x @ w + h @ u) for w, u in (z, r))
    new = _relu(x @ n[0] + reset * (h @ n[1] + 0.1))
    to_new, to_h = _branches(prior, (1 - update) * new, update * h)
    kernel = np.vstack([n[0], reset * n[1]])
    share = walk(to_new * (new > 0), (kernel.T, np.concatenate([x, h])))
    of_x, of_h = pull(cell, (x, h), prior)
    assert_close(of_x, share[:3])
    assert_close(of_h, share[3:] + to_h)


# --- rectifiers, maxima, minima -------------------------------------------------------------------


def test_a_rectifier_passes_mass_where_its_input_is_positive():
    """Strictly: at zero it passes none; and saturated units of relu6 keep theirs."""
    rectifiers = {
        "relu": jax.nn.relu,
        "maximum": lambda x: jnp.maximum(0, x),
        "where": lambda x: jnp.where(x > 0, x, 0),
        "relu6": jax.nn.relu6,
        "clip": lambda x: jnp.clip(x, 0, 6),
        "clamp": lambda x: lax.clamp(0.0, x, 6.0),
        "minimum": lambda x: jnp.minimum(jnp.maximum(x, 0), 6),
    }
    x = np.array([-1.0, 0.0, 1e-3, 3.0, 6.0, 7.0])
    for name, found in pulls(rectifiers, x, np.ones(6)).items():
        np.testing.assert_array_equal(found, [0, 0, 1, 1, 1, 1], err_msg=name)


WINS = {jnp.maximum: [0, 1, 0.5], jnp.minimum: [1, 0, 0.5]}  # ties are halved


def test_the_winner_takes_all():
    a, b = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.0, 5.0])
    pairs = pulls({f.__name__: lambda ab, f=f: f(*ab) for f in WINS}, (a, b), np.ones(3))
    for f, wins in WINS.items():
        left, right = pairs[f.__name__]
        assert_close(left, wins)
        assert_close(left + right, np.ones(3))
    x = normal(4, 6, 2)
    for window, strides, prior in (
        ((2, 3), (2, 3), normal(2, 2, 2)),
        ((2, 2), (1, 1), normal(3, 5, 2)),
    ):
        found = pull(lambda x, w=window, s=strides: linen.max_pool(x[None], w, s)[0], x, prior)
        assert_close(found, oracle.chain(prior, [oracle.winners(x, window, strides)]))
    expected = np.where(x == x.max((0, 1)), normal(2), 0)
    assert_close(pull(lambda x: x.max((0, 1)), x, normal(2)), expected)


# --- gradients and their relatives ----------------------------------------------------------------


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda x, t: (straight_through(*x), 3 * t[0]))


@jax.custom_vjp
def reversing(x):
    return x * x


reversing.defvjp(lambda x: (x * x, x), lambda x, p: (-p * x,))

SMOOTH = {
    "straight through": lambda x: straight_through(x @ W) * x.sum(),
    "gradient reversal": lambda x: reversing(x @ W) / (1 + x.max()),
    "attention": lambda x: jax.nn.softmax(x @ x.T) @ x,
    "layer norm, gelu": lambda x: jax.nn.gelu((x - x.mean(1, keepdims=True)) / x.std(1)[:, None]),
    "loops": lambda x: lax.fori_loop(0, 3, lambda i, c: reversing(jnp.sin(c)) * x, x),
    "branches": lambda x: lax.cond(x.sum() > 0, jnp.sin, reversing, x),
    "ties": lambda x: jax.nn.relu(jnp.maximum(x, 0) * 0) + jnp.maximum(x, x) + jax.nn.relu(x - x),
    "sort": lambda x: jnp.sort(x, 1) * x[:, ::-1],
    "remat": jax.checkpoint(lambda x: straight_through(x) ** 3),
}


@pytest.mark.parametrize("case", SMOOTH)
def test_the_gradient_table_is_the_derivative_itself(case):
    f, x = SMOOTH[case], normal(3, 4)
    prior = normal(*jax.eval_shape(f, x).shape, seed=1)
    expected = jax.jit(lambda x, prior: jax.vjp(f, x)[1](prior)[0])(x, prior)
    np.testing.assert_array_equal(pull(f, x, prior, GRADIENT), expected)


def test_guided_backprop_and_deconvnet_by_their_formulas():
    """Two layers: guided p 1[p > 0] 1[x > 0], deconvnet p 1[p > 0], gradient p 1[x > 0]."""
    first, second, x, prior = normal(4, 9), normal(9, 8), normal(4), normal(8)
    before = x @ first
    middle = np.maximum(before, 0) @ second

    def signal(at_relu):
        inner = at_relu(prior, middle) @ second.T
        return at_relu(inner, before) @ first.T

    formulas = (
        (GRADIENT, lambda p, x: p * (x > 0)),
        (GUIDED, lambda p, x: p * (p > 0) * (x > 0)),
        (DECONVNET, lambda p, x: p * (p > 0)),
    )
    rectifiers = {
        "jax": jax.nn.relu,
        "flax": linen.relu,
        "maximum": lambda x: jnp.maximum(x, 0),
        "zero first": lambda x: jnp.maximum(0.0, x),
    }
    networks = {
        k: lambda x, relu=relu: relu(relu(x @ first) @ second) for k, relu in rectifiers.items()
    }
    expected = [signal(formula) for _, formula in formulas]
    assert all(np.abs(a - b).max() > 0.1 for a, b in itertools.combinations(expected, 2))
    for (rules, _), reference in zip(formulas, expected, strict=True):
        for found in pulls(networks, x, prior, rules).values():
            assert_close(found, reference)


@pytest.mark.parametrize("rules", [GUIDED, DECONVNET], ids=["guided", "deconvnet"])
def test_other_maxima_keep_their_derivative(rules):
    x, prior = normal(2, 4, 4, 3), -np.abs(normal(2, 2, 2, 3))
    pooled = pull(lambda x: linen.max_pool(x, (2, 2), (2, 2)), x, prior, rules)
    assert_close(pooled.sum((1, 2)), prior.sum((1, 2)))  # no rectifier between its windows
    a, b = pull(lambda ab: jnp.maximum(*ab), (normal(4), normal(4, seed=1)), -np.ones(4), rules)
    assert_close(a + b, -np.ones(4))
