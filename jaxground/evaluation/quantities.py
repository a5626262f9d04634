"""What is measured of a map, and the metrics that are averages of it.

A *quantity* is measured for every (photograph, category) pair; a *metric* is an average of one.
`hit` is one quantity; mean over categories or over pairs, over all pairs or the difficult ones
alone: these are four metrics.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from jax import Array

from jaxground import metrics


class Quantity(NamedTuple):
    """Something measured of each map.

    Attributes:
      measure: Against masks, `measure(maps, masks, size)`, of arrays `[k, *canvas]` and the height
        and width `int[2]` of the photograph in their upper left corner; against the network,
        `measure(f, images, maps, targets)`, of maps `[batch, k, h, w]`. Returns a value of each.
      of: What it is measured against.
      protocol: The function and its constants.
      random: Whether it takes a `key`.
    """

    measure: Callable[..., Array]
    of: Literal["mask", "network"]
    protocol: Mapping[str, Any]
    random: bool = False


OF = "mask", "network"


class Metric(NamedTuple):
    """An average of a quantity.

    Attributes:
      quantity: Name of the quantity.
      good: Whether large or small values are good.
      average: The mean over categories of the mean in each, or the mean over all pairs.
      difficult: Whether only difficult pairs count.
      percent: Whether values are shares, shown in percent.
    """

    quantity: str
    good: Literal["large", "small"] = "large"
    average: Literal["categories", "pairs"] = "pairs"
    difficult: bool = False
    percent: bool = False


METRICS = {
    "pointing_game": Metric("hit", average="categories", percent=True),
    "pointing_game_difficult": Metric("hit", average="categories", difficult=True, percent=True),
    "pointing_game_micro": Metric("hit", percent=True),
    "pointing_game_difficult_micro": Metric("hit", difficult=True, percent=True),
    "energy_pointing_game": Metric("energy_pointing_game", percent=True),
    "top_k_intersection": Metric("top_k_intersection", percent=True),
    "sparseness": Metric("sparseness"),
    "entropy": Metric("entropy", good="small"),
    "insertion": Metric("insertion"),
    "deletion": Metric("deletion", good="small"),
    "morf": Metric("morf"),
    "lerf": Metric("lerf", good="small"),
    "road_morf": Metric("road_morf", good="small"),
    "road_lerf": Metric("road_lerf"),
    "infidelity": Metric("infidelity", good="small"),
}


def quantities(metrics: Sequence[str], tolerance: str) -> dict[str, Quantity]:
    """Returns what is to be measured for some metrics.

    Args:
      metrics: Names in `METRICS`.
      tolerance: Of the pointing game: `"15"` pixels of the photograph, or `"15/640"` of its longer
        side.
    """
    wanted = {METRICS[name].quantity for name in metrics}
    return {name: make(tolerance) for name, make in _QUANTITIES.items() if name in wanted}


def _hit(tolerance: str) -> Quantity:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(\d+))?", tolerance)
    if not found or (found[2] and not int(found[2])):
        raise ValueError(
            f"tolerance {tolerance!r} is not of the form 15 (pixels) or 15/640 (share)"
        )
    pixels, side = float(found[1]), found[2]

    def measure(maps, masks, size):
        radius = pixels * size.max() / int(side) if side else pixels
        return metrics.pointing_game(maps, masks, tolerance=radius)

    return Quantity(measure, "mask", metrics.protocol(metrics.pointing_game, tolerance=tolerance))


def _of_network(function: Callable, read: Callable, **options: Any) -> Callable[[str], Quantity]:
    """Returns what makes a quantity of a metric that asks the network."""

    def measure(*arrays, **key):
        return read(function(*arrays, **options, **key))

    random = "key" in inspect.signature(function).parameters
    found = metrics.protocol(function, **options, **({"key": "by image"} if random else {}))
    return lambda _: Quantity(measure, "network", found, random)


def _of_maps(function: Callable, *, masked: bool) -> Callable[[str], Quantity]:
    """Returns what makes a quantity of a metric of maps, or of maps and masks."""

    def measure(maps, masks, size):
        return function(maps, masks) if masked else function(maps)

    return lambda _: Quantity(measure, "mask", metrics.protocol(function))


def _area(found):
    return found.area


def _aopc(found):
    return found.aopc


_QUANTITIES = {
    "hit": _hit,
    "energy_pointing_game": _of_maps(metrics.energy_pointing_game, masked=True),
    "top_k_intersection": _of_maps(metrics.top_k_intersection, masked=True),
    "sparseness": _of_maps(metrics.sparseness, masked=False),
    "entropy": _of_maps(metrics.entropy, masked=False),
    "insertion": _of_network(metrics.insertion, _area),
    "deletion": _of_network(metrics.deletion, _area),
    "morf": _of_network(metrics.region_perturbation, _aopc, order="morf"),
    "lerf": _of_network(metrics.region_perturbation, _aopc, order="lerf"),
    "road_morf": _of_network(metrics.road, _area, order="morf"),
    "road_lerf": _of_network(metrics.road, _area, order="lerf"),
    "infidelity": _of_network(metrics.infidelity, lambda found: found.scaled),
}
