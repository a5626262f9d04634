"""AttnLRP against a transformer block written in NumPy from the papers; its laws; patterns.

Flax normalises in single precision, whatever the type: hence the tolerances.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxground.core import ATTENTION, EXCITATION, MissingRuleError, attn_lrp, epsilon, gamma, ground
from jaxground.core.tables import Rules
from jaxground.core.transform import trace

pytestmark = pytest.mark.usefixtures("float64")
WIDTH, HEADS, TOKENS = 6, 2, 4


class Block(nnx.Module):
    """A transformer block as Flax has it, with nothing known of jaxground."""

    def __init__(self, rngs, activation=nnx.gelu, norm=nnx.LayerNorm):
        """Makes it in double precision, with biases that are not zero."""
        make = functools.partial(norm, WIDTH, param_dtype=jnp.float64, rngs=rngs)
        linear = functools.partial(nnx.Linear, param_dtype=jnp.float64, rngs=rngs)
        self.norm, self.other = make(), make()
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, decode=False, param_dtype=jnp.float64, rngs=rngs
        )
        self.up, self.down = linear(WIDTH, 8), linear(8, WIDTH)
        self.head = linear(WIDTH, 3)
        self.activation = activation
        random = np.random.default_rng(0)
        state = nnx.state(self, nnx.Param)
        nnx.update(
            self, jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape) / 2), state)
        )

    def __call__(self, x):
        """Returns logits of the first token."""
        x = x + self.attention(self.norm(x))
        x = x + self.down(self.activation(self.up(self.other(x))))
        return self.head(x[:, 0])


def block(**options):
    return nnx.view(Block(nnx.Rngs(0), **options), deterministic=True)


def inputs():
    return np.random.default_rng(1).normal(size=(2, TOKENS, WIDTH))


def arrays(model):
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): np.asarray(p.get_value()) for path, p in flat}


# The oracle: each function returns the value and what takes the relevance down.


def by_value(z, e):
    return np.where(z >= 0, z + e, z - e)


def affine(x, w, b, e):
    z = x @ w + b
    return z, lambda r: x * ((r / by_value(z, e)) @ w.T)


def add(x, y, e):
    z = x + y
    return z, lambda r: (x * r / by_value(z, e), y * r / by_value(z, e))


def layer_norm(x, scale, bias, e):
    """The normaliser is constant; the mean and the bias are parts of sums."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    centred = x - mean
    value = centred / np.sqrt(var + 1e-6) * scale

    def down(r):
        r = r * value / by_value(value + bias, e)
        r = r / by_value(centred, e)
        of_mean = (-mean * r).sum(-1, keepdims=True)
        return x * r + x / by_value(x.sum(-1, keepdims=True), e) * of_mean

    return value + bias, down


def matmul(a, v, e):
    """Proposition 3.3: half to each factor."""
    o = a @ v

    def down(r):
        s = r / (2 * by_value(o, e / 2))
        return a * (s @ np.swapaxes(v, -1, -2)), v * (np.swapaxes(a, -1, -2) @ s)

    return o, down


def softmax(x):
    """Proposition 3.1."""
    s = np.exp(x - x.max(-1, keepdims=True))
    s = s / s.sum(-1, keepdims=True)
    return s, lambda r: x * (r - s * r.sum(-1, keepdims=True))


def gelu(x):
    cdf = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x * cdf


