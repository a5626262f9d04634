"""Conservation at every tap, and the contrastive dual wherever the last linear map stands."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import zoo
from jax import lax
from zoo import normal

from jaxground.core import CAFFE, EXCITATION, MissingRuleError, ground, linear_map, mass, tap

W, U, V = normal(4, 3), normal(5, 3), normal(4, 5)


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def images(*shape, seed=0):
    return np.abs(normal(*shape, seed=seed, dtype=np.float64))


def assert_close(found, expected):
    np.testing.assert_allclose(np.ravel(found), np.ravel(expected), rtol=1e-12, atol=1e-12)


# --- mass -----------------------------------------------------------------------------------------


def test_mass_tells_what_arrives_and_what_is_lost():
    first = np.array([[1.0, 0.0], [0.0, -1.0]])  # the second unit lives on its bias alone
    second = np.array([[1.0, 0.0], [3.0, 1.0]])

    def f(x):
        hidden = tap(jax.nn.relu(tap(x, "x") @ first + np.array([0.0, 5.0])), "hidden")
        return hidden @ second

    x = np.array([[4.0, 1.0], [4.0, 1.0]])  # hidden: 4, 4
    found = mass(f, x, np.array([[1.0, 0.0], [0.0, 2.0]]))  # outside jit, once
    assert list(found) == ["x", "hidden"]
    assert_close(found["hidden"].kept, [1, 2])
    assert_close(found["hidden"].lost, [0, 0])
    assert_close(found["x"].kept, [0.25, 0])
    assert_close(found["x"].lost, [0.75, 2])
    assert found["x"].kept.dtype == np.float32
    report = functools.partial(mass, f, prior=np.ones((2, 2)), at=["hidden"])
    assert list(jax.eval_shape(report, x)) == ["hidden"]


def test_mass_on_a_branch_is_what_took_the_branch():
    f = lambda x: tap(3 * x, "left") + x  # noqa: E731
    found = jax.jit(lambda x: mass(f, x, np.full((2, 4), 0.25)))(np.ones((2, 4)))
    assert_close(found["left"].kept, [0.75, 0.75])
    assert_close(found["left"].lost, [0.25, 0.25])


# --- the contrastive dual -------------------------------------------------------------------------


def difference(prior, top, *below):
    """Returns the mass through the top layer less that through its negated weights."""
    weights, x = top
    layers = [oracle.transition(*layer) for layer in below]
    return sum(
        sign * oracle.chain(prior, [oracle.transition(sign * weights, x), *layers])
        for sign in (1, -1)
    )


def contrastive(f, x, prior, **options):
    @jax.jit
    def explain(x, prior):
        return ground(f, x, contrastive=True, **options).pull(prior)

    return explain(x, prior)


HEADS = {
    "dense": lambda h: h @ W,
    "weights first": lambda h: W.T @ h,
    "bias": lambda h: h @ W + W[0],
    "temperature": lambda h: (h @ W) / 3,
    "negative scale": lambda h: -2.0 * (h @ W),
    "reshaped": lambda h: (h @ W).reshape(1, 3)[0],
    "called": jax.jit(lambda h: jax.checkpoint(lambda h: h @ W)(h)),
    "a linear map of many steps": lambda h: linear_map(lambda h, w: (h[:, None] * w).sum(0))(h, W),
}


@pytest.mark.parametrize("head", HEADS)
def test_contrast_is_the_difference_of_two_full_passes(head):
    x, prior = images(5), np.array([0.0, 1.0, 0.5])
    hidden = np.maximum(x @ V.T, 0)
    found = contrastive(lambda x: HEADS[head](jax.nn.relu(x @ V.T)), x, prior)
    assert_close(found, difference(prior, (W.T, hidden), (V, x)))


def test_a_given_value_at_a_tap_spares_what_is_below():
    def f(x):
        block = jax.checkpoint(lambda x: tap(jax.nn.relu(jnp.sinc(x) @ V.T), "hidden"))
        return jax.nn.relu(block(x) + x @ V.T) @ W  # a skip connection passes the tap

    x, prior = images(2, 5), np.eye(3)[:2]
    for contrastive in (False, True):
        from_hidden = functools.partial(ground, f, at="hidden", contrastive=contrastive)

        @jax.jit
        def run(x, from_hidden=from_hidden):
            plain = from_hidden(x)
            known = from_hidden(x, given=plain.activations)
            doubled = from_hidden(x, given=2 * plain.activations)
            pulled = plain.pull(prior), known.pull(prior)
            return [(g.outputs, g.activations) for g in (plain, known, doubled)], pulled

        (plain, known, doubled), pulled = run(x)
        np.testing.assert_allclose(known[0], plain[0], rtol=1e-12)
        np.testing.assert_allclose(pulled[1], pulled[0], rtol=1e-12)
        np.testing.assert_array_equal(doubled[1], 2 * plain[1])
        assert abs(doubled[0] - plain[0]).max() > 0.1
    text = str(jax.make_jaxpr(lambda x, h: from_hidden(x, given=h).pull(prior))(x, x @ V.T))
    assert " sin " not in text


def test_the_dual_unit_apart():
    """Both masses of one backward pass, for what is normalised before it is subtracted."""
    x, prior = images(2, 5), np.eye(3)[:2]

    def f(x):
        return jax.checkpoint(lambda x: jax.nn.relu(tap(x, "x") @ V.T) @ W)(x)

    hidden = np.maximum(x @ V.T, 0)
    for options in ({}, {"at": "x"}):
        explain = functools.partial(ground, f, contrastive="apart", **options)
        found = jax.jit(lambda x, explain=explain: explain(x).pull(prior))(x)
        for weights, masses in zip((W, -W), found, strict=True):
            for row, of_row in enumerate(masses):
                steps = [oracle.transition(weights.T, hidden[row]), oracle.transition(V, x[row])]
                assert_close(of_row, oracle.chain(prior[row], steps))


@pytest.mark.parametrize("rules", [EXCITATION, CAFFE], ids=["excitation", "caffe"])
def test_contrast_is_found_below_pooling(rules):
    """SqueezeNet's head: a convolution, a ReLU, and only then the average."""
    kernel, x, prior = normal(1, 1, 2, 3, dtype=np.float64), images(4, 4, 2), np.eye(3)[1]

    def f(x):
        return jax.nn.relu(zoo.convolve(x[None], kernel) + 0.5).mean((1, 2))[0]

    scores = np.maximum(x @ kernel[0, 0] + 0.5, 0)
    mean = oracle.matrix(lambda e: e.mean((0, 1)), scores.shape)
    at_scores = oracle.chain(prior, [oracle.transition(mean, scores)])
    conv = oracle.matrix(lambda e: e @ kernel[0, 0], x.shape)
    assert_close(contrastive(f, x, prior, rules=rules), difference(at_scores, (conv, x)))


