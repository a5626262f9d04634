"""A video on its way through a recurrent network: what is settled before, and what is found."""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxground import MissingRuleError, maps, metrics, models, taps, weights
from jaxground.cli import classes, results
from jaxground.cli.errors import UserError
from jaxground.cli.setup import create, usual_input
from jaxground.data.moving_scenes import MovingScenes, draw_clips
from jaxground.data.video import VideoError, read_chunks
from jaxground.spatiotemporal import spatiotemporal_grounding

EMBEDDED = "compact_lrcn"
SHOWN = 384  # pixels of the longer side of what is kept of a frame for the pictures
DRAWN = MovingScenes()
SCENE = 7  # one that the network sees as we would; others go worse


class Truth(NamedTuple):
    """What happens in a drawn clip: the class, and its frames, half open."""

    name: str
    window: tuple[int, int]


class Clip(NamedTuple):
    """Frames that are explained together.

    Attributes:
      path: Of the video; of a drawn clip, what its file would be called.
      title: What to call it.
      size: Height and width in the file.
      first: Number of the first frame.
      every: Step from one frame's number to the next one's.
      part: Which of the chunks of the video, `None` where it is whole.
      pixels: For the pictures, `uint8[time, h, w, 3]`, reduced.
      input: For the network, `float32[time, height, width, 3]`.
      truth: Where it is known.
    """

    path: Path
    title: str
    size: tuple[int, int]
    first: int
    every: int
    part: int | None
    pixels: np.ndarray
    input: np.ndarray
    truth: Truth | None = None


class Setup(NamedTuple):
    """What is to be done, and with what.

    Attributes:
      model: The network.
      weights: Path and SHA-256 of its weights.
      at: Tap at which the maps are read.
      contrast: Whether the dual unit's mass is subtracted.
      targets: What is explained.
      output: Folder of the results.
      title: Of the results, by method and targets.
      settings: What decides a result besides the video, as kept in the records.
      overwrite: Whether to explain again what is finished.
      rate: Frames a second of the film that is written.
      explain: Compiled, from `[1, time, ...]` frames and masks of classes to a `Found`.
    """

    model: Any
    weights: dict[str, str]
    at: str
    contrast: bool
    targets: tuple[classes.Target, ...]
    output: Path
    title: str
    settings: dict[str, Any]
    overwrite: bool
    rate: int
    explain: Callable[[jax.Array, jax.Array], Any]


class Found(NamedTuple):
    """What the network says of a clip, and where and when that stands.

    Attributes:
      probabilities: `float32[classes]`, the mean over the frames.
      targets: `int32[k]`, the classes explained.
      maps: `float32[k, time, h, w]`, raw.
      signals: `float32[k, time]`.
      windows: `int32[k, 2]`, the interval found, half open, counted from the clip's first frame.
      peaks: `int32[k, 3]`, frame, row and column of the largest value.
    """

    probabilities: Any
    targets: Any
    maps: Any
    signals: Any
    windows: Any
    peaks: Any


def prepare(options: argparse.Namespace) -> Setup:
    """Returns everything settled, for the arguments of a command line.

    Raises:
      UserError: Something in them is wrong, or a folder cannot be written to.
    """
    if options.clip is not None and options.scene is not None:
        raise UserError("give a clip or --scene, not both")
    if options.clip is not None and not options.clip.exists():
        raise UserError(f"{options.clip}: no such file or folder")
    output = options.output or (options.clip.resolve().parent if options.clip else Path())
    results.try_folder(output)
    name = options.model or EMBEDDED
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
    found = taps(model.features, usual_input(model.card))
    readable = [tap for tap, value in found.items() if len(value.shape) == 4]
    at = options.at or model.card.ground_at
    if at not in readable:
        fault = f"tap {at!r} is no map" if at in found else f"no tap {at!r}"
        raise UserError(f"{name}: {fault}; from input to output: {', '.join(readable)}")
    names, count = model.card.class_names, model.classifier.out_features
    targets = [classes.find(text, names, count) for text in options.target] or [classes.top(count)]
    targets = tuple({target.classes: target for target in targets}.values())
    digest = weights.sha256(file)
    method = "EB-R" if options.no_contrast else "cEB-R"
    explain = functools.partial(_explain, at, not options.no_contrast, options.batch_size)
    graph, state = nnx.split(model)
    compiled = jax.jit(lambda state, *inputs: explain(nnx.merge(graph, state), *inputs))
    return Setup(
        model=model,
        weights={"file": str(file), "sha256": digest},
        at=at,
        contrast=not options.no_contrast,
        targets=targets,
        output=output,
        title=f"{method}.{'+'.join(target.asked.casefold() for target in targets)}",
        settings={
            "model": name,
            "weights": digest,
            "method": method,
            "tap": at,
            "targets": [list(t.classes) for t in targets] if options.target else "top",
            "every": options.every,
            "chunk": options.chunk,
        },
        overwrite=options.overwrite,
        rate=options.rate,
        explain=functools.partial(compiled, state),
    )


