"""Excitation Dropout and its rivals: which neurons rest while a network trains."""

from jaxground.dropout.keeping import curriculum_keep_probability as curriculum_keep_probability
from jaxground.dropout.keeping import excitation_evidence as excitation_evidence
from jaxground.dropout.keeping import excitation_keep_probability as excitation_keep_probability
from jaxground.dropout.keeping import standout_keep_probability as standout_keep_probability
from jaxground.dropout.layers import Dropout as Dropout
from jaxground.dropout.layers import excitation_dropout as excitation_dropout
from jaxground.dropout.schemes import Curriculum as Curriculum
from jaxground.dropout.schemes import Excitation as Excitation
from jaxground.dropout.schemes import Scheme as Scheme
from jaxground.dropout.schemes import Standard as Standard
from jaxground.dropout.schemes import Standout as Standout
