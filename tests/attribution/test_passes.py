"""What holds for every explainer by perturbation: its batches, chunks, targets, types, devices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxground.attribution.perturbation import occlusion, rise
from jaxground.attribution.score_cam import score_cam
from jaxground.core import tap
from jaxground.passes import forward_passes

EXPLAINERS = {
    "rise": functools.partial(rise, key=jax.random.key(3), masks=7, cells=3),
    "occlusion": functools.partial(occlusion, window=3, stride=2),
    "score_cam": functools.partial(score_cam, at="hidden"),
}
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 6, 2))
TARGETS = jnp.array([[0, 2, 2], [1, 0, 4], [3, 3, 1], [4, 1, 0]])
FIRST = jax.random.normal(jax.random.key(1), (2, 5))
LAST = jax.random.normal(jax.random.key(2), (5, 5))
each_explainer = pytest.mark.parametrize("explain", EXPLAINERS.values(), ids=EXPLAINERS)
each_name = pytest.mark.parametrize("name", EXPLAINERS)


def network(x):
    hidden = tap(jax.nn.relu(x[:, ::2] @ FIRST.astype(x.dtype)), "hidden")
    places = jnp.linspace(1, 2, hidden.shape[1], dtype=x.dtype)[:, None, None]
    return (places * hidden).mean((1, 2)) @ LAST.astype(x.dtype)


@functools.cache
def explained(name):
    """Maps of all, of the first image alone, of one target, and of images in half precision."""
    explain = functools.partial(EXPLAINERS[name], network)

    @jax.jit
    def every(images, targets):
        return (
            explain(images, targets),
            explain(images[:1], targets[:1], batch_size=2),
            explain(images, targets[:, 1], batch_size=12),
            explain(images.astype(jnp.bfloat16), targets),
        )

    return every(IMAGES, TARGETS)


@each_name
def test_laws(name):
    """One map per image and target, whoever else is in the call and however it is chunked."""
    maps, alone, single, _ = explained(name)
    assert maps.shape[:2] == (4, 3)
    assert maps.dtype == jnp.float32
    np.testing.assert_array_equal(maps[0, 1], maps[0, 2])
    assert not np.allclose(maps[0, 0], maps[0, 1])
    np.testing.assert_allclose(alone, maps[:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(single, maps[:, 1], rtol=1e-5, atol=1e-6)


@each_name
def test_sharded_batch_stays_where_it_is(name):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    images, targets = jax.device_put((IMAGES, TARGETS), sharding)
    explain = jax.jit(lambda x, t: EXPLAINERS[name](network, x, t))
    compiled = explain.lower(images, targets).compile()
    maps = compiled(images, targets)
    np.testing.assert_allclose(maps, explained(name)[0], rtol=1e-5, atol=1e-6)
    assert maps.sharding.is_equivalent_to(sharding, maps.ndim)
    assert not re.search("all-(gather|reduce|to-all)|collective-permute", compiled.as_text())


@each_name
def test_bfloat16(name):
    exact, *_, maps = explained(name)
    assert maps.dtype == jnp.float32
    np.testing.assert_allclose(maps, exact, atol=0.05 * float(jnp.abs(exact).max()))


@each_explainer
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"targets": TARGETS + 5}, r"classes \[5, 6, 7, 8, 9\] are out of range: f has 5"),
        ({"targets": TARGETS[:3]}, r"targets \(3, 3\) do not match the batch of 4"),
        ({"images": IMAGES[0]}, r"images\[None\]"),
        ({"score": "loss"}, "score must be 'logit'"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_errors(explain, arguments, message):
    given = {"images": IMAGES, "targets": TARGETS, **arguments}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: explain(network, **given))


def test_scores_of_half_precision_are_not_rounded():
    def confident(x):
        return jnp.broadcast_to(jnp.array([3.0, 0.0], jnp.bfloat16), (len(x), 2))

    @jax.jit
    def ask(images):
        passes = forward_passes(confident, images, np.zeros(4, int), "probability")
        return passes.scores(jnp.stack([images, images], 1))

    scores = ask(IMAGES.astype(jnp.bfloat16))
    np.testing.assert_allclose(scores, np.full((4, 1, 2), 1 / (1 + np.exp(-3))), rtol=1e-6)


def test_chunks_hold_every_number_once_and_waste_little():
    passes = forward_passes(network, IMAGES, TARGETS)
    for total, batch_size, rows in [(100, 32, 13), (8, 32, 1), (9, 32, 2), (3, 1, 3)]:
        chunks = passes.chunks(total, batch_size)
        assert len(chunks) == rows
        np.testing.assert_array_equal(chunks.ravel(), np.arange(chunks.size))
        assert total <= chunks.size < total + rows
