"""What spatiotemporal grounding is compared with: single frames, gradients, probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.core import GRADIENT
from jaxground.passes import chunks
from jaxground.scores import Score, repeat_targets, score_values
from jaxground.spatiotemporal.grounding import through_time
from jaxground.spatiotemporal.videos import FrameNetwork, check_video, through_frames


def framewise(explainer: Callable[..., Array], *, batch_size: int | None = None) -> Callable:
    """Returns an explainer of videos: every frame is explained by itself.

    The rows EB, cEB and BP of the thesis's table 7.1: `framewise(excitation_backprop)` and so on.

    Args:
      explainer: Any `explainer(f, images, targets, **options)` that returns `[batch, ...]`.
      batch_size: Frames in a pass; `None` for all in one.

    Returns:
      `explain(f, video, targets, **options)`, where `f` takes frames `[n, height, width, channel]`
      to logits and the video is `[batch, time, height, width, channel]`; its maps are
      `[batch, time, h, w]`, or `[batch, k, time, h, w]` for targets `int[batch, k]`.

    Example:
      >>> from jaxground.attribution import gradient
      >>> f = lambda x: x.mean((1, 2)) @ jnp.array([[4.0, 0.0], [-8.0, 0.0]])
      >>> framewise(gradient)(f, jnp.ones((1, 3, 1, 2, 2)), jnp.array([0])).shape
      (1, 3, 1, 2)
    """

    def explain(f: FrameNetwork, video: ArrayLike, targets: ArrayLike, **options: Any) -> Array:
        video = check_video(video)
        batch, time = video.shape[:2]

        def of_frames(frames: Array) -> Array:  # [batch, n, ...] -> [n, batch, (k,) h, w]
            n = frames.shape[1]
            asked = repeat_targets(targets, batch, n)
            maps = explainer(f, frames.reshape(-1, *frames.shape[2:]), asked, **options)
            return jnp.moveaxis(maps.reshape(batch, n, *maps.shape[1:]), 1, 0)

        if batch_size is None:
            maps = of_frames(video)
        else:
            numbers = chunks(time, batch, batch_size)
            passes = lax.map(lambda n: of_frames(jnp.take(video, n, 1, mode="clip")), numbers)
            maps = passes.reshape(-1, *passes.shape[2:])[:time]
        return jnp.moveaxis(maps, 0, -3)

    return explain


def spatiotemporal_gradient(
    cnn: FrameNetwork,
    rnn: Callable[..., Array],
    video: ArrayLike,
    targets: ArrayLike,
    *,
    step: ArrayLike = -1,
    at: str | None = None,
    context: Sequence[Array] = (),
    lengths: ArrayLike | None = None,
    batch_size: int | None = None,
    score: Score = "logit",
) -> Array:
    """Returns the gradient through time, max over channels of its size: BP-R of table 7.1.

    Arguments, errors and cost are those of `spatiotemporal_grounding`, but that nothing is
    normalised and any differentiable network will do.

    Returns:
      `float[batch, time, h, w]`, or `[batch, k, time, h, w]`, non-negative.

    Example:
      >>> cnn = lambda frames: frames.mean((1, 2))
      >>> rnn = lambda features: jnp.cumsum(features, 1) @ jnp.array([[2.0], [-6.0]])
      >>> video = jnp.ones((1, 2, 1, 2, 2))
      >>> spatiotemporal_gradient(cnn, rnn, video, jnp.array([0]), step=0)
      Array([[[[3., 3.]],
      <BLANKLINE>
              [[0., 0.]]]], dtype=float32)

    References:
      Simonyan et al., Deep Inside Convolutional Networks, ICLR 2014 workshop; Bargal, Grounding
      Deep Models of Visual Data, 2019, section 7.4.1.
    """
    frames = through_frames(
        cnn,
        check_video(video),
        at=at,
        rules=GRADIENT,
        batch_size=batch_size,
        reduce=lambda values: jnp.abs(values).max(-1),
    )
    masses, single = through_time(
        rnn,
        frames.features,
        targets,
        step=step,
        rules=GRADIENT,
        context=context,
        lengths=lengths,
        score=score,
    )
    maps = frames.pull(masses[0])
    return maps[:, 0] if single else maps


def class_probability(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """Returns the softmax probability of the targets at every step.

    Its largest value over time is the baseline "peak probability" of table 7.3.

    Args:
      outputs: Logits `float[batch, steps, classes]`.
      targets: Classes `int[batch]` or `int[batch, k]`.

    Returns:
      `float[batch, steps]`, or `[batch, k, steps]`.

    Raises:
      ValueError: A wrong shape, a class out of range.

    Example:
      >>> class_probability(jnp.zeros((1, 3, 4)), jnp.array([2]))
      Array([[0.25, 0.25, 0.25]], dtype=float32)
    """
    outputs = jnp.asarray(outputs)
    if outputs.ndim != 3:
        raise ValueError(f"outputs must be logits [batch, steps, classes], got {outputs.shape}")
    batch, steps, classes = outputs.shape
    asked = repeat_targets(targets, batch, steps)
    values, single = score_values(outputs.reshape(-1, classes), asked, "probability")
    values = values.reshape(batch, steps, -1)
    return values[..., 0] if single else values.swapaxes(1, 2)


def threshold_probability(probability: Array, threshold: float = 0.5) -> Array:
    """Returns 1 where a probability reaches the threshold and -1 elsewhere.

    A signal that actions are localised from as from the sums of maps: the baseline of table 7.2.

    Example:
      >>> threshold_probability(jnp.array([0.4, 0.5, 0.9]))
      Array([-1.,  1.,  1.], dtype=float32)
    """
    one = jnp.ones_like(probability)
    return jnp.where(probability >= threshold, one, -one)
