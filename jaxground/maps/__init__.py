"""What is done to a map once it is computed: resize, smooth, show, point, box.

Pure functions of arrays `[..., height, width]`; every leading axis is a batch axis. All of them
may be jitted, vmapped and differentiated where that makes sense, and none loops over maps.
Half-precision and integer maps are computed and returned in float32.

NaN means "no value here": it never wins a peak, enters no box and no threshold, and stays NaN
where a map comes back (`resize` and `smooth` spread it to the pixels that read it).
"""

from jaxground.maps.boxing import Rule as Rule
from jaxground.maps.boxing import boxes as boxes
from jaxground.maps.resizing import resize as resize
from jaxground.maps.resizing import resize_each as resize_each
from jaxground.maps.values import normalise as normalise
from jaxground.maps.values import peak as peak
from jaxground.maps.values import smooth as smooth
