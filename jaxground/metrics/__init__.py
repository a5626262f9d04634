"""Metrics of explanations: array functions, batched, one family per module."""

from jaxground.metrics.curves import Curve as Curve
from jaxground.metrics.curves import deletion as deletion
from jaxground.metrics.curves import insertion as insertion
from jaxground.metrics.regions import Perturbation as Perturbation
from jaxground.metrics.regions import region_perturbation as region_perturbation
from jaxground.metrics.road import impute as impute
from jaxground.metrics.road import road as road
from jaxground.metrics.utilisation import Compression as Compression
from jaxground.metrics.utilisation import Utilisation as Utilisation
from jaxground.metrics.utilisation import compression as compression
from jaxground.metrics.utilisation import domain_share as domain_share
from jaxground.metrics.utilisation import filter_change as filter_change
from jaxground.metrics.utilisation import utilisation as utilisation
