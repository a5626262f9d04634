"""EB-R and cEB-R from the logits to the maps: an oracle of the whole, its laws, and bad input."""

import functools

import jax
import jax.numpy as jnp
import lstm_oracle
import numpy as np
import oracle
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxground.core import tap
from jaxground.models import LSTM
from jaxground.spatiotemporal import spatiotemporal_grounding
from jaxground.spatiotemporal.seeds import seeds

BATCH, TIME, SIDE, WIDTH, UNITS, CLASSES = 4, 5, 3, 6, 8, 3
GENERATOR = np.random.default_rng(1)
VIDEO = GENERATOR.uniform(size=(BATCH, TIME, SIDE, SIDE, 2))
FILTERS = GENERATOR.normal(size=(2, 4))
DENSE = GENERATOR.uniform(-1, 1.5, size=(4 * SIDE * SIDE, WIDTH))
SIGNS = (-1.0) ** np.add.outer(np.arange(UNITS), np.arange(CLASSES))  # every class has both
CLASSIFIER = SIGNS * GENERATOR.uniform(size=(UNITS, CLASSES))
TARGETS = np.array([[0, 1], [1, 2], [2, 2], [0, 0]])
STEPS = np.array([-1, 2])


def cnn(frames):
    hidden = tap(jax.nn.relu(frames @ FILTERS.astype(frames.dtype)), "conv")
    hidden = tap(2 * hidden, "scaled")
    return jax.nn.relu(hidden.reshape(len(frames), -1) @ DENSE.astype(frames.dtype))


def lstm(dtype):
    layer = LSTM(WIDTH, UNITS, dtype=dtype, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.repeat(jnp.array([0, 1, 0, 0.5], dtype), UNITS)  # few units are dead
    return layer


with jax.enable_x64(True):
    LAYERS = {np.dtype(dtype): lstm(dtype) for dtype in (np.float64, np.float32, jnp.bfloat16)}


def rnn(features):
    return LAYERS[features.dtype](features) @ CLASSIFIER.astype(features.dtype)


ground = functools.partial(spatiotemporal_grounding, cnn, rnn, at="conv")


@functools.cache
def compiled(**options):
    return jax.jit(functools.partial(ground, **options))


@pytest.fixture(scope="module")
def found():
    return compiled()(jnp.float32(VIDEO), TARGETS, step=STEPS)


def same(found, expected, **tolerances):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **{"rtol": 1e-4, "atol": 1e-6, **tolerances})


def walked(contrastive, at_hidden_of):
    """Returns maps and signal of every video and target by walks in NumPy."""
    layer = LAYERS[np.dtype(np.float64)]
    kernels = [np.asarray(layer.kernel[...])], np.asarray(layer.recurrent_kernel[...])
    maps = np.zeros((BATCH, 2, TIME, SIDE, SIDE))
    signal = np.zeros((BATCH, 2, TIME))
    for b, k in np.ndindex(BATCH, 2):
        hidden = np.maximum(VIDEO[b] @ FILTERS, 0)
        features = np.maximum(2 * hidden.reshape(TIME, -1) @ DENSE, 0)
        run = lstm_oracle.forward([features], *kernels, np.asarray(layer.bias[...]))
        difference = 0
        for sign in (1, -1)[: 1 + contrastive]:
            at_hidden = np.zeros((TIME, UNITS))
            prior = np.eye(CLASSES)[TARGETS[b, k]]
            (at_hidden[STEPS[k]],) = lstm_oracle.share(
                prior, [run.h[STEPS[k]]], [sign * CLASSIFIER]
            )
            (mass,) = at_hidden_of(run, [features], *kernels, at_hidden)
            difference += sign * mass / mass.sum()
        signal[b, k] = difference.sum(1)
        for t in range(TIME):
            below = oracle.transition(DENSE.T, hidden[t])
            maps[b, k, t] = oracle.chain(difference[t], [below]).reshape(hidden[t].shape).sum(-1)
    return maps, signal


@pytest.mark.parametrize(
    ("cell", "contrastive"), [("paper", False), ("paper", True), ("caffe", True)]
)
def test_the_whole_is_what_the_walks_say(float64, contrastive, cell):
    found = compiled(contrastive=contrastive, cell=cell)(jnp.asarray(VIDEO), TARGETS, step=STEPS)
    expected = walked(contrastive, getattr(lstm_oracle, cell))
    same(found[:2], expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.signal.sum(-1), 0 if contrastive else 1, atol=1e-12)
    assert np.abs(expected[0]).max() > 0.01


def test_frames_themselves_in_several_passes():
    """Five frames of four videos, two in a pass: one is left over."""
    whole = compiled(at=None)(jnp.float32(VIDEO), TARGETS[:, 0])
    same(compiled(at=None, batch_size=8)(jnp.float32(VIDEO), TARGETS[:, 0]), whole)


