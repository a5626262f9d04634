r"""Prints how much of a layer excitation dropout leaves: why a base of 0.5 is not half of it.

    python -m experiments.excitation_dropout.effective_rates runs/reduced standard-0.5-0

A neuron that is off carries no evidence and is always kept; the evidence is shared by those that
are on, and the fewer they are, the more likely each is dropped.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.excitation_dropout import datasets
from experiments.excitation_dropout.steps import normalise, parts
from experiments.excitation_dropout.trained import load, read_recipe
from experiments.training.augmentation import central
from jaxground.dropout import excitation_evidence, excitation_keep_probability

BASES = (0.25, 0.5, 0.75, 0.9)
IMAGES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where train.py wrote")
    parser.add_argument("runs", nargs="+", help="such as standard-0.5-0")
    options = parser.parse_args()
    recipe = read_recipe(options.folder)
    images, labels = datasets.load(recipe.dataset, "test", side=recipe.stored, limit=IMAGES)
    images = normalise(central(jnp.asarray(images), recipe.side), recipe)

    @jax.jit
    def measure(network):
        _, hidden, head = parts(network, images, recipe.layer)
        evidence, on = excitation_evidence(head, hidden, labels), hidden > 0
        rows = []
        for base in BASES:
            keep = excitation_keep_probability(evidence, base)
            rows.append(
                [keep.mean(), (keep * on).sum() / on.sum(), (keep * evidence).sum(1).mean()]
            )
        return on.mean(), jnp.array(rows)

    print("| run | neurons on | base | kept of all | kept of those on | evidence kept |")
    print("|---|---|---|---|---|---|")
    for run in options.runs:
        on, rows = measure(load(options.folder, run))
        for base, values in zip(BASES, rows.tolist(), strict=True):
            cells = " | ".join(f"{100 * value:.1f} %" for value in values)
            print(f"| {run} | {100 * float(on):.1f} % | {base} | {cells} |")


if __name__ == "__main__":
    main()
