"""What is done to a map once it is computed: resize, smooth, show, point, box.

Pure functions of arrays `[..., height, width]`; every leading axis is a batch axis. All of them
may be jitted, vmapped and differentiated where that makes sense, and none loops over maps.
Half-precision and integer maps are computed and returned in float32.

NaN means "no value here": it never wins a peak, enters no box and no threshold, and stays NaN
where a map comes back (`resize` and `smooth` spread it to the pixels that read it).
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

Rule = Literal["mean", "min_max", "energy"]


def resize(
    maps: ArrayLike, size: tuple[int, int], *, method: Literal["cubic", "linear"] = "cubic"
) -> jax.Array:
    r"""Returns the maps at another resolution, corner to corner.

    Pixels are areas and their centres lie at half integers, so that output pixel :math:`i` reads
    the input at :math:`(i + 1/2) n_{in} / n_{out} - 1/2`; beyond the border the edge is
    replicated. Values are interpolated, their sum is not kept. Shrinking samples without
    averaging: `smooth` first where that matters.

    Args:
      maps: Values `[..., h, w]`.
      size: Height and width of the result, in pixels; static under `jax.jit`.
      method: `"linear"` is PyTorch's bilinear mode without `align_corners`; `"cubic"` is cubic
        convolution with a = -1/2 (Catmull-Rom: the bicubic of scikit-image's `warp`, which the
        authors of Excitation Backprop used). The latter overshoots: a non-negative map can
        become slightly negative beside a steep edge.

    Returns:
      Values `[..., *size]`, float32 or wider.

    Raises:
      ValueError: `maps` has no two spatial axes, one of them is empty, `size` is not positive,
        or `method` is unknown.

    Example:
      >>> resize(jnp.array([[0.0, 1.0]]), (1, 4), method="linear")
      Array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)

    References:
      Keys, Cubic convolution interpolation for digital image processing, 1981.
    """
    maps = _as_maps(maps)
    if min(size) < 1:
        raise ValueError(f"a map cannot be resized to {size[0]}x{size[1]}: give positive pixels")
    kernel = _choose({"cubic": _cubic, "linear": _linear}, method, "method")
    for axis, length in zip((-2, -1), size, strict=True):
        maps = _interpolate(maps, length, axis, kernel)
    return maps


def smooth(maps: ArrayLike, sigma: float | None = None) -> jax.Array:
    """Returns the maps after a Gaussian, the usual finish of maps made at the image.

    The kernel ends four standard deviations out and sums to one; the edge is replicated.

    Args:
      maps: Values `[..., h, w]`.
      sigma: Standard deviation in pixels of the map, a Python number; by default 0.02 of the
        longer side, the choice of TorchRay for gradients, guided backprop and deconvnets.

    Returns:
      Values in the same shape, float32 or wider. Zero `sigma` changes nothing.

    Raises:
      ValueError: `sigma` is negative or not finite.

    Example:
      >>> [f"{value:.2f}" for value in smooth(jnp.eye(5)[2:3], 0.5)[0]]
      ['0.00', '0.11', '0.79', '0.11', '0.00']
    """
    maps = _as_maps(maps)
    sigma = 0.02 * max(maps.shape[-2:]) if sigma is None else float(sigma)
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma is {sigma}: give a standard deviation in pixels, zero or more")
    if sigma == 0:
        return maps
    radius = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = jnp.asarray(kernel / kernel.sum(), maps.dtype)
    for axis in (maps.ndim - 2, maps.ndim - 1):
        maps = _filter(maps, kernel, axis)
    return maps


def normalise(maps: ArrayLike) -> jax.Array:
    """Returns the maps stretched to 0..1, each by its own minimum and maximum, for display.

    The stretch hides how large a map is: compare maps before it, look at them after it.

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      Values in 0..1 in the same shape. A constant map becomes zero everywhere: nothing stands
      out. NaN stays NaN, an infinity goes to its end of the range.

    Example:
      >>> normalise(jnp.array([[[2.0, 4.0]], [[3.0, 3.0]]]))
      Array([[[0., 1.]],
      <BLANKLINE>
             [[0., 0.]]], dtype=float32)
    """
    maps = _as_maps(maps)
    finite = jnp.isfinite(maps)
    low = jnp.min(maps, axis=(-2, -1), keepdims=True, initial=jnp.inf, where=finite)
    high = jnp.max(maps, axis=(-2, -1), keepdims=True, initial=-jnp.inf, where=finite)
    spread = jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, jnp.clip((maps - low) / spread, 0, 1), jnp.where(finite, 0, maps))


def peak(maps: ArrayLike) -> jax.Array:
    """Returns the row and column of each map's maximum, the point of the pointing game.

    Args:
      maps: Values `[..., h, w]`.

    Returns:
      Indices `int32[..., 2]`, row first. Of equal maxima the first in reading order wins, so a
      flat map, such as a contrastive map without evidence, points at (0, 0): ask
      `maps.max() > maps.min()` before believing it.

    Example:
      >>> peak(jnp.array([[0.0, 1.0], [2.0, 2.0]]))
      Array([1, 0], dtype=int32)
    """
    maps = _as_maps(maps)
    width = maps.shape[-1]
    best = jnp.argmax(_flatten(maps, nan=-jnp.inf), axis=-1).astype("int32")
    return jnp.stack([best // width, best % width], axis=-1)


def boxes(
    maps: ArrayLike,
    threshold: ArrayLike,
    rule: Rule = "mean",
    *,
    size: tuple[int, int] | None = None,
) -> jax.Array:
    r"""Returns the tightest box around what each map keeps above a threshold.

    First the threshold :math:`\alpha`, at the resolution of the map, then the resize, then the
    box over every positive pixel left; there is no step that looks for a largest component.

    * `"mean"` keeps :math:`v \ge \alpha\,\mathrm{mean}(v)`;
    * `"min_max"` keeps :math:`v - \min v \ge \alpha\,(\max v - \min v)`;
    * `"energy"` takes pixels from the largest down and keeps them while their sum is below
      :math:`\alpha \sum v`; the pixel that reaches it is dropped. Equal pixels are taken in
      reading order.

    Args:
      maps: Values `[..., h, w]`. Contrastive maps are meant to be clipped at zero.
      threshold: Value of :math:`\alpha`; a number, or one for each map (any shape that
        broadcasts against the leading axes). May be traced.
      rule: One of the three rules above.
      size: Height and width of the picture the box shall refer to; by default the map's own.
        Static under `jax.jit`.

    Returns:
      Boxes `int32[..., 4]` as `(x0, y0, x1, y1)`, in whole pixels counted from zero and half
      open: columns `x0 <= x < x1` and rows `y0 <= y < y1` belong to it, so it is `x1 - x0` wide.
      Where nothing is left, the whole picture `(0, 0, width, height)`.

    Raises:
      ValueError: `maps` has no two spatial axes, one of them is empty, or `rule` is unknown.

    Example:
      >>> boxes(jnp.array([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]]), 1.5)
      Array([1, 1, 3, 2], dtype=int32)

    References:
      Fong and Vedaldi, `Interpretable Explanations of Black Boxes by Meaningful Perturbation
      <https://arxiv.org/abs/1704.03296>`_, ICCV 2017, section 5.4, and the released code.
    """
    maps = _as_maps(maps)
    threshold = jnp.broadcast_to(jnp.asarray(threshold, maps.dtype), maps.shape[:-2])
    rules = {"mean": _above_mean, "min_max": _above_range, "energy": _most_energy}
    kept = _choose(rules, rule, "rule")(maps, threshold[..., None, None])
    kept = jnp.where(kept, jnp.maximum(maps, 0), 0)
    if size is not None:
        kept = resize(kept, size, method="linear")
    inside = kept > 0
    height, width = inside.shape[-2:]
    x0, x1 = _extent(inside.any(axis=-2), width)
    y0, y1 = _extent(inside.any(axis=-1), height)
    return jnp.stack([x0, y0, x1, y1], axis=-1)


def _choose(table: dict[str, Callable], name: str, what: str) -> Callable:
    if name not in table:
        raise ValueError(f"{what} is {name!r}: choose one of {', '.join(table)}")
    return table[name]


def _as_maps(maps: ArrayLike) -> jax.Array:
    maps = jnp.asarray(maps)
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ValueError(f"maps have shape {maps.shape}: expected [..., height, width]")
    return maps if maps.dtype == jnp.float64 else maps.astype(jnp.float32)


def _flatten(maps: jax.Array, *, nan: float) -> jax.Array:
    return jnp.where(jnp.isnan(maps), nan, maps).reshape(
        *maps.shape[:-2], math.prod(maps.shape[-2:])
    )


def _interpolate(maps: jax.Array, length: int, axis: int, kernel: Callable) -> jax.Array:
    """Reads one axis at the centres of `length` new pixels.

    Two or four gathers rather than a matrix product: exact in float32 on every accelerator, and
    a NaN reaches only the pixels that read it.
    """
    old = maps.shape[axis]
    centre = (np.arange(length) + 0.5) * old / length - 0.5  # static, hence in float64
    first = np.floor(centre).astype(int)
    shape = [length if i == maps.ndim + axis else 1 for i in range(maps.ndim)]
    return sum(
        jnp.take(maps, np.clip(first + offset, 0, old - 1), axis=axis)
        * jnp.asarray(weight.reshape(shape), maps.dtype)
        for offset, weight in kernel(centre - first)
    )  # pyright: ignore[reportReturnType]


def _filter(maps: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    """Shifted multiply-adds: on CPU, XLA's convolutions of one channel are 50 times slower."""
    radius, length = kernel.size // 2, maps.shape[axis]
    padding = [(radius, radius) if i == axis else (0, 0) for i in range(maps.ndim)]
    padded = jnp.pad(maps, padding, mode="edge")

    def add(i, total):
        return total + kernel[i] * lax.dynamic_slice_in_dim(padded, i, length, axis)

    return lax.fori_loop(0, kernel.size, add, jnp.zeros_like(maps), unroll=8)


