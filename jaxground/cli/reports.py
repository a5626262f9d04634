"""What is kept and said of an explained photograph."""

import dataclasses
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jaxground import __version__, plots
from jaxground.cli import classes, results
from jaxground.cli.inference import Explanation
from jaxground.cli.photographs import Photograph
from jaxground.cli.setup import Setup
from jaxground.methods import METHODS, is_smoothed

TOP = 5


def write(setup: Setup, photo: Photograph, found: Explanation, stem: Path) -> str:
    """Writes the three files of an explained photograph, and returns what to print of it.

    Args:
      setup: With what it was explained.
      photo: The photograph.
      found: Its explanation, NumPy arrays without the batch axis.
      stem: Path of the files without suffix.

    Raises:
      OSError: A file cannot be written.
    """
    entry = record(setup, photo, found)
    titles = [_title(target) for target in entry["targets"]]
    maps = dict(zip(titles, found.shown, strict=True))
    results.write(
        stem,
        {
            ".npz": lambda file: np.savez_compressed(
                file,
                maps=found.maps,
                targets=found.targets,
                probabilities=found.probabilities[found.targets],
            ),
            ".png": lambda file: plots.figure(photo.pixels, maps, file),
            ".json": lambda file: file.write(json.dumps(entry, indent=2).encode() + b"\n"),
        },
    )
    return _text(photo.path, entry, stem)


def record(setup: Setup, photo: Photograph, found: Explanation) -> dict[str, Any]:
    """Returns all that is known of an explained photograph, ready for JSON.

    Positions are in pixels of the photograph: a peak is `x, y`, the centre of the map's largest
    cell; a box is `x0, y0, x1, y1`, half open. Both are null where the map is zero everywhere.
    """
    names, card = setup.model.card.class_names, setup.model.card
    best = np.argsort(-found.probabilities, kind="stable")[:TOP]
    return {
        "photograph": {
            "path": results.identity(photo.path),
            "height": photo.size[0],
            "width": photo.size[1],
        },
        "settings": dict(setup.settings),
        "weights": setup.weights,
        "preprocessing": {
            "input": {"height": photo.input.shape[0], "width": photo.input.shape[1]},
            "fit": "warped whole" if setup.short is None else "whole, aspect kept",
            **{
                name: value
                for name, value in dataclasses.asdict(card.preprocess).items()
                if name in ("mean", "std", "order", "scale")
            },
        },
        "map": {
            "height": found.maps.shape[1],
            "width": found.maps.shape[2],
            "smoothed": is_smoothed(setup.method, setup.at),
            "box_rule": {"rule": "mean", "threshold": METHODS[setup.method].threshold},
        },
        "top": [classes.described(int(index), names, found.probabilities[index]) for index in best],
        "targets": [_target(setup, photo, found, i) for i in range(len(setup.targets))],
        "versions": {
            "jaxground": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        },
    }


def _target(setup: Setup, photo: Photograph, found: Explanation, i: int) -> dict[str, Any]:
    index = int(found.targets[i])
    entry = {
        "asked": setup.targets[i].asked,
        **classes.described(index, setup.model.card.class_names, found.probabilities[index]),
        "peak": None,
        "box": None,
        "mass": float(found.maps[i].sum()) if METHODS[setup.method].conserves else None,
    }
    if not found.maps[i].any():
        return {**entry, "note": "no evidence: the map is zero everywhere"}
    height, width = photo.size
    row, column = (found.peaks[i] + 0.5) / found.shown.shape[1:]  # from 0 to 1
    entry["peak"] = [int(column * width), int(row * height)]
    rows, columns = photo.input.shape[0], photo.input.shape[1]
    x0, y0, x1, y1 = found.boxes[i] * np.array([width, height, width, height])
    entry["box"] = [
        int(x0 // columns),
        int(y0 // rows),
        int(-(-x1 // columns)),
        int(-(-y1 // rows)),
    ]
    return entry


def _title(target: dict[str, Any]) -> str:
    title = f"{target['label']}\n{_percent(target)} · class {target['index']}"
    typed = target["asked"].casefold()
    if typed in ("top", str(target["index"]), target["label"].casefold()):
        return title
    return f"{title} · for “{target['asked']}”"


def _text(path: Path, entry: dict[str, Any], stem: Path) -> str:
    lines = [str(path)]
    lines += [f"  {_percent(top):>7}  {top['label']} ({top['index']})" for top in entry["top"]]
    for target in entry["targets"]:
        text = f"  {target['label']} ({target['index']}, {_percent(target)}): "
        if target["peak"] is None:
            lines.append(text + target["note"])
        else:
            lines.append(text + f"peak at x {target['peak'][0]}, y {target['peak'][1]}")
    return "\n".join([*lines, f"  wrote {stem}.png, and .npz and .json beside it"])


def _percent(entry: dict[str, Any]) -> str:
    return f"{100 * entry['probability']:.1f} %"
