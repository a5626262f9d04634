"""Deletion and insertion against RISE's procedure in NumPy, and the rule for ties."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from degenerate import FLAT, ONE_PIXEL
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from jaxground.metrics import deletion, insertion
from jaxground.metrics.asking import on_images
from jaxground.metrics.curves import STEPS, blur
from jaxground.metrics.ranking import removal_ranks, tied_ranks

HEIGHT, WIDTH = FLAT.shape[1:]
KEYS = jax.random.split(jax.random.key(0), 4)
WEIGHTS = jax.random.normal(KEYS[0], (HEIGHT * WIDTH * 3, 4))
IMAGES = jax.random.normal(KEYS[1], (2, HEIGHT, WIDTH, 3))
K = 4
MAPS = jax.random.normal(KEYS[2], (2, K, HEIGHT, WIDTH))
TARGETS = jnp.array([[0, 3, 3, 1], [2, 1, 0, 0]])


ranks_of = jax.jit(removal_ranks, static_argnums=1)


def classify(images):
    return jnp.tanh(images.reshape(len(images), -1) @ WEIGHTS)


def probability(image, target):
    logits = np.tanh(image.reshape(-1).astype(np.float64) @ np.asarray(WEIGHTS, np.float64))
    return np.exp(logits[target]) / np.exp(logits).sum()


def rise(start, finish, saliency, target, step):
    """The loop of `CausalMetric.single_run`: an image that is changed `step` pixels at a time."""
    order = np.argsort(-saliency.ravel())
    image = start.copy().reshape(-1, 3)
    scores = [probability(image, target)]
    for begin in range(0, order.size, step):
        pixels = order[begin : begin + step]
        image[pixels] = finish.reshape(-1, 3)[pixels]
        scores.append(probability(image, target))
    scores = np.array(scores)
    return scores, (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def rise_blur(image):
    """The kernel of `gkern(11, 5)`, applied as a zero-padded convolution."""
    point = np.zeros((11, 11))
    point[5, 5] = 1
    kernel = gaussian_filter(point, 5)
    return np.stack([convolve2d(image[..., c], kernel, mode="same") for c in range(3)], -1)


def test_blur_is_that_of_rise():
    images = np.asarray(jax.random.normal(KEYS[3], (2, 19, 23, 3)))
    expected = np.stack([rise_blur(image) for image in images])
    np.testing.assert_allclose(jax.jit(blur)(images), expected, atol=2e-6)


@partial(jax.jit, static_argnames="batch_size")
def curves(maps, targets, batch_size=1):
    """Both metrics in one compilation; the insertion starts from zero on the second return."""
    ask = partial(insertion, classify, IMAGES, maps, targets, step=5, batch_size=batch_size)
    deleted = deletion(classify, IMAGES, maps, targets, step=5, batch_size=batch_size)
    return deleted, ask(), ask(baseline=0.0)


def test_curves_are_those_of_rise():
    """Several maps of each image, a step that does not divide the pixels, chunks or none."""
    images, maps = np.asarray(IMAGES), np.asarray(MAPS)
    blurred, black = np.stack([rise_blur(i) for i in images]), np.zeros_like(images)
    paths = (images, black), (blurred, images), (black, images)
    for path, curve, chunked in zip(
        paths, curves(MAPS, TARGETS), curves(MAPS, TARGETS, 4), strict=True
    ):
        assert curve.scores.shape == (2, K, 6) and curve.area.shape == (2, K)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), curve, chunked)
        for b, k in np.ndindex(2, K):
            case = path[0][b], path[1][b], maps[b, k], int(TARGETS[b, k]), 5
            scores, area = rise(*case)
            np.testing.assert_allclose(curve.scores[b, k], scores, atol=1e-5)
            np.testing.assert_allclose(curve.area[b, k], area, atol=1e-5)


def test_one_target_and_a_prior():
    """One target has no axis of its own, nor has its prior."""
    several, _, _ = curves(MAPS, TARGETS)

    @jax.jit
    def run(maps):
        one = deletion(classify, IMAGES, maps, TARGETS[:, 1], step=5)
        prior = jax.nn.one_hot(TARGETS[:, 1], 4) * 2
        return one, deletion(classify, IMAGES, maps, prior, step=24, score="logit")

    one, doubled = run(MAPS[:, 1])
    np.testing.assert_allclose(one.scores, several.scores[:, 1], rtol=1e-6)
    np.testing.assert_allclose(one.area, several.area[:, 1], rtol=1e-6)
    logits = jnp.take_along_axis(classify(IMAGES), TARGETS[:, 1:2], 1)
    np.testing.assert_allclose(doubled.scores[:, :1], 2 * logits, rtol=1e-5)


def test_step_by_default_is_that_of_rise():
    """224 * 8 pixels at 224 x 224: 28 steps, 29 points."""
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 224, 224, 3), (1, 224, 224))]
    run = partial(deletion, lambda x: x.mean((1, 2)), targets=jnp.array([0]))
    assert jax.eval_shape(run, *shapes).scores.shape == (1, 29)
    assert STEPS * 224 * 8 == 224 * 224


def test_maps_of_another_resolution_are_resized_and_ties_survive():
    """A flat background, a plateau on top: the resize must not put their pixels in an order."""
    coarse = jnp.full((1, 1, 4, 4), 0.3).at[0, 0, :2].set(0.7)
    maps, _ = jax.jit(on_images)(coarse, jnp.zeros((1, 16, 16, 3)))
    ranks = np.asarray(ranks_of(maps[0, 0], "morf"))
    assert np.ptp(ranks[:2]) == np.ptp(ranks[-2:]) == 0  # away from the step, where cubics swing
    assert ranks[0, 0] < ranks[-1, 0]


def test_flat_maps_change_everything_at_one_step_whichever_is_worse():
    """So they have the worst area that a curve between its ends can have, whatever the order."""
    maps = jnp.concatenate([FLAT, MAPS[0, :1]]).reshape(2, K, HEIGHT, WIDTH)
    found = zip(curves(maps, TARGETS), curves(MAPS, TARGETS), (max, min, min), strict=True)
    for flat, curve, worse in found:
        pairs = zip(*(x.scores.reshape(2 * K, -1) for x in (flat, curve)), strict=True)
        for scores, ends in list(pairs)[: len(FLAT)]:
            np.testing.assert_allclose((scores[0], scores[-1]), (ends[0], ends[-1]), rtol=1e-6)
            np.testing.assert_allclose(scores[1:-1], worse(ends[0], ends[-1]), rtol=1e-6)


def test_flat_maps_lose_against_a_map_that_knows_and_against_noise():
    """Network: the sum of the upper left corner. Even a random order says more than none."""
    corner = jnp.zeros((HEIGHT, WIDTH)).at[:2, :2].set(1)
    noise = jax.random.uniform(KEYS[3], (HEIGHT, WIDTH))
    maps = jnp.stack([corner + noise / 9, noise, *FLAT])[None]

    @jax.jit
    def areas(images):
        ask = (lambda x: x[:, :2, :2].sum((1, 2)), images, maps, jnp.zeros((1, 9), int))
        options = {"step": 2, "score": "logit", "baseline": 0.0}
        return deletion(*ask, **options).area[0], insertion(*ask, **options).area[0]

    deleted, inserted = areas(jnp.ones((1, HEIGHT, WIDTH, 1)))
    assert deleted[0] < deleted[1] < deleted[2:].min()
    assert inserted[0] > inserted[1] > inserted[2:].max()
    deleted, inserted = areas(-jnp.ones((1, HEIGHT, WIDTH, 1)))  # the baseline scores higher
    assert max(deleted[:2]) < deleted[2:].min() and min(inserted[:2]) > inserted[2:].max()


def test_one_pixel_goes_first():
    ranks = np.asarray(ranks_of(ONE_PIXEL.astype(np.float32), "morf"))
    assert ranks[ONE_PIXEL] == 0 and (ranks[~ONE_PIXEL] == ONE_PIXEL.size - 1).all()


def test_order_does_not_depend_on_where_a_pixel_lies():
    relevance = np.round(2 * np.asarray(MAPS[0, 0]))  # many ties
    for order in ("morf", "lerf"):
        ranks = np.asarray(ranks_of(relevance, order))
        reversed_ranks = ranks_of(relevance[::-1, ::-1], order)
        np.testing.assert_array_equal(reversed_ranks, ranks[::-1, ::-1])


def test_tied_ranks():
    values = np.array([[3.0, 1.0, np.nan, 3.0, -np.inf, 3.0], [0.0, -0.0, 1.0, 2.0, 2.0, -1.0]])
    first, last = jax.jit(tied_ranks)(jnp.asarray(values))
    clean = np.where(np.isnan(values), -np.inf, values)
    np.testing.assert_array_equal(first, [[(row < v).sum() for v in row] for row in clean])
    np.testing.assert_array_equal(last, [[(row <= v).sum() - 1 for v in row] for row in clean])


def test_memory_does_not_grow_with_the_steps():
    def temporaries(step):
        run = jax.jit(
            lambda x, m: deletion(classify, x, m, TARGETS[:, 0], step=step, batch_size=len(x))
        )
        return run.lower(IMAGES, MAPS[:, 0]).compile().memory_analysis().temp_size_in_bytes

    few, many = temporaries(HEIGHT * WIDTH), temporaries(1)
    assert many - few < IMAGES.nbytes  # 23 more steps, not 23 more images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": MAPS[0]}, r"maps \(4, 4, 6\) do not go with images"),
        ({"maps": MAPS[:, 0]}, r"targets \(2, 4\) do not go with the maps"),
        ({"maps": MAPS[:, :2]}, "2 maps do not go with 4 targets"),
        ({"targets": TARGETS + 1}, r"classes \[4\] are out of range"),
        ({"step": 0}, "step is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"baseline": jnp.zeros((5, 1, 1))}, r"does not broadcast|broadcast"),
        ({"images": IMAGES.at[0, 0, 0].set(jnp.nan)}, "NaN"),
    ],
)
def test_errors(change, message):
    arguments = {"images": IMAGES, "maps": MAPS, "targets": TARGETS} | change
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: deletion(classify, **arguments))
