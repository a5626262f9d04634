"""Every network: shapes, sizes, taps, modes, trained weights; its logits are in test_golden."""

import csv
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxground import models
from jaxground.models.layers import Layers

# Published by torchvision ("num_params" of its weights), for the CIFAR ResNets in the README of
# akamaster/pytorch_resnet_cifar10, for MobileNet in the record of the file we read.
PARAMETERS = {
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vit_b_16": 86_567_656,
    "vit_b_32": 88_224_232,
    "mobilenet_v1": 4_222_057,
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
}
# One network of each kind, and the size of its spatial logits for images of 224 x 288.
FAMILIES = {
    "alexnet": (1, 3),
    "vgg11": (1, 3),
    "vgg13_bn": (1, 3),
    "squeezenet1_0": (13, 17),
    "squeezenet1_1": (13, 17),
    "googlenet": (7, 9),
    "resnet18": (7, 9),
    "resnet50": (7, 9),
    "mobilenet_v1": (7, 9),
    "mobilenet_v1_bn": (7, 9),
    "cifar_resnet20": (56, 72),
}


@functools.cache
def _abstract(name, **options):
    """Returns the network without its numbers."""
    return models.shapes(name, **options)


def _side(model):
    return model.preprocess.crop


def _output(model, height, width):
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    graph, state = nnx.split(model)
    return jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, images)


@functools.cache
def _tap_shapes(name):
    """Returns `{tap: shape}` by a walk over the jaxpr."""
    model = _abstract(name)
    graph, state, side = *nnx.split(model), _side(model)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, images)
    return {
        equation.params["name"]: equation.outvars[0].aval.shape
        for equation in jaxpr.jaxpr.eqns
        if equation.primitive.name == "name"
    }


@pytest.mark.parametrize("name", models.names())
def test_logits_shape(name):
    model = _abstract(name)
    logits = _output(model, _side(model), _side(model))
    classes = model.card.class_names
    assert logits.shape == (2, len(classes))
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("name, expected", PARAMETERS.items())
def test_parameter_count_is_the_published_one(name, expected):
    state = nnx.state(_abstract(name), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == expected


def test_every_network_is_counted_or_ours():
    ours = {"cnn_2", "compact_vgg", "mobilenet_v1_bn"}
    assert set(models.names()) - ours == set(PARAMETERS)


def test_facts_that_neither_counts_nor_shapes_show():
    assert _abstract("googlenet").inception_4a.branch2[1].bn.epsilon == 1e-3
    assert _abstract("mobilenet_v1_bn").bn_conv3_depthwise.epsilon == 1e-3
    block = _abstract("resnet50").layer2[0]  # torchvision's ResNets stride in the 3x3 convolution
    assert block.conv1.strides == (1, 1) and block.conv2.strides == (2, 2)
    assert block.bn3.epsilon == 1e-5
    assert _abstract("googlenet").preprocess.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", models.names())
def test_card_names_taps_that_exist(name):
    model = _abstract(name)
    shapes = _tap_shapes(name)
    assert len(shapes[model.card.ground_at]) == 4
    assert len(shapes[model.card.cam_at]) == 4


@pytest.mark.parametrize("name", models.names())
def test_torchvision_names_are_all_taps(name):
    try:
        names = models.torchvision_names(name)
    except ValueError as error:
        assert "torchvision has no network" in str(error)
        assert name.startswith(("cifar", "mobilenet", "cnn", "compact"))
        return
    assert set(names) == set(_tap_shapes(name))
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "squeezenet1_1", "resnet18"])
def test_taps_have_the_shapes_of_torchvisions_modules(golden, name):
    maps = np.load(golden / f"{name}.npz")
    shapes = _tap_shapes(name)
    modules = {module: tap for tap, module in models.torchvision_names(name).items()}
    checked = [key for key in maps.files if key.startswith("eb/")]
    assert checked
    for key in checked:
        assert shapes[modules[key.removeprefix("eb/")]][1:3] == maps[key].shape[1:]
    assert shapes[modules[str(maps["cam_layer"])]][1:3] == maps["grad_cam"].shape[1:]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(288, 320), (225, 231)])
