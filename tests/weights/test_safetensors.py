"""Safetensors files, whose library we trust for the parsing and whose errors we word."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from jaxground import weights
from jaxground.weights import WeightsError


def raw(header, body=bytes(8)):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(**changes):
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_reads_every_dtype_and_widens_halves(tmp_path):
    arrays = {
        "single": np.array([1.5, -2], np.float32),
        "double": np.array([[1.5]]),
        "half": np.array([0.1], np.float16),
        "brain": np.array([0.1, 2], ml_dtypes.bfloat16),
        "long": np.array(3),
        "mask": np.array([True]),
    }
    (tmp_path / "a").write_bytes(save(arrays))
    found = weights.read(tmp_path / "a")
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        wide = array.astype(np.float32) if key in ("half", "brain") else array
        np.testing.assert_array_equal(found[key], wide, strict=True)
        assert not found[key].flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        raw(entry(data_offsets=[0, 2**50], shape=[2**48])),
        raw(entry(shape=[3])),
        raw(entry(shape=[2**63, 2**63])),
        raw(entry(data_offsets=[4, 12])),
        raw(entry(data_offsets=[8, 0])),
        raw(entry(), bytes(7)),
        raw(entry(), bytes(9)),
        raw(entry(dtype="F33")),
        raw({"w": 3}),
        raw(entry())[:20].ljust(100, b" "),
    ],
    ids=[
        "terabytes",
        "shape disagrees",
        "product wraps",
        "gap",
        "backwards",
        "truncated",
        "surplus",
        "dtype",
        "no entry",
        "header cut",
    ],
)
def test_refuses(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(WeightsError, match="malformed safetensors file"):
        weights.read(tmp_path / "a")


def test_refuses_dtypes_that_numpy_lacks(tmp_path):
    (tmp_path / "a").write_bytes(raw(entry(dtype="F8_E4M3", shape=[8])))
    with pytest.raises(WeightsError, match="'w': expected a dtype that NumPy has, found F8_E4M3"):
        weights.read(tmp_path / "a")


def test_survives_every_flipped_byte(tmp_path):
    content = save({"w": np.arange(3, dtype=np.float32), "n": np.array(3)})
    path = tmp_path / "a"
    for index in range(len(content)):
        for mask in (1, 0xFF):
            flipped = bytearray(content)
            flipped[index] ^= mask
            path.write_bytes(flipped)
            try:
                assert sum(array.nbytes for array in weights.read(path).values()) < 1000
            except WeightsError:
                pass
        path.write_bytes(content[:index])
        with pytest.raises(WeightsError):
            weights.read(path)
