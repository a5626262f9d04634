"""What the words of a caption were read from."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground.core import EXCITATION, Composite, Rules
from jaxground.core.transform import rebuilt
from jaxground.spatiotemporal.cells import Cell
from jaxground.spatiotemporal.grounding import SpatiotemporalGrounding, spatiotemporal_grounding
from jaxground.spatiotemporal.videos import check_lengths, check_video

Asked = Sequence[int | Sequence[int]]

# Articles, pronouns, prepositions, conjunctions and auxiliaries; not those that say a direction.
FUNCTION_WORDS = frozenset(
    "a an the this that these those some its his her their it he she they and or but while as "
    "of on in at to for with by from into onto near beside behind between under over above below "
    "next through around across about against along there which who whose is are was were be been "
    "being has have had do does".split()
)


class CaptioningModel(Protocol):
    """What is needed of a captioner, such as those of `jaxground.models`."""

    def features(self, frames: Array) -> Array:
        """Returns `[n, ...]` features of frames `[n, height, width, channel]`."""
        ...

    def embed(self, words: Array) -> Array:
        """Returns `[batch, length, size]`, what is read at the place of each word."""
        ...

    def decode(self, features: Array, embedded: Array, inside: Array | None = None) -> Array:
        """Returns logits `[batch, length, vocabulary]` of the words at all places."""
        ...


def ground_caption(
    model: CaptioningModel,
    video: ArrayLike,
    words: ArrayLike,
    *,
    ask: Asked | None = None,
    contrastive: bool = True,
    at: str | None = "conv5_1",
    cell: Cell = "paper",
    rules: Rules | Composite = EXCITATION,
    lengths: ArrayLike | None = None,
    batch_size: int | None = None,
) -> SpatiotemporalGrounding:
    """Returns where and when the evidence for each word of a caption stands.

    The caption is given to the network word by word; each word asked for is the target at its own
    step. Its mass is followed back through the words before it, which take their share, to the
    features of the frames: see `spatiotemporal_grounding`, whose cost this is, all words together.

    Args:
      model: A captioner, for instance `jaxground.models.MeanPoolCaptioner`.
      video: `float[batch, time, height, width, channel]`, preprocessed for its CNN.
      words: `int[batch, length]`, the caption; 0 is the end of a sentence.
      ask: Places in the caption, from 0 on, the same for all videos; several of them in brackets
        are a phrase, whose map is the mean of the maps of its words. All places by default.
      contrastive: Whether to subtract the dual unit's mass.
      at: A tap of the CNN.
      cell: What recurrent cells do.
      rules: The table for the CNN.
      lengths: How many frames each video has; `model.decode` is told, by `inside`.
      batch_size: Frames in a pass of the CNN.

    Returns:
      Maps `[batch, asked, time, h, w]`, and the rest likewise: see `SpatiotemporalGrounding`. For a
      phrase, what `kept` says is the mean, too.

    Raises:
      TypeError: Words that are not integers.
      ValueError: A word outside the vocabulary, a place that is not in the caption, nothing asked;
        and all that `spatiotemporal_grounding` raises.

    Example:
      >>> from flax import nnx
      >>> from jaxground import models
      >>> cnn = lambda frames: jaxground.tap(frames, "pixels").mean((1, 2)) @ jnp.ones((3, 4))
      >>> import jaxground
      >>> model = models.MeanPoolCaptioner(
      ...     lambda x: jaxground.tap(cnn(x), "features"), "features", vocabulary=7, embedding=3,
      ...     units=5, rngs=nnx.Rngs(0))
      >>> video = jnp.ones((1, 2, 4, 6, 3))
      >>> found = ground_caption(model, video, jnp.array([[3, 1, 0]]), ask=[0, (0, 1)], at="pixels")
      >>> found.maps.shape
      (1, 2, 2, 4, 6)

    References:
      Bargal, Grounding Deep Models of Visual Data, 2019, section 7.3; Bargal et al., CVPR 2018.
      That phrases take the mean is the practice of Zhang et al., ECCV 2016.
    """
    video = check_video(video)
    caption = check_words(words, len(video))
    length = caption.shape[1]
    phrases = _phrases(ask, length)
    places = sorted({place for phrase in phrases for place in phrase})
    targets = caption[:, np.array(places)]
    if isinstance(targets, np.ndarray) and ask is not None and not targets.all():
        empty = [p for i, p in enumerate(places) if not targets[:, i].all()]
        raise ValueError(f"places {empty} are behind the end of a caption: no word stands there")
    time = video.shape[1]
    padding = {}
    if lengths is not None:
        known = jnp.asarray(check_lengths(lengths, len(video), time))
        padding["inside"] = jnp.arange(time) < known[:, None]
    network = rebuilt(model.decode)

    def decode(features: Array, embedded: Array) -> Array:
        logits = network(features, embedded, **padding)
        _check_vocabulary(caption, logits.shape[-1])
        return logits

    found = spatiotemporal_grounding(
        model.features,
        decode,
        video,
        targets,
        step=np.array(places),
        contrastive=contrastive,
        at=at,
        cell=cell,
        rules=rules,
        context=(model.embed(jnp.asarray(caption)),),
        lengths=lengths,
        batch_size=batch_size,
    )
    members = np.array([[p in phrase for p in places] for phrase in phrases], np.float32)
    means = members / members.sum(1, keepdims=True)
    return SpatiotemporalGrounding(*(jnp.einsum("pk,bk...->bp...", means, x) for x in found))


def places_of(caption: str, phrase: str) -> tuple[int, ...]:
    """Returns the places of a word, or of words in a row, in a caption: where they first stand.

    Raises:
      ValueError: They do not; the message shows the caption's words.

    Example:
      >>> places_of("a man rides a brown horse", "brown horse")
      (4, 5)
    """
    words, asked = caption.split(), phrase.split()
    for start in range(len(words) - len(asked) + 1):
        if asked and words[start : start + len(asked)] == asked:
            return tuple(range(start, start + len(asked)))
    raise ValueError(f"{phrase!r} is not in the caption, whose words are {words}")


def content_places(caption: str) -> tuple[int, ...]:
    """Returns the places of the words of a caption that have content: all but `FUNCTION_WORDS`.

    Example:
      >>> content_places("a man on a brown horse")
      (1, 4, 5)
    """
    return tuple(i for i, word in enumerate(caption.split()) if word not in FUNCTION_WORDS)


def check_words(words: ArrayLike, batch: int) -> Array | np.ndarray:
    """Returns a caption as an array, of NumPy where its values are known.

    Raises:
      TypeError: Words that are not integers.
      ValueError: It is not `[batch, length]`, or has no words.
    """
    traced = any(isinstance(w, Tracer) for w in jax.tree.leaves(words))
    caption: Any = jnp.asarray(words) if traced else np.asarray(words)
    if caption.ndim != 2 or len(caption) != batch or not caption.shape[1]:
        raise ValueError(
            f"words must be int[{batch}, length] for {batch} videos, got {caption.shape}"
        )
    if not jnp.issubdtype(caption.dtype, jnp.integer):
        raise TypeError(f"words are their indices in the vocabulary, got {caption.dtype}")
    return caption


def _check_vocabulary(caption: Array | np.ndarray, count: int) -> None:
    """Raises a ValueError for words outside the vocabulary, those too that are not asked for."""
    if isinstance(caption, np.ndarray) and not ((caption >= 0) & (caption < count)).all():
        outside = np.unique(caption[(caption < 0) | (caption >= count)]).tolist()
        raise ValueError(f"words {outside} are not in the vocabulary, which has 0 to {count - 1}")


def _phrases(ask: Asked | None, length: int) -> list[tuple[int, ...]]:
    if ask is None:
        return [(place,) for place in range(length)]
    phrases = [tuple(np.atleast_1d(p).tolist()) for p in ask]
    if not phrases or not all(phrases):
        raise ValueError(f"ask names no word: {ask!r}")
    outside = sorted({p for phrase in phrases for p in phrase if not 0 <= p < length})
    if outside:
        raise ValueError(f"places {outside} are not in the caption, which has {length} words")
    return phrases
