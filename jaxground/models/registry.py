"""The networks by name, and how one is made and filled."""

import dataclasses
import difflib
import functools
import importlib.resources
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxground import weights as weight_files
from jaxground.models.alexnet import AlexNet
from jaxground.models.cifar_resnet import CifarResNet
from jaxground.models.cnn_2 import CNN2
from jaxground.models.googlenet import GoogLeNet
from jaxground.models.mobilenet import MobileNetV1
from jaxground.models.network import Card, Network
from jaxground.models.preprocess import IMAGENET, Preprocess
from jaxground.models.resnet import BasicBlock, Bottleneck, ResNet
from jaxground.models.squeezenet import SqueezeNet
from jaxground.models.vgg import VGG
from jaxground.weights import assignment
from jaxground.weights import names as weight_names

HALF = (0.5, 0.5, 0.5)
SIGNED = Preprocess(mean=HALF, std=HALF)  # pixels in [-1, 1]
CIFAR = Preprocess(size=32, crop=32)
VGG_BGR = Preprocess(256, 224, (103.939, 116.779, 123.68), (1, 1, 1), "BGR", 1)
SQUEEZENET_BGR = Preprocess(256, 227, (104, 117, 123), (1, 1, 1), "BGR", 1)


class Entry(NamedTuple):
    """A network of the registry.

    Attributes:
      network: Makes it: `network(num_classes, spatial=..., dtype=..., rngs=...)`.
      card: What is known of it.
      names: Where files keep its layers.
      num_classes: Of the published weights.
      embedded: File of the package that holds its weights, in `jaxground/models/`.
      bgr: Preprocessing of weights in Caffe's tradition, where there are such.
    """

    network: Callable[..., Network]
    card: Card
    names: weight_names.Names
    num_classes: int = 1000
    embedded: str | None = None
    bgr: Preprocess = IMAGENET


def _vgg(name: str, *depths: int, batch_norm: bool = False) -> Entry:
    return Entry(
        functools.partial(VGG, depths, batch_norm=batch_norm),
        Card(name, "pool4", f"conv5_{depths[-1]}"),
        weight_names.vgg(depths, batch_norm=batch_norm),
        bgr=VGG_BGR,
    )


def _resnet(name: str, block: type[BasicBlock] | type[Bottleneck], *depths: int) -> Entry:
    network = functools.partial(ResNet, block, depths)
    return Entry(network, Card(name, "layer3", "layer4"), weight_names.resnet(depths))


def _squeezenet(name: str, version: str, ground_at: str) -> Entry:
    network = functools.partial(SqueezeNet, version)
    card = Card(name, ground_at, "fire9")
    return Entry(network, card, weight_names.squeezenet(version), bgr=SQUEEZENET_BGR)


def _cifar_resnet(name: str, depth: int) -> Entry:
    card = Card(name, "layer2", "layer3", "cifar10", CIFAR)
    return Entry(functools.partial(CifarResNet, depth), card, weight_names.cifar_resnet(), 10)


def _mobilenet_v1(name: str, *, batch_norm: bool = False) -> Entry:
    card = Card(name, "conv12", "conv14", "imagenet_background", SIGNED)
    network = functools.partial(MobileNetV1, batch_norm=batch_norm)
    return Entry(network, card, weight_names.mobilenet_v1(batch_norm=batch_norm), 1001)


ENTRIES = (
    Entry(AlexNet, Card("alexnet", "pool2", "relu5"), weight_names.alexnet()),
    _vgg("vgg11", 1, 1, 2, 2, 2),
    _vgg("vgg13", 2, 2, 2, 2, 2),
    _vgg("vgg16", 2, 2, 3, 3, 3),
    _vgg("vgg19", 2, 2, 4, 4, 4),
    _vgg("vgg11_bn", 1, 1, 2, 2, 2, batch_norm=True),
    _vgg("vgg13_bn", 2, 2, 2, 2, 2, batch_norm=True),
    _vgg("vgg16_bn", 2, 2, 3, 3, 3, batch_norm=True),
    _vgg("vgg19_bn", 2, 2, 4, 4, 4, batch_norm=True),
    _squeezenet("squeezenet1_0", "1.0", "fire5"),
    _squeezenet("squeezenet1_1", "1.1", "pool5"),
    Entry(
        GoogLeNet,
        Card("googlenet", "pool2", "inception_5b", preprocess=SIGNED),
        weight_names.googlenet(),
    ),
    _resnet("resnet18", BasicBlock, 2, 2, 2, 2),
    _resnet("resnet34", BasicBlock, 3, 4, 6, 3),
    _resnet("resnet50", Bottleneck, 3, 4, 6, 3),
    _resnet("resnet101", Bottleneck, 3, 4, 23, 3),
    _resnet("resnet152", Bottleneck, 3, 8, 36, 3),
    _mobilenet_v1("mobilenet_v1"),
    _mobilenet_v1("mobilenet_v1_bn", batch_norm=True),
    _cifar_resnet("cifar_resnet20", 20),
    _cifar_resnet("cifar_resnet32", 32),
    _cifar_resnet("cifar_resnet44", 44),
    _cifar_resnet("cifar_resnet56", 56),
    Entry(CNN2, Card("cnn_2", "pool2", "conv3", "cifar10", CIFAR), weight_names.ours(), 10),
)
NETWORKS = {entry.card.name: entry for entry in ENTRIES}


