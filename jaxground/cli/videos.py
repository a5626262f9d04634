"""A video on its way through a recurrent network: what is settled before, and what is found."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxground import MissingRuleError, models, taps, weights
from jaxground.cli import clips, results
from jaxground.cli.clips import Clip
from jaxground.cli.errors import UserError
from jaxground.cli.questions import Found, Question, ask_of_classes, ask_of_words
from jaxground.cli.setup import create, usual_input

CLASSIFIER, CAPTIONER = "compact_lrcn", "compact_captioner"  # those that come with the package


class Setup(NamedTuple):
    """What is to be done, and with what.

    Attributes:
      model: The network.
      weights: Path and SHA-256 of its weights.
      question: What is asked of each clip.
      output: Folder of the results.
      title: Of the results, by method and question.
      settings: What decides a result besides the video, as kept in the records.
      overwrite: Whether to explain again what is finished.
      rate: Frames a second of the film that is written.
    """

    model: Any
    weights: dict[str, str]
    question: Question
    output: Path
    title: str
    settings: dict[str, Any]
    overwrite: bool
    rate: int


def prepare(options: argparse.Namespace) -> Setup:
    """Returns everything settled, for the arguments of a command line.

    Raises:
      UserError: Something in them is wrong, or a folder cannot be written to.
    """
    _check(options)
    output = options.output or (options.clip.resolve().parent if options.clip else Path())
    results.try_folder(output)
    name = options.model or (CLASSIFIER if options.caption is None else CAPTIONER)
    if name in models.names():
        raise UserError(
            f"{name} reads photographs: give a network for videos, "
            f"{', '.join(models.video_names())}, or see jaxground explain --help"
        )
    try:
        file = models.weights_file(name, options.weights or "embedded")
    except (ValueError, ImportError) as error:
        raise UserError(str(error)) from error
    model = create(name, file)
    at = _tap(model, name, options.at)
    contrast = not options.no_contrast
    ground = {"at": at, "contrastive": contrast, "batch_size": options.batch_size}
    if isinstance(model, models.Captioner):
        if options.target:
            raise UserError(f"{name} says sentences: ask with --caption, not --target")
        question = ask_of_words(model, options.caption or "", ground)
    elif options.caption is not None:
        captioners = f"{CAPTIONER} with --caption, or leave out --model"
        raise UserError(f"{name} names classes: give --target, or --model {captioners}")
    else:
        question = ask_of_classes(model, options.target, ground)
    digest = weights.sha256(file)
    method = "cEB-R" if contrast else "EB-R"
    return Setup(
        model=model,
        weights={"file": str(file), "sha256": digest},
        question=question,
        output=output,
        title=f"{method}.{question.title}",
        settings={
            "model": name,
            "weights": digest,
            "method": method,
            "tap": at,
            **question.settings,
            "every": options.every,
            "chunk": options.chunk,
        },
        overwrite=options.overwrite,
        rate=options.rate,
    )


def read(options: argparse.Namespace, setup: Setup) -> Iterator[Clip]:
    """Yields the video in chunks, or the drawn clip.

    Raises:
      UserError: The video cannot be read.
    """
    preprocess = setup.model.card.preprocess
    if options.clip is None:
        words = isinstance(setup.model, models.Captioner)
        yield clips.draw(options.scene, preprocess, words=words)
    else:
        yield from clips.read(options, preprocess)


def place(setup: Setup, clip: Clip) -> tuple[Path, bool]:
    """Returns the path without suffix of the results of a clip, and whether they are there.

    Raises:
      UserError: A folder is in the way, or a finished result was made with other settings.
    """
    title = setup.title if clip.part is None else f"{setup.title}.{clip.first:06d}"
    path = clip.path if clip.truth else clip.path.resolve()
    plan = results.plan([path], setup.output, title, setup.settings, overwrite=setup.overwrite)
    (stem,) = [*plan.todo.values(), *plan.finished.values()]
    return stem, bool(plan.finished)


def explain(setup: Setup, clip: Clip) -> Found:
    """Returns what was found in a clip, NumPy arrays.

    Raises:
      UserError: The network cannot be explained, or answers NaN.
    """
    try:
        found = setup.question.explain(jnp.asarray(clip.input[None]))
    except (MissingRuleError, ValueError, TypeError) as error:
        raise UserError(f"{setup.settings['model']}: {error}") from error
    if not all(np.isfinite(x).all() for x in (found.maps, found.probabilities, found.overall)):
        raise UserError(f"{clip.title}: the network's output is not finite")
    return found


def _check(options: argparse.Namespace) -> None:
    """Raises a UserError for arguments that do not go together."""
    if options.caption is not None and options.target:
        raise UserError("give --target or --caption, not both: a class or the words of a sentence")
    if options.clip is None and options.caption and Path(options.caption).exists():
        raise UserError(
            f"--caption took {options.caption!r} for a sentence: write CLIP before --caption"
        )
    if options.clip is not None and options.scene is not None:
        raise UserError("give a clip or --scene, not both")
    if options.clip is not None and not options.clip.exists():
        raise UserError(f"{options.clip}: no such file or folder")


def _tap(model: Any, name: str, asked: str | None) -> str:
    """Returns where the maps are read."""
    found = taps(model.features, usual_input(model.card))
    readable = [tap for tap, value in found.items() if len(value.shape) == 4]
    at = asked or model.card.ground_at
    if at not in readable:
        fault = f"tap {at!r} is no map" if at in found else f"no tap {at!r}"
        raise UserError(f"{name}: {fault}; from input to output: {', '.join(readable)}")
    return at