def test_what_is_asked_together_is_asked_apart(found):
    video = jnp.float32(VIDEO)
    for k in range(2):
        same(compiled()(video, TARGETS[:, k], step=int(STEPS[k])), (x[:, k] for x in found))
    outputs = jnp.asarray(GENERATOR.normal(size=(BATCH, TIME, CLASSES)), jnp.float32)
    asked = functools.partial(seeds, outputs, ends=np.full(BATCH, TIME))
    priors = np.zeros((BATCH, 2, TIME, CLASSES), np.float32)
    for b, k in np.ndindex(BATCH, 2):
        priors[b, k, STEPS[k], TARGETS[b, k]] = 1
    of_each = np.broadcast_to(STEPS, (BATCH, 2))
    for one in (asked(TARGETS, step=STEPS), asked(TARGETS, step=of_each), asked(priors, step=-1)):
        np.testing.assert_array_equal(one.priors, priors)
    once = asked(TARGETS[:, 0], step=STEPS)  # one class, two steps
    np.testing.assert_array_equal(once.priors[:, 0], priors[:, 0])
    np.testing.assert_array_equal(once.priors[:, 1].sum((1, 2)), 1)


def test_a_video_does_not_depend_on_its_neighbours_nor_on_padding(found):
    lengths = np.array([3, 5, 4, 3])
    padded = np.where((np.arange(TIME) < lengths[:, None])[..., None, None, None], VIDEO, 7)
    together = compiled()(jnp.float32(padded), TARGETS, step=[-1, 1], lengths=lengths)
    rows = np.flatnonzero(lengths == 3)
    alone = compiled()(jnp.float32(VIDEO[rows, :3]), TARGETS[rows], step=np.array([-1, 1]))
    maps, signal, kept = (np.asarray(x)[rows] for x in together)
    same(alone, [maps[:, :, :3], signal[:, :, :3], kept])
    assert not np.any(maps[:, :, 3:]) and not np.any(together.maps[2, :, 4:])
    same(compiled()(jnp.float32(VIDEO[::-1]), TARGETS[::-1], step=STEPS), (x[::-1] for x in found))


def test_a_network_that_reads_backwards_gives_padding_nothing():
    def backwards(x):
        return rnn(x[:, ::-1])[:, ::-1]

    options = {"step": 0, "at": "conv", "lengths": np.full(BATCH, 3), "contrastive": False}
    explain = functools.partial(spatiotemporal_grounding, cnn, backwards, **options)
    found = jax.jit(explain)(jnp.float32(VIDEO), TARGETS)
    assert not np.any(found.maps[:, :, 3:])
    np.testing.assert_allclose(found.signal.sum(-1), 1, rtol=1e-5)
    assert (found.kept < 1).all()  # what padding would have taken is not kept
    assert (found.signal[..., 2] > 0).any()


def test_mass_is_linear_in_the_prior():
    """Before it is normalised, which `kept` undoes."""
    priors = np.random.default_rng(0).normal(size=(2, BATCH, TIME, CLASSES)).astype(np.float32)
    weights = np.array([2, -1], np.float32)
    priors = np.stack([*priors, np.tensordot(weights, priors, 1)], axis=1)
    maps, _, kept = compiled(contrastive=False)(jnp.float32(VIDEO), priors)
    masses = maps * kept[..., None, None, None]
    combined = np.einsum("k,bk...->b...", weights, masses[:, :2])
    np.testing.assert_allclose(masses[:, 2], combined, atol=1e-4)


def test_a_probability_whose_prior_sums_to_zero_is_normalised():
    video, target = jnp.float32(VIDEO), TARGETS[:, 0]
    one = compiled(score="probability")(video, target)

    @jax.jit
    def by_hand(video):  # the log-probability's prior, which differs by a factor
        features = cnn(video.reshape(-1, *video.shape[2:])).reshape(BATCH, TIME, -1)
        odds = jax.nn.softmax(rnn(features)[:, -1])
        priors = jnp.zeros((BATCH, TIME, CLASSES)).at[:, -1].set(np.eye(CLASSES)[target] - odds)
        return ground(video, priors)

    same(one[:2], by_hand(video)[:2], atol=1e-5)
    assert np.abs(one.signal).sum(-1).max() < 2 + 1e-5
    assert (one.kept > 0).all()


def test_under_vmap_and_over_devices(found):
    video = jnp.float32(VIDEO)
    one = jax.jit(jax.vmap(lambda v, t: ground(v[None], t[None], step=STEPS)))(video, TARGETS)
    same((x[:, 0] for x in one), found)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    over = NamedSharding(mesh, PartitionSpec("data"))
    spread = jax.device_put((video, jnp.asarray(TARGETS)), over)
    maps = compiled(batch_size=8)(*spread, step=STEPS)  # two frames in a pass: one is left over
    same(maps, found)
    assert maps.maps.sharding.is_equivalent_to(over, maps.maps.ndim)


