"""Depthwise convolution against XLA's grouped convolution, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxground.core import excite
from jaxground.models import depthwise_convolution

CASES = [
    ((1, 1), "SAME", 3),
    ((2, 2), "SAME", 3),
    ((2, 1), "VALID", 3),
    ((1, 1), ((0, 1), (2, 0)), 2),
    ((2, 2), ((2, 2), (2, 2)), 5),
]


def _grouped(x, kernel, strides, padding):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1], precision="highest",
    )  # fmt: skip


def _operands(size):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, 9, 8, 4))
    return x, jax.random.normal(keys[1], (size, size, 1, 4))


@pytest.mark.parametrize("strides, padding, size", CASES)
def test_values_and_both_transposes(strides, padding, size):
    def outputs(convolve):
        y, pull = jax.vjp(lambda x, k: convolve(x, k, strides, padding), *_operands(size))
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    found = jax.jit(lambda: outputs(depthwise_convolution))()
    expected = jax.jit(lambda: outputs(_grouped))()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_vmap_and_forward_mode():
    x, kernel = _operands(3)
    rows = jax.jit(jax.vmap(lambda x: depthwise_convolution(x[None], kernel)[0]))(x)
    np.testing.assert_allclose(rows, depthwise_convolution(x, kernel), rtol=1e-5, atol=1e-5)
    kernels = jnp.stack([kernel, -2 * kernel])
    both = jax.jit(jax.vmap(depthwise_convolution, (None, 0)))(x, kernels)
    np.testing.assert_allclose(both[1], -2 * both[0], rtol=1e-5, atol=1e-5)
    _, tangent = jax.jvp(lambda x: depthwise_convolution(x, kernel), (x,), (x,))
    np.testing.assert_allclose(tangent, depthwise_convolution(x, kernel), rtol=1e-5, atol=1e-5)


def test_the_choice_falls_at_lowering():
    x, kernel = _operands(3)
    traced = jax.jit(lambda x, k: jax.vjp(lambda x: depthwise_convolution(x, k), x)[1](x)[0]).trace(
        x, kernel
    )
    program = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert "stablehlo.convolution" not in program["cpu"]
    assert "stablehlo.convolution" in program["cuda"]
    assert "stablehlo.convolution" in program["tpu"]
    compiled = traced.lower().compile().as_text()
    assert "conditional" not in compiled and "convolution(" not in compiled


def test_mass_is_shared_as_by_a_grouped_convolution():
    x, kernel = _operands(3)

    def masses(convolve):
        excited = excite(lambda x: convolve(x, kernel, (2, 2), "SAME"))
        y, pull = jax.vjp(excited, x)
        return pull(jnp.ones_like(y))[0]

    found = jax.jit(lambda: masses(depthwise_convolution))()
    np.testing.assert_allclose(found, jax.jit(lambda: masses(_grouped))(), rtol=1e-4, atol=1e-5)


def test_wrong_kernel_is_refused():
    x, _ = _operands(3)
    with pytest.raises(ValueError, match=r"\(2, 9, 8, 4\) and \(3, 3, 4, 4\)"):
        depthwise_convolution(x, jnp.ones((3, 3, 4, 4)))
