"""PyTorch checkpoints, read without torch and without executing anything they contain.

Two containers hold the same kind of pickle (`jaxground.weights.pickles` reads that, and
`jaxground.weights.checkpoints` says which of its tensors are the state dict). Since torch 1.6 it is
a zip archive of uncompressed records: `<root>/data.pkl` and one `<root>/data/<key>` per storage.
Before, and in torchvision's `vgg16-397923af.pth` to this day, a file is five pickles (a magic
number, a version, facts on the machine, the object, the keys of the storages), then every storage
as its length and its bytes. In both the pickle comes first and is small, so everything a file
declares is compared with its size before memory is taken, and storages that no wanted tensor
uses (an optimizer's) are never read.
"""

import io
import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxground.weights import archives, pickles
from jaxground.weights.checkpoints import NAMES, state_dict, storage
from jaxground.weights.errors import WeightsError, about, shown
from jaxground.weights.tensors import Storage, Tensor, materialise

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


def read_zip(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the state dict of a checkpoint that torch 1.6 or later saved.

    Peak memory is that of the arrays (float32: the size of the file), plus the largest storage
    if it is half precision.

    Raises:
      WeightsError: The archive, the pickle or a tensor is not what `torch.save` writes.
    """
    with open(path, "rb") as file:
        with archives.opened(file) as archive:
            records = archives.records(archive)
        roots = [name.removesuffix("data.pkl") for name in records if _is_pickle(name)]
        if len(roots) != 1:
            raise WeightsError(f"expected one record named */data.pkl, found {len(roots)}")
        (root,) = roots
        if root + "constants.pkl" in records:
            raise WeightsError(
                "expected a state dict, found a TorchScript program, which is not executed (in "
                "torch, save `torch.jit.load(file).state_dict()`)"
            )
        order = records.get(root + "byteorder")
        if order and archives.stored(file, order).tobytes() != b"little":
            raise WeightsError("expected little-endian numbers, found big-endian ones")
        size = records[root + "data.pkl"].file_size
        if size > pickles.MAX_BYTES:
            raise WeightsError(
                f"expected at most {pickles.MAX_BYTES} bytes of pickle, found {size}"
            )
        program = archives.stored(file, records[root + "data.pkl"]).tobytes()
        tensors = state_dict(_load(program, 0)[0])
        found = {
            name.removeprefix(root + "data/"): record.file_size
            for name, record in records.items()
            if name.startswith(root + "data/")
        }
        _check_storages(tensors, found)
        return materialise(tensors, lambda s: archives.stored(file, records[f"{root}data/{s.key}"]))


def read_legacy(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the state dict of a checkpoint that torch before 1.6 saved.

    Peak memory is that of the arrays (float32: the size of the file), plus the largest storage
    if it is half precision.

    Raises:
      WeightsError: The file, a pickle or a tensor is not what `torch.save` wrote.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, end = _load(data, 0)
        if magic != MAGIC:
            raise WeightsError(
                f"expected torch's magic number, found {shown(magic)}: a pickle from elsewhere"
            )
        version, end = _load(data, end)
        if version != VERSION:
            raise WeightsError(f"expected protocol version {VERSION}, found {shown(version)}")
        machine, end = _load(data, end)
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise WeightsError("expected little-endian numbers, found big-endian ones")
        declared: dict[str, Storage] = {}
        checkpoint, end = _load(data, end, declared)
        keys, end = _load(data, end)
        places = _places(data, end, keys, declared)
        tensors = state_dict(checkpoint)
        _check_storages(tensors, {key: declared[key].nbytes for key in places})
        return materialise(tensors, lambda s: _bytes(file, places[s.key], s.nbytes))


def _is_pickle(name: str) -> bool:
    return name == "data.pkl" or name.endswith("/data.pkl")


def _load(data: Any, start: int, declared: dict[str, Storage] | None = None) -> tuple[Any, int]:
    """Returns the value of one pickle and its end; notes the storages met in `declared`."""
    met = {} if declared is None else declared

    def persistent(identity: Any) -> Storage:
        found = storage(identity)
        met.setdefault(found.key, found)
        return found

    return pickles.load(data, NAMES, persistent=persistent, start=start)


def _check_storages(tensors: Mapping[str, Tensor], found: Mapping[str, int]) -> None:
    """Compares the storages of the wanted tensors with the file, by bytes."""
    for key, tensor in tensors.items():
        source = tensor.storage
        with about(key=key):
            if source.key not in found:
                raise WeightsError(f"expected storage {shown(source.key)} in the file, found none")
            if found[source.key] != source.nbytes:
                raise WeightsError(
                    f"expected {source.nbytes} bytes in storage {shown(source.key)}, "
                    f"found {found[source.key]}"
                )


def _places(
    data: mmap.mmap, end: int, keys: Any, declared: Mapping[str, Storage]
) -> dict[str, int]:
    """Returns where the bytes of each storage begin, after its length in elements (int64)."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise WeightsError(f"expected a list of storage keys, found {shown(keys)}")
    places = {}
    for key in keys:
        if key in places or key not in declared:
            raise WeightsError(f"expected the storages of the pickle, once each, found {key!r}")
        start, end = end + 8, end + 8 + declared[key].nbytes
        if end > len(data):
            raise WeightsError(f"expected at least {end} bytes, found {len(data)} (truncated?)")
        dtype = declared[key].dtype
        expected = declared[key].nbytes // (1 if dtype is None else dtype.itemsize)
        count = int.from_bytes(data[start - 8 : start], "little", signed=True)
        if count != expected:
            raise WeightsError(
                f"expected {expected} elements in storage {shown(key)}, found {count}"
            )
        places[key] = start
    if end != len(data):
        raise WeightsError(f"expected {end} bytes, found {len(data)}")
    return places


def _bytes(file: io.BufferedReader, start: int, count: int) -> np.ndarray:
    data = np.empty(count, np.uint8)
    file.seek(start)
    if file.readinto(data.data) != count:
        raise WeightsError(f"expected {count} bytes, found fewer: the file changed meanwhile")
    return data
