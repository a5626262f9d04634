"""Torch checkpoints made by hand, by torch 2.13, and by attackers."""

import itertools
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import (
    Call,
    Name,
    Persistent,
    assemble,
    lengths,
    state,
    tensor,
    write_legacy,
    write_zip,
)

from jaxground import weights
from jaxground.weights import WeightsError

REAL = Path(__file__).parent / "torch_2_13"
RANDOM = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "conv.bias": RANDOM.normal(size=4),
    "bn.num_batches_tracked": np.array(7),
    "mask": np.array([[True, False]]),
    "empty": np.zeros((0, 5), np.int16),
    "phase": np.array([1 + 2j], np.complex64),
}


def write(container, path, value, storages):
    """Writes either container."""
    if container == "zip":
        return write_zip(path, value, storages)
    return write_legacy(path, value, lengths(value, storages))


def same(found, expected):
    assert list(found) == list(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array, strict=True)


@pytest.fixture(params=["zip", "legacy"])
def container(request):
    return request.param


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_arrays_of_every_dtype(tmp_path, protocol):
    value, storages = state(ARRAYS)
    same(weights.read(write_zip(tmp_path / "a.pth", value, storages, protocol=protocol)), ARRAYS)


def test_reads_the_legacy_container(tmp_path):
    value, storages = state(ARRAYS, legacy=True)
    path = write_legacy(tmp_path / "a.pth", value, lengths(value, storages))
    same(weights.read(path), ARRAYS)


@pytest.mark.parametrize("suffix", ["zip", "legacy"])
def test_reads_what_torch_wrote(suffix):
    """Made by torch 2.13.0: torch.save(tensors, ..., _use_new_zipfile_serialization=...)."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "t": base.T,
        "slice": base[1:, ::2],
        "row": base[2],
        "expand": np.ones(5, np.float32),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 7), np.float32),
        "flat": base.reshape(-1),
    }
    found = weights.read(REAL / f"strided.{suffix}.pth")
    same(found, expected)
    assert np.shares_memory(found["flat"], found["row"])  # tied in torch, tied here


def test_the_real_checkpoint_equals_its_safetensors(data):
    pth = weights.read(data / "weights" / "squeezenet1_1.pth")
    safetensors = weights.read(data / "weights" / "squeezenet1_1.safetensors")
    assert len(pth) == 52
    assert pth.keys() == safetensors.keys()
    for key, array in safetensors.items():
        assert pth[key].shape == array.shape
        assert pth[key].tobytes() == array.tobytes()


def test_widens_half_precision(tmp_path, container):
    half = np.array([1.5, -0.1, 65504, np.inf], np.float16)
    single = np.array([1.5, -3.25, 1e30, -np.inf], np.float32)
    legacy = container == "legacy"
    value = {
        "half": tensor("0", 4, (4,), (1,), storage="HalfStorage", legacy=legacy),
        "brain": tensor("1", 4, (2, 2), (2, 1), storage="BFloat16Storage", legacy=legacy),
    }
    brain = (single.view(np.uint32) >> 16).astype(np.uint16)  # truncated: the upper half
    path = write(container, tmp_path / "a", value, {"0": half.tobytes(), "1": brain.tobytes()})
    found = weights.read(path)
    expected = (brain.astype(np.uint32) << 16).view(np.float32).reshape(2, 2)
    same(found, {"half": half.astype(np.float32), "brain": expected})


def test_reads_unsigned_integers_from_untyped_storages(tmp_path):
    numbers = np.array([1, 2**40], np.uint64)
    identity = ("storage", Name("torch.storage", "UntypedStorage"), "0", "cpu", 16)
    call = Call(
        Name("torch._utils", "_rebuild_tensor_v3"),
        (Persistent(identity), 0, (2,), (1,), False, {}, Name("torch", "uint64")),
    )
    same(
        weights.read(write_zip(tmp_path / "a", {"n": call}, {"0": numbers.tobytes()})),
        {"n": numbers},
    )


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("_rebuild_parameter", (True, {})), ("_rebuild_parameter_with_state", (True, {}, {"a": 1}))],
)
def test_unwraps_parameters(tmp_path, function, arguments):
    value, storages = state({"w": np.ones(3, np.float32)})
    value = {"w": Call(Name("torch._utils", function), (value["w"], *arguments))}
    same(weights.read(write_zip(tmp_path / "a", value, storages)), {"w": np.ones(3, np.float32)})


def test_booleans_are_zero_or_one(tmp_path):
    value = {"mask": tensor("0", 3, (3,), (1,), storage="BoolStorage")}
    found = weights.read(write_zip(tmp_path / "a", value, {"0": b"\0\1\2"}))["mask"]
    assert found.view(np.uint8).tolist() == [0, 1, 1]


def test_unwraps_tensors_with_attributes(tmp_path):
    value, storages = state({"w": np.ones(3, np.float32)})
    inner = value["w"]
    arguments = inner.function, Name("torch", "Tensor"), inner.arguments, {"note": "x"}
    value = {"w": Call(Name("torch._tensor", "_rebuild_from_type_v2"), arguments)}
    same(weights.read(write_zip(tmp_path / "a", value, storages)), {"w": np.ones(3, np.float32)})


def test_reads_the_first_torch_s_tensors(tmp_path):
    """torchvision's vgg16-397923af.pth calls _rebuild_tensor, with four arguments."""
    new = tensor("0", 2, (2,), (1,), legacy=True)
    value = {"w": Call(Name("torch._utils", "_rebuild_tensor"), new.arguments[:4])}
    path = write_legacy(tmp_path / "a", value, {"0": (2, np.ones(2, np.float32).tobytes())})
    same(weights.read(path), {"w": np.ones(2, np.float32)})


