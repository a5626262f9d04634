"""How a network is made and filled with weights."""

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxground import weights as weight_files
from jaxground.models.network import Network
from jaxground.models.registry import NETWORKS, VIDEO_NETWORKS, Entry, entry
from jaxground.weights import assignment

FILES = (".pth", ".pt", ".bin", ".safetensors", ".npz", ".caffemodel", ".h5", ".hdf5")


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
      name: One of `names()` or `video_names()`.
      weights: A file (see `jaxground.weights`), a name on the Hugging Face hub, the arrays
        themselves by the names of the file, "embedded" for those that come with this package, or
        None for random ones. Files in the layouts of torchvision, timm and Caffe are recognised
        by their keys; every parameter must be there and fit, and nothing else. Weights from Caffe
        bring the preprocessing of Caffe with them.
      num_classes: Number of logits; by default that of the published weights.
      dtype: Type the layers compute in, such as `jnp.bfloat16` on accelerators. Parameters are
        float32 at least.
      seed: Of random parameters.
      **options: Of the network: `spatial=True` for logits per position, see `Network`; for cnn_2
        `size`, the side of the images, and `width`, by which its layers are wider.

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
    known = entry(name)
    if weights is None:
        return _made(known, nnx.Rngs(seed), num_classes, dtype, options)
    model = shapes(name, num_classes=num_classes, dtype=dtype, **options)
    if isinstance(weights, Mapping):
        source, arrays = "the given arrays", {k: np.asarray(a) for k, a in weights.items()}
    else:
        source = weights_file(name, weights)
        arrays = weight_files.read(source)
    model, layout = _filled(model, arrays, known.names.layouts, source)
    if layout.bgr:
        model.card = dataclasses.replace(model.card, preprocess=known.bgr)
    return model


def shapes(
    name: str,
    *,
    num_classes: int | None = None,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> Network:
    """Returns a network that has shapes in place of arrays, at no cost; arguments as `create`.

    Example:
      >>> shapes("vgg16").fc6.kernel.get_value()
      ShapeDtypeStruct(shape=(25088, 4096), dtype=float32)
    """
    # Flax counts the draws of nnx.Rngs, which takes time quadratic in their number under a trace.
    key = jax.random.key(0)
    rngs = cast(nnx.Rngs, types.SimpleNamespace(params=lambda: key))
    return nnx.eval_shape(lambda: _made(entry(name), rngs, num_classes, dtype, options))


def weights_file(name: str, weights: str | PathLike) -> Path:
    """Returns the file that `create(name, weights)` reads, fetched where need be.

    A text that names no file but has the form `owner/repository` is a name on the hub.

    Raises:
      ValueError: No weights of that network come with the package.
      WeightsError: The hub has no such weights, or cannot be reached.
    """
    if weights == "embedded":
        if file := entry(name).embedded:
            return Path(__file__).parent / file
        known = NETWORKS | VIDEO_NETWORKS
        carried = ", ".join(other for other, it in known.items() if it.embedded)
        raise ValueError(f"no weights of {name} come with the package (only of {carried}): "
                         "name a file instead")  # fmt: skip
    path = Path(weights)
    if isinstance(weights, str) and path.suffix not in FILES and not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", weights):
            return weight_files.download(weights)
    return path


def _made(
    known: Entry,
    rngs: nnx.Rngs,
    num_classes: int | None,
    dtype: DTypeLike,
    options: Mapping[str, Any],
) -> Network:
    """Returns a network with its card."""
    classes = known.num_classes if num_classes is None else num_classes
    if classes < 1:
        raise ValueError(f"num_classes is {classes}; a classifier needs at least one")
    model = known.network(classes, dtype=dtype, rngs=rngs, **options)
    card = known.card
    if classes != known.num_classes:
        card = dataclasses.replace(card, classes=None)
    if "size" in options:  # of a network for images of one size
        side = dataclasses.replace(card.preprocess, size=options["size"], crop=options["size"])
        card = dataclasses.replace(card, preprocess=side)
    model.card = card
    return model


def _filled(
    abstract: Network,
    arrays: Mapping[str, np.ndarray],
    layouts: Sequence[assignment.Layout],
    source: object,
) -> tuple[Network, assignment.Layout]:
    """Returns a network of shapes filled with arrays, and the layout they were in."""
    graph, state = nnx.split(abstract)
    variables = {".".join(map(str, path)): (path, v) for path, v in nnx.to_flat_state(state)}
    expected = {path: v.get_value().shape for path, (_, v) in variables.items()}
    layout = assignment.recognise(arrays, expected, layouts, source=source)
    ours = assignment.assign(arrays, expected, layout, source=source)
    filled = [
        (path, v.replace(jnp.asarray(ours[key], v.get_value().dtype)))
        for key, (path, v) in variables.items()
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled)), layout
