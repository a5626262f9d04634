"""Networks that `train.py` trained."""

import json
from pathlib import Path

import jax.numpy as jnp
from flax import nnx
from safetensors.numpy import load_file

from experiments.excitation_dropout.recipes import Recipe
from jaxground import models
from jaxground.models.network import Network


def read_recipe(folder: Path) -> Recipe:
    """Returns the recipe of a folder of runs."""
    return Recipe(**json.loads((folder / "recipe.json").read_text()))


def load(folder: Path, name: str) -> Network:
    """Returns the network of a finished run, such as `"excitation-0.5-0"`."""
    recipe, arrays = read_recipe(folder), load_file(folder / f"{name}.safetensors")
    options = {"size": recipe.side, "width": recipe.width} if recipe.network == "cnn_2" else {}
    classes = len(arrays[f"{recipe.classifier}.bias"])
    network = models.shapes(recipe.network, num_classes=classes, **options)
    graph, state = nnx.split(network)
    filled = {
        path: leaf.replace(jnp.asarray(arrays[".".join(map(str, path))]))
        for path, leaf in nnx.to_flat_state(state)
    }
    return nnx.merge(graph, nnx.from_flat_state(filled))
