"""Maps that say nothing, or little: what every metric of maps is tried on."""

import numpy as np

SHAPE = (4, 6)
CONSTANT = np.full(SHAPE, 0.3, np.float32)  # no power of two: sums of it are rounded
ZERO = np.zeros(SHAPE, np.float32)
NAN = np.full(SHAPE, np.nan, np.float32)
NEGATIVE = -CONSTANT
ROUNDED = (CONSTANT * (1 + 1e-7 * np.arange(24).reshape(SHAPE))).astype(np.float32)  # as resized
INFINITE = np.full(SHAPE, np.inf, np.float32)
PADDED = np.where(np.arange(6) < 4, CONSTANT, np.nan)  # constant where there is a picture
FLAT = np.stack([CONSTANT, ZERO, NAN, NEGATIVE, ROUNDED, INFINITE, PADDED])

TIED = np.zeros(SHAPE, np.float32)
TIED[1, 4] = TIED[2, 1] = 1  # the first in reading order is the peak

ONE_PIXEL = np.zeros(SHAPE, bool)
ONE_PIXEL[1, 4] = True
FULL = np.ones(SHAPE, bool)
EMPTY = np.zeros(SHAPE, bool)
LEFT = np.broadcast_to(np.arange(6) < 3, SHAPE)
