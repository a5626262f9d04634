"""Forward passes over altered images: what perturbation methods and metrics have in common."""

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
        `[batch, k, n]`, float32 or wider. The classifier sees one leading axis of `batch * n`,
        images first, so that a sharded batch stays where it is. All targets share the pass.
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

    def scores_of(
        self,
        alter: Callable[[Array], Array],
        total: int,
        batch_size: int,
        *,
        own: bool = False,
    ) -> Array:
        """Returns the scores of `total` alterations of each image, `[batch, k, total]`.

        Alterations are made, looked at and forgotten one row after the other: memory does not
        depend on their number.

        Args:
          alter: Takes numbers `int32[n]` to the alterations `[batch, n, h, w, channel]`; numbers
            from `total` on are asked for too, and their scores thrown away.
          total: How many alterations.
          batch_size: Images in a pass, as for `chunks`.
          own: Whether each target has alterations of its own, `[batch, n, k, h, w, channel]`,
            which are asked about it alone.
        """
        batch, k = len(self.images), self.targets

        def row(numbers: Array) -> Array:
            if not own:
                return self.scores(alter(numbers))
            altered = alter(numbers)
            scores = self.scores(altered.reshape(batch, -1, *altered.shape[3:]))
            scores = scores.reshape(batch, k, len(numbers), k)
            return jnp.diagonal(scores, axis1=1, axis2=3).swapaxes(1, 2)

        rows = lax.map(row, chunks(total, batch * (k if own else 1), batch_size))
        return jnp.moveaxis(rows, 0, 2).reshape(batch, k, -1)[..., :total]


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
        return values.astype(jnp.promote_types(values.dtype, jnp.float32))

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