def test_any_size_gives_logits(name, size):
    model = _abstract(name)
    assert _output(model, *size).shape == (2, len(model.card.class_names))


@pytest.mark.parametrize("name", FAMILIES)
def test_spatial_logits(name):
    model = _abstract(name, spatial=True)
    assert _output(model, 224, 288).shape[1:3] == FAMILIES[name]


def _logits(model, images):
    return jax.jit(lambda model, x: model(x))(model, images)


@pytest.mark.parametrize("name", ["squeezenet1_1", "cifar_resnet20", "mobilenet_v1_bn"])
def test_logits_are_the_mean_of_spatial_logits(random_network, name):
    images = jax.random.normal(jax.random.key(0), (2, 64, 48, 3))
    spatial = _logits(random_network(name, spatial=True), images)
    scale = jnp.abs(spatial).max()
    found = _logits(random_network(name), images)
    np.testing.assert_allclose(found, spatial.mean((1, 2)), rtol=1e-4, atol=1e-4 * scale)


def test_dense_layers_read_every_window_of_a_larger_image(random_network):
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    dense = _logits(random_network("cnn_2"), images)
    spatial = _logits(random_network("cnn_2", spatial=True), images)
    assert spatial.shape == (2, 1, 1, 10)
    np.testing.assert_allclose(spatial[:, 0, 0], dense, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="made for 32 x 32 images, given 32 x 40"):
        _output(_abstract("cnn_2"), 32, 40)
    assert _output(_abstract("cnn_2", spatial=True), 32, 40).shape == (2, 1, 2, 10)
    larger = _abstract("cnn_2", size=128)
    assert _output(larger, 128, 128).shape == (2, 10)
    assert larger.preprocess.crop == 128


def test_squeezenet_counts_windows_that_partly_lie_in_the_image():
    # 230 -> 114 by the convolution -> 57, 28, 14 by the poolings; whole windows alone: 56, 27, 13
    assert _output(_abstract("squeezenet1_1", spatial=True), 230, 230).shape[1:3] == (14, 14)


def test_too_small_for_spatial_logits_is_refused():
    with pytest.raises(ValueError, match=r"too small.*2 x 2.*7 x 7"):
        _output(_abstract("vgg11", spatial=True), 64, 64)


def test_images_must_be_preprocessed_batches():
    model = _abstract("cifar_resnet20")
    with pytest.raises(TypeError, match=r"uint8.*preprocess"):
        model(jnp.zeros((1, 32, 32, 3), jnp.uint8))
    with pytest.raises(ValueError, match=r"\[32, 32, 3\].*batch axis"):
        model(jnp.zeros((32, 32, 3)))
    with pytest.raises(ValueError, match=r"\[1, 3, 32, 32\].*channels last"):
        model(jnp.zeros((1, 3, 32, 32)))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v1"])
def test_every_way_of_calling_agrees(random_network, name):
    model = random_network(name, num_classes=7)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    graph, state = nnx.split(model)
    closed = jax.make_jaxpr(model)(images)
    ways = {
        "over the module": jax.jit(lambda model, x: model(x))(model, images),
        "split and merged": jax.jit(lambda s, x: nnx.merge(graph, s)(x))(state, images),
        "closed over": jax.jit(model)(images),
        "vmap": jax.jit(jax.vmap(lambda x: model(x[None])[0]))(images),
        "jaxpr": jax.jit(lambda x: jax.core.eval_jaxpr(closed.jaxpr, closed.consts, x)[0])(images),
    }
    scale = jnp.abs(ways["closed over"]).max()
    for way, found in ways.items():
        error = jnp.abs(found - ways["closed over"]).max()
        assert error < 1e-5 * scale, way


@pytest.mark.parametrize("name", [*FAMILIES, "cnn_2", "compact_vgg"])
def test_inference_holds_no_random_state_and_hashes(name):
    model = _abstract(name)
    graph, state = nnx.split(model)
    assert hash(graph) == hash(nnx.split(nnx.merge(graph, state))[0])
    kinds = {type(variable) for _, variable in nnx.to_flat_state(state)}
    assert kinds <= {nnx.Param, nnx.BatchStat}


