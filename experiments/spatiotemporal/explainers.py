"""The explainers of tables 7.1 to 7.3, by name: each takes videos and targets to maps and signals.

A signal is the sum of each frame's map. That of EB frame by frame is nearly flat by construction,
for each frame gets a mass of one. "probability" has no maps; "frame difference" knows no class.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp

from jaxground import attribution
from jaxground import spatiotemporal as through
from jaxground.spatiotemporal.cells import Cell

THRESHOLD = 0.5  # of the probability, above which frames are found
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
