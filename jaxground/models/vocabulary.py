"""From what people write to what networks count: classes by their names, words of captioners.

Names of classes are lists of synonyms, as ImageNet's; a captioner's are words, one each.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence


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


def word_indices(sentence: str, vocabulary: Sequence[str]) -> tuple[int, ...]:
    """Returns the indices of the words of a sentence in a captioner's vocabulary.

    Case does not matter, nor do commas and full stops. The sentence's end is not added.

    Args:
      sentence: Words with spaces between them.
      vocabulary: The captioner's words in the order of its logits, the first the end of a sentence.

    Raises:
      ValueError: A word that the captioner does not know, with the nearest that it does; or none.

    Example:
      >>> word_indices("A disc grows.", ["<end>", "a", "disc", "grows"])
      (1, 2, 3)
    """
    places = {word: index for index, word in enumerate(vocabulary) if index}
    words = re.sub(r"[.,;:!?]+(?=\s|$)", "", sentence.casefold()).split()
    if not words:
        raise ValueError("the sentence has no word")
    for word in words:
        if word not in places:
            near = difflib.get_close_matches(word, places, n=4, cutoff=0.6)
            known = f"the nearest are {', '.join(near)}" if near else ", ".join(list(places)[:40])
            raise ValueError(f"{word!r} is none of the captioner's {len(places)} words: {known}")
    return tuple(places[word] for word in words)


def sentence_of(indices: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Returns the sentence that a captioner's indices are, up to its end.

    Args:
      indices: Of the words.
      vocabulary: As for `word_indices`.

    Example:
      >>> sentence_of([1, 2, 0, 0], ["<end>", "a", "disc", "grows"])
      'a disc'
    """
    return " ".join(vocabulary[i] for i in itertools.takewhile(bool, map(int, indices)))


def _synonyms(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(_plain(word), index) for index, name in enumerate(names) for word in name.split(",")]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", text).casefold().split())
