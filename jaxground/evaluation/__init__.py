"""Explainers measured on labelled photographs: scores with intervals and protocols."""

from jaxground.evaluation.explainers import Explainer as Explainer
from jaxground.evaluation.explainers import resolve as resolve
from jaxground.evaluation.folders import evaluate as evaluate
from jaxground.evaluation.quantities import METRICS as METRICS
from jaxground.evaluation.runs import Evaluation as Evaluation
from jaxground.evaluation.runs import prepare_evaluation as prepare_evaluation
from jaxground.evaluation.shards import SettingsError as SettingsError
from jaxground.evaluation.tables import table as table
from jaxground.evaluation.work import Fit as Fit
