"""Writes torch checkpoints, good and hostile, opcode by opcode: torch takes no part."""

import dataclasses
import pickle as op
import struct
import zipfile
from pathlib import Path

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
# Classes of torch storages, by what NumPy calls their elements; bfloat16 is added by hand.
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}


@dataclasses.dataclass(frozen=True)
class Name:
    """A global: GLOBAL, or STACK_GLOBAL from protocol 4."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Call:
    """A call: REDUCE."""

    function: object
    arguments: object


@dataclasses.dataclass(frozen=True)
class Persistent:
    """A persistent id: BINPERSID."""

    identity: object


@dataclasses.dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


def assemble(value, protocol=2) -> bytes:
    """The pickle of a value."""
    return op.PROTO + bytes([protocol]) + code(value, protocol) + op.STOP


def code(value, protocol=2) -> bytes:
    """The opcodes that push a value."""
    match value:
        case Raw():
            return value.code
        case Name() if protocol >= 4:
            return code(value.module, 4) + code(value.name, 4) + op.STACK_GLOBAL
        case Name():
            return op.GLOBAL + f"{value.module}\n{value.name}\n".encode()
        case Call():
            return code(value.function, protocol) + code(value.arguments, protocol) + op.REDUCE
        case Persistent():
            return code(value.identity, protocol) + op.BINPERSID
        case None:
            return op.NONE
        case bool():
            return op.NEWTRUE if value else op.NEWFALSE
        case int() if -(2**31) <= value < 2**31:
            return op.BININT + struct.pack("<i", value)
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return op.LONG1 + bytes([len(raw)]) + raw
        case float():
            return op.BINFLOAT + struct.pack(">d", value)
        case str():
            return op.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return op.MARK + b"".join(code(item, protocol) for item in value) + op.TUPLE
        case list():
            items = b"".join(code(item, protocol) for item in value)
            return op.EMPTY_LIST + op.MARK + items + op.APPENDS
        case dict():
            items = b"".join(code(k, protocol) + code(v, protocol) for k, v in value.items())
            return op.EMPTY_DICT + op.MARK + items + op.SETITEMS
    raise TypeError(value)


def tensor(key, count, shape, stride, *, offset=0, storage="FloatStorage", legacy=False, **more):
    """A tensor as torch pickles it: a view of storage `key`, which has `count` elements."""
    identity = ("storage", Name("torch", storage), key, "cpu", count, *((None,) if legacy else ()))
    hooks = Call(Name("collections", "OrderedDict"), ())
    return Call(
        Name("torch._utils", more.get("function", "_rebuild_tensor_v2")),
        (Persistent(identity), offset, shape, stride, False, hooks, *more.get("extra", ())),
    )


def state(arrays, *, legacy=False):
    """The pickled dict and the storages of contiguous arrays."""
    value, storages = {}, {}
    for index, (name, array) in enumerate(arrays.items()):
        array = np.asarray(array, order="C")
        stride = tuple(s // array.itemsize for s in array.strides)
        storage = STORAGES[array.dtype.name]
        value[name] = tensor(
            str(index), array.size, array.shape, stride, storage=storage, legacy=legacy
        )
        storages[str(index)] = array.tobytes()
    return value, storages


def write_zip(path: Path, value, storages, *, root="archive", protocol=2, records=()) -> Path:
    """Writes the container of torch >= 1.6; `records` are additional ones."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", assemble(value, protocol))
        archive.writestr(f"{root}/byteorder", b"little")
        for key, raw in storages.items():
            archive.writestr(f"{root}/data/{key}", raw)
        archive.writestr(f"{root}/version", b"3\n")
        for name, raw in records:
            archive.writestr(name, raw)
    return path


def write_legacy(path: Path, value, storages, *, keys=None, little_endian=True) -> Path:
    """Writes the container of torch < 1.6; `storages` maps keys to `(length, bytes)`."""
    facts = {
        "protocol_version": 1001,
        "little_endian": little_endian,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    keys = list(storages) if keys is None else keys
    pickles = [MAGIC, 1001, facts, value, keys]
    tail = [struct.pack("<q", count) + raw for count, raw in storages.values()]
    path.write_bytes(b"".join([*map(assemble, pickles), *tail]))
    return path


def lengths(value, storages):
    """The storages as `write_legacy` wants them, with the lengths that the pickle declares."""
    counts = {}
    for call in value.values():
        identity = call.arguments[0].identity
        counts[identity[2]] = identity[4]
    return {key: (counts[key], raw) for key, raw in storages.items()}
