"""Explainers that need no gradient: what happens to the score when parts of the image are hidden.

Each hides by blending towards a baseline, `baseline + mask * (image - baseline)`; zero, in
normalised images, is the mean of the data. All masks are made on the device as they are used, in
chunks: memory does not depend on their number.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.passes import forward_passes
from jaxground.scores import Classifier, Score


def rise(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    key: Array,
    masks: int = 8000,
    cells: int = 7,
    keep: float = 0.5,
    baseline: ArrayLike = 0.0,
    score: Score = "probability",
    batch_size: int = 32,
) -> Array:
    r"""Returns the mean score of the random masks that show a pixel.

    .. math:: S(u) = \frac{1}{N p} \sum_{n=1}^N s(x \odot M_n)\, M_n(u)

    A mask is a grid of `cells` x `cells` coin flips, enlarged bilinearly to `cells + 1` cells and
    cut out at a random shift of less than one cell. Cost: `masks` forward passes per image,
    whatever the number of targets; one set of masks serves all images and targets.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits (before any softmax).
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior with `score="logit"`.
      key: Of `jax.random`; mask number `n` depends on the key and on `n` alone.
      masks: How many, :math:`N`; the authors use 4000 for VGG-16 and 8000 for ResNet-50.
      cells: Grid cells per side.
      keep: Probability :math:`p` that a cell is shown.
      baseline: What is seen where a mask hides: broadcasts against `images`.
      score: What is averaged: the `"probability"`, as published, the `"logit"`, the
        `"log_probability"` or a function of the outputs (see `jaxground.scores`).
      batch_size: Images (masks times batch) per forward pass; at least one mask is used at a time.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, at the resolution of the images, in scores.
      Without evidence it is the mean score everywhere, not zero.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, `masks`, `cells` or `keep`
        out of range.

    Example:
      >>> f = lambda x: x.sum((1, 2, 3))[:, None]
      >>> image = jnp.zeros((1, 8, 8, 1)).at[0, 2, 5].set(1.0)
      >>> key = jax.random.key(0)
      >>> map = rise(f, image, jnp.array([0]), key=key, masks=500, score="logit")[0]
      >>> map[2, 5] > 1.2 * map.mean()
      Array(True, dtype=bool)

    References:
      Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC
      2018, equation 6; enlargement and constants as in the authors' code.
    """
    if masks < 1 or cells < 1 or not 0 < keep <= 1:
        raise ValueError(
            f"rise needs masks >= 1, cells >= 1 and 0 < keep <= 1, got {masks=}, {cells=}, {keep=}"
        )
    passes = forward_passes(f, images, targets, score)
    batch, *size, _ = passes.images.shape
    background = passes.background(baseline)
    contrast = passes.images[:, None] - background

    def add(total: Array, numbers: Array) -> tuple[Array, None]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        shown = jax.vmap(lambda key: _coarse_mask(key, size, cells, keep))(keys)
        weights = shown[None, ..., None].astype(contrast.dtype)
        scores = passes.scores(background + weights * contrast)
        scores = jnp.where(numbers < masks, scores, 0)
        return total + jnp.einsum("bkn,nhw->bkhw", scores, shown, precision="highest"), None

    zeros = jnp.zeros((batch, passes.targets, *size), jnp.float32)
    total, _ = lax.scan(add, zeros, passes.chunks(masks, batch_size))
    return passes.per_target(total / (masks * keep))


def _coarse_mask(key: Array, size: list[int], cells: int, keep: float) -> Array:
    """Returns one mask `float32[height, width]`: two small matrix products, and no gather."""
    flips, shifts = jax.random.split(key)
    grid = jax.random.bernoulli(flips, float(keep), (cells, cells)).astype(jnp.float32)
    pitch = [-(-side // cells) for side in size]
    shift = jax.random.randint(shifts, (2,), 0, jnp.asarray(pitch))
    rows, columns = (_enlarge(n, p, s, cells) for n, p, s in zip(size, pitch, shift, strict=True))
    return jnp.einsum("ha,ab,wb->hw", rows, grid, columns, precision="highest")


def _enlarge(length: int, pitch: int, shift: Array, cells: int) -> Array:
    """Returns the bilinear weights `[length, cells]` of the cells in each pixel.

    The authors stretch `cells` values over `(cells + 1) * pitch` pixels; centres of pixels lie at
    half integers, and the outermost values reach to the border.
    """
    pixels = jnp.arange(length) + shift + 0.5
    at = jnp.clip(pixels * (cells / ((cells + 1) * pitch)) - 0.5, 0, cells - 1)
    return jnp.maximum(1 - jnp.abs(at[:, None] - jnp.arange(cells)), 0)


def occlusion(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: ArrayLike = 0.0,
    score: Score = "probability",
    batch_size: int = 32,
) -> Array:
    """Returns how far the score falls when a square hides a pixel, over all squares that do.

    Squares stand `stride` apart; the last of a row and of a column is moved back, flush with the
    border, so that all have the same size and every pixel is hidden by at least one. Cost: one
    forward pass and one per square, whatever the number of targets.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits (before any softmax).
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior with `score="logit"`.
      window: Side of the square in pixels; by default a seventh of the image's shorter side.
      stride: Pixels between squares, at most `window`; by default a quarter of it, which makes
        about 600 squares on a square image (both defaults are ours).
      baseline: What the square shows: broadcasts against `images`.
      score: What falls: the `"probability"`, as published, the `"logit"`, the
        `"log_probability"` or a function of the outputs (see `jaxground.scores`).
      batch_size: Images (squares times batch) per forward pass.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, at the resolution of the images, in scores:
      positive where hiding hurts. The published figure shows the score itself, not its fall.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, a window that does not fit into
        the image, a stride that leaves pixels out.

    Example:
      >>> f = lambda x: x.sum((1, 2, 3))[:, None]
      >>> image = jnp.array([[[[1.0], [0.0], [2.0]], [[0.0], [0.0], [0.0]]]])
      >>> occlusion(f, image, jnp.array([0]), window=2, stride=1, score="logit")
      Array([[[1. , 1.5, 2. ],
              [1. , 1.5, 2. ]]], dtype=float32)

    References:
      Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014,
      section 4.2; the average over squares is ours.
    """
    passes = forward_passes(f, images, targets, score)
    size = passes.images.shape[1:3]
    window = max(1, min(size) // 7) if window is None else window
    stride = max(1, window // 4) if stride is None else stride
    if not 1 <= window <= min(size) or not 1 <= stride <= window:
        raise ValueError(
            f"occlusion needs a window of 1 to {min(size)} pixels (the image is {size[0]}x"
            f"{size[1]}) and a stride of 1 to window, got {window=}, {stride=}"
        )
    background = passes.background(baseline)
    rows, columns = (_windows(side, window, stride) for side in size)
    count = len(rows) * len(columns)

    def hide(numbers: Array) -> Array:
        row, column = jnp.divmod(jnp.minimum(numbers, count - 1), len(columns))
        hidden = jnp.asarray(rows)[row][:, :, None] & jnp.asarray(columns)[column][:, None]
        return jnp.where(hidden[..., None], background, passes.images[:, None])

    scores = passes.scores_of(hide, count, batch_size)
    fall = passes.scores(passes.images[:, None]) - scores
    fall = fall.reshape(*fall.shape[:2], len(rows), len(columns))
    shares = [jnp.asarray(w / w.sum(0), jnp.float32) for w in (rows, columns)]
    return passes.per_target(jnp.einsum("bkyx,yh,xw->bkhw", fall, *shares, precision="highest"))


def _windows(side: int, window: int, stride: int) -> np.ndarray:
    """Returns which pixels of one axis each window covers, `bool[windows, side]`."""
    starts = np.minimum(np.arange(0, side - window + stride, stride), side - window)[:, None]
    pixels = np.arange(side)
    return (starts <= pixels) & (pixels < starts + window)
