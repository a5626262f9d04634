"""Forward passes over altered images: what all perturbation methods have in common."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.scores import Classifier, Score, check_images, score_values


class Passes(NamedTuple):
    """A classifier that answers one question about alterations of given images.

    Attributes:
      images: `float[batch, h, w, channel]`, checked.
      scores: Takes `n` alterations of each image, `[batch, n, h, w, channel]`, to the scores
        `float32[batch, k, n]`. The classifier sees one leading axis of `batch * n`, images first,
        so that a sharded batch stays where it is. All targets share the pass.
      targets: Their number `k`.
      single: Whether the caller gave one target per image, and wants no axis `k` back.
    """

    images: Array
    scores: Callable[[Array], Array]
    targets: int
    single: bool

    def per_target(self, maps: Array) -> Array:
        """Returns `maps[batch, k, ...]`, without the axis `k` if one target was asked for."""
        return maps[:, 0] if self.single else maps

    def background(self, baseline: ArrayLike) -> Array:
        """Returns what is seen where an image is hidden, `[batch, 1, h, w, channel]`."""
        wide = jnp.broadcast_to(jnp.asarray(baseline, self.images.dtype), self.images.shape)
        return wide[:, None]

    def chunks(self, total: int, batch_size: int) -> Array:
        """Returns the numbers of `total` alterations in rows of equal length, see `chunks`."""
        return chunks(total, len(self.images), batch_size)

    def scores_of(self, alter: Callable[[Array], Array], total: int, batch_size: int) -> Array:
        """Returns the scores of `total` alterations of each image, `float32[batch, k, total]`.

        Args:
          alter: Takes numbers `int32[n]` to the alterations `[batch, n, h, w, channel]`; numbers
            from `total` on are asked for too, and their scores thrown away.
          total: How many alterations.
          batch_size: As for `chunks`.
        """
        rows = lax.map(lambda n: self.scores(alter(n)), self.chunks(total, batch_size))
        return jnp.moveaxis(rows, 0, 2).reshape(*rows.shape[1:3], -1)[..., :total]


def forward_passes(
    f: Classifier, images: ArrayLike, targets: ArrayLike, score: Score = "logit"
) -> Passes:
    """Returns the question, after everything that can be wrong with it was checked.

    Raises:
      TypeError: Images that are not floating point, or logits that are not.
      ValueError: Images or targets of the wrong shape, NaN pixels, a class out of range.
    """
    images = check_images(images)
    batch = len(images)
    singles = []

    def ask(outputs: Array) -> Array:
        if isinstance(outputs, Array) and jnp.issubdtype(outputs.dtype, jnp.floating):
            outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        values, single = score_values(outputs, targets, score)
        singles.append(single)
        return values.astype(jnp.float32)

    def scores(alterations: Array) -> Array:
        outputs = f(alterations.reshape(-1, *alterations.shape[2:]))
        rows = outputs.reshape(batch, -1, *outputs.shape[1:])
        return jax.vmap(ask, in_axes=1, out_axes=2)(rows)  # targets stay known, hence checked

    shape = jax.eval_shape(lambda x: ask(f(x)), images)
    return Passes(images, scores, shape.shape[1], singles[0])


def chunks(total: int, batch: int, batch_size: int) -> Array:
    """Returns the numbers of `total` alterations in rows of equal length, `int32[rows, n]`.

    A row is one pass of at most `batch_size` images, if the `batch` itself is no larger. Rows are
    as equal as can be; what is left over in them has numbers from `total` on.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: at least one image makes a pass")
    rows = -(-total // max(1, batch_size // batch))
    each = -(-total // rows)
    return jnp.asarray(np.arange(rows * each, dtype=np.int32).reshape(rows, each))
