"""What is said before an evaluation: how much, at what cost, and how to have less of it."""

import io
import logging
import re

import numpy as np
import pytest

from jaxground import models
from jaxground.cli import plans
from jaxground.cli.progress import Progress
from jaxground.data import Dataset, Example, Instance
from jaxground.evaluation import Fit, prepare_evaluation
from jaxground.evaluation.programs import LOG

PIXELS = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return models.create("compact_vgg", weights="embedded")


def prepared(model, sizes, **settings):
    ship = Instance("ship", (0.0, 0.0, 2.0, 2.0))
    examples = [Example(f"{i}", None, size, (ship,), lambda: PIXELS) for i, size in
                enumerate(sizes)]  # fmt: skip
    dataset = Dataset("boats", examples, ("ship",))
    return prepare_evaluation(model, dataset, fit=Fit(32), **settings)


def test_amount_and_cost_are_said(model):
    evaluation = prepared(model, [(20, 20)] * 3, methods=["gradient", "rise:masks=2000"])
    first, cost, hint = plans.describe(evaluation, evaluation.batches, "photo")
    assert first == "compact_vgg on boats: 3 photos in 3 batches, 2 methods, 2 metrics"
    assert re.match(r"about 2,0\d\d forward passes", cost)
    assert re.search(r"\(rise:masks=2000 2,0\d\d, gradient 2\)", cost)
    assert "1 class," in cost and cost.endswith("in all")
    assert "rise:masks=1000" in hint
    (done,) = plans.describe(evaluation, [], "photo")
    assert "0 photos" in done


def test_many_programs_have_a_hint_at_fewer(model):
    evaluation = prepared(model, [(20, 20 + i) for i in range(12)], methods=["cam"])
    *_, hint = plans.describe(evaluation, evaluation.batches, "photo")
    assert "12 programs" in hint and "1 with --square" in hint
    few = sum("programs" in line for line in plans.describe(
        evaluation, evaluation.batches[: plans.MANY], "photo"))  # fmt: skip
    assert not few


def test_what_is_logged_is_shown_and_only_meanwhile(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    level, handlers = LOG.level, list(LOG.handlers)
    with Progress(4, "evaluate", "mosaic") as progress, plans.shown(progress):
        LOG.info("compiling something")
        assert "compiling something:   0%" in log.getvalue(), "before anything is done"
        LOG.debug("computing it")
        assert "computing" not in log.getvalue(), "a log has no line for each batch"
        progress.advance()
    assert "mosaic/s" in log.getvalue() or "s/mosaic" in log.getvalue()
    assert (LOG.level, LOG.handlers) == (level, handlers)
    assert logging.getLogger("jaxground.evaluation") is LOG


def test_one_photograph_has_no_bar_but_is_told_of(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Progress(1, "evaluate") as progress, plans.shown(progress):
        LOG.info("compiling something")
        LOG.debug("computing it")
    assert log.getvalue() == "compiling something\n"


def test_warnings_show_names_and_obey_none(capsys):
    plans.show_warning(UserWarning("cat in \x1b[2J\u202egpj"), UserWarning, "file.py", 3)
    shown = capsys.readouterr().err
    assert shown == "jaxground evaluate: warning: cat in \\x1b[2J\\u202egpj\n"
