"""From what people type to classes of a network."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxground.cli.errors import UserError


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

    Names are lists of synonyms with commas between, as ImageNet's; case, hyphens and underscores
    do not matter. A text that is no synonym may be the last words of some: "elephant" means the
    African and the Indian elephant.

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
    wanted = _plain(text)
    synonyms = [
        (_plain(word), index) for index, name in enumerate(names) for word in name.split(",")
    ]
    for found in (
        [index for word, index in synonyms if word == wanted],
        [index for word, index in synonyms if wanted and word.endswith(f" {wanted}")],
    ):
        if found:
            return Target(text.strip(), tuple(dict.fromkeys(found)))
    raise UserError(f"no class is called {text!r}; {_nearest(wanted, synonyms, names)}")


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


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", text).casefold().split())


def _nearest(wanted: str, synonyms: list[tuple[str, int]], names: Sequence[str]) -> str:
    words = dict(reversed(synonyms))
    near = difflib.get_close_matches(wanted, words, n=4, cutoff=0.65)
    near += [word for word in words if len(wanted) > 2 and wanted in word][:4]
    found = dict.fromkeys(words[word] for word in near)
    if not found:
        return "give a class of the network by name or by index"
    listed = ", ".join(f"{shorten(names[index])} ({index})" for index in list(found)[:5])
    return f"the nearest {'is' if len(found) == 1 else 'are'} {listed}"
