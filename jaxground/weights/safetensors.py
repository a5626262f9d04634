"""Safetensors files, by the library of that name."""

import os

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxground.weights.errors import WeightsError, about
from jaxground.weights.tensors import widened

DTYPES = frozenset("BOOL U8 U16 U32 U64 I8 I16 I32 I64 F16 BF16 F32 F64 C64".split())


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a safetensors file by key.

    Peak memory is that of the arrays, plus the largest tensor; the file itself is mapped.

    Raises:
      WeightsError: The file is malformed or truncated, or has a dtype that NumPy lacks.

    Example:
      >>> import tempfile
      >>> from safetensors.numpy import save_file
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_file({"fc.bias": np.ones(2, np.float16)}, f"{folder}/a.safetensors")
      ...     read(f"{folder}/a.safetensors")
      {'fc.bias': array([1., 1.], dtype=float32)}
    """
    arrays = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():
                with about(key=key):
                    dtype = file.get_slice(key).get_dtype()
                    if dtype not in DTYPES:
                        raise WeightsError(f"expected a dtype that NumPy has, found {dtype}")
                    arrays[key] = widened(file.get_tensor(key))
    except SafetensorError as error:
        raise WeightsError(f"malformed safetensors file (truncated?): {error}") from error
    return arrays
