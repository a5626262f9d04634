"""Making networks by name: what is refused, and what comes with the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxground import models
from jaxground.models.registry import entry
from jaxground.weights import WeightsError


def _state(model):
    return {".".join(map(str, p)): v.get_value() for p, v in nnx.to_flat_state(nnx.state(model))}


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"'vgg_16'; nearest: vgg16.*all: alexnet.*squeezenet1_1"):
        models.create("vgg_16")
    with pytest.raises(ValueError, match="'zzz'; all: "):
        models.torchvision_names("zzz")


def test_a_classifier_has_classes():
    with pytest.raises(ValueError, match="num_classes is 0"):
        models.create("alexnet", num_classes=0)


def test_seeds_differ_and_repeat():
    one, same, other = (models.create("cifar_resnet20", seed=s) for s in (0, 0, 1))
    assert (one.conv1.kernel[...] == same.conv1.kernel[...]).all()
    assert (one.conv1.kernel[...] != other.conv1.kernel[...]).any()


def test_weights_leave_nothing_at_random(random_file):
    arrays = random_file("cifar_resnet20")
    one, other = (_state(models.create("cifar_resnet20", arrays, seed=s)) for s in (0, 1))
    assert all((one[path] == other[path]).all() for path in one)
    kernel = arrays["layer2.0.conv1.weight"]
    np.testing.assert_array_equal(one["layer2.0.conv1.kernel"], kernel.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(one["fc.kernel"], arrays["linear.weight"].T)
    np.testing.assert_array_equal(one["bn1.var"], arrays["bn1.running_var"])


def test_weights_cost_no_initialisation(random_file):
    arrays = random_file("cifar_resnet20")
    jaxpr = jax.make_jaxpr(lambda: _state(models.create("cifar_resnet20", arrays)))()
    assert "random_bits" not in str(jaxpr)


def test_another_number_of_classes_is_refused_with_the_remedy(random_file):
    arrays = random_file("squeezenet1_1", num_classes=20)
    with pytest.raises(WeightsError) as refusal:
        models.create("squeezenet1_1", arrays)
    message = str(refusal.value)
    assert message.startswith("the given arrays: ")
    assert "classifier.1.weight: expected [1000, 512, 1, 1], found [20, 512, 1, 1]" in message
    assert "pass num_classes=20" in message
    model = models.create("squeezenet1_1", arrays, num_classes=20)
    assert model.card.class_names == ()


def test_other_weights_are_refused(random_file, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **random_file("cifar_resnet20"))
    with pytest.raises(WeightsError, match=rf"{path}.*another network.*features\.0\."):
        models.create("squeezenet1_1", path)
    with pytest.raises(FileNotFoundError):
        models.create("squeezenet1_1", tmp_path / "absent.pth")


def test_weights_that_do_not_come_with_the_package():
    with pytest.raises(ValueError, match="no weights of vgg16 come with the package"):
        models.create("vgg16", "embedded")


@pytest.mark.parametrize("text, hub", [
    ("timm/vgg16.tv_in1k", True), ("weights/vgg16.pth", False), ("vgg16.safetensors", False),
    ("a/b/c", False),
])  # fmt: skip
def test_names_of_files_and_of_the_hub(monkeypatch, tmp_path, text, hub):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxground.weights.download", lambda name: tmp_path / f"fetched {name}")
    found = models.weights_file("vgg16", text)
    assert str(found) == (f"{tmp_path}/fetched {text}" if hub else text)


def test_a_folder_that_exists_is_no_name_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "mine").touch()
    assert str(models.weights_file("vgg16", "timm/mine")) == "timm/mine"


@pytest.mark.parametrize("name, layout, order", [
    ("squeezenet1_1", 0, "RGB"), ("squeezenet1_1", 1, "BGR"), ("squeezenet1_1", 2, "BGR"),
    ("squeezenet1_0", 2, "BGR"),
])  # fmt: skip
def test_weights_of_caffe_bring_its_preprocessing(random_file, name, layout, order):
    model = models.create(name, random_file(name, layout))
    assert model.preprocess.order == order
    assert (model.preprocess.crop == 227) == (order == "BGR")


@pytest.mark.parametrize("name", ["squeezenet1_1", "cifar_resnet20", "mobilenet_v1"])
def test_every_layout_gives_the_same_network(random_weights, name):
    """The same numbers written in each layout are read back as the same parameters."""
    expected = random_weights(name)
    for layout in entry(name).names.layouts:
        file = {}
        for path, array in expected.items():
            stored = array
            if array.ndim == 4 and layout.convolution == "OIHW":
                stored = np.moveaxis(array, (3, 2), (0, 1))
            elif array.ndim == 2:
                stored = (
                    array[None, None] if path.split(".")[0] in layout.convolutional else array.T
                )
            file[layout.key(path)] = stored
        found = _state(models.create(name, file))
        for path, array in expected.items():
            np.testing.assert_array_equal(found[path], array, err_msg=f"{layout.name}: {path}")


def test_auxiliary_heads_of_googlenet_and_counters_are_ignored(random_file):
    arrays = random_file("googlenet")
    assert arrays["inception3a.branch4.1.conv.weight"].shape == (32, 192, 1, 1)
    aux = {"aux1.conv.conv.weight": np.ones((128, 512, 1, 1), np.float32),
           "aux2.fc2.bias": np.ones(1000, np.float32)}  # fmt: skip
    counters = {"conv1.bn.num_batches_tracked": np.array(3)}
    models.create("googlenet", arrays | aux | counters)
    with pytest.raises(WeightsError, match=r"surplus aux3\.fc\.bias"):
        models.create("googlenet", arrays | {"aux3.fc.bias": np.ones(2, np.float32)})


def test_half_precision_becomes_single(random_file):
    arrays = {key: array.astype(np.float16) for key, array in random_file("squeezenet1_1").items()}
    model = models.create("squeezenet1_1", arrays)
    assert {leaf.dtype for leaf in _state(model).values()} == {jnp.dtype(jnp.float32)}
