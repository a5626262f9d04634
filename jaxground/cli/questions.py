"""What is asked of a video: where and when classes are, or what words of a sentence stand for."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxground import maps, metrics, models
from jaxground.cli import classes
from jaxground.cli.errors import UserError
from jaxground.spatiotemporal import (
    SpatiotemporalGrounding,
    content_places,
    ground_caption,
    spatiotemporal_grounding,
)

LONGEST = 20  # words that a captioner may say


class Found(NamedTuple):
    """What the network says of a clip, and where and when that stands; all arrays of NumPy.

    Attributes:
      asked: What was asked for, by target.
      targets: `int[k]`, the classes or words explained.
      probabilities: `float32[k]`: of a class, the mean over the frames; of a word, where it stands.
      kept: `float32[k]`, how much of a target's mass reached the features; where it is 0 there is
        nothing to localise.
      maps: `float32[k, time, h, w]`, raw.
      signals: `float32[k, time]`.
      windows: `int32[k, 2]`, the interval found, half open, counted from the clip's first frame;
        empty where nothing was kept.
      peaks: `int32[k, 3]`, frame, row and column of the largest value.
      overall: `float32[classes]`, the mean over the frames; of captioners none.
      sentence: Of a captioner.
      places: `int[k]`, which word of the sentence each is.
    """

    asked: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    kept: np.ndarray
    maps: np.ndarray
    signals: np.ndarray
    windows: np.ndarray
    peaks: np.ndarray
    overall: np.ndarray
    sentence: str | None = None
    places: np.ndarray | None = None


class Question(NamedTuple):
    """What is asked of each clip.

    Attributes:
      title: As part of a file's name.
      settings: What of it decides a result.
      explain: The answer, from `float32[1, time, height, width, 3]` frames.
    """

    title: str
    settings: dict[str, Any]
    explain: Callable[[jax.Array], Found]


def ask_of_classes(model: Any, texts: Sequence[str], options: Mapping[str, Any]) -> Question:
    """Returns the question where and when the evidence for classes stands.

    Args:
      model: An `LRCN`.
      texts: What the user typed; none means the most probable class.
      options: Of the grounding.

    Raises:
      UserError: A text means no class.
    """
    names, count = model.card.class_names, model.classifier.out_features
    targets = [classes.find(text, names, count) for text in texts] or [classes.top(count)]
    targets = tuple({target.classes: target for target in targets}.values())
    masks = np.stack([target.mask(count) for target in targets])

    def localise(model: Any, video: jax.Array) -> tuple[Any, ...]:
        overall = jax.nn.softmax(model(video).astype(jnp.float32)).mean(1)[0]
        chosen = jnp.argmax(jnp.where(masks, overall, -jnp.inf), -1).astype(jnp.int32)
        found = spatiotemporal_grounding(
            model.features, model.classify, video, chosen[None], **_passes(options, video)
        )
        return chosen, overall[chosen], overall, _summarised(found)

    compiled = _compiled(model, localise)

    def explain(video: jax.Array) -> Found:
        chosen, probabilities, overall, rest = jax.device_get(compiled(video))
        asked = tuple(target.asked for target in targets)
        return Found(asked, chosen, probabilities, overall=overall, **rest)

    return Question(
        "+".join(target.asked.casefold() for target in targets),
        {"targets": [list(t.classes) for t in targets] if texts else "top"},
        explain,
    )


def ask_of_words(model: Any, text: str, options: Mapping[str, Any]) -> Question:
    """Returns the question what every content word of a sentence was read from.

    Args:
      model: A captioner with a card.
      text: The sentence; without one it is what the captioner itself says.
      options: Of the grounding.

    Raises:
      UserError: The sentence has words that the captioner does not know, or none of content.
    """
    names = model.card.class_names
    given = None
    if text:
        try:
            given = np.array([models.word_indices(text, names)])
        except ValueError as error:
            raise UserError(f"--caption {text!r}: {error}") from error
        if not content_places(models.sentence_of(given[0], names)):
            raise UserError(f"--caption {text!r} has no word of content: there is nothing to find")
    write = _compiled(model, lambda m, v: models.greedy_words(m, m.video_features(v), LONGEST))

    def localise(
        model: Any, video: jax.Array, words: jax.Array, *, places: tuple[int, ...]
    ) -> tuple[Any, ...]:
        probabilities = jax.nn.softmax(model(video, words)[0].astype(jnp.float32))
        at = np.array(places)
        found = ground_caption(model, video, words, ask=places, **_passes(options, video))
        return probabilities[at, words[0, at]], _summarised(found)

    compiled = _compiled(model, localise, static_argnames="places")

    def explain(video: jax.Array) -> Found:
        words = np.asarray(write(video)) if given is None else given
        sentence = models.sentence_of(words[0], names)
        places = content_places(sentence)
        if not places:
            raise ValueError(f"it says {sentence!r}, in which no word has content")
        probabilities, rest = jax.device_get(compiled(video, words, places=places))
        asked = tuple(sentence.split()[place] for place in places)
        at, none = np.array(places), np.zeros(0, np.float32)
        return Found(
            asked,
            words[0, at],
            probabilities,
            overall=none,
            sentence=sentence,
            places=at,
            **rest,
        )

    title = "caption" if given is None else models.sentence_of(given[0], names)
    return Question(title, {"caption": "greedy" if given is None else title}, explain)


def _compiled(model: Any, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Returns a compiled function of a model with its weights, which are no constants in it."""
    graph, state = nnx.split(model)
    program = jax.jit(lambda state, *x, **k: function(nnx.merge(graph, state), *x, **k), **options)
    return functools.partial(program, state)


def _passes(options: Mapping[str, Any], video: jax.Array) -> dict[str, Any]:
    size = options["batch_size"]
    return {**options, "batch_size": size if size < video.shape[1] else None}


def _summarised(found: SpatiotemporalGrounding) -> dict[str, Any]:
    """Returns of one video what is kept, maps, signals, windows and peaks, by name."""
    values, signals, kept = (x[0] for x in found)
    frames = values.max((2, 3)).argmax(1)
    peaks = maps.peak(values[jnp.arange(len(values)), frames])
    peaks = jnp.concatenate([frames[:, None], peaks], 1)
    windows = metrics.greedy_window(signals)  # of a dead target empty: nothing in it is positive
    return dict(kept=kept, maps=values, signals=signals, windows=windows, peaks=peaks)
