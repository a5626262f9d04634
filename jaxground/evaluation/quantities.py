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
      measure: Returns a value of each map: against masks, `measure(maps, masks, size)`, of arrays
        `[k, *canvas]` and the height and width `int[2]` of the photograph in their upper left
        corner; against boxes, `measure(maps, boxes, size, threshold)`, of maps `[k, h, w]` as they
        are and `boxes[k, n, 4]`; against the network, `measure(f, images, maps, targets)`, of maps
        `[batch, k, h, w]`; of the explainer itself, `measure(explain, images, targets)`.
      of: What it is measured against.
      protocol: The function and its constants.
      random: Whether it takes a `key`.
      shared: Whether what the network is asked does not depend on the maps: then those of all
        explainers share the passes.
    """

    measure: Callable[..., Array]
    of: Literal["mask", "box", "network", "explainer"]
    protocol: Mapping[str, Any]
    random: bool = False
    shared: bool = False


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
    # On mosaics this is the grid pointing game: there the mask is the cell.
    "energy_pointing_game": Metric("energy_pointing_game", percent=True),
    "top_k_intersection": Metric("top_k_intersection", percent=True),
    "localisation_error": Metric("localisation_error", good="small", percent=True),
    "sparseness": Metric("sparseness"),
    "entropy": Metric("entropy", good="small"),
    "insertion": Metric("insertion"),
    "deletion": Metric("deletion", good="small"),
    "morf": Metric("morf"),
    "lerf": Metric("lerf", good="small"),
    "road_morf": Metric("road_morf", good="small"),
    "road_lerf": Metric("road_lerf"),
    "infidelity": Metric("infidelity", good="small"),
    "sensitivity_n": Metric("sensitivity_n"),
    "max_sensitivity": Metric("max_sensitivity", good="small"),
}
INFINITE = "infinite"  # a value in a record: JSON has no infinity
# Of the pixels removed in sensitivity-n: from 1 % to most, on a logarithmic scale as in the paper.
SHARES = 0.01, 0.04, 0.16, 0.64
PERTURBED = 10  # images for max-sensitivity: each asks for a map anew, of RISE for all its masks


def quantities(metrics: Sequence[str], tolerance: str | float) -> dict[str, Quantity]:
    """Returns what is to be measured for some metrics.

    Args:
      metrics: Names in `METRICS`.
      tolerance: Of the pointing game: 15, pixels of the photograph, or `"15/640"` of its longer
        side.
    """
    wanted = {METRICS[name].quantity for name in metrics}
    return {name: make(tolerance) for name, make in _QUANTITIES.items() if name in wanted}


def _hit(tolerance: str | float) -> Quantity:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(\d+))?", str(tolerance))
    if not found or (found[2] and not int(found[2])):
        raise ValueError(
            f"tolerance {tolerance!r} is not of the form 15 (pixels) or 15/640 (of the longer side)"
        )
    radius, side = float(found[1]), int(found[2] or 0)

    def measure(maps, masks, size):
        pixels = radius * size.max() / side if side else radius
        return metrics.pointing_game(maps, masks, tolerance=pixels)

    value, unit = (radius / side, "longer side") if side else (radius, "pixels")
    kept = metrics.protocol(metrics.pointing_game, tolerance=value)
    return Quantity(measure, "mask", {**kept, "tolerance_unit": unit})


def _of_network(
    function: Callable, read: Callable, *, shared: bool = False, **options: Any
) -> Callable[[str | float], Quantity]:
    """Returns what makes a quantity of a metric that asks the network."""

    def measure(*arrays, **key):
        return read(function(*arrays, **options, **key))

    random = "key" in inspect.signature(function).parameters
    found = metrics.protocol(function, **options, **(BY_IMAGE if random else {}))
    return lambda _: Quantity(measure, "network", found, random, shared)


def _sensitivity_n(_: str | float) -> Quantity:
    def measure(f, images, maps, targets, *, key):
        pixels = images.shape[1] * images.shape[2]
        sizes = [max(1, round(share * pixels)) for share in SHARES]
        return metrics.sensitivity_n(f, images, maps, targets, key=key, sizes=sizes).mean(-1)

    found = metrics.protocol(metrics.sensitivity_n, sizes=list(SHARES), **BY_IMAGE)
    read = {"sizes_unit": "pixels of the input", "read": "mean over sizes"}
    return Quantity(measure, "network", {**found, **read}, True, True)


def _max_sensitivity(_: str | float) -> Quantity:
    def measure(explain, images, targets, *, key):
        options = {"key": key, "samples": PERTURBED}
        return metrics.max_sensitivity(explain, images, targets, **options).relative

    found = metrics.protocol(metrics.max_sensitivity, samples=PERTURBED, **BY_IMAGE)
    return Quantity(measure, "explainer", {**found, "read": "relative"}, True)


def _localisation_error(_: str | float) -> Quantity:
    def measure(maps, boxes, size, threshold):
        return metrics.localisation_error(maps, boxes, threshold=threshold, sizes=size)

    found = metrics.protocol(metrics.localisation_error, threshold=None)  # each method has its own
    return Quantity(measure, "box", found)


def _of_maps(function: Callable, *, masked: bool) -> Callable[[str | float], Quantity]:
    """Returns what makes a quantity of a metric of maps, or of maps and masks."""

    def measure(maps, masks, size):
        return function(maps, masks) if masked else function(maps)

    return lambda _: Quantity(measure, "mask", metrics.protocol(function))


def _area(found):
    return found.area


def _aopc(found):
    return found.aopc


BY_IMAGE = {"key": "by image"}
_QUANTITIES = {
    "hit": _hit,
    "localisation_error": _localisation_error,
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
    "infidelity": _of_network(metrics.infidelity, lambda found: found.scaled, shared=True),
    "sensitivity_n": _sensitivity_n,
    "max_sensitivity": _max_sensitivity,
}
