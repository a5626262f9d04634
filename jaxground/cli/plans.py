"""What an evaluation is about to do and what it costs, said before it is begun."""

import contextlib
import dataclasses
import logging
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from jaxground.cli.progress import Progress
from jaxground.evaluation.programs import LOG
from jaxground.evaluation.runs import Evaluation
from jaxground.evaluation.tables import visible
from jaxground.evaluation.work import Batch, Fit, batches

MANY = 8  # programs: from here on there is a hint at how to have fewer
COSTLY = 1000  # passes for a map: from here on there is a hint at how to have fewer
SHOWN = 6  # methods whose costs are listed
FEWER = {"--multiple 32": {"multiple": 32}, "--square": {"shape": "square", "multiple": 1}}


def announce(evaluation: Evaluation, part: Sequence[Batch], unit: str) -> None:
    """Prints what will be done, to stderr: that is no result.

    Args:
      evaluation: All of it.
      part: What is left to be done here.
      unit: What one of the pictures is called.
    """
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    for line in describe(evaluation, part, unit):
        print(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False),
              file=sys.stderr, flush=True)  # fmt: skip


def describe(evaluation: Evaluation, part: Sequence[Batch], unit: str) -> Iterator[str]:
    """Yields what will be done: how much of what, at what cost, in how many programs."""
    count = sum(len(batch.tasks) for batch in part)
    yield (
        f"{evaluation.model.card.name} on {evaluation.dataset.name}: {_number(count, unit)} in "
        f"{_number(len(part), 'batch', 'es')}, {_number(len(evaluation.explainers), 'method')}, "
        f"{_number(len(evaluation.metrics), 'metric')}"
    )
    if not part:
        return
    costs, by_method = evaluation.costs, evaluation.costs.by_method
    listed = [f"{label} {passes:,.0f}" for label, passes in list(by_method.items())[:SHOWN]]
    if rest := list(by_method.values())[SHOWN:]:
        listed.append(f"{_number(len(rest), 'other')} {sum(rest):,.0f}")
    if costs.shared:
        listed.append(f"metrics of all together {costs.shared:,.0f}")
    yield (
        f"about {costs.total:,.0f} forward passes for each {unit} of "
        f"{_number(costs.targets, 'class', 'es')}, maps and metrics together "
        f"({', '.join(listed)}); {count * costs.total:,.0f} in all"
    )
    if max(costs.maps.values()) >= COSTLY:
        yield (
            "fewer passes: rise:masks=1000, occlusion:stride=8, extremal_perturbation:steps=100 "
            'and the like among --methods; "all" then takes these'
        )
    programs = len({batch.program for batch in part})
    if programs > MANY:
        yield (
            f"{programs} programs to compile, one for each shape of input and number of classes; "
            f"of all the work it would be {' and '.join(_alternatives(evaluation))}, which warp "
            "the photographs and move the scores"
        )


def show_warning(message: Warning | str, *_: object) -> None:
    """Prints a warning as `warnings.showwarning` does, but as text for users, and obeys no name."""
    print(f"jaxground evaluate: warning: {visible(str(message))}", file=sys.stderr)


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Shows beside a bar what an evaluation logs."""
    handler = logging.Handler()
    handler.emit = lambda record: progress.note(
        record.getMessage(), minor=record.levelno < logging.INFO
    )
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOG.setLevel(level)
        LOG.removeHandler(handler)


def _alternatives(evaluation: Evaluation) -> Iterator[str]:
    """Yields how many programs there are with other options."""
    fit, size = Fit(**evaluation.settings["input"]), evaluation.settings["batch_size"]
    for option, changes in FEWER.items():
        other = dataclasses.replace(fit, **changes)
        found = batches(evaluation.dataset, evaluation.classes, other, size)
        yield f"{len({batch.program for batch in found})} with {option}"


def _number(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{plural if count != 1 else ''}"
