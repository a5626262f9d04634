"""Metrics of explanations: array functions, batched, one family per module."""

from jaxground.metrics.curves import Curve as Curve
from jaxground.metrics.curves import deletion as deletion
from jaxground.metrics.curves import insertion as insertion
from jaxground.metrics.regions import Perturbation as Perturbation
from jaxground.metrics.regions import region_perturbation as region_perturbation
from jaxground.metrics.road import impute as impute
from jaxground.metrics.road import road as road
