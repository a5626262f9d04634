"""Caption-guided saliency: how likely a word becomes when one thing alone was seen."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxground.passes import chunks
from jaxground.scores import score_values
from jaxground.spatiotemporal.captions import CaptioningModel, check_words


def caption_guided_saliency(
    model: CaptioningModel, descriptors: ArrayLike, words: ArrayLike, *, batch_size: int = 64
) -> Array:
    r"""Returns for each word how likely each descriptor alone makes it, in parts of the range.

    The network sees a sequence of one descriptor, and the words before; the saliency of descriptor
    :math:`i` for word :math:`t` is :math:`\log p(w_t \mid w_1 \ldots w_{t-1}, v_i)`. Per word it is
    scaled to 0 ... 1 over time and space, less its mean, and clipped at zero. Cost: the captioner
    without its CNN runs once per descriptor, in constant memory.

    Args:
      model: A captioner; its `embed` and `decode` are used.
      descriptors: `float[batch, time, h, w, width]`, as many features as `decode` reads of a frame
        at each position of each frame; or `[batch, time, width]`, for when alone.
      words: The caption, `int[batch, length]`.
      batch_size: Descriptors in a pass; at least one of each video.

    Returns:
      `float32[batch, length, time, h, w]` or `[batch, length, time]`, in 0 ... 1; zero where all
      descriptors say the same. The paper smooths over time before, and over space afterwards, and
      rescales for display.

    Raises:
      TypeError: Words that are not integers.
      ValueError: A wrong shape, NaN, a word outside the vocabulary.

    Example:
      >>> from flax import nnx
      >>> from jaxground import models, tap
      >>> model = models.S2VT(
      ...     lambda x: tap(x.mean((1, 2)), "mean"), "mean", vocabulary=4, embedding=2, units=3,
      ...     rngs=nnx.Rngs(0))
      >>> seen = jax.random.uniform(jax.random.key(0), (1, 2, 3, 3, 3))
      >>> caption_guided_saliency(model, seen, jnp.array([[2, 1, 0]])).shape
      (1, 3, 2, 3, 3)

    References:
      Ramanishka et al., Top-down Visual Saliency Guided by Captions, CVPR 2017, section 3.
    """
    seen = jnp.asarray(descriptors)
    if seen.ndim not in (3, 5) or 0 in seen.shape:
        raise ValueError(
            "descriptors must be [batch, time, width] or [batch, time, h, w, width], got "
            f"{seen.shape}"
        )
    if not isinstance(descriptors, Tracer):
        with jax.ensure_compile_time_eval():  # known values, even under the jit of the words
            finite = bool(jnp.isfinite(jnp.asarray(descriptors)).all())
        if not finite:
            raise ValueError("descriptors have NaN or infinite values")
    batch, places = len(seen), seen.shape[1:-1]
    caption = check_words(words, batch)
    embedded = model.embed(jnp.asarray(caption))
    flat = seen.reshape(batch, -1, 1, seen.shape[-1])

    def of_pass(numbers: Array) -> Array:
        alone = jnp.take(flat, numbers, axis=1, mode="clip")  # [batch, n, 1, width]
        logits = jax.vmap(model.decode, in_axes=(1, None))(alone, embedded)
        rows = logits.reshape(-1, logits.shape[-1])  # of [n, batch, length]
        asked = jnp.tile if isinstance(caption, Tracer) else np.tile
        values, _ = score_values(rows, asked(caption, (len(numbers), 1)).ravel(), "log_probability")
        return values.reshape(logits.shape[:-1])

    passes = lax.map(of_pass, chunks(flat.shape[1], batch, batch_size))
    likely = passes.reshape(-1, *passes.shape[2:])[: flat.shape[1]]  # [descriptors, batch, length]
    low, high = likely.min(0), likely.max(0)
    scaled = (likely - low) / jnp.where(high > low, high - low, 1)
    saliency = jnp.maximum(scaled - scaled.mean(0), 0)
    return jnp.moveaxis(saliency, 0, -1).reshape(*caption.shape, *places)
