"""The picture that comes with the package, for `jaxground explain` without a photograph."""

from pathlib import Path

EXAMPLE_TARGETS = ("airplane", "ship")  # what is in it, by the names of CIFAR-10


def example_photograph() -> Path:
    """Returns the path of a JPEG of 640 x 480 pixels: an airplane above a ship at sea.

    It was drawn for this project by `experiments/example_photograph.py`.

    Example:
      >>> from jaxground.data.images import measure_image
      >>> measure_image(example_photograph())
      (480, 640)
    """
    return Path(__file__).with_name("example.jpg")
