"""`jaxground explain-video`: where and when the evidence for a decision stands in a video."""

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxground.cli import arguments
from jaxground.cli.errors import DONE, UserError
from jaxground.cli.progress import Progress

if TYPE_CHECKING:
    from jaxground.cli.videos import Setup

DESCRIPTION = """\
Explains what a recurrent network says of a video: in which frames, and where in them, the evidence
stands, by (contrastive) Excitation Backprop through time. Writes a film of the maps over the
frames (MP4 where PyAV is there, else an animated PNG), a picture of key frames with the curve of
the evidence over time and the interval found in it, the raw maps (NPZ) and a record (JSON).

With --caption it explains every content word of a sentence about the video, the captioner's own or
a given one: what each was read from.

Without CLIP it explains a clip that is drawn on the spot, of which the truth is known: one that
goes well. --scene draws others, and not all of them do.
"""

EPILOG = """\
examples:
  jaxground explain-video
      try it
  jaxground explain-video --scene 7 --target "moves left" --target shrinks
      two classes, on one forward pass
  jaxground explain-video --caption
      what each word of the captioner's sentence was read from
  jaxground explain-video clip.gif --caption "a red disc moves left"
      the same for a sentence of your own; --caption comes after CLIP
  jaxground explain-video clip.mp4 --weights mine.safetensors --every 2 --output maps
      every second frame; weights trained with experiments/spatiotemporal

clips:
  A folder of frames in the order of their numbers, an animated GIF, PNG or WebP, or a film (needs
  PyAV: pip install 'jaxground[video]'). Frames are warped to the network's square. Of more than
  --chunk frames each chunk is explained by itself, in constant memory.

captions:
  The captioner that comes with the package, compact_captioner, knows scenes that are drawn and 30
  words about them. It reads the mean of all frames, which is the same backwards. Articles,
  prepositions and the like are not explained.

the interval:
  With contrast the evidence sums to zero over time. The interval is that around its peak in which
  it is not negative; without contrast nothing is, and the interval is the whole clip.

exit codes:
  0 done; 2 stopped by an error, the message says which; 130 interrupted: what is there is whole,
  the same command goes on
"""


def add_command(commands: Any) -> None:
    """Adds `explain-video` to the commands of a parser."""
    parser = commands.add_parser(
        "explain-video",
        help="explain a video: where and when, film, key frames, raw maps and record",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("clip", nargs="?", type=Path, metavar="CLIP", help="folder of frames, animation or film")
    add(
        "--scene",
        type=arguments.natural,
        metavar="N",
        help="instead of CLIP: the drawn clip with number N, from 0 (default: 7)",
    )
    arguments.add_targets(parser)
    add(
        "--caption",
        nargs="?",
        const="",
        metavar="SENTENCE",
        help="instead of --target: explain the words of a sentence (default: the captioner's own)",
    )
    add("--no-contrast", action="store_true", help="EB-R, all evidence, instead of cEB-R")
    add("--model", metavar="NAME", help="network, see --list-models")
    add("--weights", metavar="FILE", help="its weights: a file or a hub name")
    add("--at", metavar="TAP", help="where the maps are read (default: per network)")
    add("--output", type=Path, metavar="DIR", help="folder of the results (default: beside CLIP)")
    add("--overwrite", action="store_true", help="explain again what is already explained")
    add(
        "--every",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="take every Nth frame (default: all)",
    )
    add(
        "--chunk",
        type=arguments.positive,
        default=128,
        metavar="N",
        help="frames explained together, at most (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=arguments.positive,
        default=128,
        metavar="N",
        help="frames in one pass of the CNN; fewer save memory (default: %(default)s)",
    )
    add(
        "--rate",
        type=arguments.positive,
        default=8,
        metavar="N",
        help="frames a second of the film that is written (default: %(default)s)",
    )
    add("--list-models", action="store_true", help="print the networks and stop")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Raises:
      UserError: Something is wrong with what was asked, with the clip, or with a folder or file.
    """
    warnings.filterwarnings("ignore", module="PIL")
    from jaxground.cli import listings, videos

    if options.list_models:
        listings.print_video_models()
        return DONE
    ready = videos.prepare(options)
    with Progress(1) as progress:
        for clip in videos.read(options, ready):
            _explain(ready, clip, progress)
    return DONE


def _explain(ready: "Setup", clip: Any, progress: Progress) -> None:
    from jaxground.cli import video_reports, videos

    stem, finished = videos.place(ready, clip)
    if finished:
        progress.say(f"{clip.title}: explained before, see {stem}.png (or give --overwrite)")
        return
    found = videos.explain(ready, clip)
    try:
        progress.say(video_reports.write(ready, clip, found, stem))
    except OSError as error:
        raise UserError(f"cannot write {stem}: {error.strerror or error}") from error
