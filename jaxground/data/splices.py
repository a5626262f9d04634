"""Clips spliced from clips: an action of known length at a known place in other actions.

The synthetic videos of Excitation Backprop for RNNs (table 7.2 of the thesis). A splice is a plan,
which clip and which frame of it each frame comes from: frames, masks and features follow it alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxground.data.video import uniform_indices


class Splices(NamedTuple):
    """Where each frame of each spliced clip comes from; `frames[clips, positions]` makes them."""

    clips: np.ndarray  # int[count, length], index of the source clip
    positions: np.ndarray  # int[count, length], which of its frames
    labels: np.ndarray  # int[count], the class of the clip in the middle
    times: np.ndarray  # int[count, 2], its first frame and the one after its last
    sources: np.ndarray  # int[count, 3], the clips before, in the middle, and after


def plan_splices(
    labels: ArrayLike,
    lengths: ArrayLike,
    *,
    count: int,
    length: int = 128,
    inside: int = 41,
    starts: Sequence[int] | None = None,
    backgrounds: int = 1,
    seed: int = 0,
) -> Splices:
    """Returns how to splice each of some clips into clips of other classes.

    Every clip takes its turn in the middle, in random order; the others are drawn uniformly from
    the clips of other classes. Each is sampled over its full length, frames repeated if it is
    shorter than its place. The protocol of table 7.2 has `length=128` and `inside` 11, 41 or 65,
    or `length=16, inside=8, starts=(0, 8)`.

    Args:
      labels: `int[n]`, the class of each clip.
      lengths: Frames of the clips, `int` or `int[n]`.
      count: Number of spliced clips.
      length: Frames of each.
      inside: Frames of the clip in the middle; fewer than `length`.
      starts: First frames of it to choose from; by default any.
      backgrounds: 1 for one clip around it, as in the thesis, or 2 for one before and another
        after it, which may be of one class.
      seed: Of the draw.

    Raises:
      ValueError: There are no clips, or all are of one class; a clip has no frames; the clip in
        the middle does not fit.

    Example:
      >>> plan = plan_splices([7, 1, 1], 16, count=1, length=10, inside=4)
      >>> plan.labels, plan.times, plan.clips
      (array([1]), array([[1, 5]]), array([[0, 2, 2, 2, 2, 0, 0, 0, 0, 0]]))
      >>> plan.positions  # of both clips over their full length
      array([[ 1,  2,  6, 10, 14,  4,  6,  9, 12, 14]])
    """
    labels = np.asarray(labels)
    lengths = np.broadcast_to(np.asarray(lengths), labels.shape)
    if labels.ndim != 1 or len(np.unique(labels)) < 2:
        raise ValueError("splicing needs clips of two classes or more, with one label each")
    if lengths.min() < 1:
        raise ValueError(f"clip {int(lengths.argmin())} has no frames")
    if not 0 < inside < length or backgrounds not in (1, 2):
        raise ValueError(
            f"no splice of {length} frames with {inside} inside and {backgrounds} backgrounds: "
            "0 < inside < length, backgrounds 1 or 2"
        )
    places = np.arange(length - inside + 1) if starts is None else np.asarray(starts)
    if places.size == 0 or places.min() < 0 or places.max() > length - inside:
        raise ValueError(f"starts lie in 0..{length - inside}, got {starts}")

    rng = np.random.default_rng(seed)
    rounds = -(-count // len(labels))
    middle = np.concatenate([rng.permutation(len(labels)) for _ in range(rounds)] or [[]])
    middle = middle[:count].astype(int)
    # Sorted by class, the clips of other classes are a row with a gap: one draw, no rejection.
    order = np.argsort(labels, kind="stable")
    low, high = (np.searchsorted(labels[order], labels[middle], side) for side in ("left", "right"))
    drawn = rng.random((count, 2)) * (len(labels) - (high - low))[:, None]
    drawn = drawn.astype(int)
    around = order[drawn + np.where(drawn >= low[:, None], (high - low)[:, None], 0)]
    if backgrounds == 1:
        around[:, 1] = around[:, 0]
    sources = np.stack([around[:, 0], middle, around[:, 1]], 1)

    start = rng.choice(places, count)[:, None]
    time = np.arange(length)
    begun, over = time >= start, time >= start + inside
    part = np.where(begun, 1, 0) + np.where(over, 1, 0)  # before, in the middle, after
    clips = np.take_along_axis(sources, part, 1)
    zero = np.zeros_like(start)
    if backgrounds == 2:
        begins = zero, start, start + inside
        rooms = start, zero + inside, length - inside - start
    else:  # the background goes on where it stopped
        begins = zero, start, zero + inside
        rooms = zero + length - inside, zero + inside, zero + length - inside
    begin, room = (np.take_along_axis(np.concatenate(x, 1), part, 1) for x in (begins, rooms))
    positions = uniform_indices(lengths[clips], room, time - begin)
    times = np.concatenate([start, start + inside], 1)
    return Splices(clips, positions, labels[middle], times, sources)
