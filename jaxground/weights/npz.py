"""NumPy archives, without pickles."""

import ast
import math
import os
import re
from typing import IO

import numpy as np

from jaxground.weights import archives
from jaxground.weights.errors import WeightsError, about, shown
from jaxground.weights.tensors import MAX_RANK, check_inflation, widened

CHUNK = 2**20
MAX_HEADER = 10_000  # NumPy's own limit


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, compressed or not, by their names.

    Peak memory is that of the arrays: each is decompressed in chunks into its final place.

    Raises:
      WeightsError: The file is malformed, or holds something else than arrays of numbers.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
      ...     np.savez(file, weight=np.ones(2, np.float16))
      ...     _ = file.seek(0)
      ...     read(file.name)
      {'weight': array([1., 1.], dtype=float32)}
    """
    arrays = {}
    with open(path, "rb") as file, archives.opened(file) as archive:
        directory = archives.records(archive)
        declared = sum(record.file_size for record in directory.values())
        check_inflation(declared, os.path.getsize(path))
        for name, record in directory.items():
            key = name.removesuffix(".npy")
            with about(key=key):
                if key == name:
                    raise WeightsError("expected only records named *.npy, found this one")
                with archives.malformed("record"), archive.open(record) as data:
                    arrays[key] = widened(_array(data, record.file_size))
    return arrays


def _array(data: IO[bytes], size: int) -> np.ndarray:
    """Returns the array of one record of `size` bytes: a header, then the numbers."""
    dtype, fortran, shape = _header(data)
    expected, found = dtype.itemsize * math.prod(shape), size - data.tell()
    if expected != found:
        raise WeightsError(f"expected {expected} bytes for {dtype}{list(shape)}, found {found}")
    flat = np.empty(expected, np.uint8)  # with its last byte zipfile compares the checksum
    for start in range(0, expected, CHUNK):
        chunk = flat[start : start + CHUNK]
        chunk[:] = np.frombuffer(_exactly(data, chunk.size), np.uint8)
    return flat.view(dtype).reshape(shape, order="F" if fortran else "C")


def _header(data: IO[bytes]) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """Returns dtype, Fortran order and shape, stricter than NumPy about what may stand there."""
    magic = _exactly(data, 8)
    if magic not in (b"\x93NUMPY\1\0", b"\x93NUMPY\2\0"):
        raise WeightsError(f"expected version 1.0 or 2.0 of the npy format, found {magic!r}")
    length = int.from_bytes(_exactly(data, 2 * magic[6]), "little")
    if length > MAX_HEADER:
        raise WeightsError(f"expected a header of at most {MAX_HEADER} bytes, found {length}")
    text = _exactly(data, length).decode("latin-1")
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        header = None
    match header:
        case {"descr": str(descr), "fortran_order": bool(fortran), "shape": tuple(shape)}:
            if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16)", descr):
                raise WeightsError(f"expected a dtype of numbers, found {descr!r}")
            if len(shape) > MAX_RANK or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
                raise WeightsError(f"expected a shape, found {shown(str(shape))}")
            return np.dtype(descr), fortran, shape
    raise WeightsError(f"expected an npy header, found {shown(text)}")


def _exactly(data: IO[bytes], count: int) -> bytes:
    """Returns that many bytes, or says that they are missing."""
    raw = data.read(count)
    if len(raw) != count:
        raise WeightsError(f"expected {count} more bytes, found {len(raw)} (truncated?)")
    return raw
