"""The one idea: the same function with another transpose. Imports jax alone."""

from jaxground.core.folding import fold_batch_norm as fold_batch_norm
from jaxground.core.grounding import Grounding as Grounding
from jaxground.core.grounding import Mass as Mass
from jaxground.core.grounding import ground as ground
from jaxground.core.grounding import mass as mass
from jaxground.core.operation import MissingRuleError as MissingRuleError
from jaxground.core.operation import Operation as Operation
from jaxground.core.splitting import Split as Split
from jaxground.core.splitting import split as split
from jaxground.core.staging import prepare as prepare
from jaxground.core.tables import CAFFE as CAFFE
from jaxground.core.tables import DECONVNET as DECONVNET
from jaxground.core.tables import EXCITATION as EXCITATION
from jaxground.core.tables import GRADIENT as GRADIENT
from jaxground.core.tables import GUIDED as GUIDED
from jaxground.core.tables import Rules as Rules
from jaxground.core.taps import tap as tap
from jaxground.core.taps import taps as taps
from jaxground.core.transform import excite as excite
from jaxground.core.twins import excitation_conv as excitation_conv
from jaxground.core.twins import excitation_dense as excitation_dense
from jaxground.core.twins import linear_map as linear_map
from jaxground.core.twins import twin as twin
