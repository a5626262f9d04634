"""Infidelity and sensitivity-n where they are known: linear networks, and maps that say nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from degenerate import FLAT

from jaxground.metrics import infidelity, sensitivity_n

HEIGHT, WIDTH = FLAT.shape[1:]
KEYS = jax.random.split(jax.random.key(7), 3)
IMAGES = jax.random.normal(KEYS[0], (2, HEIGHT, WIDTH, 3))
WEIGHTS = jax.random.normal(KEYS[1], (HEIGHT * WIDTH * 3, 2))
BASELINE = 0.5
CONTRIBUTIONS = jnp.moveaxis(  # [batch, class, h, w]: what the removal of a pixel takes
    ((IMAGES - BASELINE)[..., None] * WEIGHTS.reshape(HEIGHT, WIDTH, 3, 2)).sum(3), -1, 1
)
TRUE = CONTRIBUTIONS[:, 0]
# Eleven maps of each image, all of class 0: the truth, twice, reversed, spoilt, and flat ones.
MAPS = jnp.concatenate(
    [
        jnp.stack([TRUE, 2 * TRUE + 0, -TRUE, TRUE.at[:, 0, 0].set(jnp.nan)], 1),
        jnp.broadcast_to(FLAT, (2, *FLAT.shape)),
    ],
    axis=1,
)
TARGETS = np.zeros((2, MAPS.shape[1]), int)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS + 3.0


def test_infidelity():
    run = partial(infidelity, linear, key=KEYS[2], samples=200, baseline=BASELINE, batch_size=24)
    value, scaled = jax.jit(lambda x, m: run(x, m, TARGETS))(IMAGES, MAPS)
    unit = np.asarray(value)[:, 4]  # of a map of zeros: the mean squared change of the score
    assert (unit > 0.1).all()
    np.testing.assert_allclose(value[:, 0], 0, atol=1e-9)
    np.testing.assert_allclose(scaled[:, :3], 0, atol=1e-9)  # any multiple of it, too
    np.testing.assert_allclose(value[:, 1], unit, rtol=1e-4)  # (2 - 1)^2
    np.testing.assert_allclose(value[:, 2], 4 * unit, rtol=1e-4)  # (-1 - 1)^2
    assert (np.asarray(scaled)[:, 3] > 0).all()
    assert (np.asarray(scaled)[:, :4] < unit[:, None]).all()
    for flat in (value, scaled):  # no map is worse, once scaled
        np.testing.assert_allclose(flat[:, 4:], np.broadcast_to(unit[:, None], (2, 7)), rtol=1e-6)


def test_infidelity_draws_every_square_equally_often():
    """One bright pixel is in a known share of the squares; the score is whether it is covered."""
    images = jnp.ones((1, 7, 7, 1))
    at = jnp.zeros((1, 7, 7)).at[0, 3, 2].set(1.0)
    zero = partial(infidelity, lambda x: x[:, 3, 2], key=KEYS[0], samples=4000, score="logit")
    share = jax.jit(lambda x, m: zero(x, m, jnp.array([0])).value)(images, 0 * at)[0]
    covered = [  # sides 1 to ceil(7 * 10 / 28) = 3
        top <= 3 < top + side and left <= 2 < left + side
        for side in (1, 2, 3)
        for top in range(8 - side)
        for left in range(8 - side)
    ]
    np.testing.assert_allclose(share, np.mean(covered), atol=0.03)


def test_sensitivity_n():
    sizes = (1, 7, HEIGHT * WIDTH)
    run = partial(sensitivity_n, linear, key=KEYS[2], sizes=sizes, samples=12, baseline=BASELINE)
    found = np.asarray(jax.jit(lambda x, m: run(x, m, TARGETS))(IMAGES, MAPS))
    assert found.shape == (2, MAPS.shape[1], 3)
    np.testing.assert_allclose(found[:, :2, :2], 1, atol=1e-5)
    np.testing.assert_allclose(found[:, 2, :2], -1, atol=1e-5)
    assert (found[:, 3, :2] < 1).all()
    np.testing.assert_array_equal(found[:, 4:], 0)  # a flat map says that all sets are alike
    np.testing.assert_array_equal(found[..., 2], 0)  # all pixels: there is one set


def test_sensitivity_n_is_pearson_over_sets():
    """Not linear: read the sets off the network itself, and correlate in NumPy."""
    images = jnp.ones((1, HEIGHT, WIDTH, 1))
    relevance = jax.random.normal(KEYS[2], (1, HEIGHT, WIDTH))
    seen = []

    def network(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x[..., 0])), x)
        return (x.sum((1, 2)) ** 2 + x[:, 0, 0]) * x[:, 1, 1]

    run = partial(sensitivity_n, network, key=KEYS[0], sizes=[5], samples=16, batch_size=99)
    found = jax.jit(lambda x, m: run(x, m, jnp.array([0])))(images, relevance)
    jax.effects_barrier()
    (removed,) = 1 - np.stack(seen)
    removed = removed[1:]  # the first is the image as it is
    assert removed.shape[0] == 16 and (removed.sum((1, 2)) == 5).all()
    kept = 1 - removed
    scores = (kept.sum((1, 2)) ** 2 + kept[:, 0, 0]) * kept[:, 1, 1]
    predicted = (removed * np.asarray(relevance)).sum((1, 2))
    np.testing.assert_allclose(found[0, 0], np.corrcoef(-scores, predicted)[0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("metric", "change", "message"),
    [
        (infidelity, {"samples": 0}, "samples is 0"),
        (sensitivity_n, {"sizes": []}, r"sizes are \[\]"),
        (sensitivity_n, {"sizes": [25]}, r"numbers of pixels in 1..24"),
        (sensitivity_n, {"sizes": [2], "samples": 1}, "at least two samples"),
    ],
)
def test_errors(metric, change, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: metric(linear, IMAGES, MAPS, TARGETS, key=KEYS[0], **change))
