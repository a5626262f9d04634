"""How far a command is: a bar on stderr, results on stdout, and neither in the other's way."""

import sys
from pathlib import Path


class Progress:
    """A bar over photographs with its rate; none where there is but one.

    Attributes:
      skipped: How many photographs were skipped.
    """

    def __init__(self, total: int, command: str = "explain") -> None:
        """Starts a bar of `total` photographs.

        Args:
          total: How many photographs there are.
          command: Which command tells of those that are skipped.
        """
        from tqdm import tqdm

        # A log is no terminal: there, a line every ten seconds, and no redrawing around output.
        self._live = sys.stderr.isatty()
        interval = 0.1 if self._live else 10
        self._bar = tqdm(total=total, unit="photo", disable=total < 2, mininterval=interval)
        self.skipped = 0
        self._command = command

    def __enter__(self) -> "Progress":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the bar."""
        self._bar.close()

    def say(self, text: str) -> None:
        """Prints a result."""
        self._print(text, sys.stdout)

    def advance(self) -> None:
        """Counts a photograph as done."""
        self._bar.update()

    def skip(self, path: Path, reason: object) -> None:
        """Tells why a photograph is skipped, and counts it."""
        text = str(reason) if str(path) in str(reason) else f"{path}: {reason}"
        self._print(f"jaxground {self._command}: skipped: {text}", sys.stderr)
        self.skipped += 1
        self._bar.update()

    def _print(self, text: str, stream) -> None:
        if self._live:
            self._bar.write(text, file=stream)
        else:
            print(text, file=stream, flush=True)
