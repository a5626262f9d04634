"""Extremal perturbations: the part of the image, of a given area, that the score needs most.

The method is that of Fong, Patrick and Vedaldi, Understanding Deep Networks via Extremal
Perturbations and Smooth Masks, ICCV 2019. Its lengths are given in pixels of a 224 x 224 image;
here they are fractions of the shorter side, the same at 224. The constants are those by which the
authors' release is commonly quoted; only the paper's opening sections were at hand to check them.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.passes import Passes, forward_passes
from jaxground.scores import Classifier, Score

AREAS = (0.025, 0.05, 0.1, 0.2)  # of the authors' pointing game, as fractions of the image
RADIUS = 21 / 224  # of the smallest spot a mask can show, of the shorter side
SPACING = 1 / 3  # between parameters of the mask, in radii: 7 pixels of 224
COLDNESS = 20.0  # inverse temperature of the smooth maximum
BLUR = 20 / 224  # standard deviation where the mask is zero, of the shorter side
LEVELS = 8  # of the pyramid of blurred images
START = 0.9  # of all parameters: nearly clear; at one the blur has no gradient
RATE, MOMENTUM = 0.01, 0.9  # of the gradient ascent
AREA_WEIGHT, AREA_GROWTH = 300.0, 1.0035  # weight of the area in the objective, and its growth
REACH = 2.0  # radii at which the kernel, by then 0.01, ends


def extremal_perturbation(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    areas: Sequence[float] = AREAS,
    steps: int = 800,
    mirror: bool = True,
    score: Score = "logit",
    batch_size: int = 32,
) -> Array:
    """Returns the mean of the extremal masks of several areas, which ranks pixels by importance.

    Cost and arguments are those of `extremal_masks`, of which this is the mean over areas.

    Returns:
      `float32[batch, h, w]`, or `[batch, k, h, w]`, at the resolution of the images, in 0..1.
      Inside the smallest mask the map is flat: smooth it before the pointing game, as the authors
      do, with `maps.smooth(map, 0.09 * min(h, w))`.

    Example:
      >>> f = lambda x: 20 * jnp.square(x).mean((1, 2))
      >>> image = jnp.zeros((1, 24, 24, 1)).at[:, 4:12, 14:22].set(1.0)
      >>> map = extremal_perturbation(f, image, jnp.array([0]), areas=[0.06, 0.12], steps=80)
      >>> map[0, 4:12, 14:22].sum() > 0.4 * map.sum()  # of 11 % of the image
      Array(True, dtype=bool)
    """
    masks = extremal_masks(
        f,
        images,
        targets,
        areas=areas,
        steps=steps,
        mirror=mirror,
        score=score,
        batch_size=batch_size,
    )
    return masks.mean(-3)


def extremal_masks(
    f: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    *,
    areas: Sequence[float] = AREAS,
    steps: int = 800,
    mirror: bool = True,
    score: Score = "logit",
    batch_size: int = 32,
) -> Array:
    r"""Returns, for each area, the smooth mask of that area that keeps the score highest.

    .. math:: m_a = \operatorname{argmax}_m\; s(m \otimes x) - \lambda R_a(m), \quad
              R_a(m) = \frac{1}{|\Omega|} \lVert \mathrm{sort}(m) - r_a \rVert^2

    where :math:`m \otimes x` blurs the image the more the smaller the mask, :math:`r_a` is a
    sequence of zeros followed by a share :math:`a` of ones, and :math:`m` is the smooth
    max-convolution of its parameters with a disk. This is the preservation game. Every image,
    target and area is a problem of its own; they are solved together.

    Cost: `steps` forward and backward passes for each image, target and area.

    Args:
      f: Maps images `float[batch, height, width, channel]` to logits; differentiable in them.
      images: Preprocessed for `f`.
      targets: Classes `int[batch]` or `int[batch, k]`, or a prior.
      areas: Fractions of the image that masks show, each between 0 and 1.
      steps: Of gradient ascent.
      mirror: Show `f` every other step the mirror image, so that masks do not fit one view
        alone. Not for pictures with a handedness, such as text.
      score: What is kept high: the `"logit"`, the `"probability"`, the `"log_probability"` or a
        function of the outputs (see `jaxground.scores`).
      batch_size: Images (problems) per pass; of each image one problem at least is solved at a
        time. Memory is that of a backward pass of as many images.

    Returns:
      `float32[batch, areas, h, w]`, or `[batch, k, areas, h, w]`, in 0..1.

    Raises:
      TypeError: Images or logits are not floating point.
      ValueError: A wrong shape, NaN pixels, a class out of range, an area that is not between 0
        and 1, no step.

    Example:
      >>> f = lambda x: 20 * jnp.square(x).mean((1, 2))
      >>> image = jnp.zeros((1, 24, 24, 1)).at[:, 4:12, 14:22].set(1.0)
      >>> masks = extremal_masks(f, image, jnp.array([0]), areas=[0.1, 0.2], steps=80)
      >>> [round(float(area), 1) for area in masks[0].mean((1, 2))]
      [0.1, 0.2]

    References:
      Fong et al., ICCV 2019: the objective with an area, its ranking loss, the pyramid and the
      smooth masks. Constants: see the head of this module. Ours: the maximum is taken
      at the parameters' own lattice and interpolated between; pixels of equal value share their
      part of the template, so that no order of pixels is preferred; parameters start just
      below one, where the score's gradient is not zero, and the area counts from the second step
      on, once that gradient has broken the tie; beyond the border the outermost parameters go on.
    """
    if not areas or not all(0 < area < 1 for area in areas) or steps < 1:
        raise ValueError(
            f"extremal masks need areas between 0 and 1 and at least one step, got {areas=}, "
            f"{steps=}"
        )
    passes = forward_passes(f, images, targets, score)
    batch, *size, _ = passes.images.shape
    pyramid = _pyramid(passes.images)
    wanted = jnp.asarray(areas, jnp.float32)
    count = passes.targets * len(areas)

    def solve(numbers: Array) -> Array:
        target, area = jnp.divmod(jnp.minimum(numbers, count - 1), len(areas))
        return _ascend(passes, pyramid, target, wanted[area], steps, mirror)

    masks = lax.map(solve, passes.chunks(count, batch_size))  # [rows, batch, n, h, w]
    masks = jnp.moveaxis(masks, 0, 1).reshape(batch, -1, *size)[:, :count]
    return passes.per_target(masks.reshape(batch, passes.targets, len(areas), *size))


def _ascend(
    passes: Passes, pyramid: Array, target: Array, area: Array, steps: int, mirror: bool
) -> Array:
    """Returns the masks `[batch, n, h, w]` of `n` problems per image."""
    batch, *size, _ = passes.images.shape

    def loss(parameters, step):
        mask = _mask(parameters, size)
        seen = _blend(pyramid, mask)
        if mirror:
            seen = jnp.where(step % 2 == 1, seen[..., ::-1, :], seen)
        scores = jnp.take_along_axis(passes.scores(seen), target[None, None], axis=1)
        weight = jnp.where(step > 0, AREA_WEIGHT * AREA_GROWTH**step, 0)
        return weight * _area_loss(mask, area).sum() - scores.sum()

    def ascend(state, step):
        parameters, velocity = state
        velocity = MOMENTUM * velocity + jax.grad(loss)(parameters, step.astype(jnp.float32))
        return (jnp.clip(parameters - RATE * velocity, 0, 1), velocity), None

    start = jnp.full((batch, len(target), *_lattice(size)), START, jnp.float32)
    (parameters, _), _ = lax.scan(ascend, (start, jnp.zeros_like(start)), jnp.arange(steps))
    return _mask(parameters, size)


def _area_loss(mask: Array, area: Array) -> Array:
    """Returns `R_a` of each mask `[batch, n, h, w]`, `area` being `[n]`.

    To sort is to compare with the value at the step of the template: what is larger belongs to the
    ones, what is smaller to the zeros, and what is equal to both, in proportion.
    """
    pixels = mask.shape[-2] * mask.shape[-1]
    shown = jnp.clip(jnp.round(area * pixels), 1, pixels - 1).astype(jnp.int32)[:, None]
    values = lax.stop_gradient(mask).reshape(*mask.shape[:2], pixels)
    ordered = jnp.sort(values, axis=-1)
    edge = jnp.take_along_axis(ordered, (pixels - shown)[None], axis=-1)
    above, equal = values > edge, values == edge
    left = shown - above.sum(-1, keepdims=True)
    template = jnp.where(equal, left / equal.sum(-1, keepdims=True), above)
    return jnp.square(mask - template.reshape(mask.shape)).mean((-2, -1))


def _pyramid(images: Array) -> Array:
    """Returns the image ever less blurred, `[levels, batch, 1, h, w, channel]`."""
    sigmas = BLUR * min(images.shape[1:3]) * np.linspace(1, 0, LEVELS)
    rows, columns = (np.stack([_gaussian(n, s) for s in sigmas]) for n in images.shape[1:3])
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    levels = jnp.einsum("lyh,bhwc,lxw->lbyxc", rows, wide, columns, precision="highest")
    return levels.astype(images.dtype)[:, :, None]


def _gaussian(side: int, sigma: float) -> np.ndarray:
    """Returns the matrix that blurs one axis, its edge replicated, `float32[side, side]`."""
    radius = math.ceil(4 * sigma)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    matrix = np.zeros((side, side), np.float32)
    pixels = np.arange(side)[:, None]
    np.add.at(matrix, (pixels, np.clip(pixels + offsets, 0, side - 1)), weights / weights.sum())
    return matrix


def _blend(pyramid: Array, mask: Array) -> Array:
    """Returns each pixel from between the two levels that its value in the mask names."""
    level = mask[..., None] * (LEVELS - 1)
    weights = jnp.stack([jnp.maximum(1 - jnp.abs(level - i), 0) for i in range(LEVELS)])
    return (weights.astype(pyramid.dtype) * pyramid).sum(0)


def _lattice(size: Sequence[int]) -> tuple[int, int]:
    """Returns the shape of the parameters, which lie on a lattice from corner to corner."""
    spacing = SPACING * RADIUS * min(size)
    return math.ceil(size[0] / spacing) + 1, math.ceil(size[1] / spacing) + 1


def _mask(parameters: Array, size: Sequence[int]) -> Array:
    """Returns the masks `[..., *size]`: smooth maximum over disks, then linear interpolation."""
    reach = math.ceil(REACH / SPACING)
    offsets = np.arange(-reach, reach + 1) * SPACING
    distance = np.hypot(offsets[:, None], offsets)
    kernel = np.exp(-2 * np.maximum(distance - 0.5, 0) ** 2) * (distance <= REACH)
    rows, columns = np.nonzero(kernel)
    height, width = parameters.shape[-2:]
    at_rows = np.clip(np.arange(height)[:, None, None] + rows - reach, 0, height - 1)
    at_columns = np.clip(np.arange(width)[:, None] + columns - reach, 0, width - 1)
    values = parameters[..., at_rows, at_columns] * kernel[rows, columns]
    weights = jax.nn.softmax(COLDNESS * values)
    coarse = (weights * values).sum(-1)
    spacing = SPACING * RADIUS * min(size)
    tents = [
        np.maximum(1 - np.abs((np.arange(side) + 0.5)[:, None] / spacing - np.arange(n)), 0)
        for side, n in zip(size, (height, width), strict=True)
    ]
    tents = [jnp.asarray(tent, jnp.float32) for tent in tents]
    return jnp.einsum("ha,...ab,wb->...hw", tents[0], coarse, tents[1], precision="highest")
