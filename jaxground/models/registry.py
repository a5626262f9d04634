"""The networks by name: one line each."""

import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxground.models.alexnet import AlexNet
from jaxground.models.cifar_resnet import CifarResNet
from jaxground.models.cnn_2 import CNN2
from jaxground.models.compact_captioner import CompactCaptioner
from jaxground.models.compact_lrcn import SIDE, CompactLRCN
from jaxground.models.compact_vgg import MEAN, STD, CompactVGG
from jaxground.models.googlenet import GoogLeNet
from jaxground.models.mobilenet import MobileNetV1
from jaxground.models.network import Card
from jaxground.models.preprocess import IMAGENET, Preprocess
from jaxground.models.resnet import BasicBlock, Bottleneck, ResNet
from jaxground.models.squeezenet import SqueezeNet
from jaxground.models.vgg import VGG
from jaxground.models.vit import ViT
from jaxground.weights import names as weight_names

HALF = (0.5, 0.5, 0.5)
SIGNED = Preprocess(mean=HALF, std=HALF)  # pixels in [-1, 1]
CIFAR = Preprocess(size=32, crop=32)
VGG_BGR = Preprocess(256, 224, (103.939, 116.779, 123.68), (1, 1, 1), "BGR", 1)
SQUEEZENET_BGR = Preprocess(256, 227, (104, 117, 123), (1, 1, 1), "BGR", 1)


class Entry(NamedTuple):
    """A network of the registry.

    Attributes:
      network: Makes it: `network(num_classes, dtype=..., rngs=..., **options)`.
      card: What is known of it.
      names: Where files keep its layers.
      num_classes: Of the published weights.
      embedded: File of the package that holds its weights, in `jaxground/models/`.
      bgr: Preprocessing of weights in Caffe's tradition, where there are such.
    """

    network: Callable[..., Any]
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


def _vit(name: str, patch: int, depth: int, width: int, heads: int) -> Entry:
    card = Card(name, "conv_proj", f"encoder_layer_{depth - 2}")
    network = functools.partial(ViT, patch, depth, width, heads)
    return Entry(network, card, weight_names.vit(depth))


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
    _vit("vit_b_16", 16, 12, 768, 12),
    _vit("vit_b_32", 32, 12, 768, 12),
    Entry(CNN2, Card("cnn_2", "pool2", "conv3", "cifar10", CIFAR), weight_names.ours(), 10),
    Entry(
        CompactVGG,
        Card("compact_vgg", "pool3", "conv4_2", "cifar10", Preprocess(80, 80, MEAN, STD)),
        weight_names.ours(),
        10,
        embedded="compact_vgg.safetensors",
    ),
)
NETWORKS = {each.card.name: each for each in ENTRIES}
DRAWN_FRAMES = Preprocess(SIDE, SIDE, HALF, (0.25, 0.25, 0.25))
VIDEO_ENTRIES = (
    Entry(
        CompactLRCN,
        Card("compact_lrcn", "conv1", "conv3", "moving_scenes", DRAWN_FRAMES),
        weight_names.as_made(),
        8,
        embedded="compact_lrcn.safetensors",
    ),
    Entry(
        CompactCaptioner,
        Card("compact_captioner", "conv1", "conv4", "moving_scenes_words", DRAWN_FRAMES),
        weight_names.as_made("embedding"),
        31,
        embedded="compact_captioner.safetensors",
    ),
)
VIDEO_NETWORKS = {each.card.name: each for each in VIDEO_ENTRIES}


def entry(name: str) -> Entry:
    """Returns the entry of a network, for images or videos.

    Raises:
      ValueError: No network has that name; the nearest are listed.
    """
    known = NETWORKS | VIDEO_NETWORKS
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        nearest = f"nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"no network is called {name!r}; {nearest}all: {', '.join(known)}")
    return known[name]


def names() -> tuple[str, ...]:
    """Returns the names of all networks for images.

    Example:
      >>> "vgg16" in names()
      True
    """
    return tuple(NETWORKS)


def video_names() -> tuple[str, ...]:
    """Returns the names of the networks for videos.

    `create(name)` of one is an `LRCN` or a `Captioner` with a card: it takes videos where others
    take images.

    Example:
      >>> video_names()
      ('compact_lrcn', 'compact_captioner')
    """
    return tuple(VIDEO_NETWORKS)


def torchvision_names(name: str) -> dict[str, str]:
    """Returns which module of torchvision's network puts out what a tap names.

    Where torchvision computes a ReLU in place, the output is meant as it leaves that ReLU.

    Raises:
      ValueError: The network is unknown, or torchvision has none like it.

    Example:
      >>> torchvision_names("squeezenet1_1")["fire9"]
      'features.12'
    """
    taps = entry(name).names.taps
    if not taps:
        raise ValueError(f"torchvision has no network like {name}")
    return dict(taps)
