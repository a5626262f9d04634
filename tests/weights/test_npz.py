"""NumPy archives: as NumPy reads them, and hostile ones."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxground import weights
from jaxground.weights import WeightsError

ARRAYS = {
    "conv.weight": np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32),
    "layer/bias": np.arange(4, dtype=np.float64),
    "count": np.array(3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">f4"),
    "mask": np.array([True, False]),
    "phase": np.array([1j], np.complex128),
    "empty": np.zeros((0, 3), np.uint8),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_wrote(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = weights.read(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype.newbyteorder("=")
        assert not found[key].flags.writeable


def test_reads_real_weights_widened(data):
    path = data / "weights" / "squeezenet1_1_caffe_fp16.npz"
    found = weights.read(path)
    with np.load(path) as expected:
        assert list(found) == expected.files
        for key, array in found.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, expected[key].astype(np.float32))


def test_reads_arrays_longer_than_a_chunk(tmp_path):
    numbers = np.arange(700_000, dtype=np.float64)
    np.savez_compressed(tmp_path / "a.npz", numbers=numbers)
    np.testing.assert_array_equal(weights.read(tmp_path / "a.npz")["numbers"], numbers)


def test_refuses_pickled_objects_unopened(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.array([{"a": 1}], object))
    with pytest.raises(WeightsError, match=r"a\.npz: 'weight': expected a dtype of numbers"):
        weights.read(tmp_path / "a.npz")


@pytest.mark.parametrize("array", [np.array(["dog"]), np.zeros(2, "i4,f4"), np.array([b"x"])])
def test_refuses_what_is_no_number(tmp_path, array):
    np.savez(tmp_path / "a.npz", weight=array)
    with pytest.raises(WeightsError, match="'weight': expected"):
        weights.read(tmp_path / "a.npz")


def header(text, version=b"\1\0"):
    raw = text.encode()
    return b"\x93NUMPY" + version + len(raw).to_bytes(2 * version[0], "little") + raw


FOUR = b"\0\0\x80?"
GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"
HOSTILE = {
    "terabytes": header(GOOD.replace("(1,)", "(1099511627775,)")) + FOUR,
    "sizes whose product wraps": header(GOOD.replace("(1,)", "(4294967296, 4294967297)")) + FOUR,
    "size beyond 64 bits": header(GOOD.replace("(1,)", f"({2**70}, 0)")) + FOUR,
    "negative sizes": header(GOOD.replace("(1,)", "(-1, -1)")) + FOUR,
    "sizes that are booleans": header(GOOD.replace("(1,)", "(True,)")) + FOUR,
    "33 axes": header(GOOD.replace("(1,)", f"({'1,' * 33})")) + FOUR,
    "too few bytes": header(GOOD) + FOUR[:3],
    "too many bytes": header(GOOD) + FOUR + b"x",
    "objects": header(GOOD.replace("<f4", "|O")) + FOUR,
    "records": header(GOOD.replace("'<f4'", "[('a', '<f4')]")) + FOUR,
    "arrays as elements": header(GOOD.replace("<f4", "(2,)<f2")) + FOUR,
    "elements without size": header(GOOD.replace("<f4", "<f0")) + FOUR,
    "floats of 7 bytes": header(GOOD.replace("<f4", "<f7")) + FOUR,
    "a program": header("__import__('os').system('true')") + FOUR,
    "deep nesting": header("(" * 5000) + FOUR,
    "no dict": header("1") + FOUR,
    "key missing": header("{'descr': '<f4', 'shape': (1,)}") + FOUR,
    "NUL": header("\0") + FOUR,
    "header beyond the end": b"\x93NUMPY\1\0\xff\x10{}",
    "header of 4 GiB": b"\x93NUMPY\2\0\xff\xff\xff\xff{}",
    "header of 64 MiB": b"\x93NUMPY\2\0\0\0\0\4" + b" " * 2**26,
    "version 9": header(GOOD, b"\x09\0") + FOUR,
    "no magic": FOUR * 4,
    "nothing": b"",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_refuses_hostile_arrays(tmp_path, raw):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight.npy", raw)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"'weight': (expected|malformed)"):
        weights.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_refuses_a_bomb_by_its_directory(tmp_path):
    """A gigabyte and a bit of zeros in a megabyte, repeated: no byte of it is unpacked."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight.npy", header(GOOD) + FOUR)
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\1\2")
    raw[entry + 24 : entry + 28] = (2**30 + 1).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="found 1073741825 bytes declared"):
        weights.read(path)


@pytest.mark.parametrize("size", [0, 1, 5, 100_000, 2**17])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_compares_checksums(tmp_path, save, size):
    path = tmp_path / "a.npz"
    save(path, weight=np.arange(size, dtype=np.float64))
    with zipfile.ZipFile(path) as archive:
        (record,) = archive.infolist()
    raw = path.read_bytes().replace(record.CRC.to_bytes(4, "little"), b"\1\2\3\4")
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="Bad CRC-32"):
        weights.read(path)


def test_refuses_other_records(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.ones(1))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"only records named \*\.npy"):
        weights.read(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_survives_every_flipped_byte(tmp_path, save):
    buffer = io.BytesIO()
    save(buffer, w=np.arange(5, dtype=np.float32))
    path = tmp_path / "a.npz"
    for index in range(len(buffer.getvalue())):
        flipped = bytearray(buffer.getvalue())
        flipped[index] ^= 0xFF
        path.write_bytes(flipped)
        try:
            assert sum(array.nbytes for array in weights.read(path).values()) < 1000
        except WeightsError:
            pass
        path.write_bytes(buffer.getvalue()[:index])
        with pytest.raises(WeightsError):
            weights.read(path)
