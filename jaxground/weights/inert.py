"""The values besides plain data that a pickle may describe: none of them can do anything."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from jaxground.weights.errors import WeightsError, shown


@dataclasses.dataclass(frozen=True)
class Builder:
    """What a permitted callable stands for: a function from its arguments to an inert value."""

    build: Callable[[tuple], Any]


class Placeholder:
    """An instance that the file describes and nobody needs: options, sets, random states."""


PLACEHOLDER = Placeholder()


def call(function: Any, arguments: Any) -> Any:
    """Returns the value for a call in the pickle, by its `Builder`.

    Raises:
      WeightsError: `function` is no builder, or the builder does not accept the arguments.

    Example:
      >>> call(Builder(len), (1, 2))
      2
    """
    if isinstance(function, Builder) and isinstance(arguments, tuple):
        return function.build(arguments)
    if isinstance(function, Placeholder):
        return PLACEHOLDER
    raise WeightsError(f"malformed pickle: it calls {shown(function)}; nothing was executed")


def put_pairs(target: dict[str, Any], pairs: Iterable) -> None:
    """Adds the pairs to a dict, numbers and `None` as keys turned into text.

    Only texts are hashed: a nested tuple may take exponential time, and integers can be chosen to
    collide, whereas the hash of texts is salted.

    Raises:
      WeightsError: A key is something else.

    Example:
      >>> target = {}
      >>> put_pairs(target, [("a", 1), (0, 2)])
      >>> target
      {'a': 1, '0': 2}
    """
    for key, value in pairs:
        if not (key is None or isinstance(key, str | int | float)):
            raise WeightsError(f"malformed pickle: expected a text as a key, found {shown(key)}")
        target[str(key)] = value