def test_a_training_checkpoint_gives_the_model_alone(tmp_path, container):
    legacy = container == "legacy"
    value, storages = state({"module.fc.bias": np.ones(2, np.float32)}, legacy=legacy)
    moments, more = state({"exp_avg": np.zeros(2, np.float32)}, legacy=legacy)
    moments["exp_avg"] = tensor("opt", 2, (2,), (1,), legacy=legacy)
    checkpoint = {
        "epoch": 3,
        "args": Call(Name("argparse", "Namespace"), ()),
        "best": Call(Name("numpy._core.multiarray", "scalar"), (Name("numpy", "dtype"), None)),
        "state_dict": value,
        "optimizer": {"state": {0: moments}},
    }
    storages["opt"] = more["0"]
    if legacy:
        counted = {key: (2, raw) for key, raw in storages.items()}
        path = write_legacy(tmp_path / "a", checkpoint, counted)
    else:
        del storages["opt"]  # never looked at
        path = write_zip(tmp_path / "a", checkpoint, storages)
    same(weights.read(path), {"fc.bias": np.ones(2, np.float32)})


def test_arrays_are_read_only_and_tied_weights_share_memory(tmp_path, container):
    legacy = container == "legacy"
    view = tensor("0", 6, (2, 3), (3, 1), legacy=legacy)
    row = tensor("0", 6, (3,), (1,), offset=3, legacy=legacy)
    raw = np.arange(6, dtype=np.float32).tobytes()
    found = weights.read(
        write(container, tmp_path / "a", {"a": view, "b": view, "c": row}, {"0": raw})
    )
    assert np.shares_memory(found["a"], found["b"])
    np.testing.assert_array_equal(found["c"], [3, 4, 5])
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0, 0] = 1


SMALL = st.integers(0, 5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    count=st.integers(0, 30),
    offset=st.integers(0, 8),
    axes=st.lists(st.tuples(SMALL, SMALL), max_size=3),
)
def test_a_view_is_read_exactly_if_it_lies_in_its_storage(tmp_path, count, offset, axes):
    """The oracle visits every element of the view, one by one."""
    shape, stride = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    numbers = np.arange(count, dtype=np.float32)
    value = {"w": tensor("0", count, shape, stride, offset=offset)}
    path = write_zip(tmp_path / "a", value, {"0": numbers.tobytes()})
    places = {
        index: offset + sum(i * s for i, s in zip(index, stride, strict=True))
        for index in itertools.product(*map(range, shape))
    }
    if all(place < count for place in places.values()) and offset <= count:
        found = weights.read(path)["w"]
        assert found.shape == shape
        for index, place in places.items():
            assert found[index] == numbers[place]
    else:
        with pytest.raises(WeightsError, match="inside its storage"):
            weights.read(path)


