"""Formats are told by contents, and every failure names its file."""

import hashlib
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save
from torch_files import lengths, state, write_legacy, write_zip

from jaxground import weights
from jaxground.weights import WeightsError
from jaxground.weights.errors import about, shown

W = np.arange(3, dtype=np.float32)


def write_npz(path):
    with open(path, "wb") as file:
        np.savez(file, w=W)


def write_legacy_torch(path):
    value, storages = state({"w": W}, legacy=True)
    write_legacy(path, value, lengths(value, storages))


def write_caffe(path):
    blob = b"\x3a\x03\x0a\x01\x03\x2a\x0c" + W.tobytes()
    layer = b"\x0a\x01w\x3a" + bytes([len(blob)]) + blob
    path.write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)


def write_keras(path):
    h5py = pytest.importorskip("h5py", reason="Keras files need the extra `keras`")
    with h5py.File(path, "w") as file:
        file["w"] = W


WRITERS = {
    "safetensors": lambda path: path.write_bytes(save({"w": W})),
    "torch zip": lambda path: write_zip(path, *state({"w": W})),
    "torch legacy": write_legacy_torch,
    "npz": write_npz,
    "caffe": write_caffe,
    "keras": write_keras,
}


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.npz", "a.h5", "without suffix"])
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_tells_the_format_by_the_contents(tmp_path, writer, name):
    writer(tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        (array,) = weights.read(path).values()
        np.testing.assert_array_equal(array, W, strict=True)


def test_a_safetensors_header_of_any_length_is_no_pickle(tmp_path):
    """A header of 128 bytes makes a file begin with 0x80, as pickles do."""
    header = b'{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    (tmp_path / "a").write_bytes(b"\x80" + bytes(7) + header.ljust(128) + W.tobytes())
    np.testing.assert_array_equal(weights.read(tmp_path / "a")["w"], W)


def test_a_brace_makes_no_safetensors_file(tmp_path):
    write_caffe(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"\x0a\x08net_of{}" + (tmp_path / "a").read_bytes())
    np.testing.assert_array_equal(weights.read(tmp_path / "a")["w/0"], W)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run `git lfs pull`"),
        (b"\n  <!DOCTYPE html><html>", "found a web page"),
        (b"\x1f\x8b\x08\0", "found a gzip file"),
        (b"\x93NUMPY\1\0", "save it with np.savez"),
        (b"\x80\x02K\x01.", "expected torch's magic number, found 1"),
        (b"\x89PNG\r\n\x1a\n", r"found a file that begins with b'\\x89PNG"),
        (bytes(600), "found a file that begins with"),
        (b"./sys_info".ljust(257, b"\0") + b"ustar\x0000".ljust(300, b"\0"), "found a tar file"),
        (b"PK\3\4", "malformed zip archive"),
        (b"\x0a" * 50, "malformed message"),
    ],
)
def test_says_what_a_stranger_is(tmp_path, content, message):
    path = tmp_path / "resnet50.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        weights.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("record", "message"),
    [("model.weights.h5", "unzip its model.weights.h5"), ("readme", "without data.pkl or")],
)
def test_says_what_a_strange_archive_is(tmp_path, record, message):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(record, b"x")
    with pytest.raises(WeightsError, match=message):
        weights.read(tmp_path / "a")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        weights.read(tmp_path / "absent")
    with pytest.raises(OSError, match="directory"):
        weights.read(tmp_path)


def test_sha256_of_more_than_a_block(tmp_path):
    content = np.random.default_rng(0).bytes(1_000_003)
    (tmp_path / "a").write_bytes(content)
    assert weights.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_errors_keep_the_innermost_place():
    with pytest.raises(WeightsError) as caught, about(path="outer", key="b"), about(key="a"):
        raise WeightsError("broken")
    assert str(caught.value) == "outer: 'a': broken"
    assert (caught.value.path, caught.value.key) == ("outer", "a")


def test_values_are_shown_shortly():
    nested = ()
    for _ in range(100):
        nested = (nested, nested)
    assert shown(nested) == "a tuple"
    assert len(shown("a" * 10**6)) <= 80
    assert len(shown(b"\xff" * 10**6)) <= 80
    assert len(shown(10**600)) <= 80
