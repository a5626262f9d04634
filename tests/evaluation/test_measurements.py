"""What is measured with the help of a network, on one whose contributions are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxground import attribution, metrics, models
from jaxground.data import Dataset, Example, Instance
from jaxground.evaluation import work
from jaxground.evaluation.explainers import Explainer
from jaxground.evaluation.measurements import answer, ask, ask_together, repeat, split
from jaxground.evaluation.programs import _numbers
from jaxground.evaluation.quantities import METRICS, quantities

SIDE = 12
OBJECT = np.zeros((SIDE, SIDE), bool)
OBJECT[1:6, 1:5] = True
WEIGHTS = jnp.where(OBJECT, 1.0 + jnp.arange(SIDE) / 8, -0.02)
IMAGES = jnp.stack([jnp.where(OBJECT, 1.0, 0.1), jnp.where(OBJECT, 0.8, 0.3)])[..., None]
TARGETS = jnp.zeros((2, 1), int)
KEYS = jax.random.split(jax.random.key(0), 2)
ORACLE = (IMAGES[..., 0] * WEIGHTS)[:, None]  # [batch, 1, h, w]


def linear(images):
    score = (images[..., 0] * WEIGHTS).sum((1, 2)) / 5
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1)


@pytest.fixture(scope="module")
def parts():
    return split(quantities(tuple(METRICS), "0"))


@pytest.fixture(scope="module")
def measured(parts):
    """Values of the map that is right, of one that points elsewhere, and of one of nothing."""
    maps = {"right": ORACLE, "wrong": ORACLE[..., ::-1, ::-1], "flat": jnp.ones_like(ORACLE)}

    @jax.jit
    def every(maps):
        found = ask_together(linear, IMAGES, maps, TARGETS, KEYS, quantities=parts.together)
        for label, each in maps.items():
            found[label] |= ask(linear, IMAGES, each, TARGETS, KEYS, quantities=parts.ask)
        return found

    return jax.device_get(every(maps))


def test_every_quantity_is_measured_by_one_function(parts):
    wanted = {metric.quantity for metric in METRICS.values()}
    assert sorted(name for part in parts for name in part) == sorted(wanted)


def test_the_right_map_is_better_in_the_direction_that_is_called_good(measured):
    for name in "insertion deletion morf lerf road_morf road_lerf infidelity sensitivity_n".split():
        right, wrong, flat = (measured[label][name] for label in ("right", "wrong", "flat"))
        sign = 1 if METRICS[name].good == "large" else -1
        assert right.shape == (2, 1)
        assert (sign * right > sign * wrong).all(), name
        assert (sign * right > sign * flat).all(), f"{name}: a map that says nothing never wins"


def test_maps_that_share_their_passes_get_what_they_get_alone(parts, measured):
    wrong = ORACLE[..., ::-1, ::-1]
    alone = jax.jit(lambda m: ask(linear, IMAGES, m, TARGETS, KEYS, quantities=parts.together))
    for name, values in alone(wrong).items():
        np.testing.assert_allclose(values, measured["wrong"][name], rtol=1e-4)


def explainer(function, threshold=5.0, *, label="mine", random=False):
    return Explainer(label, "mine", function, None, 0, threshold, {}, {}, random)


def test_sensitivity_is_that_of_the_explainer_and_infinite_for_flat_maps(parts):
    def flat(f, images, targets):
        return jnp.ones((len(images), 1, SIDE, SIDE))

    def noise(f, images, targets, *, key):
        return jax.random.uniform(key, (len(images), 1, SIDE, SIDE))

    one_each = [
        explainer(attribution.gradient),
        explainer(attribution.input_x_gradient),
        explainer(noise, random=True),
        explainer(flat),
    ]

    @jax.jit
    def every(images):
        options = {"quantities": parts.repeat}
        found = [repeat(linear, images, TARGETS, KEYS, explainer=e, **options) for e in one_each]
        return [values["max_sensitivity"] for values in found]

    slopes, shares, drawn, nothing = (np.asarray(values) for values in every(IMAGES))
    np.testing.assert_allclose(slopes, 0, atol=1e-6)
    assert (shares > 0.01).all()
    assert (drawn == 0).all(), "it draws the same every time"
    assert np.isposinf(nothing).all()
    assert _numbers(np.array([1.5, np.inf, np.nan])) == [1.5, "infinite", None]


def test_localisation_error_is_of_the_map_as_it_is_and_of_its_own_threshold(parts):
    boxes = np.zeros((2, 1, 3, 4), np.float32)
    boxes[0, 0, 1] = 1, 1, 5, 6  # of the object, after one without area
    boxes[1, 0, 0] = 8, 8, 12, 12
    masks = np.broadcast_to(OBJECT, (2, 1, SIDE, SIDE))
    sizes = np.full((2, 2), SIDE)

    wanted = "hit", "localisation_error", "energy_pointing_game"
    measured = {name: parts.answer[name] for name in wanted}

    two = [
        explainer(attribution.input_x_gradient, threshold, label=label)
        for label, threshold in (("low", 1.0), ("high", 7.8))
    ]

    @jax.jit
    def every(images):
        return answer(linear, images, np.zeros((2, 1, 1), int), KEYS, masks, boxes, sizes,
                      explainers=two, quantities=measured)  # fmt: skip

    values = every(IMAGES).values
    found = values["low"]
    assert found["localisation_error"][:, 0].tolist() == [0, 1]
    assert found["hit"][:, 0].tolist() == [1, 1]
    energy = metrics.energy_pointing_game(ORACLE[:, 0], masks[:, 0])
    np.testing.assert_allclose(found["energy_pointing_game"][:, 0], energy, rtol=1e-5)
    too_little = values["high"]["localisation_error"]
    assert too_little[:, 0].tolist() == [1, 1], "too little is boxed"


def test_boxes_are_those_of_the_category_without_crowds():
    boxes = [(0.0, 0.0, 2.0, 2.0), (1.0, 1.0, 3.0, 4.0), (0.0, 0.0, 9.0, 9.0)]
    cats = [Instance("cat", box, crowd=i == 2) for i, box in enumerate(boxes)]
    dog = Instance("dog", (5.0, 5.0, 6.0, 6.0))
    image = np.zeros((9, 9, 3), np.uint8)
    example = Example("a", None, (9, 9), (*cats, dog), lambda: image)
    classes = {"cat": (0,), "dog": (1,)}
    data = Dataset("pets", [example], ("cat", "dog"))
    (batch,) = work.batches(data, classes, work.Fit(8), 4)
    loaded = work.load(batch, classes, models.shapes("compact_vgg").preprocess)
    assert batch.objects == 2
    assert loaded.boxes[0].tolist() == [[list(b) for b in boxes[:2]], [[5, 5, 6, 6], [0, 0, 0, 0]]]
