"""The wire format of protocol buffers: fields of a message, without its schema.

https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxground.weights.errors import WeightsError

# ResNet-152, 800 layers of some thirty fields, is far below; tiny fields alone could fill hours.
MAX_FIELDS = 2**18
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message, or a run of them.

    Attributes:
      number: The field's number in the schema.
      wire: `VARINT`, `FIXED64`, `LENGTH` or `FIXED32`.
      integer: The value of a varint, else 0.
      payload: The bytes of a `LENGTH` field; `uint8[count, 4 or 8]` for a run of consecutive
        fixed-width fields of one number (an unpacked array), else empty.
    """

    number: int
    wire: int
    integer: int
    payload: np.ndarray


class Budget:
    """How many more fields may be read from a file, shared by all messages in it."""

    def __init__(self, count: int = MAX_FIELDS) -> None:
        """Starts with `count`."""
        self.left = count

    def spend(self) -> None:
        """Counts one field.

        Raises:
          WeightsError: There were too many.
        """
        self.left -= 1
        if self.left < 0:
            raise WeightsError(f"expected at most {MAX_FIELDS} fields, found more")


def fields(data: np.ndarray, budget: Budget) -> Iterator[Field]:
    r"""Yields the fields of the message in `data`, `uint8[nbytes]`, as views of it.

    Raises:
      WeightsError: The bytes are no message, or the budget is spent.

    Example:
      >>> message = np.frombuffer(b"\x08\x96\x01" + b"\x12\x02hi", np.uint8)
      >>> for field in fields(message, Budget()):
      ...     print(field.number, field.integer, field.payload.tobytes())
      1 150 b''
      2 0 b'hi'
    """
    position, nothing = 0, data[:0]
    while position < len(data):
        budget.spend()
        start = position
        tag, position = varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise WeightsError(f"malformed message: field {number} of wire type {wire}")
        if wire == VARINT:
            integer, position = varint(data, position)
            yield Field(number, wire, integer, nothing)
        elif wire == LENGTH:
            length, position = varint(data, position)
            if length > len(data) - position:
                raise WeightsError(
                    f"malformed message: expected {length} bytes in field {number}, "
                    f"found {len(data) - position} (truncated?)"
                )
            yield Field(number, wire, 0, data[position : position + length])
            position += length
        else:
            tag_bytes, width = position - start, 8 if wire == FIXED64 else 4
            run = _run(data[start:], tag_bytes, width)
            yield Field(number, wire, 0, run)
            position = start + len(run) * (tag_bytes + width)


def varint(data: np.ndarray, position: int) -> tuple[int, int]:
    r"""Returns the unsigned integer at a position, and the position after it.

    Raises:
      WeightsError: It is longer than ten bytes, or the data end within it.

    Example:
      >>> varint(np.frombuffer(b"\x96\x01", np.uint8), 0)
      (150, 2)
    """
    value = 0
    for index, byte in enumerate(data[position : position + 10].tolist()):
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, position + index + 1
    raise WeightsError("malformed message: an integer without end (truncated?)")


def _run(data: np.ndarray, tag: int, width: int) -> np.ndarray:
    """Returns `uint8[count, width]`: values of the leading fields that share the first one's tag.

    The blocks compared grow twofold, so that a long run costs one pass and a short one little.
    """
    stride = tag + width
    limit = len(data) // stride
    if limit == 0:
        raise WeightsError(f"malformed message: expected {width} bytes at its end (truncated?)")
    count, block = 1, 1
    while count < limit:
        rows = data[count * stride : min(count + block, limit) * stride].reshape(-1, stride)
        same = (rows[:, :tag] == data[:tag]).all(axis=1)
        if not same.all():
            count += int(same.argmin())
            break
        count += len(rows)
        block *= 2
    return data[: count * stride].reshape(count, stride)[:, tag:]