def test_contrast_at_two_heads_side_by_side():
    x, prior = (images(4), images(5)), images(6)
    found = contrastive(lambda x: jnp.concatenate([x[0] @ W, x[1] @ U]), x, prior)
    assert_close(found[0], difference(prior[:3], (W.T, x[0])))
    assert_close(found[1], difference(prior[3:], (U.T, x[1])))
    found = contrastive(
        lambda x: {"a": x[0] @ W, "b": x[1] @ U}, x, {"a": prior[:3], "b": prior[3:]}
    )
    assert_close(found[0], difference(prior[:3], (W.T, x[0])))


def test_contrast_at_two_rectified_heads_that_are_added():
    """Their values are those of the forward pass in both passes, and split it alike."""
    x, prior = (images(4), images(5)), images(3)
    a, b = np.maximum(x[0] @ W, 0), np.maximum(x[1] @ U, 0)
    share = np.divide(a, a + b, out=np.zeros(3), where=a + b > 0)
    found = contrastive(lambda x: jax.nn.relu(x[0] @ W) + jax.nn.relu(x[1] @ U), x, prior)
    assert_close(found[0], difference(prior * share, (W.T, x[0])))
    assert_close(found[1], difference(prior * (1 - share) * (b > 0), (U.T, x[1])))


def test_contrast_reads_the_weights_of_the_last_map_only():
    x, prior = images(2, 5), np.eye(3)[:2]

    def f(x):
        return tap(jax.nn.relu(tap(x, "x") @ V.T), "hidden") @ W

    at = contrastive(f, x, prior, at=["hidden", "x"])
    hidden = np.maximum(x @ V.T, 0)
    for row in range(2):
        expected = difference(prior[row], (W.T, hidden[row]))
        assert_close(at["hidden"][row], expected)
        assert_close(at["x"][row], oracle.chain(expected, [oracle.transition(V, x[row])]))
    np.testing.assert_allclose(at["x"], contrastive(f, x, prior), atol=1e-12)
    np.testing.assert_allclose(at["hidden"], contrastive(f, x, prior, at="hidden"), atol=1e-12)


