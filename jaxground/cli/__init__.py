"""The command line: `jaxground explain ...`, `explain-video ...`, `evaluate ...`."""

import argparse
import io
import sys
from collections.abc import Sequence

from jaxground import __version__
from jaxground.cli import evaluate, explain, explain_video
from jaxground.cli.errors import INTERRUPTED, REFUSED, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1, 2 or 130 (see `jaxground --help`).

    Args:
      arguments: What stands after `jaxground` on the command line; by default `sys.argv`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be valid text
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(f"jaxground {options.command}: error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(
            f"jaxground {options.command}: interrupted; the files that are there are whole, "
            "the same command goes on from here",
            file=sys.stderr,
        )
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        sys.stdout = None
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxground",
        description="Shows which pixels and frames a network's decision stands on.",
        epilog="exit codes: 0 all done, 1 some photographs failed, 2 refused, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"jaxground {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    explain.add_command(commands)
    explain_video.add_command(commands)
    evaluate.add_command(commands)
    return parser
