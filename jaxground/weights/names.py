"""Where files keep each layer of the networks: one function per architecture.

Our networks name their layers as the papers do; the files of torchvision number them, timm and
Caffe have names of their own. The architecture gives the numbers, so that no table can be mistyped.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxground.weights.assignment import Layout

BLOB_LEAVES = {"kernel": ".w", "bias": ".b"}  # of the arrays in NumPy archives
CAFFE_LEAVES = {"kernel": "/0", "bias": "/1"}
KERAS_LEAVES = {"kernel": "/kernel", "bias": "/bias"}


class Names(NamedTuple):
    """The layouts that an architecture is published in, and its taps' modules in torchvision."""

    layouts: tuple[Layout, ...]
    taps: Mapping[str, str] = {}


def alexnet() -> Names:
    """Returns the names of AlexNet."""
    modules = _numbered("features", conv1=0, conv2=3, conv3=6, conv4=8, conv5=10)
    modules |= _numbered("classifier", fc6=1, fc7=4, fc8=6)
    taps = _numbered("features", relu1=1, pool1=2, relu2=4, pool2=5, relu3=7, relu4=9, relu5=11)
    taps |= _numbered("features", pool5=12) | _numbered("classifier", fc6=2, fc7=5)
    return Names((Layout("torchvision", modules, grids={"fc6": (6, 6)}),), taps)


