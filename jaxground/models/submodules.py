"""Taps for NNX models that were written without them."""

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxground.core.taps import tap

Module = TypeVar("Module", bound=nnx.Module)


def with_taps(module: Module) -> Module:
    """Returns a copy of an NNX model that taps the output of every sub-module by its path.

    The copy has the parameters and values of the model; neither the model nor its classes are
    touched. A sub-module that returns several arrays, or is called several times, has its taps
    numbered: `"cell"`, `"cell[1]"`. (Linen and Haiku models need no such step: `taps` finds the
    paths of their modules.)

    Example:
      >>> from jaxground.core import taps
      >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jax.nn.relu)
      >>> taps(with_taps(model), jnp.ones((1, 2)))
      {'layers.0': ShapeDtypeStruct(shape=(1, 3), dtype=float32)}
    """
    copy = nnx.clone(module)
    for path, submodule in nnx.iter_modules(copy):
        if path and callable(submodule):
            name = ".".join(map(str, path))
            object.__setattr__(submodule, "__class__", _tapped(type(submodule), name))
    return copy


@functools.cache  # the class is part of a model's static structure: same model, same class
def _tapped(kind: type, name: str) -> type:
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        return jax.tree.map(lambda x: tap(x, name) if _smooth(x) else x, output)

    return type(kind)(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__})


def _smooth(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
