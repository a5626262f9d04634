"""From words to the classes of a network whose names are lists of synonyms, as ImageNet's."""

import difflib
import re
from collections.abc import Sequence


def find_classes(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """Returns the indices of the classes that a text means, none where it means none.

    Names are lists of synonyms with commas between; case, hyphens and underscores do not matter.
    A text that is no synonym may be the last words of some: "elephant" means the African and the
    Indian elephant.

    Args:
      text: What somebody calls the class.
      names: Names of the classes in the order of the logits.

    Example:
      >>> find_classes("Elephant", ["zebra", "Indian elephant, Elephas", "African elephant"])
      (1, 2)
    """
    wanted = _plain(text)
    synonyms = _synonyms(names)
    for found in (
        [index for word, index in synonyms if word == wanted],
        [index for word, index in synonyms if wanted and word.endswith(f" {wanted}")],
    ):
        if found:
            return tuple(dict.fromkeys(found))
    return ()


def nearest_classes(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """Returns the indices of up to five classes whose names are like a text.

    Example:
      >>> nearest_classes("zebar", ["zebra", "dog"])
      (0,)
    """
    wanted = _plain(text)
    words = dict(reversed(_synonyms(names)))
    near = difflib.get_close_matches(wanted, words, n=4, cutoff=0.65)
    near += [word for word in words if len(wanted) > 2 and wanted in word][:4]
    return tuple(dict.fromkeys(words[word] for word in near))[:5]


def _synonyms(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(_plain(word), index) for index, name in enumerate(names) for word in name.split(",")]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", text).casefold().split())
