"""Keras weights in HDF5, laid out as Keras 1, 2 and 3 write them."""

import builtins

import numpy as np
import pytest

from jaxground import weights
from jaxground.weights import WeightsError

h5py = pytest.importorskip("h5py", reason="Keras files need the extra `keras`")

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)
BIAS = np.zeros(4, np.float32)


@pytest.fixture
def write(tmp_path):
    def function(datasets, **options):
        path = tmp_path / "a.weights"
        with h5py.File(path, "w") as file:
            for place, value in datasets.items():
                file.create_dataset(place, data=value, **options)
        return path

    return function


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("block1_conv1/block1_conv1/kernel:0", "block1_conv1/kernel"),
        ("block1_conv1/block1_conv1_W_1:0", "block1_conv1/block1_conv1_W_1"),
        ("layers/conv2d/vars/0", "layers/conv2d/vars/0"),
        ("model_weights/conv1/conv1/kernel:0", "conv1/kernel"),
        ("vgg16/block1_conv1/kernel:0", "vgg16/block1_conv1/kernel"),
        ("kernel", "kernel"),
    ],
)
def test_keys_are_layer_and_name(write, place, key):
    found = weights.read(write({place: KERNEL}))
    assert list(found) == [key]
    np.testing.assert_array_equal(found[key], KERNEL, strict=True)


def test_a_whole_model_gives_its_weights_alone(write):
    path = write({"model_weights/fc/fc/bias:0": BIAS, "optimizer_weights/fc/m": BIAS + 1})
    assert list(weights.read(path)) == ["fc/bias"]


def test_widens_halves_and_reads_compressed_data(write):
    path = write({"w": KERNEL.astype(np.float16)}, compression="gzip", chunks=True)
    found = weights.read(path)["w"]
    np.testing.assert_array_equal(found, KERNEL.astype(np.float16).astype(np.float32), strict=True)
    assert not found.flags.writeable


def test_refuses_two_datasets_of_one_key(write):
    with pytest.raises(WeightsError, match="'a/kernel': expected one dataset of this name"):
        weights.read(write({"a/kernel": BIAS, "a/a/kernel": BIAS}))


def test_refuses_texts(write):
    with pytest.raises(WeightsError, match="'w': expected numbers"):
        weights.read(write({"w": "hello"}))


def test_refuses_a_file_without_datasets(write):
    with pytest.raises(WeightsError, match="expected datasets of weights, found none"):
        weights.read(write({}))


def test_refuses_data_of_other_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (4,), "f4", external=[(str(secret), 0, 16)])
    with pytest.raises(WeightsError, match="'w': expected data inside the file"):
        weights.read(path)
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "w", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("w", layout)
    with pytest.raises(WeightsError, match="'w': expected data inside the file"):
        weights.read(path)


@pytest.mark.parametrize("place", ["w", "model_weights"])
def test_follows_no_links_to_other_files(tmp_path, place):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["inner/w"] = BIAS
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[place] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/inner")
        file["own"] = BIAS + 1
    assert list(weights.read(tmp_path / "a.h5")) == ["own"]


@pytest.mark.parametrize("chunks", [None, (1024,)])
def test_refuses_terabytes_that_were_never_written(tmp_path, chunks):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (2**40,), "f4", chunks=chunks)
    with pytest.raises(WeightsError, match="'w': expected 4398046511104 bytes"):
        weights.read(tmp_path / "a.h5")


def test_refuses_a_bomb(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("w", (2**40,), "f4", chunks=(1024,), compression="gzip")
        data[:10] = 1
    with pytest.raises(WeightsError, match="expected at most 100 times"):
        weights.read(tmp_path / "a.h5")


def test_every_truncation_is_an_error(write):
    path = write({"w": np.arange(4.0)})
    raw = path.read_bytes()
    for length in range(8, len(raw), 5):
        path.write_bytes(raw[:length])
        with pytest.raises(WeightsError):
            weights.read(path)


def test_names_the_extra(write, monkeypatch):
    path = write({"w": BIAS})
    original = builtins.__import__

    def absent(name, *arguments, **more):
        if name == "h5py":
            raise ImportError(name)
        return original(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'jaxground\[keras\]'"):
        weights.read(path)
