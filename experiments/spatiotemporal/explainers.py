"""The explainers of the thesis's tables, by name: they take videos and targets to maps and signals.

A signal is the sum of each frame's map. That of EB frame by frame is nearly flat by construction,
for each frame gets a mass of one. "probability" has no maps; "frame difference" knows no class.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp

from jaxground import attribution, core
from jaxground import spatiotemporal as through
from jaxground.spatiotemporal.cells import Cell

THRESHOLD = 0.5  # of the probability, above which frames are found
OF_WORDS = "cEB-R", "EB-R", "BP-R", "caption-guided saliency"
SIGNED = "cEB-R", "cEB by frame", "probability"  # others are never negative: no interval in them


def make_explainers(
    features: Callable,
    classify: Callable,
    classify_frames: Callable,
    *,
    at: str | None,
    cell: Cell = "paper",
) -> dict[str, Callable]:
    """Returns functions from videos and targets to maps `[batch, time, h, w]` and signals.

    Args:
      features: Takes frames `[n, ...]` to features `[n, width]`.
      classify: Takes features `[batch, time, width]` to logits at each step.
      classify_frames: Takes frames to logits: what is explained frame by frame.
      at: The tap where maps are read, `None` for the frames; gradients are those of the frames.
      cell: Of EB-R and cEB-R.
    """

    def recurrent(contrastive: bool, video, targets):
        found = through.spatiotemporal_grounding(
            features, classify, video, targets, contrastive=contrastive, at=at, cell=cell
        )
        return found.maps, found.signal

    def summed(explain, video, targets):
        found = explain(video, targets)
        return found, found.sum((2, 3))

    def by_frame(explainer, tap, video, targets):
        return through.framewise(explainer)(classify_frames, video, targets, at=tap)

    def gradient(video, targets):
        return through.spatiotemporal_gradient(features, classify, video, targets)

    def difference(video, targets):
        return jnp.abs(jnp.diff(video, axis=1, prepend=video[:, :1])).max(-1)

    def probability(video, targets):
        frames = features(video.reshape(-1, *video.shape[2:]))
        logits = classify(frames.reshape(*video.shape[:2], -1))
        found = through.class_probability(logits, targets)
        return jnp.zeros((*video.shape[:2], 2, 2)), found - THRESHOLD

    partial = functools.partial
    eb, contrast = attribution.excitation_backprop, attribution.contrastive_excitation_backprop
    return {
        "cEB-R": partial(recurrent, True),
        "EB-R": partial(recurrent, False),
        "cEB by frame": partial(summed, partial(by_frame, contrast, at)),
        "EB by frame": partial(summed, partial(by_frame, eb, at)),
        "BP-R": partial(summed, gradient),
        "BP by frame": partial(summed, partial(by_frame, attribution.gradient, None)),
        "probability": probability,
        "frame difference": partial(summed, difference),
    }


def explain_words(name: str, model, at: str, video, words, places):
    """Returns maps `[batch, k, time, h, w]` and signals `[batch, k, time]` of words at places."""
    context = (model.embed(words),)
    targets = jnp.take_along_axis(words, places, 1)
    options = {"step": places, "context": context}
    if name == "BP-R":
        found = through.spatiotemporal_gradient(
            model.features, model.decode, video, targets, **options
        )
        return found, found.sum((3, 4))
    if name == "caption-guided saliency":
        frames = video.reshape(-1, *video.shape[2:])
        hidden = core.split(model.cnn, frames, at=model.at).hidden  # [n, h, w, c] or [n, c]
        hidden = hidden.reshape(*video.shape[:2], *hidden.shape[1:])
        found = through.caption_guided_saliency(model, hidden, words, batch_size=64 * len(video))
        found = jnp.take_along_axis(
            found, places.reshape(*places.shape, *[1] * (found.ndim - 2)), 1
        )
        if found.ndim == 3:  # features of whole frames: when, not where
            return jnp.zeros((*found.shape, 2, 2)), found
        return found, found.sum((3, 4))
    contrastive = name == "cEB-R"
    found = through.spatiotemporal_grounding(
        model.features, model.decode, video, targets, contrastive=contrastive, at=at, **options
    )
    return found.maps, found.signal