def test_without_negative_weights_contrast_is_excitation():
    x, prior = images(4), images(3)
    found = contrastive(lambda x: x @ abs(W), x, prior)
    assert_close(found, ground(lambda x: x @ abs(W), x).pull(prior))


def test_contrast_under_jit_with_weights_as_arguments():
    def explain(w, x, prior):
        return contrastive(lambda x: x @ w, x, prior)

    x, prior = images(4), images(3)
    assert_close(jax.jit(explain)(W, x, prior), difference(prior, (W.T, x)))


def test_contrast_looks_past_a_loop_below_the_head():
    def f(x):
        return lax.fori_loop(0, 2, lambda _, x: jnp.tanh(x @ abs(V[:, :4])), x) @ W

    x, prior = images(4), images(3)
    hidden = np.tanh(np.tanh(x @ abs(V[:, :4])) @ abs(V[:, :4]))
    steps = (abs(V[:, :4]).T, np.tanh(x @ abs(V[:, :4]))), (abs(V[:, :4]).T, x)
    assert_close(contrastive(f, x, prior), difference(prior, (W.T, hidden), *steps))


def test_contrast_needs_a_weighted_linear_map():
    no_map = (
        "contrastive grounding needs a weighted linear map (a dense layer or a convolution) "
        "between input and output, whose negated weights make the dual unit; there is none."
    )
    for f in (lambda x: jnp.tanh(x).mean(0) * 2, lambda x: x @ x.T):
        with pytest.raises(ValueError) as error:
            ground(f, images(2, 3), contrastive=True)
        assert str(error.value) == no_map


def test_contrast_needs_the_map_above_the_tap():
    with pytest.raises(ValueError, match="needs a weighted linear map"):
        ground(lambda x: tap(x @ W, "logits") * 2, images(2, 4), at="logits", contrastive=True)


def test_contrast_refuses_a_loop_before_the_head():
    def f(x):
        return lax.scan(lambda c, _: (c @ W[:3], None), x, length=2)[0]

    with pytest.raises(ValueError, match=r"found a loop .*`scan` \(.*test_grounding.py.*after the"):
        ground(f, images(2, 3), contrastive=True)


def test_the_pullback_maps_over_priors_on_one_forward_pass():
    f, x = zoo.plain(zoo.weights()), zoo.images()
    priors = np.stack([zoo.priors(), zoo.priors()[::-1]]).astype(np.float64)

    @jax.jit
    def explain(x, priors):
        pull = ground(f, x).pull
        return jax.vmap(pull)(priors), pull(priors[0]), pull(priors[1])

    together, *apart = explain(x, priors.astype(np.float32))
    np.testing.assert_allclose(together, np.stack(apart), atol=1e-6)

    def products(priors):
        text = str(jax.make_jaxpr(lambda p: jax.vmap(ground(f, x).pull)(p))(priors))
        return text.count("conv_general_dilated[")

    assert products(priors.astype(np.float32)) == products(priors[:1].astype(np.float32))


def test_contrast_refuses_a_sum_of_linear_maps_at_the_output():
    weights = jnp.ones((3, 2))
    with pytest.raises(ValueError, match="sum of two linear maps"):
        ground(lambda x: x @ weights + (2 * x) @ weights, jnp.ones((1, 3)), contrastive=True)


def test_a_tap_whose_value_nothing_uses_is_refused():
    def forgotten(x):
        tap(2 * x, "doubled")
        return x @ jnp.ones((3, 2))

    with pytest.raises(ValueError, match="do not depend on"):
        ground(forgotten, jnp.ones((1, 3)), at="doubled")


def test_log_softmax_is_refused_rather_than_losing_all_mass():
    with pytest.raises(MissingRuleError):
        ground(lambda x: jax.nn.log_softmax(x @ jnp.ones((3, 2))), jnp.ones((1, 3)))


def test_float16_masses_do_not_overflow():
    x = jnp.full((1, 4), 1e-6, jnp.float16)
    w, prior = np.ones((4, 2), np.float16), np.eye(2, dtype=np.float16)[:1]
    found = jax.jit(lambda x: ground(lambda x: x @ w, x).pull(prior))(x)
    np.testing.assert_allclose(found, np.full((1, 4), 0.25), rtol=1e-2)
