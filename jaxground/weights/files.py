"""Weight files of any format, recognised by their first bytes."""

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from jaxground.weights import archives, caffe, keras, npz, safetensors, torch
from jaxground.weights.errors import WeightsError, about, shown

Reader = Callable[[str | os.PathLike], dict[str, np.ndarray]]

# First bytes of the first field of a Caffe NetParameter: name, layers, input, input_dim (packed or
# not), force_backward, state, debug_info, input_shape, layer.
CAFFE = (
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x20",
    b"\x22",
    b"\x28",
    b"\x32",
    b"\x38",
    b"\x42",
    b"\xa2\x06",
)
# What lies under the name of a weight file often enough to deserve a remedy.
STRANGERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file: run `git lfs pull`",
    b"<": "a web page: the download went to a login or an error page",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ\0": "an xz file: unpack it first",
    b"\x93NUMPY": "a single NumPy array, without a name: save it with np.savez(file, name=array)",
}
TAR = "a tar file, perhaps of torch before 0.1.10: in torch < 2.6, load and save it once"


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a weight file by name.

    The format is told by the contents, never by the file's name: safetensors, PyTorch (zip archive
    or legacy), NumPy `.npz`, Caffe, Keras HDF5 (extra `keras`). Nothing in a file is executed,
    and what a file declares is compared with its size before memory is taken. How each format
    names its tensors, and how it lays out their axes, is said by the reader's own docstring:
    `jaxground.weights.{safetensors,torch,npz,caffe,keras}`.

    Returns:
      `{name: array}`, axes as in the file (PyTorch and Caffe: OIHW, Keras: HWIO). Half precision
      (float16, bfloat16) is widened to float32, all other dtypes are kept. Arrays are read-only,
      and tied weights share memory.

    Raises:
      OSError: The file cannot be opened.
      ImportError: The file is HDF5 and h5py is absent.
      WeightsError: Anything is wrong with the contents.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
      ...     np.savez(file, **{"fc.bias": np.zeros(2, np.float16)})  # the suffix tells nothing
      ...     file.flush()
      ...     read(file.name)
      {'fc.bias': array([0., 0.], dtype=float32)}
    """
    with about(path=path):
        with open(path, "rb") as file:
            reader = _reader(file)
        return reader(path)


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits, in constant memory.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     sha256(file.name)
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reader(file: BinaryIO) -> Reader:
    """Returns the reader for a file."""
    head, size = file.read(512), file.seek(0, os.SEEK_END)
    if not head:
        raise WeightsError("expected weights, found an empty file")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return safetensors.read
    if head.startswith(b"PK"):
        return _archive_reader(file)
    if head.startswith(b"\x80"):
        return torch.read_legacy
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return keras.read
    for start, what in STRANGERS.items():
        if head.lstrip().startswith(start):
            raise WeightsError(f"expected weights, found {what}")
    if head[257:262] == b"ustar":
        raise WeightsError(f"expected weights, found {TAR}")
    if head.startswith(CAFFE):  # last, for Caffe models have no magic number
        return caffe.read
    raise WeightsError(
        "expected safetensors, a PyTorch checkpoint, .npz, a Caffe model or Keras HDF5, "
        f"found a file that begins with {shown(head[:16])}"
    )


def _archive_reader(file: BinaryIO) -> Reader:
    """Returns the reader for a zip archive."""
    with archives.opened(file) as archive:
        names = archives.records(archive)
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return torch.read_zip
    if "model.weights.h5" in names:
        raise WeightsError("expected weights, found a .keras archive: unzip its model.weights.h5")
    if any(name.endswith(".npy") for name in names):
        return npz.read
    raise WeightsError(
        "expected a PyTorch or NumPy archive, found a zip archive "
        f"of {len(names)} records without data.pkl or *.npy"
    )
