"""Sentences from a captioner: the likeliest word at each place, or the likeliest sentences."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxground.models.captioners import Captioner


def greedy_words(
    model: Captioner, features: Array, length: int, *, inside: Array | None = None
) -> Array:
    """Returns the sentence of the likeliest words one by one, `int32[batch, length]`.

    Args:
      model: A captioner.
      features: `[batch, time, width]`.
      length: How many words at most; after a 0, which ends the sentence, all are 0.
      inside: `bool[batch, time]`, which frames are no padding.

    Raises:
      ValueError: Less than one word.

    Example:
      >>> from flax import nnx
      >>> from jaxground import models, tap
      >>> cnn = lambda frames: tap(frames.mean((1, 2)), "mean")
      >>> model = models.S2VT(cnn, "mean", 5, embedding=2, units=3, rngs=nnx.Rngs(0))
      >>> model.classifier.bias[...] = jnp.array([0.0, 0.0, 0.0, 1.0, 0.0])
      >>> greedy_words(model, jnp.ones((1, 4, 3)), 2)
      Array([[3, 3]], dtype=int32)
    """
    _check_length(length)
    batch = len(features)

    def turn(carry, _):
        state, word, ended = carry
        state, logits = model.step(state, word)
        word = jnp.where(ended, 0, logits.argmax(-1).astype(jnp.int32))
        return (state, word, ended | (word == 0)), word

    first = model.start(features, inside), jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool)
    return lax.scan(turn, first, length=length)[1].T


class Beams(NamedTuple):
    """Sentences, the likeliest first.

    Attributes:
      words: `int32[batch, beams, length]`, 0 from the end of the sentence on.
      log_probability: `float32[batch, beams]`, of the whole sentence with its end, if it has one.
    """

    words: Array
    log_probability: Array


def beam_words(
    model: Captioner,
    features: Array,
    length: int,
    *,
    beams: int = 5,
    inside: Array | None = None,
) -> Beams:
    """Returns the likeliest sentences that are found by keeping `beams` beginnings at each place.

    Their log-probabilities are not divided by the length: short sentences are at an advantage.

    Args:
      model: A captioner.
      features: `[batch, time, width]`.
      length: How many words at most.
      beams: How many sentences; where there are fewer, such as of one word, the last ones have a
        log-probability of minus infinity and no word.
      inside: `bool[batch, time]`, which frames are no padding.

    Raises:
      ValueError: Less than one beam or word.

    Example:
      >>> from flax import nnx
      >>> from jaxground import models, tap
      >>> cnn = lambda frames: tap(frames.mean((1, 2)), "mean")
      >>> model = models.S2VT(cnn, "mean", 5, embedding=2, units=3, rngs=nnx.Rngs(0))
      >>> model.classifier.bias[...] = jnp.array([0.5, 0.0, 0.0, 1.0, 0.0])
      >>> beam_words(model, jnp.ones((1, 4, 3)), 2, beams=2).words  # to end at once is likelier
      Array([[[0, 0],
              [3, 3]]], dtype=int32)
    """
    if beams < 1:
        raise ValueError(f"beams is {beams}: at least one sentence is kept")
    _check_length(length)
    batch = len(features)

    def chosen(array: Array, parents: Array) -> Array:  # [batch * beams, ...]
        rows = array.reshape(batch, beams, *array.shape[1:])
        picked = jnp.take_along_axis(
            rows, parents.reshape(batch, beams, *[1] * (array.ndim - 1)), 1
        )
        return picked.reshape(array.shape)

    def turn(carry, place):
        state, words, scores = carry
        last = jnp.where(place > 0, words[..., place - 1], 0)
        ended = (place > 0) & (last == 0)
        state, logits = model.step(state, last.reshape(-1))
        gains = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, beams, -1)
        vocabulary = gains.shape[-1]
        silence = jnp.where(jnp.arange(vocabulary) == 0, 0, -jnp.inf)
        totals = scores[..., None] + jnp.where(ended[..., None], silence, gains)
        scores, best = lax.top_k(totals.reshape(batch, -1), beams)
        parents, word = best // vocabulary, best % vocabulary
        words = jnp.take_along_axis(words, parents[..., None], axis=1).at[..., place].set(word)
        return (jax.tree.map(lambda x: chosen(x, parents), state), words, scores), None

    state = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), model.start(features, inside))
    scores = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)  # all beams begin alike: one counts
    first = state, jnp.zeros((batch, beams, length), jnp.int32), jnp.tile(scores, (batch, 1))
    (_, words, scores), _ = lax.scan(turn, first, jnp.arange(length))
    return Beams(jnp.where(jnp.isneginf(scores)[..., None], 0, words), scores)


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"length is {length}: a sentence has at least one word")