def _linear(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(0, 1 - t), (1, t)]


def _cubic(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Weights of the four neighbours of a point `t` pixels right of the second one."""
    return [
        (-1, ((2 - t) * t - 1) * t / 2),
        (0, ((3 * t - 5) * t * t + 2) / 2),
        (1, ((4 - 3 * t) * t + 1) * t / 2),
        (2, (t - 1) * t * t / 2),
    ]


def _above_mean(maps: jax.Array, threshold: jax.Array) -> jax.Array:
    return maps >= threshold * jnp.nanmean(maps, axis=(-2, -1), keepdims=True)


def _above_range(maps: jax.Array, threshold: jax.Array) -> jax.Array:
    low = jnp.nanmin(maps, axis=(-2, -1), keepdims=True)
    high = jnp.nanmax(maps, axis=(-2, -1), keepdims=True)
    return maps - low >= threshold * (high - low)


def _most_energy(maps: jax.Array, threshold: jax.Array) -> jax.Array:
    values = _flatten(maps, nan=0)
    ordered = jnp.sort(values, axis=-1, descending=True)
    energy = jnp.cumsum(ordered, axis=-1)
    # Once reached it stays reached, also where negative values make the sum fall again.
    reached = lax.cummax(energy, axis=energy.ndim - 1) >= threshold[..., 0] * energy[..., -1:]
    count = jnp.sum(~reached, axis=-1, keepdims=True)
    last = jnp.take_along_axis(ordered, jnp.maximum(count - 1, 0), axis=-1)
    above, equal = values > last, values == last
    spare = count - jnp.sum(above, axis=-1, keepdims=True)
    kept = (count > 0) & (above | (equal & (jnp.cumsum(equal, axis=-1) <= spare)))
    return kept.reshape(maps.shape)


def _extent(occupied: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """First occupied index and one past the last; the whole axis where there is none."""
    first = jnp.argmax(occupied, axis=-1)
    last = length - jnp.argmax(occupied[..., ::-1], axis=-1)
    some = occupied.any(axis=-1)
    return jnp.where(some, first, 0).astype("int32"), jnp.where(some, last, length).astype("int32")
