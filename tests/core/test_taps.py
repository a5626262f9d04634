"""Names of intermediate values: what is listed, in what order, and what a tap costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax import lax
from zoo import normal

from jaxground.core import ground, tap, taps
from jaxground.core.taps import check_affine

W = normal(3, 3)


def test_a_tap_is_invisible_to_values_and_to_compiled_code():
    x = normal(4, 3)
    np.testing.assert_array_equal(tap(x, "x"), x)
    bare = jax.jit(lambda x: jnp.tanh(x @ W)).lower(x).compile().as_text()
    tapped = jax.jit(lambda x: tap(jnp.tanh(tap(x, "in") @ W), "out")).lower(x).compile().as_text()
    assert tapped.count("fusion") == bare.count("fusion")
    assert tapped.count("copy") == bare.count("copy")


def test_taps_are_listed_from_input_to_output_with_shapes():
    def f(x):
        first = tap(x @ W, "zebra")
        second = tap(first.astype(jnp.bfloat16).sum(1), "ant")
        return tap(second[:2], "mule")

    found = taps(f, jax.ShapeDtypeStruct((4, 3), jnp.float32))  # nothing is computed
    assert list(found) == ["zebra", "ant", "mule"]
    assert [s.shape for s in found.values()] == [(4, 3), (4,), (2,)]
    assert [s.dtype for s in found.values()] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]


def test_a_name_met_again_is_numbered_and_grounded_where_it_stands():
    def f(x):
        for _ in range(3):
            x = tap(jax.nn.relu(x @ W), "layer")
        return x

    x = abs(normal(2, 3))
    assert list(taps(f, x)) == ["layer", "layer[1]", "layer[2]"]

    @jax.jit
    def run(x):
        _, values, pull = ground(f, x, at=["layer", "layer[2]"])
        return values, pull(jnp.ones((2, 3))), jax.nn.relu(x @ W), f(x)

    values, masses, first, last = run(x)
    np.testing.assert_allclose(values["layer"], first, rtol=1e-6)
    np.testing.assert_allclose(values["layer[2]"], last, rtol=1e-6)
    np.testing.assert_array_equal(masses["layer[2]"], np.ones((2, 3)))


@pytest.mark.parametrize(
    "inside",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.checkpoint(jax.jit(f)),
        jax.vmap,
        lambda f: jax.checkpoint(f, policy=jax.checkpoint_policies.save_only_these_names("deep")),
        lambda f: lambda x: jax.checkpoint(lambda x: jax.checkpoint(f)(x))(x),
    ],
    ids=["jit", "checkpoint", "jit in checkpoint", "vmap", "policy", "checkpoint twice"],
)
def test_taps_inside_calls_are_in_reach(inside):
    def block(x):
        return tap(jax.nn.relu(x @ W), "deep") @ W + x

    x = abs(normal(2, 3))

    def grounded(f, x):
        outputs, activations, pull = ground(lambda x: f(x) @ W, x, at="deep")
        return outputs, activations, pull(jnp.ones((2, 3)))

    plain, other = jax.jit(lambda x: [grounded(f, x) for f in (block, inside(block))])(x)
    np.testing.assert_allclose(other[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(other[1], plain[1], rtol=1e-6)
    np.testing.assert_allclose(other[2], plain[2], atol=1e-6)


@pytest.mark.parametrize(
    "loop",
    [
        lambda body, x: lax.scan(lambda x, _: (body(x), None), x, length=2)[0],
        lambda body, x: lax.fori_loop(0, 2, lambda _, x: body(x), x),
        lambda body, x: lax.cond(x.sum() > 0, body, body, x),
        lambda body, x: jax.checkpoint(
            lambda x: lax.scan(lambda x, _: (body(x), None), x, length=2)[0]
        )(x),
    ],
    ids=["scan", "fori", "cond", "scan in checkpoint"],
)
def test_a_tap_inside_a_loop_is_refused(loop):
    def f(x):
        return tap(loop(lambda x: tap(jax.nn.relu(x @ W), "turn"), x), "end")

    assert list(taps(f, normal(2, 3))) == ["end"]
    with pytest.raises(KeyError) as error:
        ground(f, normal(2, 3), at="turn")
    assert error.value.args[0] == (
        "tap 'turn' lies inside a scan, cond or while loop, where it has one value per turn; "
        "return the value from the loop and tap it there. Taps in reach: ['end']"
    )


def test_several_taps_in_one_pass_equal_separate_ones():
    f, x, prior = zoo.plain(zoo.weights()), zoo.images(), zoo.priors()
    names = ["pool", "image", "conv"]

    @jax.jit
    def explain(x, prior):
        together = ground(f, x, at=names)
        apart = {name: ground(f, x, at=name) for name in names}
        return (
            (together.activations, together.pull(prior), ground(f, x).pull(prior)),
            (
                {k: g.activations for k, g in apart.items()},
                {k: g.pull(prior) for k, g in apart.items()},
            ),
        )

    (values, masses, at_input), (values_apart, masses_apart) = explain(x, prior)
    for name in names:
        np.testing.assert_array_equal(values[name], values_apart[name])
        np.testing.assert_allclose(masses[name], masses_apart[name], atol=1e-7)
    np.testing.assert_allclose(masses["image"], at_input, atol=1e-7)


@pytest.mark.parametrize("around", [lambda f: f, jax.jit, jax.checkpoint])
@pytest.mark.parametrize(
    "join",
    [
        lambda branch, x: branch + x,
        lambda branch, x: branch + jax.nn.relu(x @ W),
        lambda branch, x: branch @ W + x @ W,
        lambda branch, x: x - branch + branch,
        lambda branch, x: jnp.maximum(branch, x),
        lambda branch, x: jax.nn.sigmoid(x @ W) * branch + x,
        lambda branch, x: lax.fori_loop(0, 2, lambda _, c: c @ abs(W) + x, branch),
    ],
    ids=["skip", "branches", "linear maps", "difference", "maximum", "gate", "loop"],
)
def test_a_tap_on_one_branch_leaves_the_other_its_share(join, around):
    """The mass at a tap is the mass there on the way to the input, skips or not."""

    def f(x):
        x = tap(x, "x")
        return around(lambda x: join(tap(jax.nn.relu(x @ W + 1), "branch"), x))(x)

    x, prior = abs(normal(2, 3)), jnp.ones((2, 3))

    @jax.jit
    def run(x):
        return [ground(f, x, at=at).pull(prior) for at in (["branch", "x"], "branch")]

    both, alone = run(x)
    assert 0 < both["branch"].sum() != 6
    np.testing.assert_allclose(alone, both["branch"], atol=1e-6)


def test_what_lies_below_a_tap_needs_no_rule():
    def f(x):
        spectrum = jnp.abs(jnp.fft.fft(x)).astype(jnp.float32)
        attended = jax.nn.softmax(spectrum @ spectrum.T) @ spectrum
        return tap(attended, "features") @ W

    x = normal(2, 3)
    mass = ground(f, x, at="features").pull(jnp.ones((2, 3)))
    expected = ground(lambda h: h @ W, ground(f, x, at="features").activations)
    np.testing.assert_allclose(mass, expected.pull(jnp.ones((2, 3))), atol=1e-6)
    with pytest.raises(NotImplementedError):
        ground(f, x).pull(jnp.ones((2, 3)))


def test_only_what_lies_above_a_tap_is_differentiated():
    f, x, prior = zoo.plain(zoo.weights()), zoo.images(), zoo.priors()

    def convolutions(at):
        text = str(jax.make_jaxpr(lambda x, p: ground(f, x, at=at).pull(p))(x, prior))
        return text.count("conv_general_dilated[")

    assert convolutions("pool") == 2  # those of the forward pass
    assert convolutions("conv") == 2 + 2  # and normaliser and transpose of one
    assert convolutions(None) == 2 + 4


def test_linen_modules_are_taps_by_their_path():
    from flax import linen

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.relu(linen.Dense(3, name="dense")(x))

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = Block(name="low")(x)
            return linen.Dense(2, name="head")(Block(name="high")(tap(x, "between")))

    network, x = Network(), abs(normal(4, 3))
    params = jax.jit(network.init)(jax.random.key(0), x)
    apply = lambda x: network.apply(params, x)  # noqa: E731
    names = list(taps(apply, x))
    expected = ["low/dense", "low", "between", "high/dense", "high"]
    assert [
        n.removeprefix("Network/") for n in names if n.removeprefix("Network/") in expected
    ] == expected
    [low] = [n for n in names if n.endswith("low")]

    @jax.jit
    def run(x):
        _, activations, pull = ground(apply, x, at=[low, "between"])
        return activations, pull(jnp.ones((4, 2)))

    activations, masses = run(x)
    np.testing.assert_array_equal(activations[low], activations["between"])
    np.testing.assert_array_equal(masses[low], masses["between"])


def test_a_module_with_several_outputs_is_no_tap():
    from flax import linen

    class Pair(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3, name="one")(x), linen.Dense(3, name="other")(x)

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            one, other = Pair(name="pair")(x)
            return one + other

    dense = {"kernel": W, "bias": W[0]}
    params = {"pair": {"one": dense, "other": dense}}
    names = taps(lambda x: Network().apply({"params": params}, x), normal(2, 3))
    found = {name.removeprefix("Network/") for name in names}
    assert {"pair/one", "pair/other"} <= found and "pair" not in found


def test_haiku_modules_are_taps_by_their_path():
    hk = pytest.importorskip("haiku", reason="haiku comes with the extra `frameworks`")

    def forward(x):
        x = hk.nets.MLP([3, 3], name="body", activate_final=True)(x)
        return hk.Linear(2, name="head")(x)

    network, x = hk.without_apply_rng(hk.transform(forward)), abs(normal(4, 3))
    layer, head = {"w": W, "b": W[0]}, {"w": W[:, :2], "b": W[0, :2]}
    params = {"body/~/linear_0": layer, "body/~/linear_1": layer, "head": head}
    found = taps(lambda x: network.apply(params, x), x)
    [body] = [name for name in found if name.endswith("body")]
    assert found[body].shape == (4, 3)
    grounding = ground(lambda x: network.apply(params, x), x, at=body)
    np.testing.assert_allclose(
        grounding.activations @ head["w"] + head["b"], grounding.outputs, rtol=1e-5
    )


# --- affine heads, for class activation maps ------------------------------------------------------


def test_affine_heads_pass():
    for head in (
        lambda h: h.mean((1, 2)) @ W + 1.0,
        lambda h: jnp.einsum("bhwc,ck->bk", h, W) / 7 - W[0],
        lambda h: (h * W[0] - W[1]).transpose(0, 3, 1, 2).reshape(2, 3, -1).sum(-1),
    ):
        check_affine(lambda x, head=head: head(tap(jnp.tanh(x), "h")), normal(2, 4, 4, 3), "h")


@pytest.mark.parametrize(
    "head, operation",
    [
        (lambda h: jax.nn.relu(h.mean((1, 2))) @ W, "max"),
        (lambda h: h.max((1, 2)) @ W, "reduce_max"),
        (lambda h: h.mean((1, 2)) * h.sum((1, 2)), "mul"),
        (lambda h: 1 / h.mean((1, 2)), "div"),
        (lambda h: jax.nn.softmax(h.mean((1, 2)) @ W), "reduce_max"),
        (lambda h: lax.fori_loop(0, 2, lambda _, c: c @ W, h.mean((1, 2))), "scan"),
    ],
)
def test_other_heads_are_named(head, operation):
    with pytest.raises(ValueError, match=rf"not linear in tap 'h': `{operation}` \(.*test_taps.py"):
        check_affine(lambda x: head(tap(x, "h")), normal(2, 4, 4, 3), "h")
