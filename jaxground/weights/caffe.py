"""Caffe models: the learnt blobs of a binary `NetParameter`.

Field numbers are those of `caffe.proto` (BVLC/caffe, master), which V1 networks (2014) share.
"""

import math
import mmap
import os

import numpy as np

from jaxground.weights import protobuf
from jaxground.weights.errors import WeightsError, about, shown
from jaxground.weights.protobuf import LENGTH, VARINT, Budget, Field
from jaxground.weights.tensors import MAX_RANK, widened

# NetParameter: the list of layers; in a layer: its name and its blobs.
LAYERS = {100: (1, 7), 2: (4, 6)}  # LayerParameter, V1LayerParameter
MAX_SIZE = 2**40
V1, V0_LAYER = 2, 1  # V1LayerParameter.layer, a layer inside the layer
LEGACY_SHAPE = (1, 2, 3, 4)  # BlobProto: num, channels, height, width
DATA, SHAPE, DOUBLE_DATA, DIM = 5, 7, 8, 1


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    r"""Returns the blobs of a `.caffemodel` as `<layer>/<index>`; layers without blobs are absent.

    Blobs are as Caffe keeps them. A convolution has `/0` `[output, input / group, height, width]`
    (OIHW) and the bias `/1`; an inner product has `/0` `[output, input]`, where an input that was
    an image is flattened in the order channel, height, width; a batch norm has mean, variance and
    the factor by which both must be divided; a scale has gamma and beta. Files before 2014 pad
    shapes to four sizes with leading ones, biases included. The first convolution usually expects
    images of 0 to 255 in the order **blue, green, red** from which the training set's mean was
    subtracted: flip its input axis for RGB.

    Peak memory is that of the arrays; the file itself is mapped.

    Raises:
      WeightsError: The file is truncated or no Caffe model, a shape disagrees with its data, or two
        layers with blobs have one name.

    Example:
      >>> import tempfile
      >>> blob = b"\x3a\x02\x08\x01" + b"\x2a\x04" + np.float32(0.5).tobytes()
      >>> layer = b"\x0a\x03fc6" + b"\x3a" + bytes([len(blob)]) + blob
      >>> with tempfile.NamedTemporaryFile(suffix=".caffemodel") as file:
      ...     _ = file.write(b"\xa2\x06" + bytes([len(layer)]) + layer)
      ...     file.flush()
      ...     read(file.name)
      {'fc6/0': array([0.5], dtype=float32)}
    """
    with open(path, "rb") as file:
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    budget = Budget()
    arrays: dict[str, np.ndarray] = {}
    for field in protobuf.fields(data, budget):
        if field.number in LAYERS and field.wire == LENGTH:
            for key, array in _layer(field, budget):
                if key in arrays:
                    raise WeightsError("expected one layer of this name, found two", key=key)
                arrays[key] = array
    if not arrays:
        raise WeightsError("expected layers with blobs, found none: no trained Caffe model")
    return arrays


def _layer(layer: Field, budget: Budget) -> list[tuple[str, np.ndarray]]:
    r"""Returns the blobs of one layer under their keys."""
    name_field, blob_field = LAYERS[layer.number]
    name, blobs = "", []
    for field in protobuf.fields(layer.payload, budget):
        if field.wire != LENGTH:
            continue
        if field.number == name_field:
            name = _text(field.payload)
        elif field.number == blob_field:
            blobs.append(field.payload)
        elif layer.number == V1 and field.number == V0_LAYER:
            raise WeightsError(
                "expected layers of 2014 or later, found one of 2013 (Caffe's own "
                "upgrade_net_proto_binary converts the file)"
            )
    keys = [f"{name}/{index}" for index in range(len(blobs))]
    return [(key, _blob(blob, key, budget)) for key, blob in zip(keys, blobs, strict=True)]


def _blob(blob: np.ndarray, key: str, budget: Budget) -> np.ndarray:
    """Returns the array of a `BlobProto`, a copy that does not hold the file."""
    legacy: dict[int, int] = {}
    sizes: list[int] = []
    parts: dict[int, list[np.ndarray]] = {DATA: [], DOUBLE_DATA: []}
    with about(key=key):
        for field in protobuf.fields(blob, budget):
            if field.number in LEGACY_SHAPE and field.wire == VARINT:
                legacy[field.number] = field.integer
            elif field.number == SHAPE and field.wire == LENGTH:
                sizes += _sizes(field.payload, budget)
            elif field.number in parts and field.wire != VARINT:
                parts[field.number].append(field.payload)
        # Caffe itself prefers doubles where both are present, and legacy sizes to a shape.
        number, dtype = (DOUBLE_DATA, "<f8") if parts[DOUBLE_DATA] else (DATA, "<f4")
        shape = tuple(legacy.get(size, 0) for size in LEGACY_SHAPE) if legacy else tuple(sizes)
        # A negative int64 is a varint beyond the limit as well.
        if len(shape) > MAX_RANK or any(size > MAX_SIZE for size in shape):
            raise WeightsError(f"expected a shape, found {shape[:MAX_RANK]}")
        found = sum(part.size for part in parts[number])
        expected = math.prod(shape) * np.dtype(dtype).itemsize
        if expected != found:
            raise WeightsError(f"expected {expected} bytes for shape {shape}, found {found}")
        flat = np.concatenate([part.reshape(-1) for part in parts[number]] or [np.empty(0, "u1")])
        return widened(flat.view(dtype).reshape(shape))


def _sizes(shape: np.ndarray, budget: Budget) -> list[int]:
    """Returns the sizes in a `BlobShape`, packed or not."""
    sizes: list[int] = []
    for field in protobuf.fields(shape, budget):
        if field.number == DIM and field.wire == VARINT:
            sizes.append(field.integer)
        elif field.number == DIM and field.wire == LENGTH:
            position = 0
            while position < len(field.payload):
                budget.spend()
                size, position = protobuf.varint(field.payload, position)
                sizes.append(size)
    return sizes


def _text(raw: np.ndarray) -> str:
    try:
        return raw.tobytes().decode()
    except UnicodeDecodeError:
        raise WeightsError(f"expected the name of a layer, found {shown(raw.tobytes())}") from None
