"""All that is settled, and checked, before the first photograph is read."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxground import models, taps, weights
from jaxground.cli import classes, results
from jaxground.cli.errors import UserError
from jaxground.data.example import EXAMPLE_TARGETS, example_photograph
from jaxground.data.images import Found, find_images
from jaxground.methods import default_tap

EMBEDDED = "compact_vgg"


class Setup(NamedTuple):
    """What is to be done, and with what.

    Attributes:
      model: The network.
      weights: Path and SHA-256 of its weights.
      method: Name of the explainer.
      at: Tap at which it is read, `None` for the image.
      targets: What is explained in each photograph.
      count: Number of classes.
      settings: What decides a result besides the photograph, as kept in the records.
      short: Shorter side of the input where the aspect is kept.
      batch_size: Photographs in a pass.
      plan: Which photographs, and where the results go.
    """

    model: models.Network
    weights: dict[str, str]
    method: str
    at: str | None
    targets: tuple[classes.Target, ...]
    count: int
    settings: dict[str, Any]
    short: int | None
    batch_size: int
    plan: results.Plan


def find_photos(paths: Sequence[Path]) -> Found:
    """Returns the photographs meant, our own pictures among them left out, and what is missing.

    Raises:
      UserError: There is none at all.
    """
    if not paths:
        return Found([example_photograph()], [])
    named = {path for path in paths if path.is_file()}
    found = find_images(paths)
    photos = [path for path in found.images if path in named or not results.is_result(path)]
    if not photos:
        raise UserError("; ".join(f"{path}: {absence(path)}" for path in paths))
    return Found(photos, found.missing)


def absence(path: Path) -> str:
    """Returns why there is no photograph at a path."""
    return "no photograph in this folder" if path.is_dir() else "no such file or folder"


def prepare(options: argparse.Namespace, photos: Sequence[Path]) -> Setup:
    """Returns everything settled, for the arguments of a command line.

    Raises:
      UserError: Something in them is wrong, or a folder cannot be written to.
    """
    output = options.output or (None if options.photos else Path())
    for folder in {output or photo.parent for photo in photos}:
        results.try_folder(folder)  # before anything slow
    name = options.model or EMBEDDED
    file = weights_file(options.model, options.weights)
    model = load_model(name, file)
    count = jax.eval_shape(model, usual_input(model.card)).shape[-1]
    found = taps(model, usual_input(model.card))
    readable = [tap for tap, value in found.items() if len(value.shape) == 4]
    if options.at is not None and options.at not in readable:
        fault = f"tap {options.at!r} is no map" if options.at in found else f"no tap {options.at!r}"
        raise UserError(f"{name}: {fault}; from input to output: {', '.join(readable)}")
    try:
        at = options.at or default_tap(options.method, model.card, found)
    except ValueError as error:
        raise UserError(f"{error} with --at") from error
    names = model.card.class_names
    asked = options.target or ([] if options.photos or options.model else EXAMPLE_TARGETS)
    targets = [classes.find(text, names, count) for text in asked] or [classes.top(count)]
    targets = tuple({target.classes: target for target in targets}.values())
    digest = weights.sha256(file)
    settings = {
        "model": name,
        "weights": digest,
        "method": options.method,
        "tap": at,
        "targets": [list(target.classes) for target in targets] if asked else "top",
        "size": options.size,
    }
    title = f"{options.method}.{'+'.join(target.asked.casefold() for target in targets)}"
    plan = results.plan(photos, output, title, settings, overwrite=options.overwrite)
    return Setup(
        model=model,
        weights={"file": str(file), "sha256": digest},
        method=options.method,
        at=at,
        targets=targets,
        count=count,
        settings=settings,
        short=options.size,
        batch_size=options.batch_size,
        plan=plan,
    )


def weights_file(model: str | None, weights: str | None) -> Path:
    """Returns the file of the weights asked for, fetched from the hub where need be.

    Raises:
      UserError: There are none, or they cannot be had.
    """
    if weights and not model:
        raise UserError("--weights needs --model: which network are they of?")
    try:
        return models.weights_file(model or EMBEDDED, weights or "embedded")
    except (ValueError, ImportError) as error:
        raise UserError(str(error)) from error


def load_model(name: str, file: Path, **options: Any) -> models.Network:
    """Returns a network for images with its weights; options as for `models.create`.

    Raises:
      UserError: There is no such network, or the weights are not its.
    """
    if name in models.video_names():
        raise UserError(f"{name} reads videos: see jaxground explain-video --help")
    return create(name, file, **options)


def create(name: str, file: Path, **options: Any) -> Any:
    """Returns a network of any kind with its weights; options as for `models.create`.

    Raises:
      UserError: There is no such network, or the weights are not its.
    """
    try:
        return models.create(name, file, **options)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, ImportError) as error:
        raise UserError(str(error)) from error


def usual_input(card: models.Card) -> jax.ShapeDtypeStruct:
    """Returns the shape of what a network usually reads, a batch of one."""
    side = card.preprocess.crop
    return jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
