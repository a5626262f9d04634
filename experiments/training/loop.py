"""Training: many steps to a dispatch, several runs to a program, resumable at any moment."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from experiments.training import checkpoints
from experiments.training.placement import place
from experiments.training.records import Records, held

STEPS = 0  # folded into a run's key; `sources.ORDER` is the order of its images


class TrainState(NamedTuple):
    """Everything that a step changes; across runs, every array has a leading axis of runs."""

    step: Any
    weights: Any
    momentum: Any  # of the optimiser
    key: Any  # raw data; step `i` draws from `fold_in(key, i)`
    setting: Any  # what differs between runs of one program, such as a rate


def start(weights: Sequence, optimiser, seeds: Sequence[int], settings, mesh) -> TrainState:
    """Returns the state of runs before their first step, on the mesh."""
    keys = [jax.random.fold_in(jax.random.key(seed), STEPS) for seed in seeds]
    keys = [np.asarray(jax.random.key_data(key)) for key in keys]
    states = [
        TrainState(np.int32(0), each, optimiser.init(each), key, setting)
        for each, key, setting in zip(weights, keys, settings, strict=True)
    ]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return place(stacked, mesh, "run")


def updated(state: TrainState, optimiser, gradient) -> TrainState:
    """Returns the state after one step of an Optax optimiser."""
    updates, momentum = optimiser.update(gradient, state.momentum, state.weights)
    weights = optax.apply_updates(state.weights, updates)
    return state._replace(step=state.step + 1, weights=weights, momentum=momentum)


def make_program(step: Callable, source, mesh) -> Callable:
    """Returns the compiled program `(state, arrays, batches) -> (state, metrics)`.

    It takes as many steps as `source.take` gave batches for, in one dispatch.

    Args:
      step: `(state, images, labels) -> (state, metrics)` of one run; metrics are scalars.
      source: A `Resident` or `Streamed`.
      mesh: From `make_mesh`.
    """

    def run(state, arrays, batches):
        def body(state, batch):
            return step(state, *source.fetch(arrays, batch))

        state, metrics = _scan(body, state, batches)
        return state, jax.tree.map(jnp.mean, metrics)

    apart, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["run"], []))
    runs = jax.vmap(run, in_axes=(0, None, source.axis), spmd_axis_name="run")
    return jax.jit(runs, donate_argnums=0, out_shardings=(apart, everywhere))


def train(
    program: Callable,
    state: TrainState,
    source,
    folder: Path,
    *,
    steps: int,
    dispatch: int,
    every: int,
    names: Sequence[str],
    evaluate: Callable[[TrainState], dict[str, np.ndarray]],
    tensorboard: bool = False,
) -> TrainState:
    """Trains to the last step, from the newest checkpoint in `folder` if there is one.

    Args:
      program: From `make_program`; its state is donated.
      state: From `start`.
      source: Of the images.
      folder: For `metrics.jsonl`, `checkpoints/` and `tensorboard/`.
      steps: Altogether.
      dispatch: Steps in a call of the program, at most.
      every: Steps between checkpoints, each after a measurement: what a crash can lose.
      names: Of the runs.
      evaluate: What is recorded at each checkpoint, by name, for each run; the same values in
        every process.
      tensorboard: Whether to write its events too (needs `tensorboardX`).

    Raises:
      RuntimeError: Another program is training in `folder`.
      ValueError: Its checkpoint is of another kind of source.
    """
    first = jax.process_index() == 0
    with (
        held(folder) if first else contextlib.nullcontext(),
        checkpoints.open_checkpoints(folder / "checkpoints") as manager,
    ):
        at, found = 0, checkpoints.restore(manager, state)
        if found is not None:
            at, state, position = found
            try:
                source.restore(position)
            except ValueError as error:
                raise ValueError(
                    f"{folder} was begun with images from elsewhere ({error}): go on with those "
                    "options, or delete it to begin again"
                ) from error
        since, began = [], time.monotonic()
        with Records(folder, after=at, tensorboard=tensorboard, write=first) as records:
            while at < steps:
                count = min(dispatch, every - at % every, steps - at)
                state, metrics = program(state, source.arrays, source.take(count))
                since.append((count, metrics))
                at += count
                if at % every and at < steps:
                    continue
                measured = _mean(since) | {k: np.asarray(v) for k, v in evaluate(state).items()}
                seconds, since = round(time.monotonic() - began, 1), []
                for run, name in enumerate(names):
                    values = {key: float(value[run]) for key, value in measured.items()}
                    records.write(name, {"step": at, "run": name, "seconds": seconds} | values)
                checkpoints.save(manager, at, state, source.state())
                began = time.monotonic()
    return state


def _scan(body, state, batches):
    if jax.default_backend() != "cpu":
        return jax.lax.scan(body, state, batches)
    # XLA's convolutions on CPUs are five times slower inside a loop, even in one of one step.
    parts = []
    for index in range(len(jax.tree.leaves(batches)[0])):
        state, metrics = body(state, jax.tree.map(lambda x, i=index: x[i], batches))
        parts.append(metrics)
    return state, jax.tree.map(lambda *values: jnp.stack(values), *parts)


def _mean(parts: list[tuple[int, dict]]) -> dict[str, np.ndarray]:
    total = sum(count for count, _ in parts)
    return {
        f"train_{name}": sum(n * np.asarray(metrics[name]) for n, metrics in parts) / total
        for name in parts[0][1]
    }
