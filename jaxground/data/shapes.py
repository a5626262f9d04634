"""Boxes, polygons and run lengths as masks, and back: NumPy, exact."""

import numpy as np


def fill_box(mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Returns the mask with a box added to it, in place.

    Args:
      mask: `bool[height, width]`.
      box: `(x0, y0, x1, y1)` in pixels, half open. A pixel belongs to it if its centre does; a
        box too thin to hold any centre gets the pixel under its middle.

    Example:
      >>> fill_box(np.zeros((2, 4), bool), (0.6, 0.0, 2.5, 1.0)).astype(int)
      array([[0, 1, 0, 0],
             [0, 0, 0, 0]])
    """
    spans = []
    for low, high, side in zip(box[1::-1], box[3:1:-1], mask.shape, strict=True):
        first, last = (int(np.clip(np.ceil(end - 0.5), 0, side)) for end in (low, high))
        if first >= last:  # no centre
            first = int(np.clip(np.floor((low + high) / 2), 0, side - 1))
            last = first + 1
        spans.append(slice(first, last))
    mask[tuple(spans)] = True
    return mask


def fill_polygon(mask: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Returns the mask with a polygon added to it, in place.

    A pixel belongs to the polygon if its centre does, by the even-odd rule; of centres on the
    outline those on its left and upper side. What lies outside the mask is cut off. The polygon
    may be empty, open or cross itself.

    Args:
      mask: `bool[height, width]`.
      polygon: `float[vertices, 2]`, x and y of each, finite.

    Example:
      >>> fill_polygon(np.zeros((3, 4), bool), np.array([[0, 0], [3, 0], [0, 3]])).astype(int)
      array([[1, 1, 0, 0],
             [1, 0, 0, 0],
             [0, 0, 0, 0]])
    """
    height, width = mask.shape
    # Each edge crosses the lines through the centres of these rows ...
    start, end, first, counts = _edges(polygon, height)
    edges = np.repeat(np.arange(len(start)), counts)
    rows = np.arange(len(edges)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    if not len(rows):
        return mask
    (x, y), (run, rise) = start[edges].T, (end - start)[edges].T
    crossings = x + (rows + 0.5 - y) * (run / rise)
    # ... and turns inside to outside, or back, from the first centre at or right of the crossing.
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
    window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max())
    across = columns.max() - columns.min() + 1
    places = (rows - rows.min()) * across + columns - columns.min()
    turns = np.bincount(places, minlength=(rows.max() - rows.min() + 1) * across)
    inside = np.cumsum(turns.reshape(-1, across), axis=1)[:, :-1] % 2 == 1
    mask[window] |= inside
    return mask


def check_polygon(polygon: np.ndarray, size: tuple[int, int]):
    """Raises an error if a polygon crosses rows of pixels four times as often as there are pixels.

    No outline does, even one finer than pixels; filling it would take memory without bound.

    Args:
      polygon: `float[vertices, 2]`, x and y of each, finite.
      size: Height and width of the image.

    Raises:
      ValueError: It does.
    """
    height, width = size
    if len(polygon) > 4 * width:  # fewer edges cannot: each crosses a row at most once
        crossings = int(_edges(polygon, height)[3].sum())
        if crossings > 4 * height * width:
            raise ValueError(
                f"a polygon of {len(polygon):,} vertices crosses rows {crossings:,} times in an "
                f"image of {height} x {width}"
            )


def _edges(polygon: np.ndarray, height: int) -> tuple[np.ndarray, ...]:
    """Returns start and end of each edge, the first row whose centre it crosses, and how many."""
    start = np.asarray(polygon, np.float64).reshape(-1, 2)
    end = np.roll(start, -1, axis=0)
    upper, lower = np.sort(np.stack([start[:, 1], end[:, 1]]), axis=0)
    first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (upper, lower))
    return start, end, first, last - first


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Returns the tightest box around the pixels of each mask.

    Args:
      masks: `bool[..., h, w]`.

    Returns:
      `int[..., 4]`: x0, y0, x1, y1 in pixels, half open; zeros for an empty mask.

    Example:
      >>> mask_boxes(np.eye(4, dtype=bool)[1:3])
      array([1, 0, 3, 2])
    """
    columns, rows = np.asarray(masks.any(axis=-2)), np.asarray(masks.any(axis=-1))
    starts = [line.argmax(-1) for line in (columns, rows)]
    ends = [line.shape[-1] - line[..., ::-1].argmax(-1) for line in (columns, rows)]
    boxes = np.stack(starts + ends, -1)
    return np.where(rows.any(axis=-1, keepdims=True), boxes, 0)


def encode_runs(mask: np.ndarray) -> np.ndarray:
    """Returns the run lengths of a mask, as `decode_runs` reads them.

    Args:
      mask: `bool[height, width]`.

    Example:
      >>> encode_runs(np.array([[False, True], [True, True]]))
      array([1, 3])
    """
    flat = np.concatenate([[False], np.asarray(mask, bool).T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [flat.size - 1]]))


def decode_runs(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask of run lengths.

    Args:
      runs: `int[n]`, lengths of background and object in turn, column by column from the top
        left; the first may be zero (COCO's uncompressed RLE).
      size: Height and width.

    Returns:
      `bool[height, width]`.

    Raises:
      ValueError: The runs are negative or do not add up to the size.

    Example:
      >>> decode_runs(np.array([1, 3]), (2, 2)).astype(int)
      array([[0, 1],
             [1, 1]])
    """
    check_runs(runs, size)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[::-1]).T


def check_runs(runs: np.ndarray, size: tuple[int, int]):
    """Raises an error unless run lengths cover an image of a size exactly.

    Args:
      runs: `int[n]`.
      size: Height and width.

    Raises:
      ValueError: They do not.
    """
    total = sum(map(int, runs))  # of any size: a sum in int64 could wrap around
    if total != size[0] * size[1] or min(runs, default=0) < 0:
        raise ValueError(f"run lengths cover {total:,} pixels of an image of {size[0]} x {size[1]}")


def decompress_runs(text: str) -> np.ndarray:
    """Returns the run lengths in COCO's compressed form.

    Each number is written in groups of five bits from the lowest, one character (from '0' on) a
    group, with a sixth bit where more follow and the fifth of the last as its sign; from the
    fourth on it is the difference to the number two before (`maskApi.c`, `rleFrString`).

    Args:
      text: The `counts` of a compressed RLE.

    Raises:
      ValueError: The text ends inside a number or has characters that do not occur in it.

    Example:
      >>> decompress_runs("132")
      array([1, 3, 2])
    """
    runs: list[int] = []
    number, shift = 0, 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 30:
            raise ValueError(f"no compressed run lengths: {text[:20]!r}")
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, shift = 0, 0
    if shift:
        raise ValueError(f"compressed run lengths end inside a number: ...{text[-20:]!r}")
    return np.array(runs, np.int64)
