"""Networks that put a video into words.

Words are indices, of which 0 begins and ends a sentence. `model(video, words)` is the logits of
each word, the true ones before it being given (teacher forcing). Its parts are `features`, of
frames; `embed`, of words; and `decode`, of both, as `ground_caption` takes them.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from jaxground.models.layers import Layers
from jaxground.models.recurrent import LSTM, Activation, FrameReader, uniform

BOUND = 0.08  # of the uniform fillers in Venugopalan's poolmean.prototxt and s2vt.prototxt


class Captioner(FrameReader):
    """What captioners have in common: they take one word after the other, and guess the next.

    A subclass says how it starts (`start`) and what it does with a word (`advance`).
    """

    def __init__(
        self,
        cnn: Callable[[Array], Array],
        at: str,
        vocabulary: int,
        *,
        embedding: int,
        units: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Makes the embedding of words and the classifier of the next one.

        Args:
          cnn: See `FrameReader`.
          at: See `FrameReader`.
          vocabulary: How many words there are, the 0 that begins and ends a sentence among them.
          embedding: Size of a word's embedding.
          units: Size of the LSTMs.
          dtype: Type of the LSTMs' arithmetic.
          rngs: Where the weights are drawn from.
        """
        super().__init__(cnn, at)
        make = Layers(rngs, dtype)._replace(kernel_init=uniform(BOUND))
        self.embedding = nnx.Param(uniform(BOUND)(rngs.params(), (vocabulary, embedding)))
        self.classifier = make.classifier(units, vocabulary)

    def start(self, features: Array, inside: Array | None = None) -> Any:
        """Returns the state before the first word, having seen the features.

        Args:
          features: `[batch, time, width]`.
          inside: `bool[batch, time]`, which frames are no padding; all if omitted.
        """
        raise NotImplementedError

    def advance(self, state: Any, embedded: Array) -> tuple[Any, Array]:
        """Returns the next state, and what the classifier reads, given one word's embedding."""
        raise NotImplementedError

    def embed(self, words: Array) -> Array:
        """Returns what is read at the place of each word, the embedding of the word before it."""
        before = jnp.pad(words[:, :-1], ((0, 0), (1, 0)))
        return self.embedding[...][before]

    def decode(self, features: Array, embedded: Array, inside: Array | None = None) -> Array:
        """Returns logits `[batch, length, vocabulary]` of the words at `embedded` places."""
        state = self.start(features, inside)
        _, hidden = lax.scan(self.advance, state, embedded.swapaxes(0, 1))
        return self.classifier(hidden.swapaxes(0, 1))

    def step(self, state: Any, words: Array) -> tuple[Any, Array]:
        """Returns the next state, and logits of the next word after `words`, `int[batch]`."""
        state, hidden = self.advance(state, self.embedding[...][words])
        return state, self.classifier(hidden)

    def __call__(self, video: Array, words: Array, inside: Array | None = None) -> Array:
        """Returns logits `[batch, length, vocabulary]` of words `int[batch, length]`."""
        return self.decode(self.video_features(video), self.embed(words), inside)


class MeanPoolCaptioner(Captioner):
    """An LSTM that reads words, and one that reads its outputs and the mean of all frames.

    The "factored" two-layer network: the mean of the features is an input of the second layer
    alone, and of all its steps. With a single frame it captions images.

    References:
      Venugopalan et al., "Translating videos to natural language using deep recurrent neural
      networks", NAACL 2015; with ReLU cells Bargal et al., "Excitation Backprop for RNNs", 2018.
    """

    def __init__(
        self,
        cnn: Callable[[Array], Array],
        at: str,
        vocabulary: int,
        *,
        embedding: int = 1000,
        units: int = 1000,
        activation: Activation = "relu",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the two layers; arguments as for `Captioner`."""
        super().__init__(
            cnn, at, vocabulary, embedding=embedding, units=units, dtype=dtype, rngs=rngs
        )
        options = {"activation": activation, "kernel_init": uniform(BOUND), "dtype": dtype}
        self.words = LSTM(embedding, units, rngs=rngs, **options)
        self.sight = LSTM(units, units, static=self.width, rngs=rngs, **options)

    def start(self, features: Array, inside: Array | None = None) -> Any:
        """Returns the states of both layers, and the mean of the features."""
        if inside is None:
            mean = features.mean(1)
        else:
            kept = jnp.where(inside[..., None], features, 0)
            mean = kept.sum(1) / inside.sum(1, keepdims=True).astype(features.dtype)
        batch = len(features)
        return self.words.start(batch), self.sight.start(batch), mean

    def advance(self, state: Any, embedded: Array) -> tuple[Any, Array]:
        """Returns the next state and the second layer's output."""
        words, sight, mean = state
        words = self.words.step(words, embedded)
        sight = self.sight.step(sight, words[1], mean)
        return (words, sight, mean), sight[1]


class S2VT(Captioner):
    """Two LSTMs that read the frames first, and then, without frames, the words.

    The first layer reads the features through a linear map, and zeros once there are words; the
    second reads the first one's outputs and the words, zeros as long as there are frames. A bias of
    its own tells it which stage it is in.

    References:
      Venugopalan et al., "Sequence to sequence: video to text", ICCV 2015.
    """

    def __init__(
        self,
        cnn: Callable[[Array], Array],
        at: str,
        vocabulary: int,
        *,
        embedding: int = 500,
        units: int = 1000,
        activation: Activation = "relu",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the two layers; arguments as for `Captioner`."""
        super().__init__(
            cnn, at, vocabulary, embedding=embedding, units=units, dtype=dtype, rngs=rngs
        )
        make = Layers(rngs, dtype)._replace(kernel_init=uniform(BOUND))
        options = {"activation": activation, "kernel_init": uniform(BOUND), "dtype": dtype}
        self.projection = make.linear(self.width, embedding)
        self.frames = LSTM(embedding, units, rngs=rngs, **options)
        self.words = LSTM(units, units, static=embedding, rngs=rngs, **options)
        self.stage = nnx.Param(jnp.zeros(4 * units))

    def start(self, features: Array, inside: Array | None = None) -> Any:
        """Returns the states of both layers after the frames."""
        batch, projected = len(features), self.projection(features)
        frames, seen = self.frames.run(self.frames.start(batch), projected, inside=inside)
        words, _ = self.words.run(self.words.start(batch), seen, inside=inside)
        return frames, words

    def advance(self, state: Any, embedded: Array) -> tuple[Any, Array]:
        """Returns the next state and the second layer's output."""
        frames, words = state
        nothing = jnp.zeros((len(embedded), self.projection.in_features), frames[0].dtype)
        frames = self.frames.step(frames, self.projection(nothing))
        stage = self.stage[...].astype(frames[0].dtype)
        words = self.words.step(words, frames[1], embedded, extra=stage)
        return (frames, words), words[1]
