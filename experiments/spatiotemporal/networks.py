"""Networks of the user's own, which scripts get by name: `--network package.module:make`.

What such a function returns is defined here and not in the script, for a script that is run is
`__main__`: what the user imports from it would be another class.
"""

import hashlib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

Wanted = TypeVar("Wanted")


class ActionNetwork(NamedTuple):
    """A CNN, and a recurrent network that knows actions."""

    features: Callable[[Any], Any]
    """Takes frames `[n, height, width, 3]`, preprocessed, to features `[n, width]`."""
    classify: Callable[[Any], Any]
    """Takes features `[batch, time, width]` to logits `[batch, time, classes]`."""
    preprocess: Callable[[np.ndarray], Any]
    """Takes `uint8[n, height, width, 3]` to what `features` reads."""
    class_names: tuple[str, ...]
    """As the data set spells them: `"BaseballPitch"`."""


class CaptioningNetwork(NamedTuple):
    """A captioner of photographs, and what else must be known to ask it."""

    model: Any
    """As the captioners of `jaxground.models` are: with `features`, `embed` and `decode`, and for
    caption-guided saliency `cnn` and the tap `at` in it, whose channels at each position `decode`
    reads as features."""
    at: str
    """The tap where maps of Excitation Backprop are read, positions and channels."""
    preprocess: Callable[[np.ndarray], Any]
    """Takes `uint8[n, side, side, 3]` to what `model.features` reads."""
    side: int
    """Height and width of the pictures in pixels: the whole of each is warped to a square."""
    vocabulary: tuple[str, ...]
    """Words, in lower case, by index; the first is the end of a sentence. `"<unk>"`, if it is
    there, stands for all others."""


def load(name: str, wanted: type[Wanted]) -> Wanted:
    """Returns what a function without arguments makes, the function being given by name.

    Args:
      name: `package.module:function`, to be imported: from the current folder, `PYTHONPATH`, or
        what is installed. It runs, so that it must be trusted.
      wanted: What must come of it.

    Raises:
      ValueError: The name has no such form, or there is no such module or function.
      TypeError: Something else comes of it. What the function itself raises is passed on.
    """
    path, colon, attribute = name.partition(":")
    if not (path and colon and attribute) or path.startswith("."):
        raise ValueError(f"a network is named as in package.module:make, got {name!r}")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the module is there; one that it imports is not
        raise ValueError(
            f"there is no module {error.name!r} for the network {name!r}: it is looked for in the "
            "current folder, in PYTHONPATH and among what is installed"
        ) from error
    make = getattr(module, attribute, None)
    if not callable(make):
        raise ValueError(f"the module {path} has no function {attribute!r} to make a network")
    made = make()
    if not isinstance(made, wanted):
        raise TypeError(
            f"{name} must return an {wanted.__module__}.{wanted.__name__}, "
            f"not a {type(made).__name__}"
        )
    return made


def separate(model: Any) -> tuple[list, Callable[[list], Any]]:
    """Returns the arrays in a model, and what puts such arrays in their place.

    A compiled program that takes them does not carry them in its text, as it would what it closes
    over. A model that is no pytree keeps its arrays; there are none then.
    """
    leaves, tree = jax.tree.flatten(model)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray)]

    def rebuild(arrays: list) -> Any:
        known = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(tree, [known.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in places], rebuild


def fingerprint(arrays: list) -> str:
    """Returns a digest by which to tell the arrays of one network from those of another."""
    digest = hashlib.sha256()
    for each in arrays:
        digest.update(np.asarray(each).tobytes())
    return digest.hexdigest()[:16]
