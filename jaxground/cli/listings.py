"""What `--list-models` and `--list-taps` print."""

from jaxground import models, taps
from jaxground.cli.errors import UserError
from jaxground.cli.setup import usual_input
from jaxground.methods import METHODS, default_tap
from jaxground.models.registry import NETWORKS, VIDEO_NETWORKS, entry


def print_models() -> None:
    """Prints the networks, their inputs and classes, and where maps are read by default."""
    print(f"{'network':<18}{'input':>9}{'classes':>9}  excitation backprop at  Grad-CAM at")
    for name, network in NETWORKS.items():
        side = network.card.preprocess.crop
        note = "  (weights included)" if network.embedded else ""
        print(
            f"{name:<18}{f'{side} x {side}':>9}{network.num_classes:>9}  "
            f"{network.card.ground_at:<22}  {network.card.cam_at}{note}"
        )


def print_video_models() -> None:
    """Prints the networks for videos, their inputs and classes, and where maps are read."""
    print(f"{'network':<18}{'input':>9}{'classes':>9}  maps at")
    for name, network in VIDEO_NETWORKS.items():
        side = network.card.preprocess.crop
        note = "  (weights included)" if network.embedded else ""
        size = f"{side} x {side}"
        print(f"{name:<18}{size:>9}{network.num_classes:>9}  {network.card.ground_at}{note}")


def print_taps(name: str) -> None:
    """Prints the taps of a network from input to output, with shapes on its usual input.

    Raises:
      UserError: No network has that name.
    """
    try:
        card = entry(name).card
    except ValueError as error:
        raise UserError(str(error)) from error
    # Made within the trace, the network costs nothing: no weight is ever drawn.
    found = taps(lambda images: models.create(name)(images), usual_input(card))
    readers: dict[str | None, list[str]] = {}
    for method in METHODS:
        readers.setdefault(default_tap(method, card, found), []).append(method)
    print(f"{'tap':<16}{'height x width x channels':<27}read there by default")
    for tap, shape in found.items():
        size = " x ".join(map(str, shape.shape[1:]))
        print(f"{tap:<16}{size:<27}{', '.join(readers.get(tap, []))}".rstrip())
    print(f"{'(the image)':<16}{'':<27}{', '.join(readers.get(None, []))}")
