"""Networks filled with random numbers by NumPy: JAX would compile a generator for every shape."""

import functools
import math

import jax
import numpy as np
import pytest
from flax import nnx

from jaxground import models
from jaxground.models.registry import entry


@functools.cache
def _shapes(name, **options):
    state = nnx.to_flat_state(nnx.state(models.shapes(name, **options)))
    return {".".join(map(str, path)): variable.get_value().shape for path, variable in state}


def _numbers(path, shape, random):
    if path.endswith(".kernel"):
        scale = math.sqrt(2 / math.prod(shape[:-1]))  # keeps the size of activations
        return scale * random.standard_normal(shape, np.float32)
    if path.endswith((".scale", ".var")):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    return 0.1 * random.standard_normal(shape, np.float32)


def _weights(name, **options):
    """Returns `{our path: array}` for a network."""
    random = np.random.default_rng(0)
    shapes = _shapes(name, **options)
    return {path: _numbers(path, shape, random) for path, shape in shapes.items()}


def _file(name, layout=0, **options):
    """Returns random arrays as a file of one of the network's layouts holds them."""
    layout = entry(name).names.layouts[layout]
    return {
        layout.key(path): np.resize(array, layout.shape(path, array.shape))
        for path, array in _weights(name, **options).items()
    }


def _create(name, **options):
    """Returns the network, filled."""
    kept = {key: value for key, value in options.items() if key not in ("spatial", "dtype")}
    graph, state = nnx.split(models.shapes(name, **options))
    weights = _weights(name, **kept)
    filled = [
        (path, variable.replace(jax.numpy.asarray(weights[".".join(map(str, path))])))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


@pytest.fixture
def random_weights():
    """`random_weights(name)`: arrays by our paths."""
    return _weights


@pytest.fixture
def random_file():
    """`random_file(name, layout)`: arrays by the names of a file."""
    return _file


@pytest.fixture
def random_network():
    """`random_network(name, **options)`: the same numbers whatever the options."""
    return _create