def names() -> tuple[str, ...]:
    """Returns the names of all networks.

    Example:
      >>> "vgg16" in names()
      True
    """
    return tuple(NETWORKS)


def torchvision_names(name: str) -> dict[str, str]:
    """Returns which module of torchvision's network puts out what a tap names.

    Where torchvision computes a ReLU in place, the output is meant as it leaves that ReLU.

    Raises:
      ValueError: The network is unknown, or torchvision has none like it.

    Example:
      >>> torchvision_names("squeezenet1_1")["fire9"]
      'features.12'
    """
    taps = _entry(name).names.taps
    if not taps:
        raise ValueError(f"torchvision has no network like {name}")
    return dict(taps)


def create(
    name: str,
    weights: str | PathLike | Mapping[str, np.ndarray] | None = None,
    *,
    num_classes: int | None = None,
    dtype: DTypeLike = jnp.float32,
    seed: int = 0,
    **options: Any,
) -> Network:
    """Returns a network in inference mode, filled with weights or initialised at random.

    Args:
      name: One of `names()`.
      weights: A file (see `jaxground.weights`), a name on the Hugging Face hub, the arrays
        themselves by the names of the file, "embedded" for those that come with this package, or
        None for random ones. Files in the layouts of torchvision, timm and Caffe are recognised
        by their keys; every parameter must be there and fit, and nothing else. Weights from Caffe
        bring the preprocessing of Caffe with them.
      num_classes: Number of logits; by default that of the published weights.
      dtype: Type the layers compute in, such as `jnp.bfloat16` on accelerators. Parameters are
        float32 at least.
      seed: Of random parameters.
      **options: Of the network: `spatial=True` for logits per position, see `Network`.

    Raises:
      ValueError: No network has that name; the nearest are listed.
      WeightsError: The weights do not fit; all missing, surplus and misshapen ones are listed.

    Example:
      >>> model = create("cifar_resnet20")
      >>> model(jnp.zeros((1, 32, 32, 3))).shape
      (1, 10)
      >>> model.card.ground_at
      'layer2'
    """
    entry = _entry(name)
    classes = entry.num_classes if num_classes is None else num_classes
    if classes < 1:
        raise ValueError(f"num_classes is {classes}; a classifier needs at least one")

    def build() -> Network:
        return entry.network(classes, dtype=dtype, rngs=nnx.Rngs(seed), **options)

    card = entry.card
    if classes != entry.num_classes:
        card = dataclasses.replace(card, classes=None)
    if weights is None:
        model = build()
    else:
        arrays, source = _arrays(entry, weights)
        model, layout = _filled(nnx.eval_shape(build), arrays, entry.names.layouts, source)
        if layout.bgr:
            card = dataclasses.replace(card, preprocess=entry.bgr)
    model.card = card
    return model


def _entry(name: str) -> Entry:
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=3, cutoff=0.5)
        nearest = f"nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"no network is called {name!r}; {nearest}all: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _arrays(entry: Entry, weights: Any) -> tuple[Mapping[str, np.ndarray], object]:
    """Returns the arrays by the names of the file, and what to call that file in messages."""
    if isinstance(weights, Mapping):
        return {key: np.asarray(array) for key, array in weights.items()}, "the given arrays"
    if weights != "embedded":
        return weight_files.read(weights), weights
    if entry.embedded is None:
        carried = [name for name, other in NETWORKS.items() if other.embedded]
        raise ValueError(
            f"no weights of {entry.card.name} come with the package, only of {', '.join(carried)}; "
            "name a file instead"
        )
    with importlib.resources.as_file(
        importlib.resources.files("jaxground.models") / entry.embedded
    ) as path:
        return weight_files.read(path), path


def _filled(
    abstract: Network,
    arrays: Mapping[str, np.ndarray],
    layouts: tuple[assignment.Layout, ...],
    source: object,
) -> tuple[Network, assignment.Layout]:
    """Returns a network of shapes filled with arrays, and the layout they were in."""
    graph, state = nnx.split(abstract)
    variables = {".".join(map(str, path)): (path, v) for path, v in nnx.to_flat_state(state)}
    shapes = {path: v.get_value().shape for path, (_, v) in variables.items()}
    layout = assignment.recognise(arrays, shapes, layouts, source=source)
    ours = assignment.assign(arrays, shapes, layout, source=source)
    filled = [
        (path, v.replace(jnp.asarray(ours[key], v.get_value().dtype)))
        for key, (path, v) in variables.items()
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled)), layout