def vgg(depths: Sequence[int], *, batch_norm: bool = False) -> Names:
    """Returns the names of a VGG with `depths[i]` convolutions in stage i."""
    modules, taps, index = {}, {}, 0
    for stage, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            modules[f"conv{stage}_{i}"] = f"features.{index}"
            if batch_norm:
                index += 1
                modules[f"bn{stage}_{i}"] = f"features.{index}"
            taps[f"conv{stage}_{i}"] = f"features.{index + 1}"  # its ReLU
            index += 2
        taps[f"pool{stage}"] = f"features.{index}"
        index += 1
    grids = {"fc6": (7, 7)}
    torchvision = Layout(
        "torchvision", modules | _numbered("classifier", fc6=0, fc7=3, fc8=6), grids=grids
    )
    timm = Layout(
        "timm",
        modules | {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"},
        grids=grids,
        convolutional=frozenset({"fc6", "fc7"}),
    )
    layouts = (torchvision, timm) if batch_norm else (torchvision, timm, *_vgg_blobs(grids, depths))
    return Names(layouts, taps | _numbered("classifier", fc6=1, fc7=4))


def _vgg_blobs(grids: Mapping[str, tuple[int, int]], depths: Sequence[int]) -> tuple[Layout, ...]:
    """Returns the layouts of Caffe, whose names are ours, and Keras."""
    caffe = Layout("Caffe", leaves=CAFFE_LEAVES, grids=grids, padded=True, bgr=True)
    blocks = {f"conv{stage}_{i}": f"block{stage}_conv{i}"
              for stage, depth in enumerate(depths, 1) for i in range(1, depth + 1)}  # fmt: skip
    keras = Layout(
        "Keras",
        blocks | {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"},
        KERAS_LEAVES,
        convolution="HWIO",
        linear="IO",
        bgr=True,
    )
    return caffe, keras


def squeezenet(version: str) -> Names:
    """Returns the names of SqueezeNet "1.0" or "1.1"."""
    if version == "1.0":
        modules = _numbered("features", conv1=0, fire2=3, fire3=4, fire4=5, fire5=7, fire6=8)
        modules |= _numbered("features", fire7=9, fire8=10, fire9=12)
        pools = _numbered("features", pool1=2, pool4=6, pool8=11)
    else:
        modules = _numbered("features", conv1=0, fire2=3, fire3=4, fire4=6, fire5=7, fire6=9)
        modules |= _numbered("features", fire7=10, fire8=11, fire9=12)
        pools = _numbered("features", pool1=2, pool3=5, pool5=8)
    torchvision = Layout("torchvision", modules | {"conv10": "classifier.1"})
    squeezes = {f"fire{i}.squeeze": f"fire{i}.squeeze1x1" for i in range(2, 10)}
    blobs = Layout("Caffe blobs", squeezes, BLOB_LEAVES, convolution="HWIO", bgr=True)
    slashes = {f"fire{i}.{our}": f"fire{i}/{their}" for i in range(2, 10)
               for our, their in (("squeeze", "squeeze1x1"), ("expand1x1", "expand1x1"),
                                  ("expand3x3", "expand3x3"))}  # fmt: skip
    caffe = Layout("Caffe", slashes, CAFFE_LEAVES, padded=True, bgr=True)
    taps = modules | pools | {"conv1": "features.1", "conv10": "classifier.2"}
    return Names((torchvision, blobs, caffe), taps)


def googlenet() -> Names:
    """Returns the names of GoogLeNet with batch norm."""
    inceptions = {f"inception_{i}": f"inception{i}"
                  for i in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")}  # fmt: skip
    convolutions = {"conv2_reduce": "conv2", "conv2": "conv3"}
    pools = {f"pool{i}": f"maxpool{i}" for i in range(1, 5)}
    branches = {f"{our}.branch4": f"{their}.branch4.1" for our, their in inceptions.items()}
    layout = Layout(
        "torchvision",
        convolutions | inceptions | branches,
        ignored=("*.num_batches_tracked", "aux1.*", "aux2.*"),
    )
    taps = {"conv1": "conv1"} | convolutions | pools | inceptions | {"pool5": "avgpool"}
    return Names((layout,), taps)


def resnet(depths: Sequence[int]) -> Names:
    """Returns the names of a ResNet with `depths[i]` blocks in stage i, in torchvision and timm."""
    taps = {"conv1": "relu", "pool1": "maxpool", "pool5": "avgpool"}
    for stage, depth in enumerate(depths, 1):
        taps |= {f"layer{stage}.{i}": f"layer{stage}.{i}" for i in range(depth)}
        taps[f"layer{stage}"] = f"layer{stage}"
    return Names((Layout("torchvision"),), taps)


def vit(depth: int) -> Names:
    """Returns the names of a vision transformer of `depth` layers, in torchvision's two manners."""
    tops = {"class_token": "class_token", "pos_embedding": "encoder.pos_embedding"}
    tops |= {"ln": "encoder.ln", "head": "heads.head"}
    taps = {"conv_proj": "conv_proj"}
    taps |= {f"encoder_layer_{i}": f"encoder.layers.encoder_layer_{i}" for i in range(depth - 1)}

    def layout(name: str, first: str, second: str) -> Layout:
        modules = dict(tops)
        for i in range(depth):
            ours, theirs = f"layers.{i}", f"encoder.layers.encoder_layer_{i}"
            modules[ours] = theirs
            modules[f"{ours}.in_proj.kernel"] = f"{theirs}.self_attention.in_proj_weight"
            modules[f"{ours}.in_proj.bias"] = f"{theirs}.self_attention.in_proj_bias"
            modules[f"{ours}.out_proj"] = f"{theirs}.self_attention.out_proj"
            modules[f"{ours}.fc1"] = f"{theirs}.mlp.{first}"
            modules[f"{ours}.fc2"] = f"{theirs}.mlp.{second}"
        return Layout(name, modules)

    # The files for download were written before the perceptron became a sequence.
    return Names(
        (layout("torchvision", "0", "3"), layout("torchvision, 2022", "linear_1", "linear_2")), taps
    )


def cifar_resnet() -> Names:
    """Returns the names of the CIFAR ResNets, with convolutions in either order of axes."""
    modules = {"fc": "linear"}
    return Names((Layout("PyTorch", modules), Layout("PyTorch, HWIO", modules, convolution="HWIO")))


def mobilenet_v1(*, batch_norm: bool = False) -> Names:
    """Returns the names of MobileNet v1: the layers as the TensorFlow Lite graph numbers them."""
    if batch_norm:
        return Names((Layout("jaxground"),))
    modules = {"conv1": "l00.conv", "fc": "l27.conv"}
    for i in range(2, 15):
        modules[f"conv{i}_depthwise"] = f"l{2 * i - 3:02}.dwconv"
        modules[f"conv{i}"] = f"l{2 * i - 2:02}.conv"
    layout = Layout(
        "TensorFlow Lite", modules, BLOB_LEAVES, convolution="HWIO", convolutional=frozenset({"fc"})
    )
    return Names((layout,))


def ours() -> Names:
    """Returns the names of a network whose weights only this project publishes."""
    return Names((Layout("jaxground"),))


def as_made(*parameters: str) -> Names:
    """Returns the names of a network that files keep as it is: its own names and axes.

    Args:
      *parameters: Those that are in no layer, but its own.
    """
    leaves = {name: f".{name}" for name in ("kernel", "bias", "recurrent_kernel", "static_kernel")}
    modules = {name: name for name in parameters}
    return Names((Layout("jaxground", modules, leaves, convolution="HWIO", linear="IO"),))


def _numbered(sequence: str, **indices: int) -> dict[str, str]:
    return {name: f"{sequence}.{index}" for name, index in indices.items()}
