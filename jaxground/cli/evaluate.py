"""`jaxground evaluate`: how well explainers do, measured on labelled photographs."""

import argparse
import functools
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from jaxground.cli import arguments
from jaxground.cli.errors import DONE, INCOMPLETE, UserError
from jaxground.cli.progress import Progress
from jaxground.methods import METHODS

DESCRIPTION = """\
Measures explainers on labelled photographs. Prints a table of methods and metrics with 95 %
intervals, and writes results.json (every score with its protocol), scores.png, table.txt and
gallery.html (hits and misses, one page that needs no network) into a folder.

Stopped at any moment, the same command goes on where it was, and ends with the same result.
Without arguments it plays on mosaics that come along, with the small network that comes along.
"""

EPILOG = """\
examples:
  jaxground evaluate
      try it
  jaxground evaluate --data coco:coco --split val2017 --images 500 --model squeezenet1_1 \\
      --weights squeezenet1_1.pth --methods all --metrics pointing_game,insertion --output scores
  jaxground evaluate --data voc:downloads --model vgg16 --weights timm/vgg16.tv_in1k --spatial \\
      --methods excitation_backprop@pool4,excitation_backprop@pool5,grad_cam
      the same method at two taps
  jaxground evaluate ... --process 1/4
      a quarter of the work; start the others beside it, the last to finish reports

methods:
  NAME[@TAP][:OPTION=VALUE]..., such as rise:masks=1000 or gradient:score=log_probability;
  `smoothing`, in parts of the longer side of a map, is an option of all. "all" is every method
  that runs on the network and is not named besides: --methods rise:masks=1000,all has one RISE.
  Before it begins, the command says what each costs. These bound it: rise:masks=1000,
  occlusion:stride=8, extremal_perturbation:steps=100, integrated_gradients:steps=20,
  smooth_grad(gradient):samples=10. Maps count as they are: those of lrp:rules=z_plus and
  alpha_beta are turned about where the logit is negative.

metrics:
  see --list-metrics. insertion, deletion, morf, lerf, road_morf and road_lerf ask the network 9 to
  101 times for each map, infidelity and sensitivity_n 1,401 times for each photograph together;
  max_sensitivity makes each map 11 times. A map that says nothing has an infinite max_sensitivity:
  these are counted, not averaged, and such a method is never called best.

shapes of photographs:
  The shorter side becomes --size and the aspect is kept, as published; every shape is compiled.
  --multiple 32 makes few shapes, --square one. Both warp, which moves scores by points: they do
  not compare with those of another fit. JAX_COMPILATION_CACHE_DIR=DIR keeps what was compiled.

exit codes:
  0 all done; 1 some photographs are broken, the results say which; 2 stopped by an error, the
  message says which; 130 interrupted: the same command goes on
"""


