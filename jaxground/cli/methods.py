"""The explainers of the command line by name: how each is run and read."""

from typing import Literal, NamedTuple


class Method(NamedTuple):
    """How an explainer is run and read, beyond its name.

    Attributes:
      tap: Where it is read by default: at the network's `ground_at` or `cam_at`, at its last map,
        or at the image.
      threshold: For `maps.boxes`, times the mean of the map: as tuned by Fong and Vedaldi (ICCV
        2017, table 3) where they have the method, else that of its nearest relative there.
      conserves: Whether the sum of a map is a share of the evidence.
    """

    tap: Literal["ground", "cam", "last", "image"]
    threshold: float
    conserves: bool = False


METHODS = {
    "excitation_backprop": Method("ground", 1.5, conserves=True),
    "contrastive_excitation_backprop": Method("ground", 1.5, conserves=True),
    "gradient": Method("image", 5.0),
    "guided_backprop": Method("image", 4.5),
    "deconvnet": Method("image", 4.5),
    "grad_cam": Method("cam", 1.5),
    "cam": Method("last", 1.5),
}


def is_smoothed(name: str, at: str | None) -> bool:
    """Returns whether a map is smoothed before it is looked at: those made at the image are."""
    return at is None and METHODS[name].tap == "image"
