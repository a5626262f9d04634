"""Whether methods and metrics run on a network: traced before long work, not computed."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxground import taps
from jaxground.core import MissingRuleError
from jaxground.evaluation.explainers import Explainer, resolve
from jaxground.evaluation.measurements import ask, repeat, split
from jaxground.evaluation.quantities import Quantity
from jaxground.methods import METHODS
from jaxground.models import Network


def choose(
    model: Network, methods: Sequence[str], usual: jax.ShapeDtypeStruct
) -> tuple[tuple[Explainer, ...], dict[str, str]]:
    """Returns the explainers asked for, and which of "all" do not run on the network, and why.

    Args:
      model: The network.
      methods: As `resolve` reads them, or `"all"`.
      usual: An image, `[1, height, width, 3]`.

    Raises:
      ValueError: A method that was named does not run on the network.
    """
    found = taps(model, usual)
    named = [name for name in methods if name != "all"]
    wanted = list(dict.fromkeys([*named, *(METHODS if "all" in methods else ())]))
    explainers, left_out = [], {}
    for name in wanted:
        try:
            explainer = resolve(name, model.card, found)
            _try(model, explainer, usual)
        except (MissingRuleError, ValueError, TypeError, KeyError) as error:
            reason = str(error.args[0]) if isinstance(error, KeyError) else str(error)
            if name in named:
                raise ValueError(f"{name} on {model.card.name}: {reason}") from error
            left_out[name] = reason
        else:
            explainers.append(explainer)
    return tuple(explainers), left_out


def try_metrics(
    model: Network,
    explainers: Sequence[Explainer],
    quantities: Mapping[str, Quantity],
    usual: jax.ShapeDtypeStruct,
) -> None:
    """Makes sure that what asks the network can be measured on an image.

    Args:
      model: The network.
      explainers: Those evaluated.
      quantities: What is measured.
      usual: An image, `[1, height, width, 3]`.

    Raises:
      ValueError: A quantity cannot; the message says which, and why.
    """
    parts = split(quantities)
    keys, targets = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, 1), int)
    maps = jnp.zeros((1, 1, *usual.shape[1:3]))

    def asked(x, quantities):
        return ask(model, x, maps, targets, keys, quantities=quantities)

    def repeated(x, quantities):
        explainer = explainers[0]
        return repeat(model, x, targets, keys, explainer=explainer, quantities=quantities)

    functions = [(asked, {**parts.ask, **parts.together}), (repeated, parts.repeat)]
    for function, measured in functions:
        for name, quantity in measured.items():
            try:
                jax.eval_shape(functools.partial(function, quantities={name: quantity}), usual)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name} on {model.card.name}: {error}") from error


def _try(model: Network, explainer: Explainer, usual: jax.ShapeDtypeStruct) -> None:
    keys = jax.random.split(jax.random.key(0), 1)
    jax.eval_shape(lambda x, t, k: explainer(model, x, t, k), usual,
                   jax.ShapeDtypeStruct((1, 1), jnp.int32), keys)  # fmt: skip
