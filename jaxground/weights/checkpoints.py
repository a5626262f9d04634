"""What a torch checkpoint means: the names it may use, and the state dict among its contents."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from jaxground.weights.errors import WeightsError, shown
from jaxground.weights.inert import PLACEHOLDER, Builder, call, put_pairs
from jaxground.weights.tensors import Storage, Tensor

# Under these keys training scripts keep the state dict, in this order of preference.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
# Prefixes that wrappers of modules leave on every key: DataParallel, torch.compile.
PREFIXES = ("module.", "_orig_mod.")
MAX_WRAPPERS = 4
MAX_DEPTH = 32
MAX_VALUES = 2**18


@dataclasses.dataclass(frozen=True)
class StorageType:
    """A class like `torch.FloatStorage`: the dtype of its elements, `None` for untyped bytes."""

    dtype: np.dtype | None


@dataclasses.dataclass(frozen=True)
class DType:
    """A value like `torch.uint16`: the dtype, or its torch name where NumPy has none."""

    dtype: np.dtype | str


def storage(identity: Any) -> Storage:
    """Returns the storage that a persistent id of `torch.save` describes.

    Raises:
      WeightsError: The id has another form, or the size is negative.

    Example:
      >>> storage(("storage", NAMES["torch", "HalfStorage"], "0", "cuda:0", 12))
      Storage(key='0', nbytes=24, dtype=dtype('float16'))
    """
    match identity:
        case ("storage", _, _, _, _, tuple()):
            raise WeightsError("expected whole storages, found a view of one (torch < 0.4)")
        case ("storage", StorageType(dtype), str(key), _, int(count), *_) if count >= 0:
            return Storage(key, count * (1 if dtype is None else dtype.itemsize), dtype)
        case ("storage", _, key, _, count, *_):
            raise WeightsError(
                f"expected a type, a key and a size of a storage, found {shown(key)} "
                f"with {shown(count)} elements"
            )
    raise WeightsError(f"expected the id of a storage, found {shown(identity)}")


def state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint under flat keys; everything else is dropped.

    1. While the checkpoint is a mapping that holds, under one of `WRAPPERS`, a mapping with a
       tensor somewhere inside, that mapping takes its place: an optimizer, an epoch, a second
       model beside it are not read.
    2. What is nested deeper is joined by dots: `{"ema": {"fc.bias": b}}` becomes `ema.fc.bias`.
    3. A prefix of `PREFIXES` that every key carries is removed, repeatedly.

    Raises:
      WeightsError: There is no tensor, two tensors have one key, or the nesting has no end.

    Example:
      >>> bias = Tensor(Storage("0", 4, np.dtype("f4")), 0, (1,), (1,), np.dtype("f4"))
      >>> list(state_dict({"epoch": 3, "state_dict": {"module.fc.bias": bias}}))
      ['fc.bias']
    """
    nested = checkpoint
    for _ in range(MAX_WRAPPERS):  # a dict that contains itself is a valid pickle
        inner = (nested.get(key) for key in WRAPPERS) if isinstance(nested, dict) else ()
        found = (value for value in inner if isinstance(value, dict) and any(_leaves(value)))
        nested = next(found, nested)
    tensors: dict[str, Tensor] = {}
    for key, tensor in _leaves(nested):
        if key in tensors:
            raise WeightsError("expected one tensor of this name, found two", key=key)
        tensors[key] = tensor
    if not tensors:
        raise WeightsError(f"expected a dict of tensors, found {shown(checkpoint)} without any")
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _leaves(nested: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields `key, tensor` in the order of the file, walking dicts, lists and tuples."""
    waiting: list[tuple[tuple[str, ...], Any]] = []
    if isinstance(nested, dict | list | tuple):
        waiting.append(((), nested))
    left = MAX_VALUES
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Tensor):
            yield ".".join(path), value
            continue
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        left -= len(items)
        # A pickle may hold one list twice in another, that one twice in a third, and so on; or
        # a list that contains itself.
        if left < 0 or len(path) > MAX_DEPTH:
            raise WeightsError(
                f"expected at most {MAX_VALUES} values in {MAX_DEPTH} levels, found more"
            )
        waiting += [
            ((*path, str(key)), item)
            for key, item in reversed(items)
            if isinstance(item, Tensor | dict | list | tuple)
        ]


def _dict(arguments: tuple) -> dict:
    """Serves `OrderedDict()` and, as Python 2 wrote it, `OrderedDict([[key, value], ...])`."""
    result: dict = {}
    match arguments:
        case ():
            return result
        case (list(pairs),) if all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
            put_pairs(result, pairs)
            pairs.clear()  # else one memoised list could be copied a million times
            return result
    raise WeightsError(f"malformed pickle: a dict made of {len(arguments)} unexpected arguments")


def _tensor(arguments: tuple) -> Tensor:
    """Serves `_rebuild_tensor`, `_v2` and `_v3`, which differ by arguments at the end."""
    match arguments:
        case (Storage() as source, int(offset), tuple(shape), tuple(stride), *more):
            # more: requires_grad, hooks, the dtype (v3), flags of lazy conjugation or negation
            dtype = (
                more.pop(2).dtype if len(more) > 2 and isinstance(more[2], DType) else source.dtype
            )
            if len(more) > 2 and more[2]:
                raise WeightsError("expected plain tensors, found one conjugated or negated lazily")
            if dtype is not None:
                return Tensor(source, offset, shape, stride, dtype)
    raise WeightsError("malformed pickle: a tensor made of unexpected arguments")


def _parameter(arguments: tuple) -> Tensor:
    """Serves `_rebuild_parameter` and `_with_state`: the data, then what we drop."""
    match arguments:
        case (Tensor() as tensor, *_):
            return tensor
    raise WeightsError("malformed pickle: a parameter without a tensor")


def _subclass(arguments: tuple) -> Any:
    """Serves `_rebuild_from_type_v2(function, type, arguments, state)`: tensors with attributes."""
    match arguments:
        case (Builder(build) as function, _, tuple(inner), _) if build is not _subclass:
            return call(function, inner)
    raise WeightsError("malformed pickle: a tensor with attributes made of unexpected arguments")


def _size(arguments: tuple) -> tuple:
    match arguments:
        case (tuple(sizes),):
            return sizes
    raise WeightsError("malformed pickle: a torch.Size made of unexpected arguments")


_STORAGES = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Char": np.int8,
    "Short": np.int16,
    "Int": np.int32,
    "Long": np.int64,
    "Byte": np.uint8,
    "Bool": np.bool_,
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
}
_DTYPES = (
    "float32 float64 float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 complex64 complex128"
).split()
_FOREIGN_DTYPES = (
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu "
    "complex32 qint8 quint8 qint32"
).split()
# Instances that training scripts put beside the weights. They become placeholders.
_IGNORED = {
    "argparse": "Namespace",
    "builtins": "set frozenset slice complex bytearray",
    "__builtin__": "set frozenset slice complex bytearray dict list",
    "_codecs": "encode",
    "collections": "Counter defaultdict",
    "datetime": "date datetime timedelta timezone",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "pathlib": "Path PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "torch": "device Generator",
}

# All that the pickle of a checkpoint may name, and the inert value that each stands for.
NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Builder(_dict),
    ("torch", "Size"): Builder(_size),
    ("torch._utils", "_rebuild_tensor"): Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): Builder(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Builder(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Builder(_subclass),
    ("torch.storage", "UntypedStorage"): StorageType(None),
    ("torch", "bfloat16"): DType(np.dtype(ml_dtypes.bfloat16)),
    ("torch", "bool"): DType(np.dtype(np.bool_)),
    ("torch", "Tensor"): "torch.Tensor",  # texts: may be passed on, but not called
    ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
    ("torch.nn.parameter", "Buffer"): "torch.nn.Buffer",
    **{("torch", name): DType(np.dtype(name)) for name in _DTYPES},
    **{("torch", name): DType(f"torch.{name}") for name in _FOREIGN_DTYPES},
    **{
        (module, f"{name}Storage"): StorageType(np.dtype(dtype))
        for module in ("torch", "torch.cuda")  # torch.cuda: saved from a GPU, before torch 1
        for name, dtype in _STORAGES.items()
    },
    **{(module, name): PLACEHOLDER for module, names in _IGNORED.items() for name in names.split()},
}
