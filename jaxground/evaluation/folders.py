"""An evaluation in a folder: resumed, shared by processes, and reported."""

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from jaxground.data.annotations import Dataset
from jaxground.evaluation import shards
from jaxground.evaluation.figures import draw
from jaxground.evaluation.galleries import page
from jaxground.evaluation.runs import Evaluation, prepare_evaluation
from jaxground.evaluation.tables import table
from jaxground.evaluation.work import Batch, share
from jaxground.models import Network

RESULTS, FIGURE, GALLERY, TABLE = "results.json", "scores.png", "gallery.html", "table.txt"


def evaluate(
    model: Network,
    dataset: Dataset,
    *,
    output: str | PathLike | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Returns how well explainers do on labelled photographs, each score with its protocol.

    Args:
      model: The network.
      dataset: The data, see `jaxground.data`.
      output: Folder to keep everything in: records as they come, so that the same call resumes
        after a kill, then `results.json`, `scores.png`, `table.txt` and `gallery.html`.
      **settings: Of `prepare_evaluation`: `methods`, `metrics`, `fit`, ...

    Returns:
      `{"scores": {method: {metric: {"value", "low", "high", "n", "protocol"}}}, "data": ...,
      "left_out": ..., "settings": ...}`; values from `low` to `high` are the 95 % interval,
      bootstrapped over images.

    Raises:
      ValueError: Something in the settings is wrong, or the folder has results of others.

    Example:
      >>> from jaxground import models
      >>> from jaxground.data.example import example_mosaics
      >>> model = models.create("compact_vgg", weights="embedded")
      >>> results = evaluate(model, example_mosaics(2), methods=["grad_cam"], tolerance=0)
      >>> score = results["scores"]["grad_cam"]["pointing_game"]
      >>> score["value"], score["n"], score["protocol"]["explainer"]["tap"]
      (100.0, 4, 'conv4_2')
    """
    evaluation = prepare_evaluation(model, dataset, **settings)
    if output is None:
        return evaluation.results(list(evaluation.run(evaluation.batches)))
    folder = Path(output)
    for _ in run(evaluation, folder):
        pass
    results = report(evaluation, folder)
    assert results is not None, "one process does all the work"
    return results


def finished(evaluation: Evaluation, folder: Path) -> dict[int, Any]:
    """Returns the records that a folder has of an evaluation, by batch.

    Raises:
      SettingsError: It has results of another one; the message says what differs.
      OSError: It cannot be written to.
    """
    shards.agree(folder, evaluation.settings)
    return {record["batch"]: record for record in shards.read(folder)}


def run(
    evaluation: Evaluation, folder: Path, *, process: int = 0, processes: int = 1
) -> Iterator[dict[str, Any]]:
    """Does what is missing in a folder, and yields the record of each batch once it is safe there.

    Args:
      evaluation: What is to be done.
      folder: Where.
      process: Which part is done here, from 0.
      processes: Into how many parts the work is split.

    Raises:
      SettingsError: The folder has results of another evaluation.
      BlockingIOError: Another process does this part.
      OSError: It cannot be written to.
    """
    shards.agree(folder, evaluation.settings)
    with shards.Shard(folder, process, processes) as shard:
        done = finished(evaluation, folder)
        part = remaining(evaluation, done, process=process, processes=processes)
        for record in evaluation.run(part):
            shard.append(record)
            yield record


def report(evaluation: Evaluation, folder: Path) -> dict[str, Any] | None:
    """Writes results, figure, table and gallery, if all is done; else returns `None`.

    What is written depends on the evaluation alone: not on who computed what, or when.
    """
    records = finished(evaluation, folder)
    if len(records) < len(evaluation.batches):
        return None
    ordered = [records[number] for number in sorted(records)]
    results = evaluation.results(ordered)
    figure = draw(results)
    html = page(
        results,
        [image for record in ordered for image in record["images"] if "maps" in image],
        {task.example.key: task.example for batch in evaluation.batches for task in batch.tasks},
        figure,
        evaluation.model.card.class_names,
    )
    contents = {
        FIGURE: figure,
        GALLERY: html.encode(),
        TABLE: (table(results) + "\n").encode("utf-8", "backslashreplace"),
        RESULTS: (json.dumps(results, indent=1, allow_nan=False) + "\n").encode(),
    }
    for name, content in contents.items():
        shards.replace(folder / name, content)
    return results


def remaining(
    evaluation: Evaluation, done: Mapping[int, Any], *, process: int = 0, processes: int = 1
) -> list[Batch]:
    """Returns the batches of a part that are not done, in the order in which `run` does them."""
    mine = share(evaluation.batches, process, processes)
    return [batch for batch in mine if batch.number not in done]