def oracle(w, x, target, e=1e-6):
    """Returns the relevance of the tokens `[tokens, width]` for one target."""
    normed, norm_down = layer_norm(x, w["norm.scale"], w["norm.bias"], e)
    projections = {
        name: affine(
            normed,
            w[f"attention.{name}.kernel"].reshape(WIDTH, WIDTH),
            w[f"attention.{name}.bias"].ravel(),
            e,
        )
        for name in ("query", "key", "value")
    }

    def split(y):
        return y.reshape(TOKENS, HEADS, -1).swapaxes(0, 1)

    def merge(y):
        return y.swapaxes(0, 1).reshape(TOKENS, WIDTH)

    q, k, v = (split(value) for value, _ in projections.values())
    logits, logits_down = matmul(q, k.swapaxes(-1, -2), e)
    weights, softmax_down = softmax(logits / math.sqrt(WIDTH // HEADS))
    mixed, mixed_down = matmul(weights, v, e)
    attended, out_down = affine(
        merge(mixed), w["attention.out.kernel"].reshape(WIDTH, WIDTH), w["attention.out.bias"], e
    )
    first, first_down = add(x, attended, e)
    again, again_down = layer_norm(first, w["other.scale"], w["other.bias"], e)
    raised, up_down = affine(again, w["up.kernel"], w["up.bias"], e)
    lowered, down_down = affine(gelu(raised), w["down.kernel"], w["down.bias"], e)
    last, last_down = add(first, lowered, e)
    scores, head_down = affine(last[:1], w["head.kernel"], w["head.bias"], e)

    r = np.zeros((TOKENS, WIDTH))
    r[:1] = head_down(scores * np.eye(3)[target])
    skip, branch = last_down(r)
    r = skip + again_down(up_down(down_down(branch)))  # GELU passes relevance on
    skip, branch = first_down(r)
    of_weights, of_value = mixed_down(split(out_down(branch)))
    of_query, of_key = logits_down(softmax_down(of_weights))
    parts = (of_query, of_key.swapaxes(-1, -2), of_value)
    down = (down for _, down in projections.values())
    return skip + norm_down(sum(d(merge(part)) for d, part in zip(down, parts, strict=True)))


def relevance(f, x, rules, target):
    outputs, _, pull = ground(f, x, rules=rules)
    return pull(outputs * jnp.eye(outputs.shape[-1])[target])


def test_unmodified_flax_block_is_the_oracle():
    model, x = block(activation=functools.partial(nnx.gelu, approximate=False)), inputs()
    target = np.array([0, 2])
    found = jax.jit(lambda x: relevance(model, x, attn_lrp(), target))(x)
    for i in range(2):
        expected = oracle(arrays(model), x[i], target[i])
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=2e-6)


def test_it_is_gradient_x_input_of_a_network_with_constants():
    """What is linear in the constants' place has the gradient's relevance, without stabilisers."""
    model, x = block(activation=nnx.silu, norm=nnx.RMSNorm), inputs()
    w = arrays(model)

    def halved(product, a, b):
        return (product(a, lax.stop_gradient(b)) + product(lax.stop_gradient(a), b)) / 2

    def norm(x, scale):
        return x * lax.stop_gradient(lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)) * scale

    def project(x, name):
        return (
            jnp.einsum("bnc,chd->bnhd", x, w[f"attention.{name}.kernel"])
            + w[f"attention.{name}.bias"]
        )

    def twin(x):
        h = norm(x, w["norm.scale"])
        q, k, v = (project(h, name) for name in ("query", "key", "value"))
        scores = halved(functools.partial(jnp.einsum, "bnhd,bmhd->bhnm"), q, k) / math.sqrt(3)
        weights = jax.nn.softmax(scores)
        mixed = 2 * halved(functools.partial(jnp.einsum, "bhnm,bmhd->bnhd"), weights, v) / 2
        x = (
            x
            + jnp.einsum("bnhd,hdc->bnc", mixed, w["attention.out.kernel"])
            + w["attention.out.bias"]
        )
        u = norm(x, w["other.scale"]) @ w["up.kernel"] + w["up.bias"]
        u = u * lax.stop_gradient(jax.nn.sigmoid(u))
        x = x + u @ w["down.kernel"] + w["down.bias"]
        return x[:, 0] @ w["head.kernel"] + w["head.bias"]

    target = np.array([1, 2])

    @jax.jit
    def both(x):
        found = relevance(model, x, attn_lrp(epsilon(0.0), stabiliser=0.0), target)
        values, gradient = jax.vjp(twin, x)
        return model(x), values, found, gradient(jnp.eye(3)[target])[0]

    logits, values, found, gradient = both(x)
    np.testing.assert_allclose(values, logits, rtol=1e-6)
    np.testing.assert_allclose(found, x * gradient, rtol=1e-5, atol=2e-6)


