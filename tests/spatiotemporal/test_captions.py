"""What words were read from: by definition, by law, and by caption-guided saliency."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxground import models
from jaxground.core import ground, tap
from jaxground.spatiotemporal import (
    caption_guided_saliency,
    content_places,
    ground_caption,
    places_of,
    spatiotemporal_grounding,
)

BATCH, TIME, WIDTH, VOCABULARY, LENGTH = 2, 3, 5, 6, 4
GENERATOR = np.random.default_rng(2)
FILTERS = GENERATOR.uniform(-0.5, 1, size=(3, WIDTH)).astype(np.float32)
VIDEO = jnp.asarray(GENERATOR.uniform(size=(BATCH, TIME, 2, 2, 3)), jnp.float32)
WORDS = np.array([[3, 1, 5, 4], [2, 2, 4, 1]])


def cnn(frames):
    hidden = tap(jax.nn.relu(frames @ FILTERS), "conv")
    return tap(hidden.mean((1, 2)), "mean")


def made(kind):
    model = kind(cnn, "mean", VOCABULARY, embedding=4, units=8, rngs=nnx.Rngs(1))
    signs = (-1.0) ** np.add.outer(np.arange(8), np.arange(VOCABULARY))
    model.classifier.kernel[...] = signs * abs(model.classifier.kernel[...])
    for layer in (model.words, getattr(model, "sight", None) or model.frames):
        layer.bias[...] = jnp.full(32, 0.5)  # few units are dead
    return model


MODELS = {"mean pool": made(models.MeanPoolCaptioner), "s2vt": made(models.S2VT)}


@functools.cache
def grounded(name, **options):
    """Every word, and a phrase behind them."""
    ask = *range(LENGTH), (0, 2)
    explain = functools.partial(ground_caption, MODELS[name], ask=ask, at="conv", **options)
    return jax.jit(lambda video: explain(video, WORDS))(VIDEO)


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_word_is_a_target_at_its_step(name):
    model, found = MODELS[name], grounded(name)
    assert found.maps.shape == (BATCH, LENGTH + 1, TIME, 2, 2)
    np.testing.assert_allclose(found.signal.sum(-1), 0, atol=1e-5)
    context = (model.embed(jnp.asarray(WORDS)),)
    explain = functools.partial(
        spatiotemporal_grounding, model.features, model.decode, at="conv", context=context
    )
    if name == "s2vt":
        second = jax.jit(lambda video: explain(video, WORDS[:, 2], step=2))(VIDEO)
        same((x[:, 2] for x in found), second)


def test_words_before_take_their_share():
    """What they take is left out; what is left is the mean's, which the frames share."""
    model = MODELS["mean pool"]
    features, embedded = model.video_features(VIDEO), model.embed(jnp.asarray(WORDS))
    priors = jnp.asarray(
        np.eye(VOCABULARY)[WORDS[:, 3]][:, None] * np.eye(LENGTH)[3][:, None], jnp.float32
    )
    of_frames, of_words = jax.jit(
        lambda inputs: ground(lambda x: model.decode(*x), inputs).pull(priors)
    )((features, embedded))
    kept = grounded("mean pool", contrastive=False).kept[:, 3]
    np.testing.assert_allclose(of_frames.sum((1, 2)), kept, rtol=1e-5)
    assert (np.asarray(of_words.sum((1, 2))) > 0.01).all()
    assert (of_frames.sum((1, 2)) + of_words.sum((1, 2)) <= 1 + 1e-5).all()
    # Each feature of the mean shares among the frames in proportion to its values there.
    share = of_frames / of_frames.sum(1, keepdims=True)
    np.testing.assert_allclose(share, features / features.sum(1, keepdims=True), rtol=1e-4)


def test_phrases_are_the_means_of_their_words():
    for found in grounded("mean pool"):
        np.testing.assert_allclose(found[:, LENGTH], (found[:, 0] + found[:, 2]) / 2, atol=1e-6)


def test_padded_frames():
    """They get nothing, and what is in them changes nothing; whole videos are as without lengths.

    That decoding a padded video is decoding a short one is tested with the models.
    """
    of_two = functools.partial(ground_caption, MODELS["mean pool"], ask=[0, 2], at="conv")
    explain = jax.jit(lambda video: of_two(video, WORDS, lengths=np.array([2, TIME])))
    padded = explain(VIDEO)
    same(padded, explain(VIDEO.at[0, 2].set(3)))
    assert not np.any(padded.maps[0, :, 2]) and np.any(padded.maps[0, :, 1])
    same((x[1] for x in padded), (x[1, [0, 2]] for x in map(np.asarray, grounded("mean pool"))))


