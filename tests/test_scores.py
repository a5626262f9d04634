"""What a classifier is asked: scores and their gradients, against NumPy and `jax.grad`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jaxground.scores import any_of, check_images, prior, score_values

LOGITS = zoo.normal(2, 3)
SPATIAL = zoo.normal(2, 4, 5, 3)
TARGETS = np.array([[1, 0], [2, 2]])
NAMES = ["logit", "probability", "log_probability"]


def log_sum_exp(x, axis):
    return np.log(np.exp(x.astype(np.float64)).sum(axis))


def expected_scores(logits, score):
    """The definitions in float64, `[batch, classes]`."""
    pooled = log_sum_exp(logits, (1, 2)) if logits.ndim == 4 else logits.astype(np.float64)
    logarithm = pooled - log_sum_exp(pooled, 1)[:, None]
    return {"logit": pooled, "log_probability": logarithm, "probability": np.exp(logarithm)}[score]


@pytest.mark.parametrize("score", NAMES)
@pytest.mark.parametrize("logits", [LOGITS, SPATIAL], ids=["flat", "spatial"])
def test_named_scores_and_their_gradients(logits, score):
    @jax.jit
    def ask(outputs):
        values, single = score_values(outputs, TARGETS, score)
        priors, alike = prior(outputs, TARGETS, score)
        assert not single and not alike
        lone, single = prior(outputs, TARGETS[:, 0], score)
        assert single
        return (
            values,
            priors,
            lone,
            jax.jacrev(lambda x: score_values(x, TARGETS, score)[0])(outputs),
        )

    values, priors, lone, slopes = ask(logits)
    expected = np.take_along_axis(expected_scores(logits, score), TARGETS, 1)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    assert priors.shape == (2, 2, *logits.shape[1:]) and lone.shape == (2, 1, *logits.shape[1:])
    for image in range(2):  # an image's score depends on its own outputs alone
        np.testing.assert_allclose(priors[image], slopes[image, :, image], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(lone[:, 0], priors[:, 0], rtol=1e-6)


def test_the_prior_of_the_logit_is_one_hot_and_that_of_the_log_probability_sums_to_zero():
    """`onehot - softmax`, and a prior over positions for spatial logits (ECCV 2016, 4.1)."""
    one_hot = np.eye(3)[TARGETS]
    np.testing.assert_array_equal(prior(jnp.asarray(LOGITS), TARGETS)[0], one_hot)
    softmax = expected_scores(LOGITS, "probability")[:, None]

    @jax.jit
    def run(flat, grids):
        asked = (flat, "log_probability"), (grids, "logit"), (grids, "log_probability")
        return [prior(x, TARGETS, score)[0] for x, score in asked]

    found, spatial, signed = run(LOGITS, SPATIAL)
    np.testing.assert_allclose(found, one_hot - softmax, atol=1e-6)
    exponentials = np.exp(SPATIAL.astype(np.float64))
    positions = exponentials / exponentials.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(
        spatial, positions[:, None] * one_hot[:, :, None, None], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(signed.sum((2, 3, 4)), 0, atol=1e-6)
    np.testing.assert_allclose(
        signed.sum((2, 3)), one_hot - expected_scores(SPATIAL, "probability")[:, None], atol=1e-6
    )


def test_extreme_logits_do_not_overflow():
    outputs = jnp.array([[3e4, 0.0], [-3e4, 3e4]])
    ask = lambda x, f: f(x, [0, 0], "log_probability")[0]  # noqa: E731
    found, slopes = jax.jit(lambda x: (ask(x, score_values), ask(x, prior)))(outputs)
    np.testing.assert_allclose(found, [[0], [-6e4]], atol=1e-3)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_outputs_keep_their_type_and_lose_no_more(dtype):
    outputs = jnp.asarray(SPATIAL, dtype)
    ask = jax.jit(lambda x: prior(x, TARGETS, "log_probability")[0])
    found, wide = ask(outputs), ask(outputs.astype(jnp.float32))
    assert found.dtype == dtype  # the cotangent of the outputs
    np.testing.assert_allclose(found.astype(jnp.float32), wide, rtol=0.02, atol=1e-3)


# --- scores of one's own --------------------------------------------------------------------------


def test_regression():
    """The outputs themselves, in the shape `[batch, n]`, and a distance to a wanted value."""
    outputs = jnp.asarray(LOGITS)
    values, _ = score_values(outputs, [2, 0], lambda outputs: outputs)
    np.testing.assert_array_equal(values[:, 0], LOGITS[[0, 1], [2, 0]])

    def closeness(outputs):
        return -((outputs - 1.5) ** 2)

    found, _ = prior(outputs, [2, 0], closeness)
    expected = np.zeros((2, 3))
    expected[[0, 1], [2, 0]] = -2 * (LOGITS[[0, 1], [2, 0]] - 1.5)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_embedding():
    """Cosines with four references, of an output with another shape than classes."""
    embeddings, references = zoo.normal(2, 5, 7), zoo.normal(4, 35)
    targets = np.array([[3], [1]])

    def cosine(outputs):
        flat = outputs.reshape(len(outputs), -1)
        flat /= jnp.linalg.norm(flat, axis=1, keepdims=True)
        return flat @ (references / jnp.linalg.norm(references, axis=1, keepdims=True)).T

    @jax.jit
    def run(outputs):
        values, single = score_values(outputs, targets, cosine)
        assert not single
        return values, prior(outputs, targets, cosine)[0]

    values, found = run(embeddings)
    assert found.shape == (2, 1, 5, 7)
    for image, target in enumerate(targets[:, 0]):
        e, r = embeddings[image].ravel().astype(np.float64), references[target].astype(np.float64)
        cos = e @ r / np.linalg.norm(e) / np.linalg.norm(r)
        np.testing.assert_allclose(values[image, 0], cos, rtol=1e-5)
        slope = r / np.linalg.norm(e) / np.linalg.norm(r) - cos * e / (e @ e)
        np.testing.assert_allclose(found[image, 0].ravel(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logits", [LOGITS, SPATIAL], ids=["flat", "spatial"])
def test_any_of_the_classes_of_a_category(logits):
    """Its value adds probabilities; its prior is the softmax within minus the softmax over all."""
    score = any_of([[0, 2], [1], np.array([0, 1, 2])])
    ask = jax.jit(lambda x: (score_values(x, [0, 1], score)[0], prior(x, [0, 1], score)[0]))
    values, priors = ask(logits)
    p = expected_scores(logits, "probability")
    np.testing.assert_allclose(values[:, 0], np.log([p[0, 0] + p[0, 2], p[1, 1]]), rtol=1e-5)
    within = np.array([[p[0, 0], 0, p[0, 2]] / (p[0, 0] + p[0, 2]), [0, 1, 0]])
    over_classes = priors[:, 0].sum((1, 2)) if logits.ndim == 4 else priors[:, 0]
    np.testing.assert_allclose(over_classes, within - p, atol=1e-6)
    certain = jax.jit(lambda x: prior(x, [2, 2], score)[0])(logits)  # any of all classes
    np.testing.assert_allclose(certain, 0, atol=1e-6)
    sure = jnp.array([[3e4, 0.0, -3e4]])  # far below what a float32 can add to one
    np.testing.assert_allclose(score_values(sure, [[0, 1]], score)[0], [[0, -3e4]], atol=1e-3)


def test_categories_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match="there is no category"):
        any_of([])
    with pytest.raises(ValueError, match=r"categories \[1\] have no class"):
        any_of([[0], []])
    with pytest.raises(TypeError, match="must be a list of classes"):
        any_of([[0.5]])
    with pytest.raises(ValueError, match=r"classes \[3, -1\] are out of range: f has 3 classes"):
        score_values(jnp.asarray(LOGITS), [0, 0], any_of([[0, 3, -1]]))


def test_a_prior_of_ones_own():
    outputs = jnp.asarray(SPATIAL)
    for own in (zoo.normal(*SPATIAL.shape, seed=1), zoo.normal(2, 6, *SPATIAL.shape[1:], seed=1)):
        single = own.ndim == 4
        rows = own[:, None] if single else own
        found, alone = prior(outputs, own)
        assert alone == single
        np.testing.assert_array_equal(found, rows)
        values, alone = score_values(outputs, own)
        assert alone == single
        np.testing.assert_allclose(
            values, np.einsum("bkhwc,bhwc->bk", rows, SPATIAL), rtol=1e-4, atol=1e-5
        )
    # As for the logits `[batch, classes]` of which there are as many as targets: the rank decides.
    square, alone = prior(jnp.zeros((2, 2)), np.eye(2, dtype=np.float32))
    assert alone and square.shape == (2, 1, 2)


# --- targets that are known, and targets that are not ---------------------------------------------


def test_known_targets_are_checked_wherever_they_stand():
    message = r"classes \[3\] are out of range: f has 3 classes"
    for targets in ([0, 3], np.array([0, 3]), jnp.array([0, 3]), [np.int64(0), jnp.array(3)]):
        for ask in (prior, score_values):
            with pytest.raises(ValueError, match=message):
                jax.jit(lambda x, t=targets, ask=ask: ask(x, t)[0])(LOGITS)


@pytest.mark.parametrize("score", [*NAMES, lambda outputs: outputs], ids=[*NAMES, "own"])
def test_traced_classes_out_of_range_have_no_score_and_no_prior(score):
    targets = jnp.array([[0, 3], [-1, 2]])
    values, priors = jax.jit(lambda x, t: (score_values(x, t, score)[0], prior(x, t, score)[0]))(
        LOGITS, targets
    )
    inside = np.array([[True, False], [False, True]])
    known = [f(jnp.asarray(LOGITS), [0, 2], score)[0] for f in (score_values, prior)]
    np.testing.assert_allclose(values[inside], known[0][:, 0], rtol=1e-6)
    np.testing.assert_allclose(priors[inside], known[1][:, 0], rtol=1e-6)
    assert not values[~inside].any() and not priors[~inside].any()


def test_under_vmap_over_images_and_over_targets():
    outputs = jnp.asarray(LOGITS)
    expected = prior(outputs, TARGETS, "log_probability")[0]
    by_image = jax.vmap(lambda x, t: prior(x[None], t[None], "log_probability")[0][0])
    np.testing.assert_allclose(by_image(outputs, jnp.asarray(TARGETS)), expected, atol=1e-6)
    by_target = jax.vmap(lambda t: prior(outputs, t, "log_probability")[0][:, 0], 1, 1)
    np.testing.assert_allclose(by_target(jnp.asarray(TARGETS)), expected, atol=1e-6)


# --- errors ---------------------------------------------------------------------------------------

X = zoo.images()


@pytest.mark.parametrize(
    "images, error, message",
    [
        (
            X[0],
            ValueError,
            "images must be [batch, height, width, channel], got shape (6, 6, 2); for one image "
            "write images[None]",
        ),
        (
            X[0, 0],
            ValueError,
            "images must be [batch, height, width, channel], got shape (6, 2)",
        ),
        (
            (255 * X).astype(np.uint8),
            TypeError,
            "images must be floating point and preprocessed for the network, got uint8; see "
            "model.preprocess",
        ),
        (X[:0], ValueError, "images must hold at least one image, got shape (0, 6, 6, 2)"),
        (
            np.stack([X[0], np.full_like(X[0], np.nan), X[0], X[0] + np.inf]),
            ValueError,
            "images [1, 3] have NaN or infinite pixels",
        ),
        (
            [[1.0]],
            TypeError,
            "images must be an array [batch, height, width, channel], not list",
        ),
    ],
    ids=["rank 3", "rank 2", "uint8", "empty", "NaN", "list"],
)
def test_images_are_checked(images, error, message):
    with pytest.raises(error) as raised:
        check_images(images)
    assert str(raised.value) == message


def test_good_images_come_back_unchanged():
    for images in (X, X.astype(np.float16), jnp.asarray(X, jnp.bfloat16)):
        found = check_images(images)
        assert isinstance(found, jax.Array) and found.dtype == images.dtype
        np.testing.assert_array_equal(found, images)
    traced = jax.jit(check_images)(X * np.nan)
    assert np.isnan(traced).all(), "values cannot be looked at under jit"


@pytest.mark.parametrize(
    "targets, error, message",
    [
        ([0, 3], ValueError, "classes [3] are out of range: f has 3 classes"),
        ([[-1, 0], [7, 2]], ValueError, "classes [-1, 7] are out of range: f has 3 classes"),
        ([0, 1, 2], ValueError, "targets (3,) do not match the batch of 2 images"),
        (1, ValueError, "targets must be int[batch] or int[batch, k], got shape ()"),
        (
            [[[0]], [[1]]],
            ValueError,
            "targets must be int[batch] or int[batch, k], got shape (2, 1, 1)",
        ),
        (
            np.ones((2, 4), np.float32),
            ValueError,
            "a prior must have the shape of the logits, (2, 3), or an axis of targets after the "
            "first; got (2, 4)",
        ),
        (
            np.ones(2, np.float32),
            ValueError,
            "a prior must have the shape of the logits, (2, 3), or an axis of targets after the "
            "first; got (2,)",
        ),
        (
            np.ones((2, 3), bool),
            TypeError,
            "targets must be classes (integers) or a prior (floats), got bool",
        ),
        (
            np.zeros((2, 0), int),
            ValueError,
            "targets (2, 0) ask for nothing: give each image at least one class",
        ),
    ],
    ids=["class", "classes", "batch", "scalar", "rank 3", "prior", "flat prior", "mask", "none"],
)
@pytest.mark.parametrize("ask", [prior, score_values])
def test_targets_are_checked(ask, targets, error, message):
    with pytest.raises(error) as raised:
        ask(jnp.asarray(LOGITS), targets)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "outputs, score, error, message",
    [
        (
            jnp.zeros(2, "int32"),
            "logit",
            TypeError,
            "f must return floating-point logits, got int32: apply no argmax in f",
        ),
        (
            (jnp.zeros((2, 3)), None),
            "logit",
            TypeError,
            "f must return floating-point logits, got tuple: apply no argmax in f",
        ),
        (
            jnp.zeros(2),
            "log_probability",
            ValueError,
            "f must return logits [batch, classes] or [batch, h, w, classes], got (2,)",
        ),
        (
            jnp.zeros((2, 3)),
            "softmax",
            ValueError,
            "score must be 'logit', 'probability', 'log_probability' or a function of the "
            "outputs, got 'softmax'",
        ),
        (
            jnp.zeros((2, 3)),
            lambda outputs: outputs.sum(),
            ValueError,
            "score must return float[batch, n] for outputs [2, 3], got float32[]",
        ),
        (
            jnp.zeros((2, 3)),
            lambda outputs: outputs[0][None],
            ValueError,
            "score must return float[batch, n] for outputs [2, 3], got float32[1, 3]",
        ),
        (
            jnp.zeros((2, 3)),
            lambda outputs: [outputs],
            ValueError,
            "score must return float[batch, n] for outputs [2, 3], got list",
        ),
        (
            jnp.zeros((2, 3)),
            lambda outputs: outputs > 0,
            ValueError,
            "score must return float[batch, n] for outputs [2, 3], got bool[2, 3]",
        ),
        (
            jnp.zeros((2, 3)),
            ["logit"],
            ValueError,
            "score must be 'logit', 'probability', 'log_probability' or a function of the "
            "outputs, got ['logit']",
        ),
    ],
    ids=["argmax", "tuple", "rank 1", "name", "scalar", "batch", "list", "bool", "unhashable"],
)
def test_outputs_and_scores_are_checked(outputs, score, error, message):
    for ask in (prior, score_values):
        with pytest.raises(error) as raised:
            ask(outputs, [0, 1], score)
        assert str(raised.value) == message


def test_a_prior_leaves_no_choice_of_score():
    own = np.eye(3, dtype=np.float32)[:2]
    for score in ("log_probability", "probability"):
        with pytest.raises(ValueError) as raised:
            prior(jnp.asarray(LOGITS), own, score)
        assert str(raised.value) == (
            f"a prior of one's own leaves no choice of score; with score={score!r} targets are "
            "classes (integers)"
        )
