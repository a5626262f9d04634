"""From what people type to classes of a network."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxground.cli.errors import UserError
from jaxground.models.vocabulary import find_classes, nearest_classes


class Target(NamedTuple):
    """What is to be explained in every photograph.

    Attributes:
      asked: What the user typed; "top" where nothing was asked.
      classes: Indices it may mean. Of several, each photograph takes the most probable one.
    """

    asked: str
    classes: tuple[int, ...]

    def mask(self, count: int) -> np.ndarray:
        """Returns `bool[count]`, true at the classes it may mean."""
        return np.isin(np.arange(count), self.classes)


def top(count: int) -> Target:
    """Returns the target that means the most probable class of all.

    Example:
      >>> top(3)
      Target(asked='top', classes=(0, 1, 2))
    """
    return Target("top", tuple(range(count)))


def find(text: str, names: Sequence[str], count: int) -> Target:
    """Returns the target that a text means: an index, a class, or several classes.

    A name may be a synonym of a class, or the last words of some (see `models.find_classes`).

    Args:
      text: What the user typed.
      names: Names of the classes in the order of the logits, or none where they are unknown.
      count: Number of logits.

    Raises:
      UserError: It means no class; the message has the nearest names.

    Example:
      >>> find("Elephant", ["zebra", "Indian elephant, Elephas maximus", "African elephant"], 3)
      Target(asked='Elephant', classes=(1, 2))
    """
    if re.fullmatch(r"\d+", text.strip()):
        if int(text) < count:
            return Target(text.strip(), (int(text),))
        raise UserError(f"class {int(text)} is out of range: the network has 0 to {count - 1}")
    if not names:
        raise UserError(
            f"--target {text!r}: this network's classes have no names here, "
            f"give an index from 0 to {count - 1}"
        )
    if found := find_classes(text, names):
        return Target(text.strip(), found)
    raise UserError(f"no class is called {text!r}; {_nearest(text, names)}")


def shorten(name: str) -> str:
    """Returns the first synonym of a name.

    Example:
      >>> shorten("zebra, Equus quagga")
      'zebra'
    """
    return name.split(",")[0].strip()


def label(index: int, names: Sequence[str]) -> str:
    """Returns what to call a class: its first synonym, or its number.

    Example:
      >>> label(1, ["cat", "dog, hound"]), label(7, [])
      ('dog', 'class 7')
    """
    return shorten(names[index]) if names else f"class {index}"


def described(index: int, names: Sequence[str], probability: float) -> dict[str, Any]:
    """Returns how a record names a class: index, name, label and probability.

    Example:
      >>> described(1, ("cat", "dog"), 0.75)["label"]
      'dog'
    """
    return {
        "index": index,
        "name": names[index] if names else None,
        "label": label(index, names),
        "probability": float(probability),
    }


def _nearest(text: str, names: Sequence[str]) -> str:
    found = nearest_classes(text, names)
    if not found:
        return "give a class of the network by name or by index"
    listed = ", ".join(f"{shorten(names[index])} ({index})" for index in found)
    return f"the nearest {'is' if len(found) == 1 else 'are'} {listed}"
