"""What data and networks are, in a few bytes: to tell whether results belong together."""

import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np

from jaxground.data.annotations import Dataset, Example, Instance
from jaxground.models import Network


def identify_data(dataset: Dataset) -> dict[str, Any]:
    """Returns name, number of images and a digest of keys and annotations, ready for JSON.

    The pixels of files are not read; those of pictures that are in no file count.

    Args:
      dataset: The data.
    """
    examples = [_example(example) for example in dataset.examples]
    return {
        "name": dataset.name,
        "images": len(examples),
        "sha256": digest(examples),
    }


def identify_network(model: Network) -> dict[str, Any]:
    """Returns name, form, preprocessing and a digest of the parameters, ready for JSON.

    Args:
      model: The network.
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        sha.update(array.tobytes())
    return {
        "name": model.card.name,
        "spatial": model.spatial,
        "parameters_sha256": sha.hexdigest(),
        **dataclasses.asdict(model.preprocess),
    }


def digest(value: Any) -> str:
    """Returns the SHA-256 of what JSON has.

    Example:
      >>> digest([1, "a"])[:8]
      '4a72386a'
    """
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _example(example: Example) -> list[Any]:
    drawn = None if example.draw is None else _bytes([example.draw()])
    return [example.key, example.size, drawn, [_instance(each) for each in example.instances]]


def _instance(instance: Instance) -> list[Any]:
    outlines = [] if instance.runs is None else [np.asarray(instance.runs)]
    outlines = _bytes([*outlines, *map(np.asarray, instance.polygons)])
    return [instance.category, instance.box, instance.difficult, instance.crowd, outlines]


def _bytes(arrays: list[np.ndarray]) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
