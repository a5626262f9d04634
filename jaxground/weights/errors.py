"""The one exception of this package, and how readers say where it arose."""

import contextlib
from collections.abc import Iterator


class WeightsError(ValueError):
    """Something is wrong with a weight file.

    The message names the file, the key, what was expected and what was found, as far as each is
    known where the error arises.

    Attributes:
      path: The file, or `None`.
      key: The tensor, or `None`.

    Example:
      >>> raise WeightsError("expected 8 bytes, found 5", path="vgg16.pth", key="fc.bias")
      Traceback (most recent call last):
      jaxground.weights.errors.WeightsError: vgg16.pth: 'fc.bias': expected 8 bytes, found 5
    """

    def __init__(self, message: str, *, path: object = None, key: str | None = None) -> None:
        """Keeps the message apart from the places, which outer readers fill in."""
        super().__init__(message)
        self.path = path
        self.key = key

    def __str__(self) -> str:
        """Returns `file: 'key': message`."""
        places = [] if self.path is None else [str(self.path)]
        places += [] if self.key is None else [shown(self.key)]
        return ": ".join([*places, super().__str__()])


@contextlib.contextmanager
def about(*, path: object = None, key: str | None = None) -> Iterator[None]:
    """Adds the file or the key to every `WeightsError` that passes and does not know it yet.

    Example:
      >>> with about(path="vgg16.pth"):
      ...     raise WeightsError("truncated")
      Traceback (most recent call last):
      jaxground.weights.errors.WeightsError: vgg16.pth: truncated
    """
    try:
        yield
    except WeightsError as error:
        error.path = path if error.path is None else error.path
        error.key = key if error.key is None else error.key
        raise


def shown(value: object) -> str:
    """Returns a short text for a value met in an untrusted file.

    Containers are named by their type alone: printing one could take exponential time, because a
    pickle may hold the same tuple twice at every one of fifty levels.

    Example:
      >>> print(shown("conv1.weight"), shown([1, 2]), sep=", ")
      'conv1.weight', a list
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        text = repr(value[:80] if isinstance(value, str | bytes) else value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return f"a {type(value).__name__}"
