"""`jaxground explain`: pictures, maps and records of why a network says what it says."""

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxground.cli import arguments
from jaxground.cli.errors import DONE, INCOMPLETE, UserError
from jaxground.cli.progress import Progress
from jaxground.methods import METHODS

if TYPE_CHECKING:
    from jaxground.cli.setup import Setup

DESCRIPTION = """\
Explains what a network sees in photographs. For each photograph three files are written: a
picture (photograph, one map per target, colour bar), the raw maps (.npz: maps, targets,
probabilities) and a record (.json). The five most probable classes are printed.

Without a photograph it explains the one that comes with this program, and without --model the
network asked is a small one of ten classes that comes along, too.
"""

EPILOG = """\
examples:
  jaxground explain
      try it: the embedded network on the embedded photograph
  jaxground explain dog.jpg --target dog
      why dog? writes dog.excitation_backprop.dog.png, .npz and .json beside the photograph
  jaxground explain safari.jpg --target zebra --target elephant \\
      --method contrastive_excitation_backprop --model squeezenet1_1 --weights squeezenet1_1.pth
      one picture with two maps, by weights in a file or on the Hugging Face hub
  jaxground explain holidays/ --model vgg16 --weights timm/vgg16.tv_in1k --output maps
      every photograph of a folder; the same command again does what is missing
  jaxground explain --model resnet50 --list-taps
      where --at can read a map

targets:
  A class by name ("golden retriever"), by the last words of its name ("elephant": the more
  probable of the two elephants, photograph by photograph) or by its index (340). By default the
  class that the network finds most probable.

exit codes:
  0 all done; 1 some photographs could not be explained, the others are; 2 stopped by an error,
  the message says which; 130 interrupted: what is there is whole, the same command goes on
"""


def add_command(commands: Any) -> None:
    """Adds `explain` to the commands of a parser."""
    parser = commands.add_parser(
        "explain",
        help="explain photographs: overlay, raw map and record",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photos", nargs="*", type=Path, metavar="PHOTO", help="photographs and folders of them")
    arguments.add_targets(parser)
    add(
        "--method",
        choices=METHODS,
        default="excitation_backprop",
        metavar="METHOD",
        help=f"one of {', '.join(METHODS)} (default: %(default)s)",
    )
    add("--model", metavar="NAME", help="network, see --list-models (default: compact_vgg)")
    add(
        "--weights",
        metavar="FILE",
        help="its weights: a file (safetensors, .pth, .npz, .caffemodel, .h5) or a hub name",
    )
    add("--at", metavar="TAP", help="where the map is read, see --list-taps (default: per network)")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the results (default: beside each photograph)",
    )
    add("--overwrite", action="store_true", help="explain again what is already explained")
    add(
        "--batch-size",
        type=arguments.positive,
        default=8,
        metavar="N",
        help="photographs in one pass (default: %(default)s)",
    )
    add(
        "--size",
        type=arguments.positive,
        metavar="N",
        help="keep the aspect, with N pixels on the shorter side; compiles once per aspect "
        "(default: warp the whole photograph to the network's square)",
    )
    add("--list-models", action="store_true", help="print the networks and stop")
    add("--list-taps", action="store_true", help="print the taps of the network and stop")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Raises:
      UserError: Something is wrong with what was asked, or with a folder or file.
    """
    warnings.filterwarnings("ignore", module="PIL")  # what matters of them is reported by file
    from jaxground.cli import listings, setup

    if options.list_models:
        listings.print_models()
        return DONE
    if options.list_taps:
        listings.print_taps(options.model or setup.EMBEDDED)
        return DONE
    photos, missing = setup.find_photos(options.photos)
    ready = setup.prepare(options, photos)
    todo, finished = ready.plan
    with Progress(len(todo) + len(missing)) as progress:
        for photo, stem in finished.items():
            progress.say(f"{photo}: explained before, see {stem}.png (or give --overwrite)")
        for path in missing:
            progress.skip(path, setup.absence(path))
        if todo:
            _explain(ready, progress)
    if len(photos) + len(missing) > 1:
        done = len(todo) + len(missing) - progress.skipped
        print(f"{done} explained, {len(finished)} explained before, {progress.skipped} skipped")
    return INCOMPLETE if progress.skipped else DONE


def _explain(ready: "Setup", progress: Progress) -> None:
    from jaxground.cli import inference, reports

    for photo, found in inference.explained(ready, progress.skip):
        stem = ready.plan.todo[photo.path]
        try:
            report = reports.write(ready, photo, found, stem)
        except OSError as error:
            raise UserError(f"cannot write {stem}: {error.strerror or error}") from error
        progress.say(report)
        progress.advance()
