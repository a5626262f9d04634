"""Measures every explainer with every metric, with intervals: which is best at what?

    python -m experiments.explainers --work /tmp/explainers      # everything, resumable: an hour
    python -m experiments.explainers --play scenes --work /tmp/explainers
    python -m experiments.explainers --smoke                     # a little, writes nothing

`scenes`: drawn scenes of two or three shapes among blobs, and the small network that was trained to
name the shapes (scenes_network); the truth are the exact masks.
`mosaics`: four CIFAR-10 (JPEG) test photographs of four classes, as they are, 2 x 2, and the
embedded network; each class in turn is the target, the truth is its cell, chance 25 %.
`coco_mini`: photographs warped to 224 x 224 (one shape, so one program; at other shapes the scores
differ) and SqueezeNet 1.1; the truth are the masks, with 15 pixels of tolerance for the pointing
game. `coco_mini_480`: the same at 480 x 480, for what combines several input sizes.

Each is a list of stages (`plays.py`): methods, metrics, and which of its pictures. What is dear is
measured on fewer pictures; the tables say on how many. Each stage is one `jaxground.evaluation`, so
that a kill loses one batch; the tables are written anew after every stage.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import comparisons
from experiments.plays import PLAYS, Play
from jaxground import evaluation
from jaxground.evaluation.folders import finished, run


def measure(name: str, play: Play, work: Path, output: Path | None) -> None:
    """Does what is missing of a play in the folder `work`; prints and writes its tables."""
    model, dataset = play.read()
    records, settings = [], []
    for number, stage in enumerate(play.stages):
        found = evaluation.prepare_evaluation(
            model,
            replace(dataset, examples=[dataset.examples[i] for i in stage.pictures]),
            methods=stage.methods,
            metrics=stage.metrics,
            fit=play.fit,
            tolerance=play.tolerance,
            batch_size=stage.batch_size,
        )
        folder, started = work / f"{name}-{number}", time.monotonic()
        before = len(finished(found, folder))
        for done, _ in enumerate(run(found, folder), before + 1):
            seconds = time.monotonic() - started
            print(f"{name} {number}: {done} of {len(found.batches)} batches, {seconds:.0f} s",
                  flush=True)  # fmt: skip
        records += finished(found, folder).values()
        settings.append(found.settings)
        report(name, records, settings, dataset.categories, output)


def report(
    name: str,
    records: Sequence[Any],
    settings: Sequence[Any],
    categories: Sequence[str],
    output: Path | None,
) -> None:
    """Prints the tables of what has been measured, and writes them into a folder, if any."""
    merged = comparisons.merge(records)
    methods = dict.fromkeys(method for stage in settings for method in stage["methods"])
    scores = comparisons.score(merged, methods, categories)
    asked = dict.fromkeys(metric for stage in settings for metric in stage["metrics"])
    there = [m for m in asked if sum(m in each for each in scores.values()) > 1]
    found = {metric: comparisons.compare(merged, scores, metric) for metric in there}
    text = comparisons.table(scores, found)
    print(text, flush=True)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{name}.txt").write_text(text + "\n")
        written = {"scores": scores, "comparisons": found, "stages": settings}
        (output / f"{name}.json").write_text(json.dumps(written, indent=1) + "\n")


def shortened(play: Play) -> Play:
    """Returns the first two stages of a play, with few methods and metrics, on two pictures."""
    stages = [
        replace(
            stage,
            methods=stage.methods[::7],
            metrics=(stage.metrics[0], stage.metrics[-1]),
            pictures=range(2),
            batch_size=1,
        )
        for stage in play.stages[:2]
    ]
    return replace(play, stages=tuple(stages))


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--play", choices=PLAYS, nargs="+", default=list(PLAYS))
    parser.add_argument("--work", type=Path, help="folder of records, to resume from")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("explainers"))
    parser.add_argument("--smoke", action="store_true", help="a little of each, writes nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for name in options.play:
            if options.smoke:
                measure(name, shortened(PLAYS[name]), work / "smoke", None)
            else:
                measure(name, PLAYS[name], work, options.output)


if __name__ == "__main__":
    main()
