"""What is kept and said of an explained video."""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jaxground import __version__, data, plots
from jaxground.cli import classes, results
from jaxground.cli.clips import Clip
from jaxground.cli.questions import Found
from jaxground.cli.videos import Setup
from jaxground.plots import Track, timeline

TOP = 5
LEAST = 256  # pixels of the longer side of a frame in the film, at least
ABREAST = 5  # pictures in a row of the film, at most
DEAD = "nothing of it reached the frames"


def write(setup: Setup, clip: Clip, found: Found, stem: Path) -> str:
    """Writes the files of an explained clip, and returns what to print of it.

    Args:
      setup: With what it was explained.
      clip: The clip.
      found: Its explanation.
      stem: Path of the files without suffix.

    Raises:
      OSError: A file cannot be written.
    """
    entry = record(setup, clip, found)
    overlays = [plots.overlay_video(clip.pixels, each) for each in found.maps]
    tracks = [
        Track(_title(target), frames, signal, window)
        for target, frames, signal, window in zip(
            entry["targets"], overlays, found.signals, found.windows, strict=True
        )
    ]
    suffix = data.video_suffix()
    film = suffix if suffix != ".png" else ".film.png"
    # Of a sentence each word has times of its own, which are not known.
    truth = clip.truth.window if clip.truth and found.sentence is None else None
    frames = _side_by_side([clip.pixels, *overlays], found.windows)
    results.write(
        stem,
        {
            film: lambda file: data.write_video(file.name, frames, rate=setup.rate),
            ".npz": lambda file: np.savez_compressed(
                file,
                maps=found.maps,
                signals=found.signals,
                windows=clip.first + clip.every * found.windows,
                frames=clip.first + clip.every * np.arange(len(clip.input)),
                targets=found.targets,
                probabilities=found.probabilities,
                kept=found.kept,
            ),
            ".png": lambda file: timeline(
                tracks, file, truth=truth, first=clip.first, every=clip.every
            ),
            ".json": lambda file: file.write(json.dumps(entry, indent=2).encode() + b"\n"),
        },
    )
    return _text(clip, entry, stem, film)


def record(setup: Setup, clip: Clip, found: Found) -> dict[str, Any]:
    """Returns all that is known of an explained clip, ready for JSON.

    Frames are numbers in the video; intervals are half open. Positions are in its pixels, `x, y`.
    """
    names = setup.model.card.class_names
    best = np.argsort(-found.overall, kind="stable")[:TOP]
    truth = clip.truth and {"name": clip.truth.name, "interval": list(clip.truth.window)}
    return {
        "video": {
            "path": results.identity(clip.path),
            "drawn": clip.truth is not None,
            "height": clip.size[0],
            "width": clip.size[1],
            "first_frame": clip.first,
            "every": clip.every,
            "frames": len(clip.input),
        },
        "truth": truth,
        "settings": dict(setup.settings),
        "weights": setup.weights,
        "map": {"height": found.maps.shape[2], "width": found.maps.shape[3]},
        "sentence": found.sentence,
        "top": [classes.described(int(i), names, float(found.overall[i])) for i in best],
        "targets": [_target(setup, clip, found, i) for i in range(len(found.targets))],
        "versions": {
            "jaxground": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        },
    }


def _target(setup: Setup, clip: Clip, found: Found, i: int) -> dict[str, Any]:
    index = int(found.targets[i])
    entry = {
        "asked": found.asked[i],
        **({} if found.places is None else {"place": int(found.places[i])}),
        **classes.described(index, setup.model.card.class_names, found.probabilities[i]),
        "kept": float(found.kept[i]),
        "interval": None,
        "peak": None,
    }
    if not found.kept[i] > 0:
        rest = "are minus those of its dual unit" if found.maps[i].any() else "are zero everywhere"
        return {**entry, "note": f"{DEAD}: the maps {rest}"}
    start, end = (int(n) for n in found.windows[i])
    if start < end:
        entry["interval"] = [clip.first + clip.every * n for n in (start, end)]
    elif found.maps.shape[1] == 1:
        entry["note"] = "one frame: nothing to compare in time"
    else:
        entry["note"] = "no frame stands out"
    frame, *place = found.peaks[i]
    row, column = (np.array(place) + 0.5) / found.maps.shape[2:] * clip.size
    entry["peak"] = {"frame": clip.first + clip.every * int(frame), "xy": [int(column), int(row)]}
    return entry


def _title(target: dict[str, Any]) -> str:
    return f"{target['label']}\n{_percent(target)} · {_when(target)}"


def _when(target: dict[str, Any]) -> str:
    if target["interval"] is None:
        return target["note"]
    start, end = target["interval"]
    return f"from frame {start} up to {end}"


def _text(clip: Clip, entry: dict[str, Any], stem: Path, film: str) -> str:
    lines = [clip.title]
    if clip.truth:
        start, end = clip.truth.window
        what = clip.truth.name if entry["sentence"] is None else f'"{clip.truth.name}", moving'
        lines.append(f"    truth  {what}, from frame {start} up to {end}")
    if entry["sentence"] is not None:
        lines.append(f'  sentence  "{entry["sentence"]}"')
    lines += [f"  {_percent(top):>7}  {top['label']} ({top['index']})" for top in entry["top"]]
    for target in entry["targets"]:
        text = f"  {target['label']} ({target['index']}, {_percent(target)}): {_when(target)}"
        if peak := target["peak"]:
            x, y = peak["xy"]
            text += f", most in frame {peak['frame']} at x {x}, y {y}"
        lines.append(f"  warning:{text}" if not target["kept"] else text)
    return "\n".join([*lines, f"  wrote {stem}{film}, and .png, .npz and .json beside it"])


def _percent(entry: dict[str, Any]) -> str:
    return f"{100 * entry['probability']:.1f} %"


def _side_by_side(videos: list[np.ndarray], windows: np.ndarray) -> np.ndarray:
    """Returns the frames of a film: the video and its overlays, a bar of time below each overlay.

    In a bar the interval found is orange, what has passed is dark, and the rest is light.
    """
    time, height, width = videos[0].shape[:3]
    scale = -(-LEAST // max(height, width))
    rows = -(-len(videos) // ABREAST)
    columns = -(-len(videos) // rows)
    tall, wide = scale * height + 12, scale * width
    film = np.full((time, rows * (tall + 4) - 4, columns * (wide + 4) - 4, 3), 255, np.uint8)
    at = np.arange(wide) * time // wide
    passed = at <= np.arange(time)[:, None]
    for number, frames in enumerate(videos):
        top, left = (tall + 4) * (number // columns), (wide + 4) * (number % columns)
        panel = film[:, top : top + tall, left : left + wide]
        panel[:, :-12] = frames.repeat(scale, 1).repeat(scale, 2)
        if number:
            start, end = windows[number - 1]
            inside = (start <= at) & (at < end)
            colours = np.where(inside[:, None], [232, 89, 12], [220, 220, 220])
            panel[:, -8:] = np.where(passed[..., None], colours * 3 // 5, colours)[:, None]
    return film
