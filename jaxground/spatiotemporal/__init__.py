"""Where and when: Excitation Backprop for recurrent networks, and what it is compared with."""

from jaxground.spatiotemporal.baselines import class_probability as class_probability
from jaxground.spatiotemporal.baselines import framewise as framewise
from jaxground.spatiotemporal.baselines import spatiotemporal_gradient as spatiotemporal_gradient
from jaxground.spatiotemporal.baselines import threshold_probability as threshold_probability
from jaxground.spatiotemporal.captions import content_places as content_places
from jaxground.spatiotemporal.captions import ground_caption as ground_caption
from jaxground.spatiotemporal.captions import places_of as places_of
from jaxground.spatiotemporal.grounding import SpatiotemporalGrounding as SpatiotemporalGrounding
from jaxground.spatiotemporal.grounding import spatiotemporal_grounding as spatiotemporal_grounding
from jaxground.spatiotemporal.guided import caption_guided_saliency as caption_guided_saliency