def clips(options: argparse.Namespace, setup: Setup) -> Iterator[Clip]:
    """Yields the video in chunks, or the drawn clip.

    Raises:
      UserError: The video cannot be read.
    """
    if options.clip is None:
        yield _drawn(SCENE if options.scene is None else options.scene, setup)
        return
    path, every, chunk = options.clip, options.every, options.chunk
    held: list[tuple[np.ndarray, np.ndarray]] = []
    part, size = 0, (0, 0)

    def clip(whole: bool) -> Clip:
        pixels, input = (np.stack(each) for each in zip(*held, strict=True))
        first, last = part * chunk * every, (part * chunk + len(held) - 1) * every
        title = str(path) if whole else f"{path}, frames {first} to {last}"
        return Clip(path, title, size, first, every, None if whole else part, pixels, input)

    try:
        for number, frames in enumerate(read_chunks(path, length=1)):
            if number % every:
                continue
            if len(held) == chunk:  # only now it is known that more follows
                yield clip(whole=False)
                held, part = [], part + 1
            size = frames.shape[1:3]
            held.append((_reduce(frames[0]), _fit(frames[0], setup)))
    except (VideoError, OSError) as error:
        raise UserError(str(error)) from error
    yield clip(whole=part == 0)


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
    count = setup.model.classifier.out_features
    masks = np.stack([target.mask(count) for target in setup.targets])
    try:
        found = jax.device_get(setup.explain(jnp.asarray(clip.input[None]), jnp.asarray(masks)))
    except (MissingRuleError, ValueError, TypeError) as error:
        raise UserError(f"{setup.settings['model']}: {error}") from error
    if not (np.isfinite(found.maps).all() and np.isfinite(found.probabilities).all()):
        raise UserError(f"{clip.title}: the network's output is not finite")
    return found


def _explain(
    at: str, contrast: bool, batch_size: int, model: Any, video: jax.Array, masks: jax.Array
) -> Found:
    probabilities = jax.nn.softmax(model(video).astype(jnp.float32)).mean(1)[0]
    targets = jnp.argmax(jnp.where(masks, probabilities, -jnp.inf), -1).astype(jnp.int32)
    found = spatiotemporal_grounding(
        model.features,
        model.classify,
        video,
        targets[None],
        contrastive=contrast,
        at=at,
        batch_size=batch_size if batch_size < video.shape[1] else None,
    )
    values, signals = found.maps[0], found.signal[0]
    frames = values.max((2, 3)).argmax(1)
    peaks = maps.peak(values[jnp.arange(len(values)), frames])
    peaks = jnp.concatenate([frames[:, None], peaks], 1)
    windows = metrics.greedy_window(signals)
    return Found(probabilities, targets, values, signals, windows, peaks)


def _drawn(number: int, setup: Setup) -> Clip:
    drawn = draw_clips(DRAWN, [number])
    frames = drawn.frames[0]
    truth = Truth(DRAWN.categories[drawn.labels[0]], tuple(drawn.times[0].tolist()))
    input = np.stack([_fit(frame, setup) for frame in frames])
    path, title = Path(f"moving_scene_{number}"), f"drawn clip {number}"
    return Clip(path, title, frames.shape[1:3], 0, 1, None, frames, input, truth)


def _fit(frame: np.ndarray, setup: Setup) -> np.ndarray:
    """Returns a whole frame, warped to the network's square."""
    from PIL import Image

    preprocess = setup.model.card.preprocess
    side = preprocess.crop
    image = Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR)
    return dataclasses.replace(preprocess, size=side)(image, crop=False)


def _reduce(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(frame)
    image.thumbnail((SHOWN, SHOWN))
    return np.asarray(image)
