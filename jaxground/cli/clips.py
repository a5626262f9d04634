"""What of a video is explained together: a drawn clip, or one read from files."""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxground import models
from jaxground.cli.errors import UserError
from jaxground.data.moving_scenes import MovingScenes, draw_clips
from jaxground.data.sentences import describe_clips
from jaxground.data.video import VideoError, read_chunks
from jaxground.models.compact_captioner import SCENES

SHOWN = 384  # pixels of the longer side of what is kept of a frame for the pictures
DRAWN, DRAWN_WITH_WORDS = MovingScenes(), SCENES
SCENE, SCENE_WITH_WORDS = 7, 7  # that the networks see as we would; others go worse


class Truth(NamedTuple):
    """What happens in a drawn clip: the class or a sentence, and its frames, half open."""

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


def read(options: argparse.Namespace, preprocess: models.Preprocess) -> Iterator[Clip]:
    """Yields a video in chunks of so many frames, for the arguments of a command line.

    Raises:
      UserError: The video cannot be read.
    """
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
            held.append((_reduce(frames[0]), _fit(frames[0], preprocess)))
    except (VideoError, OSError) as error:
        raise UserError(str(error)) from error
    yield clip(whole=part == 0)


def draw(number: int | None, preprocess: models.Preprocess, *, words: bool) -> Clip:
    """Returns a clip that is drawn on the spot.

    Args:
      number: Which; `None` for one that goes well.
      preprocess: Of the network.
      words: Whether it is for a captioner: with scenes as it knows them, and a true sentence.
    """
    scenes, usual = (DRAWN_WITH_WORDS, SCENE_WITH_WORDS) if words else (DRAWN, SCENE)
    number = usual if number is None else number
    drawn = draw_clips(scenes, [number])
    frames = drawn.frames[0]
    sentence = str(describe_clips(drawn, scenes.events)[0])
    name = sentence if words else scenes.categories[drawn.labels[0]]
    truth = Truth(name, tuple(drawn.times[0].tolist()))
    input = np.stack([_fit(frame, preprocess) for frame in frames])
    path, title = Path(f"moving_scene_{number}"), f"drawn clip {number}"
    return Clip(path, title, frames.shape[1:3], 0, 1, None, frames, input, truth)


def _fit(frame: np.ndarray, preprocess: models.Preprocess) -> np.ndarray:
    """Returns a whole frame, warped to the network's square."""
    from PIL import Image

    side = preprocess.crop
    image = Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR)
    return dataclasses.replace(preprocess, size=side)(image, crop=False)


def _reduce(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(frame)
    image.thumbnail((SHOWN, SHOWN))
    return np.asarray(image)
