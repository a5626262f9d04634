"""Keras weights in HDF5 files, read by h5py (extra `keras`)."""

import math
import os
from typing import Any

import numpy as np

from jaxground.weights.errors import WeightsError, about
from jaxground.weights.tensors import check_dtype, check_inflation, widened

MODEL = "model_weights/"  # beside optimizer_weights, where Keras saved a whole model


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the weights of a Keras `.h5` file by layer and name.

    Keys are the paths of the datasets, below `model_weights` where a whole model was saved,
    without the suffix `:0` and with a doubled layer name once: `block1_conv1/kernel` (Keras 2),
    `block1_conv1/block1_conv1_W_1` (Keras 1), `layers/conv2d/vars/0` (Keras 3). Convolution kernels
    are `[height, width, input, output]`, dense ones `[input, output]`, and images were flattened in
    the order height, width, channel.

    Only data inside the file are read, never what it links to. The parsing is done by the HDF5 C
    library, which does not promise to survive every malicious file.

    Raises:
      ImportError: h5py is absent; the message names the extra.
      WeightsError: The file is malformed, holds no arrays, or links to another file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("Keras .h5 files need h5py: pip install 'jaxground[keras]'") from error
    try:
        with h5py.File(path, "r") as file:
            return _arrays(file, os.path.getsize(path))
    except WeightsError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise WeightsError(f"malformed HDF5 file (truncated?): {error}") from error


def _arrays(file: Any, size: int) -> dict[str, np.ndarray]:
    """Returns all datasets of an open file of `size` bytes."""
    import h5py

    found: dict[str, Any] = {}

    def collect(place: str, item: Any) -> None:  # visititems follows no soft or external link
        if isinstance(item, h5py.Dataset):
            found[place] = item

    file.visititems(collect)
    whole = any(place.startswith(MODEL) for place in found)
    datasets: dict[str, Any] = {}
    for place, dataset in found.items():
        if place.startswith(MODEL) or not whole:
            key = _key(place.removeprefix(MODEL))
            if key in datasets:
                raise WeightsError("expected one dataset of this name, found two", key=key)
            datasets[key] = dataset
    if not datasets:
        raise WeightsError("expected datasets of weights, found none")
    for key, dataset in datasets.items():
        with about(key=key):
            _check(dataset)
    check_inflation(sum(dataset.nbytes for dataset in datasets.values()), size)
    arrays = {}
    for key, dataset in datasets.items():
        with about(key=key):
            arrays[key] = widened(np.asarray(dataset[()]))
    return arrays


def _key(place: str) -> str:
    """Returns the key for the path of a dataset."""
    parts = place.removesuffix(":0").split("/")
    return "/".join(parts[1:] if len(parts) > 2 and parts[0] == parts[1] else parts)


def _check(dataset: Any) -> None:
    """Refuses data that are no numbers, lie in other files, or were never written."""
    check_dtype(dataset.dtype)
    if dataset.external or dataset.is_virtual:
        raise WeightsError("expected data inside the file, found a link to another file")
    written = dataset.id.get_storage_size()
    expected = math.prod(dataset.shape) * dataset.dtype.itemsize
    if expected and not written:
        raise WeightsError(f"expected {expected} bytes for {dataset.shape}, found {written}")
