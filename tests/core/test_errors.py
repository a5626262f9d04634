"""What has no rule is refused by name, with the user's line, the operands and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from zoo import normal

from jaxground.core import (
    CAFFE,
    EXCITATION,
    GUIDED,
    MissingRuleError,
    excitation_dense,
    excite,
    ground,
    tap,
    taps,
)
from jaxground.core.rules import pass_through, share

W = normal(3, 3)
X = abs(normal(3, 3))


def pull(f, x=X, rules=EXCITATION):
    out, back = jax.vjp(excite(f, rules), x)
    return back(jax.tree.map(jnp.ones_like, out))[0]


def message_of(f, **options):
    with pytest.raises(MissingRuleError) as error:
        pull(f, **options)
    return str(error.value)


def line_of(f):
    return f"tests/core/test_errors.py:{f.__code__.co_firstlineno}:"


REFUSED = {
    "sin": lambda x: jnp.sin(x @ W),
    "fft": lambda x: jnp.fft.fft(x).real,
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x),
    "top_k": lambda x: lax.top_k(x, 2)[0],
    "reduce_prod": lambda x: jnp.prod(x, 1) + 1,
    "neg": lambda x: -x @ W,
    "sub": lambda x: 1 - x,
    "div": lambda x: 1 / (1 + x),
    "pure_callback": lambda x: jax.pure_callback(np.sin, x, x),
    "cos": lambda x: jax.checkpoint(lambda x: jax.jit(lambda x: jnp.cos(x))(x))(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_with_the_line(name):
    f = REFUSED[name]
    message = message_of(f)
    assert message.startswith(f"no rule for `{name}` (")
    assert line_of(f) in message.splitlines()[0]


def test_the_message_in_full():
    f = lambda x: jnp.sin(x @ W)  # noqa: E731
    first, second = message_of(f).splitlines()
    head, _, place = first.partition(", at ")
    assert head == "no rule for `sin` (float32[3,3])"
    file_and_line, _, function = place.partition(" (")
    assert file_and_line.rstrip("0123456789").endswith(line_of(f))  # then the column
    assert function == "test_the_message_in_full.<locals>.<lambda>)"
    assert second == (
        "It lies between what is being grounded and the output. Give it a rule, e.g. "
        "rules=EXCITATION | {lax.tan_p: pass_through}, or hide it from the mass with "
        "jax.lax.stop_gradient."
    )


IN_LOOPS = {
    "scan": lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, length=2)[0],
    "fori": lambda x: lax.fori_loop(0, 2, lambda i, c: jnp.sin(c), x),
    "cond": lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.tanh, x),
    "map": lambda x: lax.map(jnp.sin, x),
}


@pytest.mark.parametrize("loop", IN_LOOPS)
def test_the_line_is_told_inside_loops(loop):
    f = IN_LOOPS[loop]
    message = message_of(f)
    assert message.startswith("no rule for `sin` (") and line_of(f) in message


LIBRARY = {
    "gelu": lambda x: jax.nn.gelu(x @ W),
    "normalise": lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True),
    "softmax": lambda x: jax.nn.softmax(x @ W),
    "attention": lambda x: jax.nn.softmax(lax.stop_gradient(x @ x.T)) @ x @ (x.T @ x),
    "signals": lambda x: jnp.tanh(x) * x,
    "two gates": lambda x: jax.nn.sigmoid(x) * jax.nn.sigmoid(x + 1),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_two_active_operands_are_both_named_with_the_line(name):
    f = LIBRARY[name]
    message = message_of(f)
    assert message.startswith("ambiguous operands 0 and 1 of `")
    assert line_of(f) in message


def test_the_message_of_two_active_operands_in_full():
    def f(x):
        x = x @ W
        return x @ x.T

    first, second = message_of(f).splitlines()
    assert first.startswith(
        "ambiguous operands 0 and 1 of `dot_general` (float32[3,3], float32[3,3]), at "
    )
    assert f"test_errors.py:{f.__code__.co_firstlineno + 2}:" in first
    assert second == (
        "Both depend on what is being grounded, so which of them is the signal cannot be told. Put "
        "the gate or normaliser under jax.lax.stop_gradient, or pass a table with a rule for it."
    )


def test_both_remedies_help():
    def normalised(x):
        return x / lax.stop_gradient(x.sum(1, keepdims=True))

    np.testing.assert_array_equal(pull(normalised), np.ones((3, 3)))
    table = EXCITATION | {lax.sin_p: pass_through}
    np.testing.assert_array_equal(pull(jnp.sin, rules=table), np.ones((3, 3)))


def test_a_jitted_function_may_have_a_rule_as_a_whole():
    @jax.jit
    def mish(x):
        return x * jnp.tanh(jax.nn.softplus(x))

    def f(x):
        return mish(x) @ W

    assert "of `mul`" in message_of(f)

    @jax.jit
    def both(x):
        expected = ground(lambda h: h @ W, mish(x)).pull(jnp.ones((3, 3)))
        return expected, pull(f, x, EXCITATION | {"mish()": pass_through})

    expected, found = both(X)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_refused_operations_run_forward_and_beside_the_signal():
    np.testing.assert_array_equal(excite(jnp.sin)(X), jnp.sin(X))
    beside = (
        lambda x: x * jnp.sin(W),
        lambda x: x * jnp.sin(lax.stop_gradient(x)),
        lambda x: (x, jnp.argmax(x), jax.random.normal(jax.random.key(0)))[0],
    )
    for found in jax.jit(lambda x: [pull(f, x) for f in beside])(X):
        np.testing.assert_array_equal(found, np.ones((3, 3)))


def test_refusal_comes_before_anything_is_computed():
    computed = []

    def f(x):
        x = jax.pure_callback(lambda x: computed.append(1) or x, x, lax.stop_gradient(x)) + x
        return jnp.sin(x)

    with pytest.raises(MissingRuleError):
        jax.jit(lambda x: pull(f, x))(X)
    assert computed == []


def test_explicit_layers_name_their_ambiguity():
    with pytest.raises(MissingRuleError, match=r"^ambiguous operands 0 and 1 of this function"):
        jax.vjp(excitation_dense, X, W)[1](X)


@pytest.mark.parametrize("rules", [CAFFE, EXCITATION | {"sin": share}], ids=["caffe", "extended"])
def test_tables_made_of_a_table_keep_its_refusal(rules):
    assert message_of(jnp.fft.fft, x=X.astype(np.complex64), rules=rules).startswith("no rule")


def test_gradient_tables_refuse_nothing():
    no_derivative = REFUSED["while"], REFUSED["pure_callback"]  # JAX has none
    functions = [f for f in REFUSED.values() if f not in no_derivative]
    for found in jax.jit(lambda x: [pull(f, x, GUIDED) for f in functions])(X):
        assert np.isfinite(found).all()


def test_an_unknown_tap_lists_those_there():
    def f(x):
        return tap(tap(x, "first") @ W, "second")

    with pytest.raises(KeyError) as error:
        ground(f, X, at="third")
    [message] = error.value.args
    assert message == "no tap named 'third'; taps from input to output: ['first', 'second']"
    with pytest.raises(KeyError, match=r"no tap named 'second.1.'"):
        ground(f, X, at=["first", "second[1]"])
    assert taps(lambda x: x, X) == {}
    with pytest.raises(KeyError, match="none was found"):
        ground(lambda x: x, X, at="first")
