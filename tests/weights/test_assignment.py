"""The strict transfer: errors that list everything, and the orders of axes."""

import ml_dtypes
import numpy as np
import pytest

from jaxground.weights import WeightsError, names
from jaxground.weights.assignment import MAX_LISTED, Layout, assign, recognise

NETWORK = {"conv.kernel": (3, 3, 2, 4), "conv.bias": (4,), "fc.kernel": (8, 5), "fc.bias": (5,)}
TORCH = Layout("torch")


def _file(layout, network=NETWORK):
    return {layout.key(p): np.zeros(layout.shape(p, s), np.float32) for p, s in network.items()}


def test_every_problem_is_listed_at_once():
    file = _file(TORCH)
    del file["conv.bias"]
    file["conv.weight"] = np.zeros((3, 3, 2, 4), np.float32)
    file["extra.weight"] = np.zeros((1, 2), np.float32)
    file["fc.bias"] = np.zeros(5, np.int64)
    with pytest.raises(WeightsError) as refusal:
        assign(file, NETWORK, TORCH, source="net.pth")
    message = str(refusal.value)
    assert message.startswith("net.pth: ")
    assert "missing conv.bias: expected [4]" in message
    assert "wrong shape of conv.weight: expected [4, 2, 3, 3], found [3, 3, 2, 4]" in message
    assert "surplus extra.weight: expected no such key, found [1, 2]" in message
    assert "wrong type of fc.bias: expected floats, found int64" in message


def test_a_long_list_is_cut():
    file = {f"extra{i}": np.zeros(1, np.float32) for i in range(100)} | _file(TORCH)
    with pytest.raises(WeightsError, match=f"and {100 - MAX_LISTED} more") as refusal:
        assign(file, NETWORK, TORCH)
    assert str(refusal.value).count("surplus") == MAX_LISTED


def test_counters_are_ignored_and_nothing_else():
    file = _file(TORCH) | {"bn.num_batches_tracked": np.array(1)}
    assert set(assign(file, NETWORK, TORCH)) == set(NETWORK)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_all_floats_pass(dtype):
    file = {key: array.astype(dtype) for key, array in _file(TORCH).items()}
    assert assign(file, NETWORK, TORCH)["fc.bias"].dtype == dtype


def test_a_flattened_grid_is_reordered_from_channels_first():
    height, width, channels, outputs = 2, 3, 4, 5
    layout = Layout("torch", grids={"fc": (height, width)})
    ours = np.arange(height * width * channels * outputs).reshape(height, width, channels, outputs)
    flat = ours.astype(np.float32).reshape(-1, outputs)
    theirs = np.moveaxis(ours, (3, 2), (0, 1)).reshape(outputs, -1).astype(np.float32)
    network = {"fc.kernel": flat.shape}
    np.testing.assert_array_equal(assign({"fc.weight": theirs}, network, layout)["fc.kernel"], flat)
    stored = Layout("timm", grids={"fc": (height, width)}, convolutional=frozenset({"fc"}))
    theirs = theirs.reshape(outputs, channels, height, width)
    np.testing.assert_array_equal(assign({"fc.weight": theirs}, network, stored)["fc.kernel"], flat)


def test_old_caffe_pads_shapes_with_ones():
    layout = Layout("Caffe", leaves=names.CAFFE_LEAVES, padded=True)
    file = {"fc/0": np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2),
            "fc/1": np.ones((1, 1, 1, 3), np.float32)}  # fmt: skip
    network = {"fc.kernel": (2, 3), "fc.bias": (3,)}
    found = assign(file, network, layout)
    np.testing.assert_array_equal(found["fc.kernel"], file["fc/0"][0, 0].T)
    assert found["fc.bias"].shape == (3,)
    with pytest.raises(WeightsError, match=r"expected \[3\], found \[1, 1, 3, 1\]"):
        assign(file | {"fc/1": np.ones((1, 1, 3, 1), np.float32)}, network, layout)


def test_the_layout_is_recognised_by_keys_then_by_shapes():
    blobs = Layout("blobs", leaves=names.BLOB_LEAVES, convolution="HWIO")
    transposed = Layout("torch, HWIO", convolution="HWIO")
    layouts = (TORCH, transposed, blobs)
    for layout in layouts:
        assert recognise(_file(layout), NETWORK, layouts) is layout
    with pytest.raises(WeightsError, match=r"x\.pth.*none of the 1 keys.*conv.w \(blobs\).*'?a'?"):
        recognise({"a": np.zeros(1)}, NETWORK, layouts, source="x.pth")


def test_the_longest_module_wins():
    layout = Layout("x", {"fire2": "features.3", "fire2.squeeze": "s", "fire": "never"})
    assert layout.key("fire2.squeeze.kernel") == "s.weight"
    assert layout.key("fire2.expand1x1.bias") == "features.3.expand1x1.bias"
    assert layout.key("fire21.squeeze.bias") == "fire21.squeeze.bias"


def test_vgg_is_numbered_as_torchvision_numbers_it():
    # From torchvision's vgg16 and vgg16_bn, and timm's vgg16.
    vgg16, timm = names.vgg((2, 2, 3, 3, 3)).layouts[:2]
    convolutions = [p for p in vgg16.modules if p.startswith("conv")]
    indices = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [vgg16.modules[p] for p in convolutions] == [f"features.{i}" for i in indices]
    assert vgg16.key("fc7.kernel") == "classifier.3.weight"
    assert timm.shape("fc6.kernel", (25088, 4096)) == (4096, 512, 7, 7)
    assert timm.shape("fc8.kernel", (4096, 1000)) == (1000, 4096)
    assert timm.key("fc8.bias") == "head.fc.bias"
    vgg16_bn = names.vgg((2, 2, 3, 3, 3), batch_norm=True)
    assert vgg16_bn.layouts[0].key("bn1_1.mean") == "features.1.running_mean"
    assert vgg16_bn.layouts[0].key("conv5_3.kernel") == "features.40.weight"
    assert vgg16_bn.taps["pool5"] == "features.43"
    assert names.vgg((2, 2, 3, 3, 3)).taps["pool4"] == "features.23"  # reference 1.5


def test_vgg_of_caffe_and_keras():
    caffe, keras = names.vgg((2, 2, 3, 3, 3)).layouts[2:]
    assert caffe.key("conv5_3.kernel") == "conv5_3/0" and caffe.key("fc8.bias") == "fc8/1"
    assert keras.key("conv5_3.bias") == "block5_conv3/bias"
    assert keras.key("fc8.kernel") == "predictions/kernel"
    kernel = np.arange(7 * 7 * 2 * 3, dtype=np.float32).reshape(-1, 3)  # rows, columns, channels
    network = {"fc6.kernel": kernel.shape}
    np.testing.assert_array_equal(
        assign({"fc1/kernel": kernel}, network, keras)["fc6.kernel"], kernel
    )
    blob = np.moveaxis(kernel.reshape(7, 7, 2, 3), (3, 2), (0, 1)).reshape(1, 1, 3, -1)
    np.testing.assert_array_equal(assign({"fc6/0": blob}, network, caffe)["fc6.kernel"], kernel)
    assert caffe.bgr and keras.bgr
