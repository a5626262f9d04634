"""Region perturbation against a loop over regions, and ROAD against a dense linear system."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from degenerate import FLAT

from jaxground.metrics import impute, region_perturbation, road

HEIGHT, WIDTH = FLAT.shape[1:]
KEYS = jax.random.split(jax.random.key(5), 4)
IMAGES = jax.random.normal(KEYS[0], (2, HEIGHT, WIDTH, 3))
WEIGHTS = jax.random.normal(KEYS[1], (HEIGHT * WIDTH * 3, 2))
MAPS = jnp.concatenate([jax.random.normal(KEYS[2], (1, HEIGHT, WIDTH)), FLAT]).reshape(
    2, 4, HEIGHT, WIDTH
)
COLUMNS = np.asarray(WEIGHTS)
TARGETS = np.array([[0, 1, 0, 1], [1, 0, 1, 0]])


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def neighbours(p, shape):
    """The eight around a pixel that lie in the image, with the weights of Rong et al."""
    for dy, dx in np.ndindex(3, 3):
        q = p[0] + dy - 1, p[1] + dx - 1
        if q != p and 0 <= q[0] < shape[0] and 0 <= q[1] < shape[1]:
            yield q, 1 / 6 if 1 in (dy, dx) else 1 / 12


def dense_imputation(image, removed):
    """Every removed pixel is the mean of its neighbours: one equation each."""
    unknown = [tuple(p) for p in np.argwhere(removed)]
    matrix, right = np.zeros((len(unknown),) * 2), np.zeros((len(unknown), image.shape[-1]))
    for row, p in enumerate(unknown):
        for q, weight in neighbours(p, removed.shape):
            matrix[row, row] += weight
            if removed[q]:
                matrix[row, unknown.index(q)] -= weight
            else:
                right[row] += weight * image[q]
    filled = np.array(image, np.float64)
    filled[removed] = np.linalg.solve(matrix, right)
    return filled


def test_impute_solves_the_dense_system():
    """Scattered pixels, a hole as large as the image allows, the border; a batch of images."""
    images = np.asarray(jax.random.normal(KEYS[3], (3, 9, 11, 2)))
    removed = np.asarray(jax.random.uniform(KEYS[3], (3, 9, 11))) < 0.6
    removed[1], removed[1, 0, 0] = True, False
    removed[2, :, :6], removed[2, :, 6:] = True, False
    filled = jax.jit(impute)(images, removed)
    expected = [dense_imputation(*case) for case in zip(images, removed, strict=True)]
    np.testing.assert_allclose(filled, np.stack(expected), atol=2e-4)
    np.testing.assert_array_equal(filled[~removed], images[~removed])


def test_impute_without_a_known_pixel_gives_the_mean():
    images = np.stack([IMAGES[0], np.full_like(IMAGES[0], 0.3)])
    filled = jax.jit(impute)(images, np.ones(images.shape[:3], bool))
    mean = np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)
    np.testing.assert_allclose(filled, mean, rtol=1e-6)


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_road(order):
    """The first map is a map, the others say nothing: none goes first, or all do."""
    fractions = (0.25, 0.5)
    run = partial(road, linear, key=KEYS[0], order=order, fractions=fractions, noise=0.0)
    curve = jax.jit(lambda x, m: run(x, m, TARGETS, score="logit"))(IMAGES, MAPS)
    scores = np.asarray(curve.scores)
    assert scores.shape == (2, 4, 2)
    np.testing.assert_allclose(curve.area, scores.mean(-1), rtol=1e-6)

    def score(image, at):
        return (image.reshape(-1) @ COLUMNS)[TARGETS[at]]

    ascending = np.argsort(np.asarray(MAPS[0, 0]).ravel())
    pixels = ascending if order == "lerf" else ascending[::-1]
    for i, fraction in enumerate(fractions):
        removed = np.zeros(HEIGHT * WIDTH, bool)
        removed[pixels[: round(fraction * HEIGHT * WIDTH)]] = True
        filled = dense_imputation(np.asarray(IMAGES[0]), removed.reshape(HEIGHT, WIDTH))
        np.testing.assert_allclose(scores[0, 0, i], score(filled, (0, 0)), rtol=1e-3)
    images = np.asarray(IMAGES)
    blank = np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)
    untouched = images if order == "morf" else blank
    for at in list(np.ndindex(2, 4))[1:]:
        np.testing.assert_allclose(scores[at], score(untouched[at[0]], at), rtol=1e-4)


def test_road_adds_noise_to_removed_pixels_alone():
    """The score is one pixel, once removed and once not."""
    run = partial(road, lambda x: x[..., 0].reshape(len(x), -1), key=KEYS[1], fractions=(0.5,))
    order = np.argsort(np.asarray(MAPS[0, 0]).ravel())
    targets = order[[-1, 0]][None]  # the most and the least relevant pixel
    maps = jnp.stack([MAPS[0, 0]] * 2)[None]

    @jax.jit
    def difference(x):
        loud, quiet = (
            run(x, maps, targets, noise=noise, score="logit").scores for noise in (2.0, 0.0)
        )
        return loud - quiet

    removed, kept = difference(IMAGES[:1])[0, :, 0]
    assert removed != 0 and kept == 0


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_region_perturbation(order):
    """A loop over the six regions of 2 x 2 pixels."""
    run = partial(region_perturbation, linear, key=KEYS[1], order=order, side=2, score="logit")
    found = jax.jit(lambda x, m: run(x, m, TARGETS))(IMAGES, MAPS)
    scores = np.asarray(found.scores)
    assert scores.shape == (2, 4, 7)
    low, high = IMAGES[0].min((0, 1)), IMAGES[0].max((0, 1))
    noise = np.asarray(low + (high - low) * jax.random.uniform(KEYS[1], IMAGES.shape)[0])
    means = np.asarray(MAPS[0, 0]).reshape(2, 2, 3, 2).mean((1, 3)).ravel()
    image, expected = np.array(IMAGES[0]), []
    for region in [None, *(np.argsort(means) if order == "lerf" else np.argsort(-means))]:
        if region is not None:
            y, x = 2 * (region // 3), 2 * (region % 3)
            image[y : y + 2, x : x + 2] = noise[y : y + 2, x : x + 2]
        expected.append((image.reshape(-1) @ COLUMNS)[0])
    np.testing.assert_allclose(scores[0, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(
        found.aopc[0, 0], np.mean(expected[0] - np.array(expected)), rtol=1e-4
    )
    for at in list(np.ndindex(2, 4))[1:]:  # flat maps: all at once, in either order
        late = order == "morf"
        np.testing.assert_allclose(scores[at][1:-1], scores[at][0 if late else -1], rtol=1e-4)


def test_regions_at_the_border_are_cut():
    """3 x 3 regions on 4 x 6 pixels: the lower two have one row; relevance is the mean."""
    maps = jnp.ones((1, HEIGHT, WIDTH)).at[0, 3, :3].set(2.0)
    maps, rows = jnp.stack([maps] * HEIGHT, 1), jnp.arange(HEIGHT)[None]  # a row is a class
    run = partial(region_perturbation, lambda x: x.sum((2, 3)), key=KEYS[1], side=3, steps=1)
    scores = jax.jit(lambda x, m: run(x, m, rows).scores)(IMAGES[:1], maps)[0]
    np.testing.assert_array_equal(scores[:, 0] != scores[:, 1], [False, False, False, True])


@pytest.mark.parametrize(
    ("metric", "change", "message"),
    [
        (road, {"fractions": (0.5, 1.2)}, r"fractions are \[0.5, 1.2\]"),
        (road, {"order": "most"}, "order is 'most'"),
        (region_perturbation, {"side": 0}, "side is 0"),
        (region_perturbation, {"steps": 0}, "steps 0"),
    ],
)
def test_errors(metric, change, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: metric(linear, IMAGES, MAPS, TARGETS, key=KEYS[0], **change))
