"""Measures the explainers that cost a few passes, with intervals: which is best at what?

    python experiments/explainers.py --work /tmp/explainers      # everything, resumable
    python experiments/explainers.py --play mosaics --images 40
    python experiments/explainers.py --smoke                     # 2 images of each, writes nothing

`mosaics`: four CIFAR-10 (JPEG) test photographs of four classes, as they are, 2 x 2, and the
embedded network; each class in turn is the target, the truth is its cell, chance 25 %.
`faithfulness`: insertion and deletion on the first of these mosaics, 58 passes for each map.
`coco_mini`: photographs warped to 224 x 224 (one shape, so one program; at other shapes the scores
differ) and SqueezeNet 1.1; the truth are the masks, with 15 pixels of tolerance for the pointing
game. Everything else is `jaxground.evaluation.evaluate`'s.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compact_vgg.photographs import data_folder, load_cifar10

from jaxground import data, evaluation, models

METHODS = (
    "excitation_backprop",
    "excitation_backprop:score=log_probability",
    "contrastive_excitation_backprop",
    "gradient",
    "input_x_gradient",
    "guided_backprop",
    "deconvnet",
    "lrp",
    "grad_cam",
    "grad_cam:score=log_probability",
    "grad_cam_plus_plus",
    "layer_cam",
    "guided_grad_cam",
    "cam",
)
MOSAICS = 100  # drawn, and the most there are: the first are taken, fewer are among more
LOCALISATION = "pointing_game", "energy_pointing_game", "localisation_error", "entropy"


@dataclass(frozen=True)
class Play:
    """What is evaluated, on what.

    Attributes:
      load: Returns the network and at most so many labelled pictures.
      images: How many.
      metrics: Names in `evaluation.METRICS`.
      fit: From a picture to the input.
      tolerance: Of the pointing game.
      batch_size: Pictures that go through the network together.
    """

    load: Callable[[int], tuple[models.Network, data.Dataset]]
    images: int
    metrics: tuple[str, ...]
    fit: evaluation.Fit
    tolerance: str
    batch_size: int


def load_mosaics(count: int) -> tuple[models.Network, data.Dataset]:
    photographs = load_cifar10("test")
    model = models.create("compact_vgg", weights="embedded")
    names = model.card.class_names
    drawn = data.mosaics.draw_dataset(photographs.images, photographs.labels, names, count=MOSAICS)
    return model, replace(drawn, examples=drawn.examples[:count])


def load_coco_mini(count: int) -> tuple[models.Network, data.Dataset]:
    weights = data_folder() / "weights" / "squeezenet1_1.safetensors"
    found = data.read_coco(data_folder() / "coco_mini")
    step = max(1, len(found.examples) // count)
    chosen = replace(found, examples=found.examples[::step][:count])
    return models.create("squeezenet1_1", weights=weights), chosen


PLAYS = {
    "mosaics": Play(
        load=load_mosaics,
        images=100,
        metrics=LOCALISATION,
        fit=evaluation.Fit(64),
        tolerance="0",
        batch_size=20,
    ),
    "faithfulness": Play(
        load=load_mosaics,
        images=20,
        metrics=("insertion", "deletion"),
        fit=evaluation.Fit(64),
        tolerance="0",
        batch_size=20,
    ),
    "coco_mini": Play(
        load=load_coco_mini,
        images=60,
        metrics=LOCALISATION,
        fit=evaluation.Fit(224, "square"),
        tolerance="15",
        batch_size=4,
    ),
}


def measure(play: Play, work: Path) -> dict[str, Any]:
    """Returns the results of a play; the folder `work` keeps what is done."""
    model, dataset = play.load(play.images)
    return evaluation.evaluate(
        model,
        dataset,
        output=work,
        methods=METHODS,
        metrics=play.metrics,
        fit=play.fit,
        tolerance=play.tolerance,
        batch_size=play.batch_size,
    )


def shortened(results: dict[str, Any]) -> dict[str, Any]:
    """Returns results with the protocols as settings alone, not beside each score again."""
    scores = {
        method: {
            metric: {name: part for name, part in score.items() if name != "protocol"}
            for metric, score in each.items()
        }
        for method, each in results["scores"].items()
    }
    return {**results, "scores": scores}


def main() -> None:
    """Parses the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--play", choices=PLAYS, nargs="+", default=list(PLAYS))
    parser.add_argument("--images", type=int, help="of each play (default: 20 to 100)")
    parser.add_argument("--work", type=Path, help="folder of records, to resume from")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("explainers"))
    parser.add_argument("--smoke", action="store_true", help="two images each, writes nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for name in options.play:
            images = 2 if options.smoke else options.images or PLAYS[name].images
            results = measure(replace(PLAYS[name], images=images), work / f"{name}-{images}")
            text = evaluation.table(results)
            print(text, flush=True)
            if not options.smoke:
                options.output.mkdir(parents=True, exist_ok=True)
                (options.output / f"{name}.txt").write_text(text + "\n")
                written = json.dumps(shortened(results), indent=1) + "\n"
                (options.output / f"{name}.json").write_text(written)


if __name__ == "__main__":
    main()
