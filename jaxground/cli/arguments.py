"""What stands on a command line: options that commands share, and from text to values."""

import argparse
import re


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Adds `--target`, which gathers what is typed in a list."""
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="CLASS",
        help="class to explain, by name or index; may be repeated (default: the top prediction)",
    )


def positive(text: str) -> int:
    """Returns a positive whole number.

    Example:
      >>> positive("12")
      12
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def natural(text: str) -> int:
    """Returns a whole number from 0 on.

    Example:
      >>> natural("0")
      0
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def names(text: str) -> list[str]:
    """Returns the names between commas; commas within parentheses are part of a name.

    Example:
      >>> names("rise:masks=9, multi_scale(cam):sizes=(1,2)")
      ['rise:masks=9', 'multi_scale(cam):sizes=(1,2)']
    """
    return [name.strip() for name in re.split(r",(?![^()]*\))", text) if name.strip()]


def part(text: str) -> tuple[int, int]:
    """Returns which part of how many, counted from 0.

    Example:
      >>> part("1/4")
      (0, 4)
    """
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write 1/4 for the first of four")
    return int(found[1]) - 1, int(found[2])