def test_in_bfloat16(found):
    rough = compiled()(jnp.bfloat16(VIDEO), TARGETS, step=STEPS)
    assert all(x.dtype == jnp.float32 for x in rough)
    np.testing.assert_allclose(rough.signal.sum(-1), 0, atol=1e-3)
    np.testing.assert_allclose(rough.signal, found.signal, atol=0.05)


def test_without_a_dual_all_that_is_left_is_the_target():
    """No negative weight: the dual has no mass. No positive one: nor has the target, kept is 0."""

    @jax.jit
    def explain(classifier):
        def head(features):
            return LAYERS[features.dtype](features) @ classifier

        return spatiotemporal_grounding(cnn, head, jnp.float32(VIDEO), TARGETS[:, 0], at="conv")

    for sign, total in ((1, 1), (-1, -1)):
        found = explain(sign * np.float32(abs(CLASSIFIER)))
        np.testing.assert_allclose(found.signal.sum(-1), total, rtol=1e-5)
        np.testing.assert_allclose(found.kept, max(sign, 0), rtol=1e-5)


def read(frames):
    return tap(tap(frames, "conv") * 2, "scaled").mean((1, 2))


def add(features):
    return jnp.cumsum(features, 1) @ np.ones((2, CLASSES), np.float32)


BAD = {
    "no frames": ({"video": np.zeros((1, 0, 3, 3, 2))}, ValueError, "at least one frame"),
    "one video": ({"video": VIDEO[0]}, ValueError, r"for one video write video\[None\]"),
    "sizes": (
        {"video": [[np.zeros((3, 3, 2)), np.zeros((4, 3, 2))]]},
        ValueError,
        r"frames have different sizes: \[\(3, 3, 2\), \(4, 3, 2\)\]; resize them",
    ),
    "a list": ({"video": [[np.zeros((3, 3, 2))]]}, TypeError, "must be an array"),
    "bytes": ({"video": np.zeros(VIDEO.shape, np.uint8)}, TypeError, "preprocessed"),
    "NaN": (
        {"video": np.where(np.arange(TIME)[:, None, None, None] == 2, np.nan, VIDEO)},
        ValueError,
        r"frames \[\(0, 2\), \(1, 2\), .* have NaN",
    ),
    "a class": ({"targets": np.full(BATCH, 3)}, ValueError, r"classes \[3\] are out of range"),
    "classes": ({"targets": np.zeros(3, int)}, ValueError, r"for 4 videos, got \(3,\)"),
    "no targets": ({"targets": np.zeros((BATCH, 0), int)}, ValueError, "do not pair"),
    "a late step": ({"step": 5}, ValueError, r"a step is out of range: there are \[5\] steps"),
    "an early step": ({"step": -6}, ValueError, "a step is out of range"),
    "padding": ({"step": 3, "lengths": [3, 5, 5, 5]}, ValueError, r"there are \[3, 5\] steps"),
    "steps": ({"step": [1, 2, 3]}, ValueError, r"steps \(3,\) do not pair with targets \(4, 2\)"),
    "half a step": ({"step": 0.5}, TypeError, "steps are integers"),
    "no length": ({"lengths": [0, 5, 5, 5]}, ValueError, "lengths must lie in 1 ... 5"),
    "lengths": ({"lengths": [5]}, ValueError, "do not match the batch of 4 videos"),
    "a prior": ({"targets": np.ones((BATCH, CLASSES))}, ValueError, "a prior must have the shape"),
    "prior's step": (
        {"targets": np.ones((BATCH, TIME, CLASSES)), "step": 0}, ValueError, "leave out `step`"
    ),
    "a tap": ({"at": "conv9"}, KeyError, "'conv', 'scaled'"),
    "logits": ({"rnn": lambda x: x[:, 0, 0]}, ValueError, "rnn must return float logits"),
    "two things": ({"rnn": lambda x: (x, 1)}, ValueError, "rnn must return float logits"),
    "features": ({"cnn": lambda x: x.sum(), "at": None}, ValueError, "one row per frame"),
    "a batch of none": ({"batch_size": 0}, ValueError, "at least one image makes a pass"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_named(what):
    """By a network that is quick to run: what is checked does not depend on it."""
    options, error, message = BAD[what]
    options = {"cnn": read, "rnn": add, "video": VIDEO, "targets": TARGETS, "at": "conv", **options}
    if isinstance(options["video"], np.ndarray) and options["video"].dtype == np.float64:
        options["video"] = np.float32(options["video"])
    with pytest.raises(error, match=message):
        spatiotemporal_grounding(**options)
