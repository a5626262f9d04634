"""The explainers by name: how each is run and read. Data alone, so that `--help` loads no JAX."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol


class Method(NamedTuple):
    """How an explainer is run and read, beyond its name.

    Attributes:
      tap: Where it is read by default: at the network's `ground_at` or `cam_at`, at its last map,
        or at the image.
      threshold: For `maps.boxes`, times the mean of the map: as tuned by Fong and Vedaldi (ICCV
        2017, table 3) where they have the method, else that of its nearest relative there.
      conserves: Whether the sum of a map is a share of the evidence.
      smoothed: Whether a map at the image's resolution is smoothed before it is looked at: maps
        of single pixels are.
    """

    tap: Literal["ground", "cam", "last", "image"]
    threshold: float
    conserves: bool = False
    smoothed: bool = False


METHODS = {
    "excitation_backprop": Method("ground", 1.5, conserves=True),
    "contrastive_excitation_backprop": Method("ground", 1.5, conserves=True),
    "gradient": Method("image", 5.0, smoothed=True),
    "input_x_gradient": Method("image", 5.0, smoothed=True),
    "integrated_gradients": Method("image", 5.0, smoothed=True),
    "smooth_grad(gradient)": Method("image", 5.0, smoothed=True),
    "guided_backprop": Method("image", 4.5, smoothed=True),
    "deconvnet": Method("image", 4.5, smoothed=True),
    "lrp": Method("image", 5.0, smoothed=True),
    "grad_cam": Method("cam", 1.5),
    "grad_cam_plus_plus": Method("cam", 1.5),
    "layer_cam": Method("cam", 1.5),
    "score_cam": Method("cam", 1.5),
    "guided_grad_cam": Method("cam", 4.5, smoothed=True),
    "cam": Method("last", 1.5),
    "occlusion": Method("image", 1.0),
    "rise": Method("image", 1.0),
    "extremal_perturbation": Method("image", 0.5),
}


class Reading(Protocol):
    """What a network's card says of where it is read, as `models.Card` does."""

    @property
    def name(self) -> str:
        """Name of the network."""
        ...

    @property
    def ground_at(self) -> str:
        """Tap of excitation backprop."""
        ...

    @property
    def cam_at(self) -> str:
        """Last convolutional stage."""
        ...


def is_smoothed(name: str, at: str | None) -> bool:
    """Returns whether a map is smoothed before it is looked at."""
    method = METHODS[name]
    return method.smoothed and (at is None or method.tap != "image")


def default_tap(name: str, card: Reading, taps: Mapping[str, Any]) -> str | None:
    """Returns where a method is read on a network; `None` is the image.

    Args:
      name: One of `METHODS`.
      card: What is known of the network.
      taps: Shapes at its taps, from input to output.

    Raises:
      ValueError: The network has no such tap.
    """
    maps = [tap for tap, shape in taps.items() if len(shape.shape) == 4]
    tap = {
        "image": None,
        "ground": card.ground_at,
        "cam": card.cam_at,
        "last": maps[-1] if maps else "",
    }[METHODS[name].tap]
    if tap is not None and tap not in taps:
        raise ValueError(f"{card.name} has no tap to read {name} at; choose one")
    return tap
