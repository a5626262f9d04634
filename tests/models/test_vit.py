"""The vision transformer: values against NumPy, files, sizes, and how it is grounded."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxground import models
from jaxground.attribution import excitation_backprop, grad_cam, lrp
from jaxground.core import ATTENTION, EXCITATION, Composite, attn_lrp, gamma, taps
from jaxground.models.registry import entry
from jaxground.weights.assignment import assign, recognise


def tiny(size=8, **options):
    """Returns a transformer of two layers on patches of four pixels, every parameter random."""
    model = models.ViT(4, 2, 8, 2, 5, size=size, rngs=nnx.Rngs(0), **options)
    random = np.random.default_rng(0)
    state = nnx.state(model, nnx.Param)
    draw = lambda p: jnp.asarray(random.normal(size=p.shape) / 2, p.dtype)  # noqa: E731
    nnx.update(model, jax.tree.map(draw, state))
    return model


def images(height=8, width=8):
    return np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32)


def in_numpy(model, x):
    """Returns the logits of one image as the paper writes them (equations 1 to 4)."""
    w = {".".join(map(str, p)): np.asarray(v.get_value(), np.float64)
         for p, v in nnx.to_flat_state(nnx.state(model, nnx.Param))}  # fmt: skip

    def norm(x, name):
        deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return (x - x.mean(-1, keepdims=True)) / deviation * w[f"{name}.scale"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.kernel"] + w[f"{name}.bias"]

    patches = [x[i : i + 4, j : j + 4].ravel() for i in range(0, 8, 4) for j in range(0, 8, 4)]
    embedded = np.stack(patches) @ w["conv_proj.kernel"].reshape(-1, 8) + w["conv_proj.bias"]
    z = np.concatenate([w["class_token"][0], embedded]) + w["pos_embedding"][0]
    for i in range(2):
        q, k, v = np.split(linear(norm(z, f"layers.{i}.ln_1"), f"layers.{i}.in_proj"), 3, axis=1)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            a = np.exp(q[:, h] @ k[:, h].T / 2)
            heads.append(a / a.sum(1, keepdims=True) @ v[:, h])
        z = z + linear(np.concatenate(heads, 1), f"layers.{i}.out_proj")
        u = linear(norm(z, f"layers.{i}.ln_2"), f"layers.{i}.fc1")
        u = u * 0.5 * (1 + np.vectorize(math.erf)(u / math.sqrt(2)))
        z = z + linear(u, f"layers.{i}.fc2")
    return linear(norm(z, "ln")[:1], "head")[0]


def test_logits_are_the_papers():
    model, x = tiny(), images()
    found = jax.jit(lambda x: model(x))(x)
    for each, image in zip(found, x, strict=True):
        np.testing.assert_allclose(each, in_numpy(model, image), rtol=1e-3, atol=1e-4)


def test_files_of_torchvision():
    """Keys as torchvision writes them: query above key above value, two names of the perceptron."""
    state = nnx.to_flat_state(nnx.state(models.shapes("vit_b_16")))
    expected = {".".join(map(str, path)): v.get_value().shape for path, v in state}
    for first, second in (("0", "3"), ("linear_1", "linear_2")):
        layer = "encoder.layers.encoder_layer_"
        file = {
            "class_token": (1, 1, 768), "conv_proj.weight": (768, 3, 16, 16),
            "conv_proj.bias": (768,), "encoder.pos_embedding": (1, 197, 768),
            "encoder.ln.weight": (768,), "encoder.ln.bias": (768,),
            "heads.head.weight": (1000, 768), "heads.head.bias": (1000,),
        }  # fmt: skip
        for i in range(12):
            file |= {f"{layer}{i}.{name}": shape for name, shape in {
                "ln_1.weight": (768,), "ln_1.bias": (768,),
                "self_attention.in_proj_weight": (2304, 768),
                "self_attention.in_proj_bias": (2304,),
                "self_attention.out_proj.weight": (768, 768),
                "self_attention.out_proj.bias": (768,),
                "ln_2.weight": (768,), "ln_2.bias": (768,),
                f"mlp.{first}.weight": (3072, 768), f"mlp.{first}.bias": (3072,),
                f"mlp.{second}.weight": (768, 3072), f"mlp.{second}.bias": (768,),
            }.items()}  # fmt: skip
        arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in file.items()}
        marked = np.zeros((2304, 768), np.float32)
        marked[768:1536, 5] = 1  # the keys of the fifth input
        arrays[f"{layer}3.self_attention.in_proj_weight"] = marked
        layout = recognise(arrays, expected, entry("vit_b_16").names.layouts)
        ours = assign(arrays, expected, layout)
        kernel = ours["layers.3.in_proj.kernel"]
        assert kernel[5, 768:1536].all() and kernel.sum() == 768


def test_other_sizes_resize_the_positions():
    model = tiny()
    assert jax.eval_shape(lambda x: model(x), images(12, 16)).shape == (2, 5)
    with pytest.raises(ValueError, match="images are 10 x 8 where sides are multiples of 4"):
        model(jnp.asarray(images(10, 8)))
    flat = tiny()
    flat.pos_embedding = nnx.Param(jnp.ones((1, 5, 8)))
    wide = flat._positions((3, 4))
    assert wide.shape == (1, 13, 8)
    np.testing.assert_allclose(wide, 1, rtol=1e-6)


def test_taps_are_maps():
    shapes = {name: s.shape for name, s in taps(tiny(), images(8, 12)).items()}
    assert shapes == {"conv_proj": (2, 2, 3, 8), "encoder_layer_0": (2, 2, 3, 8)}


def test_every_family_of_explainers_passes_through():
    model, x, targets = tiny(), images(), jnp.array([[0, 3], [1, 2]])
    low = tiny(dtype=jnp.bfloat16)

    @jax.jit
    def explain(x, targets):
        return (
            lrp(model, x, targets, rules=attn_lrp(), at="encoder_layer_0"),
            lrp(model, x, targets, rules=Composite({"conv_proj": gamma()}, attn_lrp())),
            excitation_backprop(model, x, targets, rules=EXCITATION | ATTENTION, at="conv_proj"),
            grad_cam(model, x, targets, at="encoder_layer_0"),
            lrp(low, x, targets, rules=attn_lrp(), at="encoder_layer_0"),
            low(x),
        )

    relevance, pixels, winning, cam, coarse, logits = explain(x, targets)
    assert relevance.shape == winning.shape == cam.shape == coarse.shape == (2, 2, 2, 2)
    assert pixels.shape == (2, 2, 8, 8) and logits.dtype == jnp.float32
    for maps in (relevance, pixels, winning, coarse):
        assert jnp.isfinite(maps).all() and jnp.abs(maps).sum() > 0
    assert (winning >= 0).all() and (winning.sum((2, 3)) <= 1 + 1e-5).all()
    assert np.corrcoef(relevance.ravel(), coarse.ravel())[0, 1] > 0.9
