"""Which explainers are evaluated, and how: from what people type to functions and protocols."""

import ast
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxground import attribution, maps
from jaxground.methods import METHODS, default_tap, is_smoothed
from jaxground.models import Card

SMOOTHING = 0.02  # of the longer side of a map made at the image, as `maps.smooth` has it


class Explainer(NamedTuple):
    """An explainer with everything that decides its maps.

    Attributes:
      label: What it is called in tables: as it was asked for.
      method: Name of the function.
      function: The function, `function(f, images, targets, **options)`.
      at: The tap at which it is read, `None` for the image.
      smoothing: Standard deviation of the Gaussian that its maps get, in parts of their longer
        side; zero for none.
      options: What else it is called with.
      random: Whether it takes a key.
    """

    label: str
    method: str
    function: Callable[..., Array]
    at: str | None
    smoothing: float
    options: Mapping[str, Any]
    random: bool

    def __call__(self, f: Callable, images: Array, targets: Array, keys: Array) -> Array:
        """Returns the smoothed maps `[batch, k, h, w]`, one of `keys[batch]` for each image."""
        options = {"at": self.at, **self.options}
        call = functools.partial(self.function, f, **options)
        found = per_image(call, keys, images, targets) if self.random else call(images, targets)
        return maps.smooth(found, self.smoothing * max(found.shape[-2:]))

    def protocol(self) -> dict[str, Any]:
        """Returns what decides its maps, ready for JSON."""
        defaults = {
            name: parameter.default
            for name, parameter in _options(self.function).items()
            if isinstance(parameter.default, bool | int | float | str | tuple)
        }
        return {
            "method": self.method,
            "tap": self.at or "image",
            "smoothing": self.smoothing,
            **defaults,
            **self.options,
        }


def resolve(asked: str, card: Card, taps: Mapping[str, Any]) -> Explainer:
    """Returns the explainer that a text means.

    Args:
      asked: `NAME[@TAP][:OPTION=VALUE]...`, as `gradient`, `excitation_backprop@pool5`,
        `rise:masks=500` or `grad_cam:score=log_probability`. `smoothing` is an option of all.
      card: What is known of the network.
      taps: Shapes at its taps, from input to output.

    Raises:
      ValueError: There is no such method, tap or option; the nearest are named.

    Example:
      >>> from jaxground import models
      >>> card = models.shapes("compact_vgg").card
      >>> resolve("gradient:smoothing=0:score=log_probability", card, {}).protocol()
      {'method': 'gradient', 'tap': 'image', 'smoothing': 0, 'score': 'log_probability'}
    """
    head, *settings = asked.split(":")
    name, _, tap = head.partition("@")
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}; {nearest(name, METHODS)}")
    function = getattr(attribution, name)
    known = _options(function)
    options = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if option not in (*known, "smoothing") or not equals:
            raise ValueError(
                f"{asked!r}: {name} has no option {option!r} (written OPTION=VALUE); "
                f"{nearest(option, (*known, 'smoothing'))}"
            )
        options[option] = _value(value)
    readable = [t for t, shape in taps.items() if len(shape.shape) == 4]
    if tap and tap not in readable:
        raise ValueError(
            f"{asked!r}: {card.name} has no map at a tap {tap!r}; {nearest(tap, readable)}"
        )
    at = tap or default_tap(name, card, taps)
    smoothing = options.pop("smoothing", SMOOTHING if is_smoothed(name, at) else 0)
    if not isinstance(smoothing, int | float) or not 0 <= smoothing <= 1:
        raise ValueError(f"{asked!r}: smoothing is a part of the longer side, from 0 to 1")
    random = "key" in inspect.signature(function).parameters
    return Explainer(asked, name, function, at, smoothing, options, random)


def per_image(function: Callable[..., Any], keys: Array, *arrays: Array) -> Any:
    """Returns `function(*arrays, key=...)` with a key for each image.

    So what is drawn for an image does not depend on its neighbours in the batch.
    """
    if len(keys) == 1:
        return function(*arrays, key=keys[0])
    found = jax.vmap(lambda key, *rows: function(*(row[None] for row in rows), key=key))
    return jax.tree.map(lambda every: every[:, 0], found(keys, *arrays))


def nearest(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """Returns a hint at what may have been meant.

    Example:
      >>> nearest("gard_cam", ["grad_cam", "rise"])
      'did you mean grad_cam? there are grad_cam, rise'
    """
    found = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    there = f"there are {', '.join(names)}" if names else "there are none"
    return f"did you mean {' or '.join(found)}? {there}" if found else there


def _options(function: Callable) -> dict[str, inspect.Parameter]:
    """Returns what can be set of an explainer: what is keyword-only, less what is set here."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("at", "key", "rules")
    }


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
