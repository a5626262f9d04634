"""LRP against dense matrices written from the papers, in double precision; its laws; composites."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxground.core import (
    EXCITATION,
    GRADIENT,
    GUIDED,
    Composite,
    alpha_beta,
    epsilon,
    excite,
    flat,
    fold_batch_norm,
    gamma,
    ground,
    mass,
    tap,
    w_squared,
    z_box,
    z_plus,
)

pytestmark = pytest.mark.usefixtures("float64")


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def ratio(numerators, denominators):
    """Returns z_jk / z_k for contributions [j, k], nothing where an output has none."""
    return np.divide(
        numerators, denominators, out=np.zeros_like(numerators), where=denominators != 0
    )


# Each takes activations [j], weights [j, k] and biases [k] to the shares [j, k] of the children.


def bach_58(x, w, b, *, e):
    z = (x[:, None] * w).sum(0) + b
    return ratio(x[:, None] * w, z + e * np.where(z >= 0, 1, -1))


def montavon_gamma(x, w, b, *, g):
    raised = w + g * np.maximum(w, 0)
    return ratio(x[:, None] * raised, (x[:, None] * raised).sum(0) + b + g * np.maximum(b, 0))


def bach_60(x, w, b, *, a, c):
    z = x[:, None] * w
    p, n = np.maximum(z, 0), np.minimum(z, 0)
    return a * ratio(p, p.sum(0) + np.maximum(b, 0)) - c * ratio(n, n.sum(0) + np.minimum(b, 0))


def deep_taylor_plus(x, w, b):
    p = np.maximum(x[:, None] * w, 0)
    return ratio(p, p.sum(0))


def deep_taylor_box(x, w, b, *, low, high):
    z = x[:, None] * w - low * np.maximum(w, 0) - high * np.minimum(w, 0)
    return ratio(z, z.sum(0))


def deep_taylor_squared(x, w, b):
    return ratio(w**2, (w**2).sum(0))


def even(x, w, b):
    there = (w != 0).astype(float)  # a convolution's kernel reaches where the matrix is not zero
    there[:, ~there.any(0)] = 1  # a unit of a dense layer reaches everywhere, of weight zero too
    return ratio(there, there.sum(0))


TABLES = {
    "LRP-0": (epsilon(0.0), functools.partial(bach_58, e=0.0)),
    "epsilon": (epsilon(0.3), functools.partial(bach_58, e=0.3)),
    "gamma": (gamma(0.25), functools.partial(montavon_gamma, g=0.25)),
    "alpha_beta": (alpha_beta(2, 1), functools.partial(bach_60, a=2, c=1)),
    "alpha_1_beta_0": (alpha_beta(1, 0), functools.partial(bach_60, a=1, c=0)),
    "z_plus": (z_plus(), deep_taylor_plus),
    "z_box": (z_box(-4, 4.5), functools.partial(deep_taylor_box, low=-4, high=4.5)),
    "w_squared": (w_squared(), deep_taylor_squared),
    "flat": (flat(), even),
}


def backward(layers, x, relevance, shares):
    """Returns the relevance of the input of a network of dense layers with ReLUs between."""
    activations = [x]
    for i, (w, b) in enumerate(layers):
        z = activations[-1] @ w + b
        activations.append(z if i == len(layers) - 1 else np.maximum(z, 0))
    for (w, b), a in zip(layers[::-1], activations[-2::-1], strict=True):
        relevance = shares(a, w, b) @ relevance
    return relevance


def dense(layers):
    def f(x):
        for w, b in layers[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    return f


def unrolled(kernel, shape, strides, padding):
    """Returns the matrix [inputs, outputs] of a convolution `[h, w, in, out]`, by loops."""
    height, width, inputs = shape
    size, _, _, outputs = kernel.shape
    rows = (height + 2 * padding - size) // strides + 1
    columns = (width + 2 * padding - size) // strides + 1
    matrix = np.zeros((height, width, inputs, rows, columns, outputs))
    for r in range(rows):
        for c in range(columns):
            for i in range(size):
                for j in range(size):
                    y, x = r * strides + i - padding, c * strides + j - padding
                    if 0 <= y < height and 0 <= x < width:
                        matrix[y, x, :, r, c] = kernel[i, j]
    return matrix.reshape(height * width * inputs, -1), rows * columns


def pulls(functions, x, prior, rules):
    """Returns the relevance at `x` by each of many functions, compiled in one go."""

    @jax.jit
    def every(x):
        return [jax.vjp(excite(f, rules), x)[1](prior)[0] for f in functions]

    return every(x)


def relevance_at_input(f, x, rules, target):
    outputs, _, pull = ground(f, x, rules=rules)
    return pull(outputs * jax.nn.one_hot(target, outputs.shape[-1], dtype=outputs.dtype))


@pytest.mark.parametrize("name", TABLES)
def test_rule_is_the_dense_matrix_of_its_paper(name):
    """Deep and convolutional, with and without bias, inputs of both signs, and dead outputs."""
    rules, shares = TABLES[name]
    layers = [
        (normal(6, 5), normal(5)),
        (normal(5, 4, seed=1), normal(4)),
        (normal(4, 3), normal(3)),
    ]
    layers[0][0][:, 2], layers[0][1][2] = 0, 0  # an output that nothing contributes to
    bare = [(w, np.zeros_like(b)) for w, b in layers]
    kernel, bias = normal(3, 3, 2, 3), normal(3)
    matrix, positions = unrolled(kernel, (4, 5, 2), 2, 1)
    top = normal(positions * 3, 2) / 4
    convolutional = [(matrix, np.tile(bias, positions)), (top, normal(2))]

    def f(x):
        x = lax.conv_general_dilated(
            x, jnp.asarray(kernel), (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(x + bias).reshape(len(x), -1) @ top + convolutional[1][1]

    vectors, images = normal(2, 6), normal(2, 4, 5, 2)
    vectors[1] = np.abs(vectors[1])

    @jax.jit
    def found(vectors, images):
        target = jnp.array([0, 2])
        return (
            relevance_at_input(dense(layers), vectors, rules, target),
            relevance_at_input(dense(bare), vectors, rules, target),
            relevance_at_input(f, images, rules, jnp.array([0, 1])),
            (dense(layers)(vectors), dense(bare)(vectors), f(images)),
        )

    with_bias, without, of_images, outputs = found(vectors, images)
    for i, target in enumerate((0, 2)):
        cases = ((with_bias, layers, outputs[0]), (without, bare, outputs[1]))
        for masses, network, values in cases:
            start = np.zeros(3)
            start[target] = values[i, target]
            expected = backward(network, vectors[i], start, shares)
            np.testing.assert_allclose(masses[i], expected, rtol=1e-9, atol=1e-11)
    for i, target in enumerate((0, 1)):
        start = np.zeros(2)
        start[target] = outputs[2][i, target]
        expected = backward(convolutional, images[i].ravel(), start, shares)
        np.testing.assert_allclose(of_images[i].ravel(), expected, rtol=1e-9, atol=1e-11)


def test_bias_is_found_however_it_is_written():
    """Reshaped, broadcast, in two parts, before a reshape, as an argument, rematerialised."""
    w, b, x = normal(4, 6), normal(6), np.abs(normal(2, 4))
    functions = (
        lambda x: x @ w + b,
        lambda x: b + x @ w,
        lambda x: x @ w + b.reshape(1, 6),
        lambda x: jnp.einsum("bi,io->ob", x, w).T + jnp.broadcast_to(b, (2, 6)),
        lambda x: ((x @ w).reshape(2, 2, 3) + b.reshape(2, 3)).reshape(2, 6),
        jax.checkpoint(lambda x: x @ w + b),
        lambda x: lax.scan(lambda c, _: (c, c @ w + b), x, None, length=1)[1][0],
        lambda x: excite(lambda x, w, b: x @ w + b, gamma(0.5))(x, jnp.asarray(w), jnp.asarray(b)),
    )
    reference, *others = pulls(functions, x, jnp.ones((2, 6)), gamma(0.5))
    for found in others:
        np.testing.assert_allclose(found, reference, rtol=1e-12)


def test_what_is_no_bias_keeps_its_relevance():
    """A skip connection takes its share; so does a tap between the map and its bias."""
    w, x = normal(4, 4), np.abs(normal(1, 4)) + 1
    f = lambda x: tap(x @ w, "hidden") + x  # noqa: E731
    outputs, _, pull = ground(f, x, rules=epsilon(0))
    np.testing.assert_allclose(pull(outputs).sum(), outputs.sum(), rtol=1e-12)
    outputs, hidden, pull = ground(f, x, at="hidden", rules=gamma(1))
    np.testing.assert_allclose(pull(outputs), hidden, rtol=1e-12)


def test_what_is_added_may_be_a_branch():
    """Inside a loop only differentiation tells a bias from a signal; a recurrent cell has both."""
    w, u, b, x = normal(4, 3), normal(3, 3), normal(3), np.abs(normal(2, 1, 4))

    def cell(h, projected):
        h = jax.nn.relu(h @ u + projected)
        return h, h

    def looped(x):
        return lax.scan(cell, jnp.zeros((1, 3)), x @ w + b)[0]

    def unrolled(x):
        first = jax.nn.relu(x[0] @ w + b)
        return jax.nn.relu(first @ u + (x[1] @ w + b))

    for rules in (epsilon(0.0), gamma(0.5)):
        found, expected = pulls((looped, unrolled), x, jnp.ones((1, 3)), rules)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_relevance_is_conserved_without_bias_and_mass_says_what_biases_took():
    layers = [(normal(6, 12), np.zeros(12)), (normal(12, 3), np.zeros(3))]

    def f(x, layers=layers):
        hidden = tap(jax.nn.relu(tap(x, "x") @ layers[0][0] + layers[0][1]), "hidden")
        return hidden @ layers[1][0] + layers[1][1]

    biased = functools.partial(f, layers=[(w, np.ones_like(b)) for w, b in layers])

    @jax.jit
    def reports(x):
        start, started = f(x) * jnp.eye(3)[:2], biased(x) * jnp.eye(3)[:2]
        tables = (epsilon(), gamma(), z_plus(), alpha_beta(), z_box(-1, 9))
        every = [mass(f, x, start, rules=rules) for rules in tables]
        return start, every, mass(biased, x, started, rules=epsilon(0))

    start, every, report = reports(np.abs(normal(2, 6)))
    for at in (at for found in every for at in found.values()):
        np.testing.assert_allclose(at.kept, start.sum(1), rtol=1e-5)
    np.testing.assert_allclose(report["hidden"].lost, 1, rtol=1e-5)  # the bias of the logit


def test_laws_of_relu_networks():
    """LRP-0 is gradient x input; alpha 1, beta 0 is z+, which is Excitation Backprop."""
    layers = [(normal(6, 5), np.zeros(5)), (normal(5, 4), np.zeros(4)), (normal(4, 3), np.zeros(3))]
    f, x, ones = dense(layers), np.abs(normal(2, 6)), jnp.eye(3)[:2]

    @jax.jit
    def run(x):
        outputs, pull_gradient = jax.vjp(f, x)
        start = outputs * ones
        tables = (epsilon(0), z_plus(), alpha_beta(1, 0))
        masses = [ground(f, x, rules=rules).pull(start) for rules in tables]
        winning = ground(f, x, rules=EXCITATION).pull(ones)
        return start, pull_gradient(ones)[0], masses, winning

    start, gradient, (plain, positive, apart), winning = run(x)
    np.testing.assert_allclose(plain, x * gradient, rtol=1e-9)
    np.testing.assert_allclose(positive, apart, rtol=1e-12)
    scaled = start.sum(1, keepdims=True) * winning
    np.testing.assert_allclose(positive, scaled, rtol=1e-9)


def test_sums_pools_and_winners():
    """By hand: a residual sum, a difference, an average, a maximum."""
    x = jnp.array([[3.0, 1.0, -2.0, 6.0]])
    zero = epsilon(0)
    gated = lambda x: jax.nn.sigmoid(x[:, :2]) * x[:, 2:]  # noqa: E731
    cases = [  # the last: how exact
        (lambda x: x[:, :1] + x[:, 1:2], zero, [[0.75, 0.25, 0, 0]], 1e-12),
        (lambda x: x[:, :1] - x[:, 1:2], zero, [[1.5, -0.5, 0, 0]], 1e-12),
        (lambda x: x.mean(1), zero, x / x.sum(), 1e-12),
        (lambda x: x.mean(1), z_plus(), [[0.3, 0.1, 0, 0.6]], 1e-12),
        (lambda x: x * 3 - 3, zero, [[1.5, 0, 2 / 3, 1.2]], 1e-12),
        (gated, epsilon(), [[0, 0, 1, 1]], 0),
    ]
    for table in (zero, gamma(), alpha_beta(), z_plus()):
        cases.append((lambda x: x.max(1), table, [[0, 0, 0, 1]], 0))

    def shares(f, rules, x):
        outputs, _, pull = ground(f, x, rules=rules)
        return pull(jnp.ones_like(outputs))

    every = jax.jit(lambda x: [shares(f, rules, x) for f, rules, *_ in cases])(x)
    for found, (*_, expected, rtol) in zip(every, cases, strict=True):
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_batch_norm_folds_into_the_exact_rule():
    w, b, scale, mean, shift = (
        normal(4, 3),
        normal(3),
        normal(3, seed=2),
        normal(3),
        normal(3, seed=3),
    )
    x = np.abs(normal(2, 4))
    f = lambda x: (x @ w + b - mean) * scale + shift  # noqa: E731
    folded = fold_batch_norm(f)
    found = jax.jit(lambda x: ground(folded, x, rules=gamma(0.5)).pull(jnp.ones((2, 3))))(x)
    for row, relevance in zip(x, found, strict=True):
        expected = montavon_gamma(row, w * scale, (b - mean) * scale + shift, g=0.5).sum(1)
        np.testing.assert_allclose(relevance, expected, rtol=1e-9)


def three_layers(x):
    x = tap(jax.nn.relu(x @ normal(6, 5) + normal(5)), "first")
    x = tap(jax.nn.relu(x @ normal(5, 4) + normal(4)), "second")
    return x @ normal(4, 3) + normal(3)


def test_composite_is_its_tables_chained_by_hand():
    x = np.abs(normal(2, 6))
    rules = Composite({"second": gamma(0.5), "first": z_box(-1, 4)}, above=epsilon(0.1))
    same = Composite({"first": gamma(), "second": gamma()}, gamma())

    def step(f, x, relevance, table):
        return ground(f, x, rules=table).pull(relevance)

    @jax.jit
    def run(x):
        outputs, _, pull = ground(three_layers, x, rules=rules)
        start = outputs * jnp.eye(3)[:2]
        first = jax.nn.relu(x @ normal(6, 5) + normal(5))
        second = jax.nn.relu(first @ normal(5, 4) + normal(4))
        relevance = step(lambda x: x @ normal(4, 3) + normal(3), second, start, epsilon(0.1))
        at_first = step(lambda x: x @ normal(5, 4) + normal(4), first, relevance, gamma(0.5))
        at_input = step(lambda x: x @ normal(6, 5) + normal(5), x, at_first, z_box(-1, 4))
        return (
            (pull(start), at_input),
            (ground(three_layers, x, at="first", rules=rules).pull(start), at_first),
            (step(three_layers, x, start, same), step(three_layers, x, start, gamma())),
        )

    for found, expected in run(x):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    report = jax.eval_shape(lambda x: mass(three_layers, x, jnp.ones((2, 3)), rules=rules), x)
    assert report["first"].kept.shape == (2,)


def test_composite_mixes_methods_that_see_calls_differently():
    """Above, `relu` is one call with a rule; below it is looked into; a loop has its own table."""
    x = np.abs(normal(2, 6)) + 1
    w, b = normal(6, 5), normal(5)
    ones = jnp.ones((2, 3))

    def looped(x):
        x = tap(lax.scan(lambda c, _: (c @ np.eye(6) * 2, None), x, None, length=2)[0], "loop")
        return x @ w

    def pull(f, x, mass, **options):
        return ground(f, x, **options).pull(mass)

    @jax.jit
    def run(x):
        down = pull(three_layers, x, ones, at="first", rules=epsilon(0))
        flipped = Composite({"first": GUIDED}, above=epsilon(0))
        turned = Composite({"loop": GRADIENT}, above=EXCITATION)
        mass = jnp.ones((2, 5))
        return (
            pull(three_layers, x, ones, rules=Composite({"first": epsilon(0)}, above=GUIDED)),
            pull(three_layers, x, ones, at="first", rules=GUIDED),
            pull(three_layers, x, ones, rules=flipped),
            pull(lambda x: jax.nn.relu(x @ w + b), x, down, rules=GUIDED),
            pull(looped, x, mass, rules=turned),
            4 * pull(looped, x, mass, at="loop", rules=EXCITATION),
        )

    found, above, of_flipped, guided, of_loop, doubled_twice = run(x)
    for i in range(2):
        expected = bach_58(x[i], w, b, e=0.0) @ above[i]
        np.testing.assert_allclose(found[i], expected, rtol=1e-9)
    np.testing.assert_allclose(of_flipped, guided, rtol=1e-9)
    np.testing.assert_allclose(of_loop, doubled_twice, rtol=1e-12)


def test_composite_serves_the_contrast_and_excite():
    rules, one = Composite({"first": EXCITATION}, above=EXCITATION), jnp.eye(3)[:2]

    @jax.jit
    def run(x):
        plain, mixed, *contrasts = (
            ground(three_layers, x, contrastive=contrastive, **options).pull(one)
            for contrastive in (False, True)
            for options in ({}, {"rules": rules})
        )
        excited = jax.vjp(excite(three_layers, rules), x)[1](one)[0]
        return (plain, mixed), contrasts, (plain, excited)

    for expected, found in run(np.abs(normal(2, 6))):
        np.testing.assert_array_equal(found, expected)


def test_errors():
    with pytest.raises(ValueError, match=r"alpha - beta must be 1 .* alpha=2 and beta=0"):
        alpha_beta(2, 0)
    with pytest.raises(KeyError, match=r"no tap named 'third'.*'first', 'second'"):
        ground(three_layers, normal(2, 6), rules=Composite({"third": gamma()}, epsilon()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Composite({}, epsilon()).above = gamma()  # type: ignore[misc]


def test_tables_are_values():
    """Equal arguments give one table, which may be a static argument of `jax.jit`."""
    assert gamma(0.5) is gamma(0.5)
    one, other = (Composite({"a": gamma(0.5)}, epsilon()) for _ in range(2))
    assert one == other and hash(one) == hash(other) and one != Composite({}, epsilon())
    assert z_box((0.0, 1.0), (2.0, 3.0)) is z_box((0.0, 1.0), (2.0, 3.0))
