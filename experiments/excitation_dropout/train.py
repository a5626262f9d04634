r"""Trains the networks of chapter 5 under every scheme of dropout; `tables.py` reads the runs.

    python -m experiments.excitation_dropout.train --recipe reduced --output runs/reduced
    python -m experiments.excitation_dropout.train --recipe cifar10_jpeg --at-once 5 \
        --seeds 0 1 2 3 4 --output runs/cifar10_jpeg               # a GPU: 100,000 steps
    python -m experiments.excitation_dropout.train --smoke --output runs/smoke     # seconds

From the project's root. Killed and started again it goes on from its last checkpoint. On a CPU each
step is a dispatch and each run a program: XLA's convolutions there are five times slower inside a
loop, and twice when their kernels are batched.
"""

import argparse
import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from experiments.excitation_dropout import datasets
from experiments.excitation_dropout.recipes import RECIPES, Recipe, make_network, make_optimiser
from experiments.excitation_dropout.steps import SCHEMES, make_evaluation, make_step
from experiments.excitation_dropout.tables import BASE
from experiments.training import loop
from experiments.training.placement import gather, join, make_mesh
from experiments.training.records import claim, write_whole
from experiments.training.sources import Resident, Streamed
from jaxground.metrics import filter_change

WATCHED = 2000  # test images measured while training; all of them at its end
NEEDS_NO_RATE = ("none", "standout")  # named after `BASE`, where the tables look for them


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: its scheme, the probability of keeping a neuron, its seed."""

    scheme: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Returns what its files are called."""
        return f"{self.scheme}-{self.rate:g}-{self.seed}"


def list_programs(schemes, rates, seeds, at_once: int) -> list[list[Run]]:
    """Returns the runs of each program: those of one scheme, seeds first."""
    programs = []
    for first in range(0, len(seeds), at_once):
        for scheme in schemes:
            of_scheme = [BASE] if scheme in NEEDS_NO_RATE else rates
            runs = [Run(scheme, r, s) for r in of_scheme for s in seeds[first : first + at_once]]
            programs += [runs[i : i + at_once] for i in range(0, len(runs), at_once)]
    return programs


def go_on(programs: list[list[Run]], output: Path) -> list[list[Run]]:
    """Returns the programs that are left: those begun as they were begun, without finished runs.

    A checkpoint is of all runs of a program: with others beside them they would begin again.

    Raises:
      ValueError: Others that were not asked for were begun with them.
    """
    asked = {run.name: run for runs in programs for run in runs}
    unfinished = [name for name in asked if not (output / f"{name}.json").exists()]
    begun, left = [], set(unfinished)
    saved = [path for path in output.glob("*/checkpoints/*") if path.name.isdigit()]
    for folder in sorted({path.parents[1] for path in saved}, key=lambda path: -len(path.name)):
        if left.isdisjoint(names := folder.name.split("+")):
            continue
        if unknown := [name for name in names if name not in asked]:
            raise ValueError(
                f"{folder} was begun with {', '.join(unknown)} in the same program: ask for these "
                f"too, or delete it to begin {', '.join(n for n in names if n in asked)} again"
            )
        begun.append([asked[name] for name in names])
        left -= set(names)
    rest = [[run for run in runs if run.name in left] for runs in programs]
    return begun + [runs for runs in rest if runs]


def count_classes(training, test) -> int:
    """Returns the number of classes; of a data set that streams past, those of its test images."""
    known = [part.labels for part in (training, test) if isinstance(part, datasets.Labelled)]
    return 1 + max(int(labels.max()) for labels in known)


