"""The one idea: the same function with another transpose. Imports jax alone."""

from jaxground.core.grounding import Grounding as Grounding
from jaxground.core.grounding import Mass as Mass
from jaxground.core.grounding import ground as ground
from jaxground.core.grounding import mass as mass
from jaxground.core.rules import CAFFE as CAFFE
from jaxground.core.rules import DECONVNET as DECONVNET
from jaxground.core.rules import EXCITATION as EXCITATION
from jaxground.core.rules import GRADIENT as GRADIENT
from jaxground.core.rules import GUIDED as GUIDED
from jaxground.core.rules import MissingRuleError as MissingRuleError
from jaxground.core.rules import Operation as Operation
from jaxground.core.rules import Rules as Rules
from jaxground.core.rules import linear_map as linear_map
from jaxground.core.rules import twin as twin
from jaxground.core.taps import tap as tap
from jaxground.core.taps import taps as taps
from jaxground.core.transform import excite as excite
