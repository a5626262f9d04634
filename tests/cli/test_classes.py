"""What people type, against names as ImageNet has them."""

import pytest

from jaxground.cli import classes
from jaxground.cli.errors import UserError

NAMES = (
    "zebra",
    "Indian elephant, Elephas maximus",
    "African elephant, Loxodonta africana",
    "crane",
    "crane",
    "hen-of-the-woods, hen of the woods",
    "hot dog, red hot",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zebra", (0,)),
        (" Zebra ", (0,)),
        ("4", (4,)),
        ("african_elephant", (2,)),
        ("loxodonta africana", (2,)),
        ("elephant", (1, 2)),  # the last word of two names
        ("crane", (3, 4)),  # ImageNet has the bird and the machine
        ("hen of the woods", (5,)),
        ("HEN_OF-THE WOODS", (5,)),
        ("dog", (6,)),
    ],
)
def test_texts_and_the_classes_they_mean(text, found):
    assert classes.find(text, NAMES, len(NAMES)).classes == found


@pytest.mark.parametrize("text", ["phant", "indian", "elephas", "", " ", "-1", "1.5", "7", "99999"])
def test_texts_that_mean_nothing(text):
    with pytest.raises(UserError):
        classes.find(text, NAMES, len(NAMES))


def test_a_misspelt_class_is_told_its_nearest():
    with pytest.raises(UserError, match=r"no class is called 'zebar'; the nearest is zebra \(0\)$"):
        classes.find("zebar", NAMES, len(NAMES))
    with pytest.raises(UserError, match=r"African elephant \(2\)"):
        classes.find("african elefant", NAMES, len(NAMES))
    with pytest.raises(UserError, match=r"the nearest are .*Indian elephant \(1\)"):
        classes.find("phant", NAMES, len(NAMES))
    with pytest.raises(UserError, match="class 7 is out of range: the network has 0 to 6"):
        classes.find("7", NAMES, len(NAMES))


def test_a_network_without_names_takes_indices():
    assert classes.find("3", (), 5).classes == (3,)
    with pytest.raises(UserError, match="no names here, give an index from 0 to 4"):
        classes.find("cat", (), 5)
    assert classes.label(3, ()) == "class 3"


def test_masks_leave_what_is_meant():
    assert classes.Target("elephant", (1, 2)).mask(4).tolist() == [False, True, True, False]
    assert classes.top(3).mask(3).all()
