"""Which explainers are evaluated, and how: from what people type to functions and protocols."""

import ast
import contextlib
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from jaxground import attribution, core, maps
from jaxground.methods import METHODS, default_tap, is_smoothed
from jaxground.models import Card

WRAPPERS = "smooth_grad", "square_grad", "var_grad", "multi_scale"
SMOOTHING = 0.02  # of the longer side of a map made at the image, as `maps.smooth` has it


class Explainer(NamedTuple):
    """An explainer with everything that decides its maps.

    Attributes:
      label: What it is called in tables: as it was asked for.
      method: Name of the method, with what it is wrapped in.
      function: The function, `function(f, images, targets, **options)`.
      at: The tap at which it is read, `None` for the image.
      smoothing: Standard deviation of the Gaussian that its maps get, in parts of their longer
        side; zero for none.
      threshold: Times the mean of a map: what is above it is boxed.
      options: What else it is called with.
      constants: Everything that can be set of it, with its value, ready for JSON.
      random: Whether it takes a key.
    """

    label: str
    method: str
    function: Callable[..., Array]
    at: str | None
    smoothing: float
    threshold: float
    options: Mapping[str, Any]
    constants: Mapping[str, Any]
    random: bool

    def __call__(self, f: Callable, images: Array, targets: Array, keys: Array) -> Array:
        """Returns the smoothed maps `[batch, k, h, w]`, one of `keys[batch]` for each image.

        They are as the method defines them, signs included: `lrp:rules=z_plus` of a class with a
        negative logit, whose relevance is negative everywhere, points away from it.
        """
        options = dict(self.options) if self.at is None else {"at": self.at, **self.options}
        call = functools.partial(self.function, f, **options)
        found = per_image(call, keys, images, targets) if self.random else call(images, targets)
        return maps.smooth(found, self.smoothing * max(found.shape[-2:]))

    def protocol(self) -> dict[str, Any]:
        """Returns what decides its maps, ready for JSON."""
        return {
            "method": self.method,
            "tap": self.at or "image",
            "smoothing": self.smoothing,
            "box_threshold": self.threshold,
            **self.constants,
        }


def resolve(asked: str, card: Card, taps: Mapping[str, Any]) -> Explainer:
    """Returns the explainer that a text means.

    Args:
      asked: `NAME[@TAP][:OPTION=VALUE]...`, as `gradient`, `excitation_backprop@pool5`,
        `rise:masks=500`, `grad_cam:score=log_probability` or `lrp:rules=z_plus`; or one of these
        within another, `smooth_grad(gradient):samples=20`, `multi_scale(grad_cam)`. `smoothing`
        is an option of all.
      card: What is known of the network.
      taps: Shapes at its taps, from input to output.

    Raises:
      ValueError: There is no such method, tap or option; the nearest are named.

    Example:
      >>> from jaxground import models
      >>> card = models.shapes("compact_vgg").card
      >>> found = resolve("gradient:smoothing=0:score=log_probability", card, {}).protocol()
      >>> found["tap"], found["smoothing"], found["score"]
      ('image', 0, 'log_probability')
    """
    wrapped = re.fullmatch(r"(\w+)\((.+)\)((?::[^()]+=.*)?)", asked)
    if wrapped:
        name, settings = wrapped[1], wrapped[3]
        if name not in WRAPPERS:
            raise ValueError(f"{asked!r}: nothing wraps as {name!r}; {nearest(name, WRAPPERS)}")
        inner = resolve(wrapped[2], card, taps)
        wrap = getattr(attribution, name)
        options, smoothing = _settings(asked, settings.split(":")[1:], wrap)
        return inner._replace(
            label=asked,
            method=f"{name}({inner.method})",
            function=wrap(inner.function, **options),
            smoothing=inner.smoothing if smoothing is None else smoothing,
            constants={**inner.constants, name: {**_defaults(wrap), **options}},
            random=inner.random or name != "multi_scale",
        )
    head, *settings = asked.split(":")
    name, _, tap = head.partition("@")
    if name not in METHODS:
        if "(" in name:
            raise ValueError(f"{asked!r}: write WRAPPER(NAME@TAP:OPTION=VALUE):OPTION=VALUE")
        raise ValueError(f"no method is called {name!r}; {nearest(name, METHODS)}")
    function = getattr(attribution, name)
    readable = [t for t, shape in taps.items() if len(shape.shape) == 4]
    if tap and tap not in readable:
        raise ValueError(
            f"{asked!r}: {card.name} has no map at a tap {tap!r}; {nearest(tap, readable)}"
        )
    if tap and "at" not in inspect.signature(function).parameters:
        raise ValueError(f"{asked!r}: {name} is made at the image, not at a tap")
    options, smoothing = _settings(asked, settings, function)
    at = tap or default_tap(name, card, taps)
    usual = SMOOTHING if is_smoothed(name, at) else 0
    return Explainer(
        label=asked,
        method=name,
        function=function,
        at=at,
        smoothing=usual if smoothing is None else smoothing,
        threshold=METHODS[name].threshold,
        options={n: _table(v) if n == "rules" else v for n, v in options.items()},
        constants={**_defaults(function), **options},
        random="key" in inspect.signature(function).parameters,
    )


