"""Where and when: Excitation Backprop for recurrent networks, and what it is compared with."""

from jaxground.spatiotemporal.grounding import SpatiotemporalGrounding as SpatiotemporalGrounding
from jaxground.spatiotemporal.grounding import spatiotemporal_grounding as spatiotemporal_grounding
