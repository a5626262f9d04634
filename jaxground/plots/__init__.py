"""Pictures of evidence, in space and in time: what people look at.

Drawn with Matplotlib's objects on an Agg canvas, so that no window, display or global state is
touched; Matplotlib is imported when something is drawn.
"""

from jaxground.plots.pictures import figure as figure
from jaxground.plots.pictures import overlay as overlay
from jaxground.plots.pictures import overlay_video as overlay_video
from jaxground.plots.timelines import Track as Track
from jaxground.plots.timelines import timeline as timeline
