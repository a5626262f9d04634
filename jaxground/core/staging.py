"""Compiled explainers: weights as arguments, and what depends on weights alone computed once."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from jaxground.core.hoisting import hoist
from jaxground.core.program import link
from jaxground.core.tables import GRADIENT
from jaxground.core.transform import evaluate, rebuilt


def prepare(
    method: Callable[..., Any], f: Callable[..., Any], **options: Any
) -> Callable[..., Any]:
    """Returns `method(f, ..., **options)` compiled, with the weights of `f` taken out of it.

    A jitted function that closes over weights hands them to XLA as constants, which it folds for
    minutes. Here everything `f` closes over, whatever its framework, is found in the jaxpr and
    becomes an argument; and steps that depend on weights alone, such as clipping them at zero, run
    once per set of shapes instead of at each call (at batch 1 half the time of VGG-16), those
    inside of loops over time or over passes, too.

    Args:
      method: An explainer, `method(f, *arrays, **options)`, or any traceable function.
      f: The model, with the weights it has now: prepare again after an update.
      **options: Passed on to `method`.

    Returns:
      A function of the arrays, with `lower` as `jax.jit` has it. It compiles once per set of shapes
      and dtypes, and checks values (NaN pixels, classes out of range) as little as anything under
      `jax.jit`.

    Example:
      >>> from jaxground.attribution import gradient
      >>> weights = jnp.array([[4.0], [-8.0]])
      >>> explain = prepare(gradient, lambda x: x.mean((1, 2)) @ weights)
      >>> explain(jnp.ones((1, 1, 2, 2)), jnp.array([0]))
      Array([[[4., 4.]]], dtype=float32)
    """
    model = rebuilt(f)
    stages: dict[Any, _Stage] = {}
    hoisted: dict[str, Any] = {}

    def stage(arrays):
        leaves, tree = jax.tree.flatten(arrays)
        leaves = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves]
        weak = [getattr(x, "weak_type", False) for x in leaves]
        signature = (tree, *((x.shape, x.dtype, w) for x, w in zip(leaves, weak, strict=True)))
        if signature not in stages:
            stages[signature] = _stage(method, model, options, tree.unflatten(leaves), hoisted)
        return stages[signature], leaves

    def prepared(*arrays: Any) -> Any:
        (run, residuals), leaves = stage(arrays)
        return run(residuals, leaves)

    def lower(*arrays: Any) -> Any:
        """Returns what `jax.jit(...).lower` does: for cost and memory analysis."""
        (run, residuals), leaves = stage(arrays)
        return run.lower(residuals, leaves)

    prepared.lower = lower  # type: ignore[attr-defined]
    return prepared


class _Stage(NamedTuple):
    """What one set of shapes compiles to, and what it takes besides its arguments."""

    run: Any
    residuals: list[Array]


def _stage(method, f, options, arrays, hoisted) -> _Stage:
    closed, shape = jax.make_jaxpr(lambda *xs: method(f, *xs, **options), return_shape=True)(
        *arrays
    )
    early, weights, late = hoist(link(closed, GRADIENT))

    def of_weights(weights):
        return evaluate(early, weights)[0]

    # There is a program per shape, mostly with the same early steps: their results are shared.
    key = f"{[id(w) for w in weights]} {jax.make_jaxpr(of_weights)(weights)}"
    if key not in hoisted:
        # Now, even when called under `jit`, whose values must not outlive it.
        concrete = not any(isinstance(w, Tracer) for w in weights)
        with jax.ensure_compile_time_eval() if concrete else contextlib.nullcontext():
            hoisted[key] = weights, jax.jit(of_weights)(weights)  # an id is unique while alive
    _, residuals = hoisted[key]

    @jax.jit
    def run(residuals, leaves):
        outputs, _ = evaluate(late, [*residuals, *leaves])
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return _Stage(run, residuals)
