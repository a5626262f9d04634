"""Score-CAM against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxground.attribution.score_cam import score_cam
from jaxground.core import tap


def test_against_loop():
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 9, 6, 3))
    mix, last = random.normal(size=(3, 5)), random.normal(size=(5, 4))
    targets = np.array([[0, 3], [1, 2]])

    def hidden(x):  # [h, w, 3] -> [3, 2, 5]; the last channel is constant
        values = x.reshape(3, 3, 2, 3, 3).mean((1, 3)) @ mix
        values[..., 4] = 0.25
        return values

    expected = np.zeros((2, 2, 3, 2))
    at = np.meshgrid((np.arange(9) + 0.5) / 3 - 0.5, (np.arange(6) + 0.5) / 3 - 0.5, indexing="ij")
    for b in range(2):
        activations = hidden(images[b])
        logits = []
        for c in range(4):
            up = ndimage.map_coordinates(activations[..., c], at, order=1, mode="nearest")
            shown = (up - up.min()) / (up.max() - up.min())
            logits.append(10 * hidden(images[b] * shown[..., None]).mean((0, 1)) @ last)
        for k in range(2):
            exponentials = np.exp(np.stack(logits)[:, targets[b, k]])
            weights = exponentials / exponentials.sum()
            expected[b, k] = np.maximum((activations[..., :4] * weights).sum(-1), 0)

    def network(x):
        values = x.reshape(-1, 3, 3, 2, 3, 3).mean((2, 4)) @ mix
        values = tap(values.at[..., 4].set(0.25), "hidden")
        return 10 * values.mean((1, 2)) @ last

    images = jnp.asarray(images, jnp.float32)
    explain = jax.jit(lambda x, t: score_cam(network, x, t, at="hidden", batch_size=6))
    maps = explain(images, targets)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)


def test_no_channel_says_anything():
    def network(x):
        return tap(jnp.zeros((len(x), 3, 3, 2)) * x[:, :3, :3, :1], "dead").mean((1, 2))

    maps = jax.jit(lambda x: score_cam(network, x, [0], at="dead"))(jnp.ones((1, 6, 6, 1)))
    np.testing.assert_array_equal(maps, np.zeros((1, 3, 3)))


def test_taps():
    def network(x):
        return tap(jax.nn.relu(x).mean((1, 2)), "vector")

    with pytest.raises(ValueError, match=r"tap 'vector' has shape \(1, 2\); score_cam needs"):
        score_cam(network, jnp.ones((1, 4, 4, 2)), jnp.array([0]), at="vector")
    with pytest.raises(KeyError, match="no tap named 'conv'"):
        score_cam(network, jnp.ones((1, 4, 4, 2)), jnp.array([0]), at="conv")
