"""Whether methods and metrics run on a network, and at what cost: traced, not computed."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxground import taps
from jaxground.core import MissingRuleError
from jaxground.evaluation.costs import in_passes
from jaxground.evaluation.explainers import Explainer, resolve
from jaxground.evaluation.measurements import ask, repeat, split
from jaxground.evaluation.quantities import Quantity
from jaxground.methods import METHODS
from jaxground.models import Network

REFUSALS = MissingRuleError, ValueError, TypeError, KeyError


def choose(
    model: Network, methods: Sequence[str], usual: jax.ShapeDtypeStruct, targets: int
) -> tuple[tuple[Explainer, ...], dict[str, float], dict[str, str]]:
    """Returns explainers, what the maps of each cost, and which of "all" do not run, and why.

    "all" are the methods of which no variant is named besides: `["rise:masks=500", "all"]` has one
    RISE.

    Args:
      model: The network.
      methods: As `resolve` reads them, or `"all"`.
      usual: An image, `[1, height, width, 3]`.
      targets: Classes of each image, for the costs.

    Raises:
      ValueError: A method that was named does not run on the network.
    """
    found = taps(model, usual)
    passes = in_passes(model, usual)
    keys, classes = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, targets), int)
    explainers, costs, left_out = [], {}, {}

    def add(name: str) -> None:
        explainer = resolve(name, model.card, found)
        costs[name] = passes(lambda x: explainer(model, x, classes, keys), usual)
        explainers.append(explainer)

    for name in dict.fromkeys(name for name in methods if name != "all"):
        try:
            add(name)
        except REFUSALS as error:
            reason, what = _reason(error), f"{name} on {model.card.name}: "
            raise ValueError(reason if repr(name) in reason else what + reason) from error
    named = {explainer.method for explainer in explainers}
    for name in METHODS if "all" in methods else ():
        try:
            if name not in named:
                add(name)
        except REFUSALS as error:
            left_out[name] = _reason(error)
    return tuple(explainers), costs, left_out


def try_metrics(
    model: Network,
    explainers: Sequence[Explainer],
    quantities: Mapping[str, Quantity],
    usual: jax.ShapeDtypeStruct,
    targets: int,
) -> tuple[dict[str, float], float]:
    """Returns what metrics cost, by explainer and for all together, if they can be measured.

    Args:
      model: The network.
      explainers: Those evaluated.
      quantities: What is measured.
      usual: An image, `[1, height, width, 3]`.
      targets: Classes of each image.

    Raises:
      ValueError: A quantity cannot; the message says which, and why.
    """
    passes, parts = in_passes(model, usual), split(quantities)
    keys, classes = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, targets), int)
    maps = jnp.zeros((1, targets, *usual.shape[1:3]))

    def asked(x, measured):
        return ask(model, x, maps, classes, keys, quantities=measured)

    def repeated(explainer, x, measured):
        return repeat(model, x, classes, keys, explainer=explainer, quantities=measured)

    def cost(function, wanted: Mapping[str, Quantity]) -> float:
        total = 0.0
        for name, quantity in wanted.items():
            try:
                one = functools.partial(function, measured={name: quantity})
                total += passes(one, usual)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name} on {model.card.name}: {error}") from error
        return total

    each = cost(asked, parts.ask)
    again = {e.label: cost(functools.partial(repeated, e), parts.repeat) for e in explainers}
    return {label: each + cost for label, cost in again.items()}, cost(asked, parts.together)


def _reason(error: Exception) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) else str(error)
