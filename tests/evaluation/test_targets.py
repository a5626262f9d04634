"""Which classes a category means, and data that were made for another network."""

import pytest

from jaxground.data import Dataset
from jaxground.evaluation.classes import category_classes

NAMES = ["airplane", "tench, Tinca tinca", "tabby"]


def dataset(**indices):
    return Dataset("pets", [], tuple(indices), {name: (i,) for name, i in indices.items()})


def test_what_is_given_goes_before_what_the_data_say_and_that_before_names():
    data = dataset(airplane=0, tabby=1)
    assert category_classes(data, NAMES, 3, {"tabby": [2]}) == {"tabby": (2,)}
    assert category_classes(data, NAMES, 3) == {"airplane": (0,), "tabby": (1,)}
    unsaid = Dataset("pets", [], ("tabby", "ring"))
    assert category_classes(unsaid, NAMES, 3) == {"tabby": (2,)}


def test_data_for_another_network_are_refused_with_what_to_do():
    shapes = dataset(disc=0, ring=1)
    with pytest.raises(ValueError, match="'disc' is class 0, which this network calls 'airplane'"):
        category_classes(shapes, NAMES, 3)
    with pytest.raises(ValueError, match="--classes"):
        category_classes(shapes, NAMES, 3)
    with pytest.raises(ValueError, match="no such class"):
        category_classes(dataset(disc=7), NAMES, 3)
    assert category_classes(shapes, NAMES, 3, {"disc": [1]}) == {"disc": (1,)}
    assert category_classes(shapes, [], 3) == {"disc": (0,), "ring": (1,)}, "no names, no doubt"


def test_names_with_wordnet_numbers_agree():
    data = Dataset("imagenet", [], ("n01440764 tench",), {"n01440764 tench": (1,)})
    assert category_classes(data, NAMES, 3) == {"n01440764 tench": (1,)}


def test_nothing_of_that_name_is_refused():
    with pytest.raises(ValueError, match="no category of pets"):
        category_classes(Dataset("pets", [], ("ring",)), NAMES, 3)


def test_classes_of_other_categories_alone_are_refused():
    for indices in ({"disc": (1,)}, {"ring": ()}):
        with pytest.raises(ValueError, match="no category of pets"):
            category_classes(Dataset("pets", [], ("ring",), indices), NAMES, 3)
