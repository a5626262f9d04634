"""Records of zip archives, checked before anything is allocated: torch and NumPy write such."""

import contextlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np

from jaxground.weights.errors import WeightsError

# What zipfile raises for malformed archives; its offsets may also point before the file.
MALFORMED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
)
# A hundred thousand records. Python needs thirty times the memory of a directory for parsing it.
MAX_DIRECTORY = 2**23
LOCAL_HEADER = struct.Struct("<4s22xHH")


@contextlib.contextmanager
def malformed(what: str) -> Iterator[None]:
    """Turns what zipfile raises into a `WeightsError`."""
    try:
        yield
    except WeightsError:
        raise
    except MALFORMED as error:
        raise WeightsError(f"malformed {what}: {error}") from error


class _Guarded:
    """A file that refuses to read a large piece at once: zipfile reads whole directories."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, count: int = -1) -> bytes:
        if count > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {count} bytes")
        return self.file.read(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def opened(file: BinaryIO) -> zipfile.ZipFile:
    """Returns the archive.

    Raises:
      WeightsError: Its directory is truncated, malformed, or longer than 8 MiB.
    """
    with malformed("zip archive (truncated?)"):
        return zipfile.ZipFile(cast(BinaryIO, _Guarded(file)))


def records(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the directory of an archive by record name.

    Raises:
      WeightsError: A name is there twice, a record is encrypted, or records overlap.

    Example:
      >>> import io
      >>> np.savez(buffer := io.BytesIO(), weight=np.ones(3), bias=np.zeros(3))
      >>> list(records(opened(buffer)))
      ['weight.npy', 'bias.npy']
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for record in archive.infolist():
        if record.filename in found:
            raise WeightsError(f"expected each record once, found {record.filename!r} twice")
        if record.flag_bits & 1:
            raise WeightsError(f"expected plain records, found {record.filename!r} encrypted")
        found[record.filename] = record
    assert archive.fp is not None  # open
    size = archive.fp.seek(0, os.SEEK_END)
    total = sum(record.compress_size for record in found.values())
    if total > size:
        raise WeightsError(f"expected records of at most {size} bytes, found {total}: they overlap")
    return found


def stored(file: io.BufferedReader, record: zipfile.ZipInfo) -> np.ndarray:
    """Returns the bytes of an uncompressed record as `uint8[nbytes]`, read in one piece.

    The checksum is compared unless it is zero: `torch.serialization.set_crc32_options(False)`
    leaves it so, which makes Python's zipfile refuse the archive.

    Raises:
      WeightsError: The record is compressed, leaves the file, or is damaged.
    """
    place = f"record {record.filename!r}"
    if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
        raise WeightsError(f"expected {place} uncompressed, as torch.save writes it")
    with malformed("zip archive"):
        file.seek(record.header_offset)
        magic, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        if magic != b"PK\3\4":
            raise WeightsError(f"expected {place} at byte {record.header_offset}, found none")
        file.seek(name + extra, os.SEEK_CUR)
        data = np.empty(record.file_size, np.uint8)  # at most the file's size: see records
        count = file.readinto(data.data)
    if count != data.size:
        raise WeightsError(f"expected {data.size} bytes of {place}, found {count} (truncated?)")
    if record.CRC and zlib.crc32(data.data) != record.CRC:
        raise WeightsError(f"expected {place} with CRC-32 {record.CRC:08x}, found other bytes")
    return data
