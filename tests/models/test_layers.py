"""Pooling against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxground.models.layers import adaptive_average_pool, dense_on_grid, max_pool


def _windows(length, size, strides, padding, ceil):
    """Returns the windows of one axis as PyTorch documents them, on unpadded indices."""
    begins = []
    begin = -padding
    while begin + size <= length + padding or (ceil and begin < length and begin + size - strides
                                               < length + padding):  # fmt: skip
        begins.append(begin)
        begin += strides
    return [range(max(b, 0), min(b + size, length)) for b in begins]


@given(
    st.integers(3, 15), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans()
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_max_pool(length, size, strides, padding, ceil):
    padding = min(padding, size // 2)  # PyTorch allows no more
    x = np.random.default_rng(0).standard_normal((1, length, 4, 2)).astype(np.float32)
    rows = _windows(length, size, strides, padding, ceil)
    columns = _windows(4, size, strides, padding, ceil)
    expected = np.array([[x[0][np.ix_(r, c)].max((0, 1)) for c in columns] for r in rows])
    with jax.disable_jit():
        found = max_pool(jnp.asarray(x), size, strides, padding=padding, ceil=ceil)
    np.testing.assert_array_equal(found[0], expected)


def test_max_pool_is_one_primitive():
    jaxpr = jax.make_jaxpr(lambda x: max_pool(x, 3, 2, ceil=True))(jnp.ones((1, 6, 6, 1)))
    assert [e.primitive.name for e in jaxpr.jaxpr.eqns] == ["reduce_window_max"]


@pytest.mark.parametrize("size, grid", [((5, 7), (3, 3)), ((3, 2), (6, 6)), ((12, 6), (6, 6))])
def test_adaptive_average_pool(size, grid):
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    found = adaptive_average_pool(jnp.asarray(x), grid)
    for i in range(grid[0]):
        for j in range(grid[1]):
            rows = slice(i * size[0] // grid[0], -(-(i + 1) * size[0] // grid[0]))
            columns = slice(j * size[1] // grid[1], -(-(j + 1) * size[1] // grid[1]))
            expected = x[:, rows, columns].mean((1, 2))
            np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-5, atol=1e-6)


def test_adaptive_average_pool_of_the_right_size_is_nothing():
    assert not jax.make_jaxpr(lambda x: adaptive_average_pool(x, (6, 6)))(
        jnp.ones((1, 6, 6, 2))
    ).jaxpr.eqns


def test_dense_on_grid_is_the_dense_layer_on_every_window():
    layer = nnx.Linear(2 * 3 * 4, 5, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(5.0)
    x = jax.random.normal(jax.random.key(1), (2, 4, 5, 4))
    found = dense_on_grid(layer, x, (2, 3))
    assert found.shape == (2, 3, 3, 5)
    for row in range(3):
        for column in range(3):
            window = x[:, row : row + 2, column : column + 3].reshape(2, -1)
            np.testing.assert_allclose(found[:, row, column], layer(window), rtol=1e-5, atol=1e-5)