ONE = np.zeros(1, np.float32).tobytes()
HUGE = 2**62
HOSTILE_TENSORS = {
    "offset outside": (tensor("0", 1, (1,), (1,), offset=1), "ends at element 2"),
    "negative offset": (tensor("0", 1, (1,), (1,), offset=-1), "count, found -1"),
    "negative size": (tensor("0", 1, (-1,), (1,)), "count, found -1"),
    "negative stride": (tensor("0", 1, (1,), (-1,)), "count, found -1"),
    "stride outside": (tensor("0", 1, (2,), (1,)), "ends at element 2"),
    "huge stride": (tensor("0", 1, (2,), (HUGE,)), "inside its storage"),
    "product beyond 64 bits": (tensor("0", 1, (HUGE, HUGE), (0, 0)), "expanded view"),
    "terabytes by expansion": (tensor("0", 1, (2**40,), (0,)), "expanded view"),
    "zero times infinity": (tensor("0", 1, (0, HUGE, HUGE), (1, 1, 1)), "expanded view"),
    "33 axes": (tensor("0", 1, (1,) * 33, (1,) * 33), "at most 32"),
    "strides missing": (tensor("0", 1, (1, 1), (1,)), "2 sizes and 1 strides"),
    "sizes that are texts": (tensor("0", 1, ("1",), (1,)), "count, found '1'"),
    "sizes that are floats": (tensor("0", 1, (1.0,), (1,)), "count, found 1.0"),
    "sizes that are lists": (tensor("0", 1, ([1],), (1,)), "count, found a list"),
    "storage of terabytes": (tensor("0", 2**40, (2**40,), (1,)), "expected 4398046511104 bytes"),
    "storage too long": (tensor("0", 2, (1,), (1,)), "expected 8 bytes in storage '0', found 4"),
    "storage too short": (tensor("0", 0, (0,), (1,)), "expected 0 bytes in storage '0', found 4"),
    "storage of negative size": (tensor("0", -1, (1,), (1,)), "'0' with -1 elements"),
    "storage absent": (tensor("7", 1, (1,), (1,)), "expected storage '7' in the file, found none"),
    "storage elsewhere": (tensor("../version", 1, (1,), (1,)), "found none"),
}


@pytest.mark.parametrize(("value", "message"), HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS)
def test_refuses_tensors_that_do_not_fit(tmp_path, value, message):
    path = write_zip(tmp_path / "a.pth", {"fc.weight": value}, {"0": ONE})
    tracemalloc.start()
    with pytest.raises(WeightsError, match=message) as caught:
        weights.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    if "with -1 elements" not in message:  # found before the tensor has a name
        assert caught.value.key == "fc.weight"


def legacy_tensor(*arguments, **more):
    return tensor(*arguments, **more, legacy=True)


HOSTILE_LEGACY = {
    "storage of terabytes": ({"w": legacy_tensor("0", 2**40, (1,), (1,))}, {"0": (2**40, ONE)}),
    "length disagrees": ({"w": legacy_tensor("0", 1, (1,), (1,))}, {"0": (2, ONE + ONE)}),
    "negative length": ({"w": legacy_tensor("0", 1, (1,), (1,))}, {"0": (-1, ONE)}),
    "bytes missing": ({"w": legacy_tensor("0", 1, (1,), (1,))}, {"0": (1, ONE[:3])}),
    "bytes left": ({"w": legacy_tensor("0", 1, (1,), (1,))}, {"0": (1, ONE + b"x")}),
    "undeclared storage": ({"w": legacy_tensor("1", 1, (1,), (1,))}, {"0": (1, ONE)}),
    "stride outside": ({"w": legacy_tensor("0", 1, (2,), (1,))}, {"0": (1, ONE)}),
    "two sizes of one storage": (
        {"w": legacy_tensor("0", 1, (1,), (1,)), "v": legacy_tensor("0", 2, (1,), (1,))},
        {"0": (1, ONE)},
    ),
}


@pytest.mark.parametrize(("value", "storages"), HOSTILE_LEGACY.values(), ids=HOSTILE_LEGACY)
def test_refuses_hostile_legacy_files(tmp_path, value, storages):
    path = write_legacy(tmp_path / "a.pth", value, storages)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"expected .*, found"):
        weights.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_says_how_much_of_a_legacy_file_is_there(tmp_path):
    value, storages = state({"w": np.ones(1, np.float32)}, legacy=True)
    path = write_legacy(tmp_path / "a.pth", value, lengths(value, storages))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=f"at least {size} bytes, found {size - 1}"):
        weights.read(path)


def test_refuses_a_storage_twice(tmp_path):
    value = {"w": legacy_tensor("0", 1, (1,), (1,))}
    path = write_legacy(tmp_path / "a.pth", value, {"0": (1, ONE)}, keys=["0", "0"])
    path.write_bytes(path.read_bytes() + path.read_bytes()[-12:])
    with pytest.raises(WeightsError, match="once each, found '0'"):
        weights.read(path)


@pytest.mark.parametrize("keys", [[], [0], "0", ["1"]])
def test_refuses_other_storage_keys(tmp_path, keys):
    value = {"w": legacy_tensor("0", 1, (1,), (1,))}
    path = write_legacy(tmp_path / "a.pth", value, {"0": (1, ONE)}, keys=keys)
    with pytest.raises(WeightsError, match="expected"):
        weights.read(path)


