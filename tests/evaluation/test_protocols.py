"""What is recorded of methods and metrics: numbers as numbers, and nothing hidden."""

import json

import jax
import numpy as np
import pytest

from jaxground import models
from jaxground.evaluation.explainers import resolve
from jaxground.evaluation.quantities import METRICS, quantities

CARD = models.shapes("compact_vgg").card


@pytest.mark.parametrize(
    ("tolerance", "value", "unit"),
    [
        (15, 15.0, "pixels"),
        ("15", 15.0, "pixels"),
        ("0.5", 0.5, "pixels"),
        ("16/640", 0.025, "longer side"),
    ],
)
def test_tolerances_are_numbers_with_a_unit(tolerance, value, unit):
    protocol = quantities(["pointing_game"], tolerance)["hit"].protocol
    assert protocol["tolerance"] == value and isinstance(protocol["tolerance"], float)
    assert protocol["tolerance_unit"] == unit


def test_a_share_of_the_longer_side_is_measured_in_it():
    measure = jax.jit(quantities(["pointing_game"], "2/8")["hit"].measure)
    maps, masks = np.zeros((1, 16, 32), np.float32), np.zeros((1, 16, 32), bool)
    maps[0, 0, 0] = 1
    masks[0, 0, 7] = True  # seven pixels off: 8 of 32 are allowed, 4 of 16 are not
    assert bool(measure(maps, masks, np.array([16, 32]))[0])
    assert not bool(measure(maps, masks, np.array([8, 16]))[0])


@pytest.mark.parametrize("tolerance", ["wide", "-3", "15/0", "nan", -1])
def test_other_tolerances_are_refused(tolerance):
    with pytest.raises(ValueError, match="15/640"):
        quantities(["pointing_game"], tolerance)


def test_no_number_of_a_protocol_is_text():
    def texts(value):
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        if isinstance(value, list | tuple):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    found = [each.protocol for each in quantities(tuple(METRICS), "15/640").values()]
    found.append(resolve("rise:masks=1e3:keep=0.25", CARD, {}).protocol())
    written = texts(json.loads(json.dumps([dict(each) for each in found])))
    assert not [text for text in written if any(character.isdigit() for character in text)]


def test_options_are_of_the_type_of_their_default():
    rise = resolve("rise:masks=1e3:keep=1", CARD, {})
    assert rise.options == {"masks": 1000, "keep": 1} and type(rise.options["masks"]) is int
    assert rise.protocol()["masks"] == 1000 and rise.protocol()["cells"] == 7
    wrapped = resolve("smooth_grad(rise:masks=20):samples=4", CARD, {}).protocol()
    assert wrapped["masks"] == 20 and wrapped["smooth_grad"]["samples"] == 4
    with pytest.raises(ValueError, match="masks is a whole number, such as 8000; got 'many'"):
        resolve("rise:masks=many", CARD, {})
    with pytest.raises(ValueError, match=r"whole number.*'2\.5'"):
        resolve("rise:masks=2.5", CARD, {})
    with pytest.raises(ValueError, match="keep is a number"):
        resolve("rise:keep=True", CARD, {})
    with pytest.raises(ValueError, match=r"write WRAPPER\(NAME@TAP"):
        resolve("multi_scale(gradient)@pool3", CARD, {})
