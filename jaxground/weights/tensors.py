"""What every reader hands out: read-only arrays of ordinary numbers, checked before allocation."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from jaxground.weights.errors import WeightsError, about, shown

# A torch tensor may be an expanded view: one number that poses as a million. Up to this many
# elements we believe it; beyond, more elements than the storage holds is an attack or an accident.
MAX_EXPANDED = 2**20
MAX_RANK = 32
# Compressed weights hardly shrink. Below a gibibyte we do not care; beyond, a file that grows a
# hundredfold is a bomb.
MAX_INFLATION = 100
HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


@dataclasses.dataclass(frozen=True)
class Storage:
    """The bytes behind one or more torch tensors, by name; `dtype` is `None` when untyped."""

    key: str
    nbytes: int
    dtype: np.dtype | None


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A strided view of a storage, as a file declares it: nothing in it has been checked.

    Offset and strides count elements of `dtype`; `dtype` is a text where this package has none.
    """

    storage: Storage
    offset: int
    shape: tuple
    stride: tuple
    dtype: np.dtype | str


def check_dtype(dtype: np.dtype) -> None:
    """Refuses texts, records, Python objects, and floats too exotic to compute with.

    Raises:
      WeightsError: The dtype is not one of booleans, integers, floats or complex numbers.
    """
    if dtype.kind not in "biufc" and dtype not in HALVES:
        raise WeightsError(f"expected numbers of a common dtype, found dtype {dtype}")


def widened(array: np.ndarray) -> np.ndarray:
    """Returns the array read-only, in native byte order, half precision widened to float32.

    Raises:
      WeightsError: The elements are not booleans, integers, floats or complex numbers.

    Example:
      >>> widened(np.ones(2, np.float16)).dtype, widened(np.ones(2, ">i4")).dtype
      (dtype('float32'), dtype('int32'))
    """
    check_dtype(array.dtype)
    if array.dtype in HALVES:
        array = array.astype(np.float32)
    elif array.dtype == np.bool_:
        array = array.view(np.uint8) != 0  # NumPy believes that all bytes are 0 or 1; files lie
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    array.flags.writeable = False
    return array


def check_inflation(declared: int, stored: int) -> None:
    """Refuses a compressed file whose contents would fill the memory.

    Raises:
      WeightsError: `declared` bytes are beyond a gibibyte and 100 times the `stored` ones.
    """
    if declared > max(2**30, MAX_INFLATION * stored):
        raise WeightsError(
            f"expected at most {MAX_INFLATION} times the {stored} bytes of the file once "
            f"decompressed, found {declared} bytes declared"
        )


def check(tensor: Tensor) -> None:
    """Refuses a tensor that its storage cannot hold.

    Raises:
      WeightsError: The dtype is unknown, a size is negative, or an element lies outside.
    """
    numbers = (tensor.offset, *tensor.shape, *tensor.stride)
    if isinstance(tensor.dtype, str):
        raise WeightsError(f"expected a dtype that NumPy has, found {tensor.dtype}")
    for number in numbers:
        if type(number) is not int or number < 0:
            raise WeightsError(
                f"expected an offset, sizes and strides that count, found {shown(number)}"
            )
    if len(tensor.shape) != len(tensor.stride) or len(tensor.shape) > MAX_RANK:
        raise WeightsError(
            f"expected as many strides as sizes and at most {MAX_RANK}, "
            f"found {len(tensor.shape)} sizes and {len(tensor.stride)} strides"
        )
    capacity, rest = divmod(tensor.storage.nbytes, tensor.dtype.itemsize)
    if rest:
        raise WeightsError(
            f"expected a storage of whole {tensor.dtype} numbers, "
            f"found {tensor.storage.nbytes} bytes"
        )
    empty = 0 in tensor.shape
    end = tensor.offset + (
        0
        if empty
        else 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
    )
    layout = f"shape {tensor.shape}, strides {tensor.stride}, offset {tensor.offset}"
    if end > capacity:
        raise WeightsError(
            f"expected a view inside its storage of {capacity} elements, "
            f"found one that ends at element {end} ({layout})"
        )
    # Zeros count as ones here: NumPy multiplies the other sizes of an empty array as well.
    if math.prod(max(n, 1) for n in tensor.shape) > max(capacity, MAX_EXPANDED):
        raise WeightsError(
            f"expected at most the {capacity} elements of the storage, found an expanded view "
            f"({layout})"
        )


def materialise(
    tensors: Mapping[str, Tensor], read: Callable[[Storage], np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the array of each tensor; `read` gives the bytes of a storage as `uint8[nbytes]`.

    Every storage is read once, and its tensors are views of it: tied weights stay tied, and
    nothing is held twice. Only a half precision storage is copied, while it is widened.

    Raises:
      WeightsError: A tensor does not fit into its storage, or `read` refuses.
    """
    for key, tensor in tensors.items():
        with about(key=key):
            check(tensor)
    flat: dict[tuple[str, np.dtype | str], np.ndarray] = {}
    arrays = {}
    for key, tensor in tensors.items():
        place = tensor.storage.key, tensor.dtype
        if place not in flat:
            with about(key=key):
                flat[place] = widened(read(tensor.storage).view(tensor.dtype))
        numbers = flat[place]
        # Unlike `as_strided`, this constructor checks the bounds once more by itself.
        arrays[key] = np.ndarray(
            tensor.shape,
            numbers.dtype,
            buffer=numbers,
            offset=tensor.offset * numbers.itemsize,
            strides=tuple(s * numbers.itemsize for s in tensor.stride),
        )
    return arrays