def test_refuses_big_endian_numbers(tmp_path):
    value, storages = state({"w": np.ones(1, np.float32)}, legacy=True)
    path = write_legacy(tmp_path / "a", value, lengths(value, storages), little_endian=False)
    with pytest.raises(WeightsError, match="big-endian"):
        weights.read(path)
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        archive.writestr("a/data.pkl", assemble({}))
        archive.writestr("a/byteorder", b"big")
    with pytest.raises(WeightsError, match="big-endian"):
        weights.read(tmp_path / "b")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (tensor("0", 1, (1,), (1,), storage="QInt8Storage"), "names torch.QInt8Storage"),
        (tensor("0", 1, (1,), (1,), function="_rebuild_qtensor"), "_rebuild_qtensor"),
        (tensor("0", 1, (1,), (1,), extra=({"conj": True},)), "conjugated or negated"),
        (
            tensor(
                "0",
                1,
                (1,),
                (1,),
                function="_rebuild_tensor_v3",
                extra=(Name("torch", "float8_e5m2"),),
            ),
            "expected a dtype that NumPy has, found torch.float8_e5m2",
        ),
        (Call(Name("torch._utils", "_rebuild_tensor_v2"), (1, 2)), "unexpected arguments"),
        (Call(Name("torch._utils", "_rebuild_parameter"), ()), "parameter without a tensor"),
        (Call(Name("torch", "Size"), (3,)), "torch.Size"),
        (Call(Name("collections", "OrderedDict"), (3,)), "a dict made of"),
        (Persistent(("module", "a", "b", "c")), "expected the id of a storage"),
        (
            Persistent(("storage", Name("torch", "FloatStorage"), "0", "cpu", 1, ("1", 0, 1))),
            "a view of one",
        ),
    ],
)
def test_refuses_tensors_of_unknown_kinds(tmp_path, call, message):
    with pytest.raises(WeightsError, match=message):
        weights.read(write_zip(tmp_path / "a.pth", {"w": call}, {"0": ONE}))


def test_refuses_a_torchscript_program(tmp_path):
    value, storages = state({"w": np.ones(1, np.float32)})
    path = write_zip(tmp_path / "a", value, storages, records=[("archive/constants.pkl", b"")])
    with pytest.raises(WeightsError, match="TorchScript"):
        weights.read(path)


def test_refuses_a_pickle_from_elsewhere(tmp_path):
    (tmp_path / "a.pkl").write_bytes(assemble({"weight": 1}))
    with pytest.raises(WeightsError, match="expected torch's magic number, found a dict"):
        weights.read(tmp_path / "a.pkl")


def test_refuses_a_changed_byte_of_a_weight(tmp_path):
    value, storages = state({"w": np.ones(8, np.float32)})
    path = write_zip(tmp_path / "a", value, storages)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(storages["0"], bytes(32)))
    with pytest.raises(WeightsError, match="'w': expected record 'archive/data/0' with CRC-32"):
        weights.read(path)


def test_accepts_records_without_a_checksum(tmp_path):
    """torch.serialization.set_crc32_options(False) writes zeros."""
    value, storages = state({"w": np.ones(8, np.float32)})
    path = write_zip(tmp_path / "a", value, storages)
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            raw = raw.replace(struct.pack("<I", record.CRC), bytes(4))
    path.write_bytes(raw)
    same(weights.read(path), {"w": np.ones(8, np.float32)})


def test_every_truncation_is_an_error(tmp_path, container):
    value, storages = state({"w": np.arange(6, dtype=np.float32)}, legacy=container == "legacy")
    path = write(container, tmp_path / "a.pth", value, storages)
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(WeightsError):
            weights.read(path)


def test_every_flipped_byte_is_an_error_or_a_result(tmp_path, container):
    value, storages = state(
        {"conv.weight": np.arange(6, dtype=np.float32), "n": np.array(3)},
        legacy=container == "legacy",
    )
    path = write(container, tmp_path / "a.pth", value, storages)
    raw = path.read_bytes()
    errors = 0
    for index in range(len(raw)):
        for mask in (1, 0xFF):
            flipped = bytearray(raw)
            flipped[index] ^= mask
            path.write_bytes(flipped)
            try:
                arrays = weights.read(path)
                assert sum(array.nbytes for array in arrays.values()) < 1000
            except WeightsError:
                errors += 1
    assert errors > len(raw) / 2
