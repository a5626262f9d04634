"""`excite(f)` has the values of `f`, and its maps whatever JAX does around or inside it."""

import contextlib
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from zoo import normal

from jaxground.core import EXCITATION, GRADIENT, GUIDED, excite, ground, tap

COLLECTIVES = re.compile(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter")
BATCH = 4


def pull(f, x, prior, rules=EXCITATION):
    return jax.vjp(excite(f, rules), x)[1](prior)[0]


def small(w):
    """Returns a network of one convolution, quick to compile, that closes over its weights."""

    def f(x):
        x = jax.nn.relu(zoo.convolve(x, w["conv"]) + w["conv_bias"])
        return zoo.max_pool(x).mean((1, 2)) @ w["dense"] + w["dense_bias"]

    return f


# --- values ---------------------------------------------------------------------------------------


def _gru(x):
    w, u = normal(2, 3, 3), normal(2, 3, 3, seed=1)

    def step(h, x):
        z = jax.nn.sigmoid(x @ w[0] + h @ u[0])
        h = (1 - z) * h + z * jnp.tanh(x @ w[1] + h @ u[1])
        return h, h

    return lax.scan(step, jnp.zeros(3), x)


def _dropout(x):
    kept = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
    return jnp.where(kept, x / 0.5, 0)


def _newton(x):  # a loop whose length depends on the data
    return lax.while_loop(lambda r: jnp.abs(r * r - 2).max() > 1e-3, lambda r: (r + 2 / r) / 2, x)


FUNCTIONS = {
    "identity": lambda x: x,
    "a constant beside": lambda x: (x, 1.0, np.arange(3), {"none": None}),
    "network": lambda x: zoo.plain(zoo.weights())(jnp.broadcast_to(x[0, 0], (1, *zoo.IMAGE))),
    "bfloat16": lambda x: x.astype(jnp.bfloat16) @ normal(3, 2).astype(jnp.bfloat16),
    "integers": lambda x: (jnp.argmax(x), jnp.sort(x.astype(jnp.int32)), x > 0, jnp.round(x)),
    "recurrence": _gru,
    "random numbers": _dropout,
    "loop": _newton,
    "branches": lambda x: lax.switch(jnp.argmax(x[0]), [jnp.sin, jnp.cos, jnp.exp], x),
    "attention": lambda x: jax.nn.softmax(x @ x.T) @ x,
    "in place": lambda x: x.at[0, 1:].add(2.0)[::-1],
    "weak types": lambda x: lax.fori_loop(0, 3, lambda i, c: c * 0.5 + 1, 1.0) * x,
    "complex": lambda x: jnp.fft.ifft(jnp.fft.fft(x) * 1j).real,
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(jnp.sin(x) @ x.T)),
    "custom derivative": lambda x: jax.nn.relu(x) + jax.nn.silu(x) + jax.nn.logsumexp(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_the_function_bit_for_bit(name):
    f, x = FUNCTIONS[name], np.abs(normal(3, 3)) + 0.5
    expected = jax.jit(f)(x)
    for rules in (EXCITATION, GUIDED):
        found = jax.jit(excite(f, rules))(x)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert a.dtype == b.dtype and a.weak_type == b.weak_type
            np.testing.assert_array_equal(a, b)


def test_values_are_bit_equal_outside_jit_and_under_differentiation():
    f, x = zoo.plain(zoo.weights()), zoo.images()
    expected = f(x)
    np.testing.assert_array_equal(excite(f)(x), expected)
    np.testing.assert_array_equal(jax.vjp(excite(f), x)[0], expected)
    np.testing.assert_array_equal(ground(f, x, contrastive=True).outputs, expected)
    np.testing.assert_array_equal(ground(f, x, at="pool").outputs, expected)


def test_arguments_may_be_trees_and_keywords():
    def f(pair, *, shift):
        return {"out": pair["a"] * 2 + pair["b"] @ normal(3, 3) + shift}

    x = {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)}
    np.testing.assert_array_equal(excite(f)(x, shift=1.0)["out"], f(x, shift=1.0)["out"])
    mass = ground(lambda x: f(x, shift=1.0), x).pull({"out": np.ones(3, np.float32)})
    assert mass.keys() == x.keys()
    assert 0 < mass["a"].sum() < 3


def test_side_effects_stay(capfd):
    def f(x):
        jax.debug.print("sum {}", x.sum())
        return x @ normal(3, 2)

    np.testing.assert_array_equal(excite(f)(np.ones(3, np.float32)).shape, (2,))
    jax.effects_barrier()
    assert capfd.readouterr().out == "sum 3.0\n"


def test_exciting_twice_changes_nothing():
    f, x, prior = small(zoo.weights()), zoo.images(), zoo.priors()
    once, twice = jax.jit(lambda x, p: (pull(f, x, p), pull(excite(f), x, p)))(x, prior)
    np.testing.assert_array_equal(twice, once)
    # The gradient of an excited function is its own derivative: the table it was excited with.
    np.testing.assert_allclose(
        jax.jit(lambda x, p: pull(excite(f), x, p, GRADIENT))(x, prior), once
    )


# --- around the map -------------------------------------------------------------------------------


@functools.cache
def _mesh():
    return jax.make_mesh((BATCH,), ("batch",), axis_types=(AxisType.Auto,))


def _of_one(eb):
    return lambda x, prior: eb(x[None], prior[None])[0]


def _sharded(eb):
    spec = NamedSharding(_mesh(), PartitionSpec("batch"))
    compiled = jax.jit(eb, in_shardings=(spec, spec), out_shardings=spec)
    return lambda x, prior: compiled(x, prior)


AROUND = {
    "jit": jax.jit,
    "vmap": lambda eb: jax.vmap(_of_one(eb)),
    "jit of vmap": lambda eb: jax.jit(jax.vmap(_of_one(eb))),
    "pmap": lambda eb: jax.pmap(_of_one(eb)),
    "pmap of vmap": lambda eb: (
        lambda x, p: jax.pmap(jax.vmap(_of_one(eb)))(x[:, None], p[:, None])[:, 0]
    ),
    "shard_map": lambda eb: jax.jit(
        jax.shard_map(
            eb, mesh=_mesh(), in_specs=PartitionSpec("batch"), out_specs=PartitionSpec("batch")
        )
    ),
    "sharded": _sharded,
    "map": lambda eb: jax.jit(
        lambda x, p: lax.map(lambda xp: _of_one(eb)(*xp), (x, p), batch_size=3)
    ),
    "checkpoint": lambda eb: jax.jit(jax.checkpoint(eb)),
    "64 bits": jax.jit,
}


@functools.cache
def _plain_map():
    f, x, prior = small(zoo.weights()), zoo.images(BATCH), zoo.priors(BATCH)
    return np.asarray(ground(f, x).pull(prior))


@pytest.mark.parametrize("way", AROUND)
def test_the_map_is_the_same_under(way):
    f, x, prior = small(zoo.weights()), zoo.images(BATCH), zoo.priors(BATCH)
    with jax.enable_x64(True) if way == "64 bits" else contextlib.nullcontext():
        found = AROUND[way](lambda x, prior: ground(f, x).pull(prior))(x, prior)
    np.testing.assert_allclose(found, _plain_map(), atol=1e-6)


@pytest.mark.parametrize("contrastive", [False, True])
def test_a_sharded_batch_needs_no_communication(contrastive):
    spec = NamedSharding(_mesh(), PartitionSpec("batch"))
    everywhere = NamedSharding(_mesh(), PartitionSpec())

    def explain(w, x, prior):
        pull = ground(zoo.plain(w), x, contrastive=contrastive).pull
        return pull(prior).sum(-1)

    shapes = [zoo.weights(), zoo.images(BATCH), zoo.priors(BATCH)]
    compiled = jax.jit(explain, in_shardings=(everywhere, spec, spec)).lower(*shapes).compile()
    assert COLLECTIVES.findall(compiled.as_text()) == []
    assert compiled.output_shardings.is_equivalent_to(spec, 3)
    communicating = jax.jit(lambda x: x.sum(0), in_shardings=spec).lower(shapes[1]).compile()
    assert COLLECTIVES.findall(communicating.as_text())  # the search finds what there is


def test_maps_are_differentiable():
    """A map may be trained through: its derivative agrees with differences."""
    x, prior = zoo.images(1, dtype=np.float64), zoo.priors(1, dtype=np.float64)

    def energy(w):
        return (ground(small(w), x).pull(prior) ** 2).sum()

    with jax.enable_x64(True):
        w = {k: v.astype(np.float64) for k, v in zoo.weights().items()}
        step = {k: 1e-6 * normal(*v.shape, seed=6) for k, v in w.items()}
        slope = jax.jit(jax.grad(energy))(w)
        ahead, behind = (
            jax.tree.map(lambda a, b, sign=sign: a + sign * b, w, step) for sign in (1, -1)
        )
        run = jax.jit(energy)
        predicted = sum((slope[k] * step[k]).sum() for k in w)
        assert abs(predicted) > 1e-9
        np.testing.assert_allclose((run(ahead) - run(behind)) / 2, predicted, rtol=1e-4)


# --- inside the function --------------------------------------------------------------------------

DEPTH, WIDTH = 2, 3
STACK = normal(DEPTH, 3, WIDTH, WIDTH)


def _layer(x, w):
    """A layer with a sum of linear maps, a gate and its complement."""
    gate = jax.nn.sigmoid(x @ w[0])
    return tap(jax.nn.relu(x @ w[1] + ((1 - gate) * x) @ w[2] + 0.5), "h") + gate * x


def _loop(layer, stack=STACK):
    return lambda x: functools.reduce(layer, stack, x)


def _scan(layer, **options):
    return lambda x: lax.scan(lambda x, w: (layer(x, w), None), x, jnp.asarray(STACK), **options)[0]


def _remat(**options):
    return jax.checkpoint(_layer, **options)


@jax.custom_jvp
def _custom(x, w):
    return _layer(x, w)


_custom.defjvp(lambda x, t: (_custom(*x), t[0]))  # not the map's business

SAVE_NAMES = jax.checkpoint_policies.save_only_these_names("h")
SAVE_DOTS = jax.checkpoint_policies.dots_saveable
INSIDE = {
    "device weights": _loop(_layer, jnp.asarray(STACK)),
    "scan": _scan(_layer),
    "scan unrolled": _scan(_layer, unroll=2),
    "fori": lambda x: lax.fori_loop(0, DEPTH, lambda i, x: _layer(x, jnp.asarray(STACK)[i]), x),
    "cond": lambda x: lax.cond(x.sum() > -1e9, _loop(_layer), lambda x: x, x),
    "switch inside scan": _scan(lambda x, w: lax.switch(1, [lambda x, w: x, _layer], x, w)),
    "jit": jax.jit(_loop(jax.jit(_layer))),
    "custom derivative": _loop(_custom),
    "vmap": jax.vmap(_loop(_layer)),
    "map": lambda x: lax.map(_loop(_layer), x),
    "checkpoint": _loop(_remat()),
    "checkpoint of all": jax.checkpoint(_loop(_layer)),
    "checkpoint in checkpoint": jax.checkpoint(_loop(_remat())),
    "checkpoint, dots": _loop(_remat(policy=SAVE_DOTS)),
    "checkpoint, names": _loop(_remat(policy=SAVE_NAMES)),
    "checkpoint of jit": _loop(jax.checkpoint(jax.jit(_layer))),
    "checkpoint in scan": _scan(_remat()),
    "scan in checkpoint": jax.checkpoint(_scan(_layer)),
}


@functools.cache
def _looped_map():
    x = np.abs(normal(2, WIDTH))
    return np.asarray(jax.jit(lambda x: pull(_loop(_layer), x, jnp.ones((2, WIDTH))))(x))


@pytest.mark.parametrize("way", INSIDE)
def test_the_map_is_the_same_through(way):
    x = np.abs(normal(2, WIDTH))
    found = jax.jit(lambda x: pull(INSIDE[way], x, jnp.ones((2, WIDTH))))(x)
    np.testing.assert_allclose(found, _looped_map(), atol=1e-6)


def test_a_gate_made_in_a_rematerialised_region_is_a_gate():
    w = normal(3, 3)

    def f(x):
        return jax.checkpoint(lambda x: jax.nn.sigmoid(x @ w))(x) * x

    x, prior = np.abs(normal(3)), np.ones(3, np.float32)
    np.testing.assert_allclose(pull(f, x, prior), prior)


@pytest.mark.xfail(strict=True, reason="histories of sums end where a checkpoint does")
def test_a_sum_of_linear_maps_may_cross_a_rematerialised_region():
    w, u = normal(3, 4), normal(3, 4, seed=1)
    x, prior = np.abs(normal(2, 3)), np.ones(4, np.float32)

    def sum_of(second):
        return lambda x: x[0] @ w + second(x[1])

    @jax.jit
    def both(x):
        parts = (lambda x: x @ u), jax.checkpoint(lambda x: x @ u)
        return [pull(sum_of(second), x, prior) for second in parts]

    expected, found = both(x)
    np.testing.assert_allclose(found, expected)


def test_a_gate_scaled_by_a_weight_is_a_gate_under_jit_too():
    def explain(scale, x):
        return pull(lambda x: scale * jax.nn.sigmoid(x) * x, x, jnp.ones(3))

    scale, x = normal(3), np.abs(normal(3))
    np.testing.assert_allclose(explain(scale, x), np.ones(3))
    np.testing.assert_allclose(jax.jit(explain)(scale, x), np.ones(3))


def test_rematerialisation_stays():
    """The backward pass computes again what the author chose not to keep, and nothing else."""
    x, prior = np.abs(normal(2, WIDTH)), jnp.ones((2, WIDTH))

    def exponentials(f):
        return str(jax.make_jaxpr(lambda x: pull(f, x, prior))(x)).count("logistic")

    assert exponentials(_loop(_remat())) > exponentials(_loop(_layer))
    keep_all = _loop(_remat(policy=jax.checkpoint_policies.everything_saveable))
    assert exponentials(keep_all) == exponentials(_loop(_layer))


# --- types ----------------------------------------------------------------------------------------


def test_bfloat16_keeps_its_mass():
    w = {k: v.astype(jnp.bfloat16) for k, v in zoo.weights().items()}
    x, prior = zoo.images(), zoo.priors()
    exact = jax.jit(lambda x, p: ground(small(zoo.weights()), x).pull(p))(x, prior)
    half = jax.jit(lambda x, p: ground(small(w), x).pull(p))
    found = half(x.astype(jnp.bfloat16), prior.astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    total, expected = found.astype(np.float32).sum((1, 2, 3)), exact.sum((1, 2, 3))
    np.testing.assert_allclose(total, expected, atol=1e-2)


def test_a_product_may_have_a_wider_type_than_its_operands():
    x, w = normal(2, 3).astype(jnp.bfloat16), normal(3, 4).astype(jnp.bfloat16)

    def f(x):
        return jnp.matmul(x, w, preferred_element_type=jnp.float32)

    mass = jax.jit(lambda x: pull(f, x, jnp.ones((2, 4))))(abs(x))
    assert mass.dtype == jnp.bfloat16 and mass.shape == (2, 3)


@pytest.mark.skipif("jax_custom_jvp3" not in jax.config.values, reason="JAX before 0.12")
def test_custom_derivatives_as_the_coming_jax_traces_them():
    f, x, prior = small(zoo.weights()), zoo.images(), zoo.priors()
    expected = [jax.jit(lambda x, p, r=r: pull(f, x, p, r))(x, prior) for r in (EXCITATION, GUIDED)]
    before = jax.config.values["jax_custom_jvp3"]
    jax.config.update("jax_custom_jvp3", True)
    try:
        [call] = jax.make_jaxpr(jax.nn.relu)(x).eqns
        assert call.primitive.name == "call_hi_primitive", "nothing to test"
        for rules, reference in zip((EXCITATION, GUIDED), expected, strict=True):
            found = jax.jit(lambda x, p, r=rules: pull(f, x, p, r))(x, prior)
            np.testing.assert_allclose(found, reference, atol=1e-6)
    finally:
        jax.config.update("jax_custom_jvp3", before)