def add_command(commands: Any) -> None:
    """Adds `evaluate` to the commands of a parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure explainers on labelled photographs",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data",
        default="mosaics",
        metavar="DATA",
        help="coco:DIR, voc:DIR, imagenet:DIR, scenes or mosaics (default: %(default)s)",
    )
    add("--split", metavar="NAME", help="part of the data, such as val2017 (default: per data set)")
    add(
        "--images",
        type=arguments.positive,
        metavar="N",
        help="N images, evenly spread (default: all)",
    )
    add(
        "--classes",
        type=Path,
        metavar="FILE",
        help='JSON, {"category": [class, ...]} (default: as the data say, else by name)',
    )
    add("--model", metavar="NAME", help="network, see jaxground explain --list-models")
    add("--weights", metavar="FILE", help="its weights: a file or a hub name")
    add(
        "--spatial",
        action="store_true",
        help="use the network fully convolutionally: logits per position (VGG as published)",
    )
    add(
        "--methods",
        type=arguments.names,
        metavar="A,B",
        help=f"of {', '.join(METHODS)}; or all (default: four fast ones)",
    )
    add(
        "--metrics",
        type=arguments.names,
        metavar="A,B",
        help="see --list-metrics; or all (default: pointing_game,energy_pointing_game)",
    )
    add("--list-metrics", action="store_true", help="print the metrics and stop")
    add(
        "--tolerance",
        metavar="N",
        help="of the pointing game: 15, pixels of the photograph, or 15/640, of its longer side "
        "(default: 15, and 0 for drawn data)",
    )
    add(
        "--size",
        type=arguments.positive,
        metavar="N",
        help="shorter side of the input (default: usual)",
    )
    add("--square", action="store_true", help="warp photographs to N x N: one shape")
    add(
        "--multiple",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="round the longer side to a multiple of N, such as 32: fewer shapes (default: 1)",
    )
    add(
        "--batch-size",
        type=arguments.positive,
        default=8,
        metavar="N",
        help="photographs that go together, at most: few are cut into eight batches "
        "(default: %(default)s)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of everything random")
    add(
        "--process",
        type=arguments.part,
        default=(0, 1),
        metavar="I/N",
        help="do part I of N, from 1/N",
    )
    add(
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Raises:
      UserError: Something is wrong with what was asked, or with a folder or file.
    """
    from jaxground.cli import plans
    from jaxground.evaluation import METRICS

    if options.list_metrics:
        for name, metric in METRICS.items():
            print(f"{name:<32}{metric.good} values are good; mean over {metric.average}")
        return DONE
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # what matters of them is reported by file
        warnings.showwarning = plans.show_warning
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from jaxground.cli import datasets, plans
    from jaxground.evaluation import SettingsError, folders, shards, table

    part = dict(zip(("process", "processes"), options.process, strict=True))
    try:
        if shards.is_open(options.output, **part):
            raise BlockingIOError
        evaluation = _prepare(options)
        done = folders.finished(evaluation, options.output)
        batches = folders.remaining(evaluation, done, **part)
        unit = datasets.unit(options.data)
        plans.announce(evaluation, batches, unit)
        with Progress(sum(len(batch.tasks) for batch in batches), "evaluate", unit) as progress:
            if done:
                there = sum(len(record["images"]) for record in done.values())
                progress.say(f"{there} {unit}s are done already, in {options.output}")
            with plans.shown(progress):
                for record in folders.run(evaluation, options.output, **part):
                    for image in record["images"]:
                        if "error" in image:
                            progress.skip(Path(image["key"]), image["error"])
                        else:
                            progress.advance()
        results = folders.report(evaluation, options.output)
    except BlockingIOError as error:
        raise UserError(
            f"another process does this part in {options.output}: wait for it, or give "
            "another --process or --output"
        ) from error
    except SettingsError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.filename or options.output}: {error.strerror or error}") from error
    if results is None:
        print("this part is done; whichever process finishes last reports")
        return DONE
    print(table(results, shutil.get_terminal_size((100, 24)).columns))
    files = folders.RESULTS, folders.FIGURE, folders.TABLE, folders.GALLERY
    print(f"wrote {', '.join(files)} into {options.output}")
    return INCOMPLETE if results["data"]["broken"]["count"] else DONE


def _prepare(options: argparse.Namespace):
    from jaxground import weights
    from jaxground.cli import datasets, results, setup
    from jaxground.evaluation import Fit, prepare_evaluation
    from jaxground.evaluation.runs import DEFAULT_METHODS, DEFAULT_METRICS

    results.try_folder(options.output)  # before anything slow
    classes = datasets.read_classes(options.classes)
    file = setup.weights_file(options.model, options.weights)
    say = functools.partial(print, file=sys.stderr, flush=True)  # this is no result
    say(f"reading {options.data}")
    dataset = datasets.read(options.data, options.split, options.images)
    name = options.model or setup.EMBEDDED
    say(f"trying methods and metrics on {name}")
    model = setup.load_model(name, file, spatial=options.spatial)
    short = options.size or model.preprocess.crop
    try:
        return prepare_evaluation(
            model,
            dataset,
            methods=options.methods or DEFAULT_METHODS,
            metrics=options.metrics or DEFAULT_METRICS,
            fit=Fit(short, "square" if options.square else "aspect", options.multiple),
            classes=classes,
            tolerance=options.tolerance or datasets.usual_tolerance(options.data),
            batch_size=options.batch_size,
            seed=options.seed,
            source={"weights_sha256": weights.sha256(file)},
        )
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