def test_training_mode_drops(random_network):
    model = random_network("cnn_2")
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    call = jax.jit(lambda model, key: model(images, rngs=nnx.Rngs(key)))
    keys = jax.random.split(jax.random.key(1))
    assert (call(model, keys[0]) == call(model, keys[1])).all()
    model.train()
    assert (call(model, keys[0]) == call(model, keys[0])).all()
    assert (call(model, keys[0]) != call(model, keys[1])).any()
    with pytest.raises(ValueError, match="rngs"):
        jax.eval_shape(model, images)
    model.eval()
    assert (call(model, keys[0]) == call(model, keys[1])).all()


def test_batch_norm_keeps_its_statistics_until_training():
    norm = Layers(nnx.Rngs(0)).batch_norm(3)
    x = jnp.arange(12.0).reshape(2, 2, 1, 3)
    norm(x)
    assert (norm.mean[...] == 0).all()
    norm.train()
    norm(x)
    np.testing.assert_allclose(norm.mean[...], 0.1 * x.mean((0, 1, 2)), rtol=1e-6)


def test_bfloat16_computes_in_16_bits_and_keeps_parameters(random_network):
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    rough = random_network("cifar_resnet20", dtype=jnp.bfloat16)
    text = str(jax.make_jaxpr(rough)(images))
    assert "bf16[2,32,32,16] = conv_general_dilated" in text
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(rough))} == {jnp.dtype(jnp.float32)}
    found, exact = _logits(rough, images), _logits(random_network("cifar_resnet20"), images)
    assert found.dtype == jnp.float32
    error = jnp.abs(found - exact).max() / jnp.abs(exact).max()
    assert 0 < error < 0.05


def test_float64_networks(float64):
    model = _abstract("cifar_resnet20", dtype=jnp.float64)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.float64)}
    graph, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float64)
    logits = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, images)
    assert logits.dtype == jnp.float64


def _hits(model, pictures, labels, k):
    """Returns the share of pictures whose label is among the k largest logits."""
    logits = _logits(model, model.preprocess(pictures))
    top = np.argsort(-np.asarray(logits), axis=1)[:, :k]
    return (top == np.asarray(labels)[:, None]).any(1).mean()


@pytest.mark.parametrize("depth, expected", [(20, 0.81), (56, 0.83)])
def test_trained_cifar_resnets_classify(data, depth, expected):
    images = np.load(data / "cifar10_jpeg" / "cifar10_jpeg.npz")
    jpeg, offsets = images["test_jpeg"], images["test_offsets"]
    pictures = [Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]])) for i in range(400)]
    arrays = np.load(data / "weights" / f"cifar_resnet{depth}.npz")
    model = models.create(f"cifar_resnet{depth}", arrays)
    accuracy = _hits(model, pictures, images["test_labels"][:400], 1)
    assert abs(accuracy - expected) < 0.05


@pytest.mark.parametrize(
    "name, file, expected",
    [
        ("squeezenet1_1", "squeezenet1_1.safetensors", 0.848),
        ("squeezenet1_1", "squeezenet1_1_caffe_fp16.npz", 0.84),
        ("mobilenet_v1", "mobilenet_v1_1.0_224.npz", 0.971),
    ],
)
def test_trained_imagenet_networks_classify(data, name, file, expected):
    model = models.create(name, data / "weights" / file)
    folder = data / "imagenet_sample_500"
    with (folder / "labels.csv").open() as rows:
        rows = list(csv.DictReader(rows))[::10]
    pictures = [Image.open(folder / "images" / row["file"]) for row in rows]
    background = len(model.card.class_names) - 1000
    labels = [int(row["class_index"]) + background for row in rows]
    assert _hits(model, pictures, labels, 5) > expected - 0.1
    names = [model.card.class_names[label] for label in labels]
    wnids = dict(zip(models.imagenet_wnids(), models.class_names("imagenet"), strict=True))
    assert names == [wnids[row["wnid"]] for row in rows]