def test_the_caffe_cell_grounds_captions():
    found = grounded("mean pool", cell="caffe")
    np.testing.assert_allclose(found.signal.sum(-1), 0, atol=1e-5)
    assert abs(found.signal - grounded("mean pool").signal).max() > 1e-4


def test_caption_guided_saliency_asks_of_each_descriptor_alone():
    model = MODELS["s2vt"]
    seen = jnp.asarray(GENERATOR.uniform(size=(BATCH, TIME, 2, 1, WIDTH)), jnp.float32)
    explain = functools.partial(caption_guided_saliency, model, words=WORDS)
    found = jax.jit(functools.partial(explain, batch_size=8))(seen)
    assert found.shape == (BATCH, LENGTH, TIME, 2, 1)
    likely = np.zeros(found.shape)
    alone = jax.jit(lambda x: jax.nn.log_softmax(model.decode(x, model.embed(jnp.asarray(WORDS)))))
    for at in np.ndindex(TIME, 2, 1):
        logits = alone(seen[(slice(None), *at)][:, None])
        for b, word in np.ndindex(BATCH, LENGTH):
            likely[(b, word, *at)] = logits[b, word, WORDS[b, word]]
    low, high = (f(likely, axis=(2, 3, 4), keepdims=True) for f in (np.min, np.max))
    scaled = (likely - low) / (high - low)
    expected = np.maximum(scaled - scaled.mean((2, 3, 4), keepdims=True), 0)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    when = jax.jit(explain)(seen[:, :, 0, 0])
    assert when.shape == (BATCH, LENGTH, TIME)
    assert not np.any(jax.jit(explain)(jnp.ones((BATCH, TIME, WIDTH))))  # all say the same


BAD = {
    "a place": ({"ask": [4]}, ValueError, r"places \[4\] are not in the caption, which has 4"),
    "the end": ({"words": WORDS * [1, 1, 1, 0], "ask": [3]}, ValueError, "behind the end"),
    "nothing": ({"ask": []}, ValueError, "ask names no word"),
    "vocabulary": ({"words": WORDS + 3}, ValueError, r"words \[6, 7, 8\] are not in the vocab"),
    "a word not asked for": (
        {"words": np.where(WORDS == 4, 9, WORDS), "ask": [0]},
        ValueError,
        r"words \[9\] are not in the vocabulary, which has 0 to 5",
    ),
    "a negative word": ({"words": -WORDS, "ask": [0]}, ValueError, r"\[-5, -4, -3, -2, -1\] are"),
    "batch": ({"words": WORDS[:1]}, ValueError, "for 2 videos, got"),
    "half words": ({"words": WORDS / 2}, TypeError, "words are their indices"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_captions_are_named(what):
    options, error, message = BAD[what]
    given = {"words": WORDS, "at": "conv", **options}
    with pytest.raises(error, match=message):  # before anything is computed
        jax.eval_shape(lambda video: ground_caption(MODELS["mean pool"], video, **given), VIDEO)


def test_bad_descriptors_are_named():
    with pytest.raises(ValueError, match="descriptors must be"):
        caption_guided_saliency(MODELS["s2vt"], np.ones((2, 3)), WORDS)
    with pytest.raises(ValueError, match="descriptors have NaN"):
        caption_guided_saliency(MODELS["s2vt"], np.full((2, 3, WIDTH), np.nan), WORDS)


def test_known_descriptors_may_stand_under_the_jit_of_the_words():
    explain = functools.partial(
        caption_guided_saliency, MODELS["s2vt"], jnp.ones((BATCH, TIME, WIDTH))
    )
    assert jax.eval_shape(explain, WORDS).shape == (BATCH, LENGTH, TIME)


def test_words_are_found_in_a_caption():
    assert content_places("while a ring stands still the disc moves up") == (2, 3, 4, 6, 7, 8)
    assert content_places("of the") == content_places("") == ()
    assert places_of("a man on a horse", "a") == (0,)
    assert places_of("a man on a horse", "a horse") == (3, 4)
    for phrase in ("dog", "horse a", ""):
        with pytest.raises(ValueError, match="is not in the caption, whose words are"):
            places_of("a man on a horse", phrase)