def plain(name: str, at: str | None) -> Explainer:
    """Returns one of `METHODS` as it is, without smoothing, read at a tap.

    Example:
      >>> plain("grad_cam", "conv4_2").at
      'conv4_2'
    """
    wrapped = re.fullmatch(r"(\w+)\((\w+)\)", name)
    if wrapped:
        inner = plain(wrapped[2], at)
        wrap = getattr(attribution, wrapped[1])
        return inner._replace(label=name, method=name, function=wrap(inner.function), random=True)
    function = getattr(attribution, name)
    random = "key" in inspect.signature(function).parameters
    return Explainer(name, name, function, at, 0, METHODS[name].threshold, {}, {}, random)


def per_image(function: Callable[..., Any], keys: Array, *arrays: Array) -> Any:
    """Returns `function(*arrays, key=...)` of one image after the other, with a key for each.

    So what is drawn for an image does not depend on its neighbours in the batch, and a
    `batch_size` among the options holds.
    """
    if len(keys) == 1:
        return function(*arrays, key=keys[0])

    def one(row):
        key, *rows = row
        return function(*(each[None] for each in rows), key=key)

    return jax.tree.map(lambda every: every[:, 0], lax.map(one, (keys, *arrays)))


def nearest(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """Returns a hint at what may have been meant.

    Example:
      >>> nearest("gard_cam", ["grad_cam", "rise"])
      'did you mean grad_cam? there are grad_cam, rise'
    """
    found = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    there = f"there are {', '.join(names)}" if names else "there are none"
    return f"did you mean {' or '.join(found)}? {there}" if found else there


def _settings(
    asked: str, settings: Sequence[str], function: Callable
) -> tuple[dict[str, Any], float | None]:
    """Returns the options that texts of the form OPTION=VALUE mean, and the smoothing."""
    known = [name for name in _keyword_only(function) if name not in ("at", "key")]
    options = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if option not in (*known, "smoothing") or not equals:
            raise ValueError(
                f"{asked!r}: there is no option {option!r} (written OPTION=VALUE); "
                f"{nearest(option, (*known, 'smoothing'))}"
            )
        parameter = _keyword_only(function).get(option)
        options[option] = _value(value, parameter and parameter.default, f"{asked!r}: {option}")
    smoothing = options.pop("smoothing", None)
    if smoothing is not None and not (type(smoothing) in (int, float) and 0 <= smoothing <= 1):
        raise ValueError(f"{asked!r}: smoothing is a part of the longer side, from 0 to 1")
    return options, smoothing


def _keyword_only(function: Callable) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.items()
    return {name: each for name, each in parameters if each.kind is each.KEYWORD_ONLY}


def _defaults(function: Callable) -> dict[str, Any]:
    """Returns the options that an explainer has by itself, as far as JSON has them."""
    return {
        name: each.default
        for name, each in _keyword_only(function).items()
        if isinstance(each.default, bool | int | float | str | tuple)
    }


def _table(name: Any) -> Any:
    """Returns a table of rules by its name: `CAFFE`, or `z_plus` for `z_plus()`."""
    table = getattr(core, name, None) if isinstance(name, str) else None
    with contextlib.suppress(TypeError):  # a function that makes no table
        found = table() if callable(table) and not isinstance(table, type) else table
        if isinstance(found, core.Rules | core.Composite):
            return found
    raise ValueError(f"no table of rules is called {name!r}")


def _value(text: str, default: Any, what: str) -> Any:
    """Returns what a text means, of the type of the default where that is a number."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if type(default) is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # 1e3
    wanted = {int: (int,), float: (int, float)}.get(type(default))
    if wanted and type(value) not in wanted:
        kind = "a whole number" if wanted == (int,) else "a number"
        raise ValueError(f"{what} is {kind}, such as {default}; got {text!r}")
    return value
