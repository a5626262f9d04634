"""How far a command is: a bar on stderr, results on stdout, and neither in the other's way."""

import math
import sys
import time
from pathlib import Path

LOG_INTERVAL = 10  # seconds between lines where the output is no terminal


class Progress:
    """A bar over photographs with its rate; none where there is but one.

    Attributes:
      skipped: How many photographs were skipped.
    """

    def __init__(self, total: int, command: str = "explain", unit: str = "photo") -> None:
        """Starts a bar of `total` photographs.

        Args:
          total: How many photographs there are.
          command: Which command tells of those that are skipped.
          unit: What one of them is called.
        """
        from tqdm import tqdm

        # A log is no terminal: there, a line every ten seconds, and no redrawing around output.
        self._live = sys.stderr.isatty()
        interval = 0.1 if self._live else LOG_INTERVAL
        self._bar = tqdm(total=total, unit=unit, disable=total < 2, mininterval=interval)
        self._noted = -math.inf
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

    def note(self, text: str, *, minor: bool = False) -> None:
        """Shows what is being done now, beside the bar.

        Args:
          text: What.
          minor: Whether a log can do without it.
        """
        if self._bar.disable and not minor:
            print(text, file=sys.stderr, flush=True)
        due = not minor and time.monotonic() - self._noted > LOG_INTERVAL
        if due:
            self._noted = time.monotonic()
        self._bar.set_description_str(text, refresh=self._live or due)

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