PATTERNS = {
    "gelu": (jax.nn.gelu, "self_gated()"),
    "exact gelu": (functools.partial(jax.nn.gelu, approximate=False), "self_gated()"),
    "silu": (jax.nn.silu, "self_gated()"),
    "mish": (jax.nn.mish, "self_gated()"),
    "hard swish": (jax.nn.hard_swish, "self_gated()"),
    "square": (lambda x: x * x, "self_gated()"),
    "softmax": (jax.nn.softmax, "softmax()"),
    "softmax over rows": (functools.partial(jax.nn.softmax, axis=0), "softmax()"),
    "naive softmax": (
        lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
        None,  # two exponentials: nothing says they agree before the compiler does
    ),
    "softmax by hand": (
        lambda x: (lambda e: e / e.sum(-1, keepdims=True))(jnp.exp(x)),
        "softmax()",
    ),
    "maximum not stopped": (
        lambda x: (lambda e: e / e.sum(1)[:, None])(jnp.exp(x - x.max(1)[:, None])),
        "softmax()",
    ),
    "layer norm": (lambda x: x * lax.rsqrt((x**2).mean(-1, keepdims=True)), None),
    "two signals": (lambda x: x[:, :2] * x[:, 2:], None),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern_is_found_and_keeps_values(name):
    f, key = PATTERNS[name]
    x = inputs()[0][:, :4]
    program, _ = trace(f, attn_lrp(), x)
    found = [step.key for step in program.walk() if step.parts]
    assert found == ([key] if key else [])
    if not key:
        return

    @jax.jit
    def run(x):
        values, _, pull = ground(f, x, rules=attn_lrp())
        return values, pull(x), f(x)

    values, relevance, expected = run(x)
    np.testing.assert_allclose(values, expected, rtol=1e-14)
    if key == "self_gated()":
        np.testing.assert_array_equal(relevance, x)


def test_products_of_two_signals_take_half_and_masked_positions_nothing():
    x = np.abs(inputs()[0][:, :4]) + 0.1
    mask = np.tri(4, dtype=bool)

    def f(x):
        scores = jnp.where(mask, x @ x.T, -jnp.inf)
        return jax.nn.softmax(scores) @ x

    swiglu = lambda x: jax.nn.silu(x[:, :2]) * x[:, 2:]  # noqa: E731
    spread = lambda x: x[:, :1] * x[:, 1:]  # noqa: E731

    @jax.jit
    def run(x):
        return (
            relevance(lambda x: f(x)[None, 0], x, attn_lrp(), np.array([0])),
            ground(swiglu, x, rules=attn_lrp()).pull(jnp.ones((4, 2))),
            ground(spread, x, rules=attn_lrp()).pull(jnp.ones((4, 3))),
        )

    found, halves, shared = run(x)
    assert np.isfinite(found).all() and not found[1:].any()
    np.testing.assert_array_equal(halves, np.full((4, 4), 0.5))
    np.testing.assert_array_equal(shared[0], [1.5, 0.5, 0.5, 0.5])


def test_attention_as_a_weight():
    """The maps of a network whose softmax and normalisers stand under stop_gradient."""
    model, x = block(), inputs()
    w, prior = arrays(model), jnp.eye(3)[:2]
    for table in (epsilon(), gamma(), EXCITATION):
        with pytest.raises(MissingRuleError):
            jax.eval_shape(lambda x, table=table: ground(model, x, rules=table).pull(prior), x)
        assert isinstance(table | ATTENTION, Rules)

    up = w["up.kernel"]
    attend = lambda x: jax.nn.softmax(x @ x.T)  # noqa: E731
    mass = jnp.ones((TOKENS, 8))

    @jax.jit
    def run(x):
        pull = ground(lambda x: attend(x) @ x @ up, x[0], rules=EXCITATION | ATTENTION).pull
        stopped = ground(lambda x: lax.stop_gradient(attend(x)) @ x @ up, x[0]).pull
        of_model = ground(model, x, rules=EXCITATION | ATTENTION).pull
        return pull(mass), stopped(mass), of_model(prior)

    found, expected, masses = run(x)
    np.testing.assert_array_equal(found, expected)
    assert (masses >= 0).all() and masses[0].sum() > 0.1
    assert (masses.sum((1, 2)) <= 1 + 1e-9).all()
