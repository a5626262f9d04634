"""Excitation Backprop through time: where and when the evidence for a decision stands."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxground.attribution.signals import channel_sum
from jaxground.core import EXCITATION, Composite, Rules, ground
from jaxground.core.rules import divide
from jaxground.core.transform import rebuilt
from jaxground.scores import Score
from jaxground.spatiotemporal.cells import Cell, cell_rules
from jaxground.spatiotemporal.seeds import seeds
from jaxground.spatiotemporal.videos import (
    FrameNetwork,
    check_lengths,
    check_video,
    through_frames,
)


class SpatiotemporalGrounding(NamedTuple):
    """Where and when the evidence stands; with `k` targets, all have an axis `k` after the first.

    Attributes:
      maps: `float32[batch, time, h, w]`, signed if contrastive: clip it for display or pointing.
      signal: `float32[batch, time]`, the sum over each frame's features, that is of its map less
        what the CNN dropped. It sums to one over time or, if contrastive, to zero.
      kept: `float32[batch]`, how much of the target's mass reached the features before it was
        normalised over time; 0 where nothing did: what is left is zero or, if contrastive, minus
        the dual unit's share. Of a signed prior, such as a probability's, sizes count.
    """

    maps: Array
    signal: Array
    kept: Array


def spatiotemporal_grounding(
    cnn: FrameNetwork,
    rnn: Callable[..., Array],
    video: ArrayLike,
    targets: ArrayLike,
    *,
    step: ArrayLike = -1,
    contrastive: bool = True,
    at: str | None = "conv5_1",
    cell: Cell = "paper",
    rules: Rules | Composite = EXCITATION,
    context: Sequence[Array] = (),
    lengths: ArrayLike | None = None,
    batch_size: int | None = None,
    score: Score = "logit",
) -> SpatiotemporalGrounding:
    r"""Returns where and when the evidence for the targets stands: (contrastive) EB-R.

    A prior at the target's logit, at one step, is passed down the recurrent network, through time,
    to the features of every frame, and there normalised over time and space; so is that of the
    dual unit, which has the negated weights of the last linear map. Their difference,

    .. math:: M^t(i) = \frac{P^t(i)}{\sum_{t, i} P^t(i)}
        - \frac{\bar P^t(i)}{\sum_{t, i} \bar P^t(i)},

    is passed down each frame's CNN to the tap, and summed over channels. Cost: one forward pass
    and, of the recurrent network and of the CNN above the tap, one pass of normalisers and one
    backward pass, shared by targets, steps and frames but for the backward pass.

    Args:
      cnn: Takes frames `float[n, height, width, channel]` to features `[n, ...]`, for instance
        `lambda x: jaxground.split(network, x, at="fc7").hidden`.
      rnn: Takes features `[batch, time, ...]` to logits `[batch, steps, classes]`, with as many
        steps as it likes, or to `[batch, classes]`. Its classifier must follow its loop, not be
        part of it, and its cells must compute their input maps in the loop, so that a sum such as
        `x @ W + h @ U` is seen to be one linear map.
      video: `float[batch, time, height, width, channel]`, preprocessed for `cnn`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior in the shape of the logits, or
        with an axis `k` after the first.
      step: At which step the targets are asked for, one or `int[k]` or `int[batch, k]`, one for
        each target; negative ones count from the end of each video.
      contrastive: Whether to subtract the dual unit's mass.
      at: A tap of `cnn`, `[n, h, w, channel]`, or `None` for the frames.
      cell: What recurrent cells do, `"paper"`, which conserves mass, or `"caffe"`, as in the
        released code (see `cell_rules`), or a table.
      rules: The table for the CNN.
      context: More inputs of `rnn`, after the features: floats, such as word embeddings. They take
        their share of the mass, which is then left out.
      lengths: How many frames each video has, `int[batch]`; those beyond are padding and get
        nothing. A network that reads backwards, or the mean, must be told them itself.
      batch_size: Frames in a pass of the CNN; `None` for all in one. In several passes memory
        grows with the tap's values alone, and what is above the tap runs forward twice.
      score: What is explained of a target, see `jaxground.scores`.

    Returns:
      See `SpatiotemporalGrounding`. Where the dual unit has no mass the result is that of EB-R.

    Raises:
      TypeError: Video or logits that are not floating point, targets or steps no integers.
      ValueError: A wrong shape, no frames, NaN pixels, a class, step or length out of range.
      KeyError: No such tap; the message lists those there.
      MissingRuleError: An operation above the tap has no rule.

    Example:
      >>> def cnn(frames):  # two features: how red, how green
      ...     return jaxground.tap(frames, "pixels").mean((1, 2))
      >>> def rnn(features):  # adds them up over time; class 0 is red, class 1 green
      ...     totals = jax.lax.scan(lambda h, x: (h + x, h + x), jnp.zeros((1, 2)),
      ...                           features.swapaxes(0, 1))[1].swapaxes(0, 1)
      ...     return totals @ jnp.array([[1.0, -1.0], [-1.0, 1.0]])
      >>> import jaxground
      >>> video = jnp.zeros((1, 3, 1, 2, 2)).at[0, 0, 0, 1, 0].set(1).at[0, 2, 0, 0, 1].set(2)
      >>> red = spatiotemporal_grounding(cnn, rnn, video, jnp.array([0]), at="pixels")
      >>> red.signal  # red in the first frame, green in the last
      Array([[ 1.,  0., -1.]], dtype=float32)
      >>> red.maps[0, 0]
      Array([[0., 1.]], dtype=float32)

    References:
      Bargal et al., Excitation Backprop for RNNs, CVPR 2018; Bargal, Grounding Deep Models of
      Visual Data, 2019, algorithm 3, equations 7.1 to 7.9. What gates do in `"paper"` is our
      reading: the text says only that there are winning probabilities through unrolled steps.
    """
    video = check_video(video)
    frames = through_frames(
        cnn, video, at=at, rules=rules, batch_size=batch_size, reduce=channel_sum
    )
    masses, single = through_time(
        rnn,
        frames.features,
        targets,
        step=step,
        rules=cell,
        contrastive="apart" if contrastive else False,
        context=context,
        lengths=lengths,
        score=score,
    )
    within = tuple(range(3, masses.ndim))  # masses are [1 or 2, batch, k, time, ...]
    # Sizes: a prior of a score other than the logit is signed, and its mass may sum to zero.
    totals = jnp.abs(masses).sum(within, keepdims=True)
    normalised = divide(masses, jnp.broadcast_to(totals, masses.shape))
    difference = normalised[0] - normalised[1] if contrastive else normalised[0]
    found = SpatiotemporalGrounding(
        maps=frames.pull(difference),
        signal=difference.sum(within[:-1]),
        kept=totals[0].reshape(totals.shape[1:3]),
    )
    return SpatiotemporalGrounding(*(x[:, 0] for x in found)) if single else found


class Masses(NamedTuple):
    """What arrived at the features.

    Attributes:
      masses: `float32[1, batch, k, time, ...]`, with a first axis of two for the target and its
        dual unit; zero in padding.
      single: Whether the caller asked one thing per video, and wants no axis `k` back.
    """

    masses: Array
    single: bool


def through_time(
    rnn: Callable[..., Array],
    features: Array,
    targets: ArrayLike,
    *,
    step: ArrayLike,
    rules: Cell,
    contrastive: Literal["apart", False] = False,
    context: Sequence[Array] = (),
    lengths: ArrayLike | None = None,
    score: Score = "logit",
) -> Masses:
    """Returns what arrives at the features from the targets, as it is, not normalised.

    Arguments and errors are those of `spatiotemporal_grounding`.
    """
    batch, time = features.shape[:2]
    known_lengths = check_lengths(lengths, batch, time)
    network = rebuilt(rnn)

    def logits(inputs: Any) -> Array:
        outputs = network(*inputs)
        fits = isinstance(outputs, jax.Array) and outputs.ndim in (2, 3) and len(outputs) == batch
        if not fits or not jnp.issubdtype(outputs.dtype, jnp.floating):
            found = jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", outputs)
            raise ValueError(
                f"rnn must return float logits [{batch}, steps, classes] or [{batch}, classes], "
                f"got {found}"
            )
        return outputs if outputs.ndim == 3 else outputs[:, None]

    inputs = (features, *context)
    table = cell_rules(rules, network, inputs)
    outputs, _, pull = ground(logits, inputs, rules=table, contrastive=contrastive)
    steps = outputs.shape[1]
    ends = known_lengths if steps == time else np.full(batch, steps)
    asked = seeds(outputs, targets, step=step, ends=ends, score=score)
    masses = jax.vmap(pull, in_axes=1)(asked.priors)[0]
    masses = masses if contrastive else masses[:, None]  # [k, 1 or 2, batch, time, ...]
    masses = jnp.moveaxis(masses, 0, 2).astype(jnp.promote_types(masses.dtype, jnp.float32))
    inside = jnp.arange(time) < jnp.asarray(known_lengths)[:, None]
    mask = inside[:, None].reshape(batch, 1, time, *[1] * (features.ndim - 2))
    return Masses(jnp.where(mask, masses, 0), asked.single)
