"""Which classes of a network a category of a data set means."""

import re
from collections.abc import Mapping, Sequence

from jaxground.data.annotations import Dataset
from jaxground.models import find_classes


def category_classes(
    dataset: Dataset,
    names: Sequence[str],
    count: int,
    given: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Returns the classes that mean each category; categories without any are left out.

    What is `given` goes before what the data set says, and that before the classes' names.

    Args:
      dataset: The data.
      names: Names of the network's classes in the order of the logits, or none.
      count: Number of logits.
      given: Classes by category.

    Raises:
      ValueError: No category has a class, a class is out of range, a category is unknown, or the
        data's classes are those of another network: no name is the same.

    Example:
      >>> pets = Dataset("pets", [], ("cat", "unicorn"))
      >>> category_classes(pets, ["tiger cat", "dog"], 2)
      {'cat': (0,)}
    """
    if given is not None and (unknown := set(given) - set(dataset.categories)):
        raise ValueError(
            f"classes are given for {', '.join(sorted(unknown))}, which {dataset.name} has not; "
            f"its categories are {', '.join(dataset.categories)}"
        )
    known = given if given is not None else dataset.class_indices
    example = next((c for c in dataset.categories if known is not None and known.get(c)), None)
    if given is None and known and example and names and not _agree(known, names):
        raise ValueError(
            f"{dataset.name} is for another network: its {example!r} is class "
            f"{known[example][0]}, which this network calls "
            f"{_called(names, known[example][0])}, and so on; say which classes (indices) mean "
            "each category, as {category: [index, ...]} (--classes), or take a network "
            "that was trained on these data"
        )
    if known is None:
        known = {category: find_classes(category, names) for category in dataset.categories}
    found = {c: tuple(map(int, known[c])) for c in dataset.categories if known.get(c)}
    for category, classes in found.items():
        if outside := [index for index in classes if not 0 <= index < count]:
            raise ValueError(
                f"{dataset.name}: category {category!r} has class {outside[0]}, but the network "
                f"has classes 0 to {count - 1}: is it the right network for these data?"
            )
    if not found:
        raise ValueError(
            f"no category of {dataset.name} is a class of the network by name; say which classes "
            "(indices) mean each category, as {category: [index, ...]} (--classes)"
        )
    return found


def _agree(known: Mapping[str, Sequence[int]], names: Sequence[str]) -> bool:
    """Returns whether any category is a class by name, too: then the data know the network."""
    plain = {category: re.sub(r"^n\d{8} ", "", category) for category in known}  # ImageNet's
    return any(set(find_classes(plain[c], names)) & set(known[c]) for c in known)


def _called(names: Sequence[str], index: int) -> str:
    return repr(names[index]) if 0 <= index < len(names) else "nothing: it has no such class"
