"""LSTMs against NumPy, captioners that take words at once or one by one, and how they write."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxground import models
from jaxground.core import tap
from jaxground.spatiotemporal import spatiotemporal_grounding
from tests.spatiotemporal import lstm_oracle

WIDTH, VOCABULARY, LENGTH, BATCH, TIME = 5, 4, 3, 2, 3
FEATURES = jnp.asarray(np.random.default_rng(0).uniform(size=(BATCH, TIME, WIDTH)), jnp.float32)
WORDS = jnp.array([[2, 3, 1], [1, 0, 0]])
KINDS = {"mean pool": models.MeanPoolCaptioner, "s2vt": models.S2VT}


def cnn(frames):
    return tap(jax.nn.relu(frames.mean((1, 2)) @ jnp.ones((3, WIDTH))), "features")


@functools.cache
def captioner(kind):
    with jax.ensure_compile_time_eval():
        model = KINDS[kind](cnn, "features", VOCABULARY, embedding=3, units=6, rngs=nnx.Rngs(3))
        leaves, tree = jax.tree.flatten(nnx.state(model, nnx.Param))
        random = np.random.default_rng(0)  # JAX would compile a generator for every shape
        normal = [jnp.asarray(random.normal(size=x.shape), x.dtype) for x in leaves]
        nnx.update(model, tree.unflatten(normal))  # large, so that words differ in likelihood
    return model


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_lstm_computes_what_the_formulas_say(activation):
    layer = models.LSTM(WIDTH, 4, static=2, activation=activation, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.linspace(-1, 1, 16)
    static = np.array([[1.0, 0.5], [0.2, 2.0]])
    inside = np.array([[1, 1, 0], [1, 1, 1]], bool)
    found = jax.jit(lambda x, s: layer(x, s, inside=inside))(FEATURES, jnp.float32(static))
    kernels = [np.asarray(layer.kernel[...]), np.asarray(layer.static_kernel[...])]
    function = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}[activation]
    for b in range(BATCH):
        run = lstm_oracle.forward(
            [np.asarray(FEATURES[b]), np.tile(static[b], (TIME, 1))],
            kernels,
            np.asarray(layer.recurrent_kernel[...]),
            np.asarray(layer.bias[...]),
            function,
        )
        expected = run.h.copy()
        expected[~inside[b]] = run.h[1]  # padding changes nothing
        np.testing.assert_allclose(found[b], expected, atol=1e-6)


def test_lrcn_reads_frames_one_by_one():
    model = models.LRCN(cnn, "features", 3, units=4, rngs=nnx.Rngs(0))
    video = jax.random.uniform(jax.random.key(0), (2, 3, 4, 4, 3))
    spatial = models.LRCN(lambda x: tap(x * 2, "grid"), "grid", 3, units=4, rngs=nnx.Rngs(0))

    @jax.jit
    def run(model, spatial, video):
        of_mean = spatial.features(video[0]), 2 * video[0].mean((1, 2))
        return (model.features(video[:, 0]), cnn(video[:, 0])), of_mean

    read = jax.jit(lambda model, video: model(video))
    logits = read(model, video)
    assert logits.shape == (2, 3, 3)
    early = read(model, video.at[:, 2].set(0))
    np.testing.assert_allclose(logits[:, :2], early[:, :2], rtol=1e-6)  # nothing from the future
    for found, expected in run(model, spatial, video):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    explain = functools.partial(spatiotemporal_grounding, targets=np.array([0, 1]), at=None)
    found = jax.jit(lambda m, v: explain(m.features, m.classify, v))(model, video)
    np.testing.assert_allclose(found.signal.sum(-1), 0, atol=1e-5)  # weights as arguments
    dropped = nnx.clone(model)
    dropped.train()
    random = jax.jit(lambda model, video: model(video, rngs=nnx.Rngs(dropout=0)))(dropped, video)
    assert abs(random - logits).max() > 1e-6


def test_lrcn_in_bfloat16():
    model = models.LRCN(cnn, "features", 3, units=4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    exact = models.LRCN(cnn, "features", 3, units=4, rngs=nnx.Rngs(0))
    found, expected = jax.jit(lambda *both: [m.classify(FEATURES) for m in both])(model, exact)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_words_at_once_are_words_one_by_one(kind):
    model = captioner(kind)

    @jax.jit
    def both(features, words):
        logits = model.decode(features, model.embed(words))
        state, word, steps = model.start(features), jnp.zeros(BATCH, int), []
        for place in range(LENGTH):
            state, step = model.step(state, word)
            steps.append(step)
            word = words[:, place]
        return logits, jnp.stack(steps, 1)

    logits, steps = both(FEATURES, WORDS)
    assert logits.shape == (BATCH, LENGTH, VOCABULARY)
    np.testing.assert_allclose(logits, steps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    model = captioner(kind)
    inside = jnp.array([[True, True, False]] * BATCH)
    decode = jax.jit(lambda x, inside: model.decode(x, model.embed(WORDS), inside))
    short = decode(FEATURES[:, :2], inside[:, :2])
    padded = decode(FEATURES.at[:, 2].set(9), inside)
    np.testing.assert_allclose(padded, short, rtol=1e-5, atol=1e-5)
    plain = jax.jit(lambda x: model.decode(x, model.embed(WORDS)))(FEATURES[:, :2])
    np.testing.assert_allclose(plain, short, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_beams_find_the_likeliest_sentences(kind):
    """As wide as there are sentences the search is exhaustive, and one beam is greedy."""
    model, beams = captioner(kind), VOCABULARY**LENGTH
    search = jax.jit(lambda x, n: models.beam_words(model, x, LENGTH, beams=n), static_argnums=1)
    found = search(FEATURES, beams)
    sentences = [
        s
        for s in itertools.product(range(VOCABULARY), repeat=LENGTH)
        if all(b == 0 for a, b in itertools.pairwise(s) if a == 0)  # nothing behind the end
    ]
    words = jnp.array(sentences)

    @jax.jit
    def likelihood(features):
        repeated = jnp.broadcast_to(features, (len(words), *features.shape))
        logits = jax.nn.log_softmax(model.decode(repeated, model.embed(words)))
        own = jnp.take_along_axis(logits, words[..., None], -1)[..., 0]
        said = jnp.cumsum(words == 0, 1) <= 1  # the first 0 is the end and counts, the others not
        return (own * said).sum(1)

    for b in range(BATCH):
        values = np.asarray(likelihood(FEATURES[b]))
        order = np.argsort(-values)
        np.testing.assert_allclose(found.log_probability[b, :5], values[order[:5]], rtol=1e-4)
        np.testing.assert_array_equal(found.words[b, 0], sentences[order[0]])
    greedy = jax.jit(lambda x: models.greedy_words(model, x, LENGTH))(FEATURES)
    np.testing.assert_array_equal(greedy, search(FEATURES, 1).words[:, 0])
    one_word = jax.jit(lambda x: models.beam_words(model, x, 1, beams=VOCABULARY + 2))(FEATURES)
    assert np.isneginf(one_word.log_probability[:, VOCABULARY:]).all()
    assert not np.any(one_word.words[:, VOCABULARY:]), "beams without a sentence say nothing"
    assert np.isfinite(one_word.log_probability[:, :VOCABULARY]).all()
    with pytest.raises(ValueError, match="at least one sentence"):
        models.beam_words(model, FEATURES, LENGTH, beams=0)
    for write in (models.greedy_words, models.beam_words):
        with pytest.raises(ValueError, match="length is 0: a sentence has at least one word"):
            write(model, FEATURES, 0)


def test_sentences_and_indices():
    vocabulary = ["<end>", "a", "disc", "grows", "red"]
    indices = models.word_indices("A red disc, grows.", vocabulary)
    assert indices == (1, 4, 2, 3)
    assert models.sentence_of((*indices, 0, 2), vocabulary) == "a red disc grows"
    assert models.sentence_of([0], vocabulary) == ""
    for sentence, message in {
        "a rod disc": "'rod' is none of the captioner's 4 words: the nearest are red",
        "qqq": "'qqq' is none of the captioner's 4 words: a, disc, grows, red",
        "<end>": "'<end>' is none of",
        " . ": "the sentence has no word",
    }.items():
        with pytest.raises(ValueError, match=message):
            models.word_indices(sentence, vocabulary)