def train_program(recipe: Recipe, runs: list[Run], output: Path, data, options) -> None:
    """Trains runs of one scheme as one program, and writes what came of each."""
    folder = output / "+".join(run.name for run in runs)
    training, test = data
    classes, mesh = count_classes(training, test), make_mesh(len(runs), recipe.batch)
    networks = [nnx.split(make_network(recipe, classes, run.seed)) for run in runs]
    graph, before = networks[0][0], [weights for _, weights in networks]
    optimiser, scheme = make_optimiser(recipe), runs[0].scheme
    seeds = [run.seed for run in runs]
    rates = [np.float32(run.rate) for run in runs]
    if options.stream:
        source = Streamed(*training, batch=recipe.batch, seed=seeds, mesh=mesh)
    else:
        source = Resident(*training, batch=recipe.batch, seeds=seeds, mesh=mesh)
    program = loop.make_program(make_step(graph, recipe, scheme, optimiser), source, mesh)
    evaluate = make_evaluation(graph, recipe, scheme, *test, mesh)
    state = loop.train(
        program,
        loop.start(before, optimiser, seeds, rates, mesh),
        source,
        folder,
        steps=recipe.steps,
        dispatch=options.dispatch or (1 if jax.default_backend() == "cpu" else 100),
        every=recipe.every,
        names=[run.name for run in runs],
        evaluate=functools.partial(evaluate, first=WATCHED),
        tensorboard=options.tensorboard,
    )
    measured = evaluate(state)
    weights = gather(state.weights, mesh)
    for index, (run, old) in enumerate(zip(runs, before, strict=True)):
        after = jax.tree.map(lambda x, i=index: x[i], weights)
        moved = filter_change(*(w[recipe.layer]["kernel"][...] for w in (old, after)))
        result = {name: float(value[index]) for name, value in measured.items()}
        result |= {"conservative_filters": int((moved < recipe.threshold).sum())}
        result |= {"filter_change": float(moved.mean()), "neurons": len(moved)}
        if jax.process_index() == 0:
            arrays = nnx.to_flat_state(after)
            named = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in arrays}
            save_file(named, output / f"{run.name}.safetensors")
            text = json.dumps(dataclasses.asdict(run) | {"step": recipe.steps} | result, indent=1)
            write_whole(output / f"{run.name}.json", text + "\n")
            print(run.name, {k: round(v, 4) for k, v in result.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="reduced", choices=RECIPES)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, help="all by default")
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[BASE],
        help=f"probabilities of keeping; {' and '.join(NEEDS_NO_RATE)} have none: named {BASE}",
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, help="0 1 2 by default")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--start", help="weights to fine-tune, a file or a name")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=1, help="runs in one program (GPU, TPU)")
    parser.add_argument("--dispatch", type=int, help="steps in one: 1 on a CPU, otherwise 100")
    parser.add_argument(
        "--stream", action="store_true", help="a TFDS data set larger than the device, by grain"
    )
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("--coordinator", help='of several processes: host:port, or "auto"')
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    parser.add_argument(
        "--smoke", action="store_true", help="two steps on a few images, two schemes"
    )
    options = parser.parse_args()
    if not all(0 < rate < 1 for rate in options.rates):
        parser.error(f"--rates are probabilities of keeping a neuron, in (0, 1): {options.rates}")
    for name in ("schemes", "rates", "seeds"):
        values = getattr(options, name) or []
        if twice := sorted({value for value in values if values.count(value) > 1}):
            parser.error(f"--{name} {' '.join(map(str, twice))}: given twice")
    if min(options.seeds or [0]) < 0:
        parser.error(f"--seeds {min(options.seeds)}: a seed is zero or more")
    for name in ("at_once", "steps", "dispatch"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: it is at least 1")
    join(options.coordinator, options.processes, options.process)
    recipe = RECIPES[options.recipe]
    changes = {"steps": options.steps, "start": options.start}
    if options.smoke:
        changes |= {"steps": 2, "images": 40, "batch": 8, "every": 1, "width": recipe.width / 4}
    recipe = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    schemes = options.schemes or (["standard", "excitation"] if options.smoke else list(SCHEMES))
    seeds = options.seeds or ([0] if options.smoke else [0, 1, 2])
    try:
        claim(options.output, dataclasses.asdict(recipe))
        programs = list_programs(schemes, options.rates, seeds, options.at_once)
        programs = go_on(programs, options.output)
    except ValueError as error:
        parser.error(str(error))
    if not programs:
        return
    limit = 40 if options.smoke else None
    test = datasets.load(recipe.dataset, "test", side=recipe.stored, limit=limit)
    if options.stream:
        training = datasets.stream(recipe.dataset, recipe.stored)
    else:
        limit = recipe.images
        training = datasets.load(recipe.dataset, "train", side=recipe.stored, limit=limit)
    for runs in programs:
        train_program(recipe, runs, options.output, (training, test), options)


if __name__ == "__main__":
    main()
