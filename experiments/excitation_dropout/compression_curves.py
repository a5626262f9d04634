r"""Draws figure 5.5: the probability of the true class as neurons of trained networks are removed.

    python -m experiments.excitation_dropout.compression_curves runs/reduced
    python -m experiments.excitation_dropout.compression_curves --smoke --output /tmp/figures

From the project's root. The thesis's three panels remove the most relevant neurons and the least
relevant, until they carried a share of the evidence, and random ones. Equal shares are not equal
numbers of neurons: where the evidence is spread, the same share is more of them. The fourth panel,
which is ours, removes equal numbers of the most relevant. Of the first 2,000 test images.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.excitation_dropout.inspection import (
    list_runs,
    parse,
    prepare,
    read_layer,
    read_test,
)
from experiments.excitation_dropout.pictures import (
    draw_curves,
    draw_legend,
    label,
    open_plots,
    save,
)
from experiments.excitation_dropout.steps import MEASURED
from experiments.excitation_dropout.train import WATCHED
from experiments.excitation_dropout.trained import load, read_recipe
from experiments.excitation_dropout.training_curves import name_of
from jaxground.data.classification import Labelled
from jaxground.dropout import excitation_evidence
from jaxground.metrics import compression
from jaxground.metrics.utilisation import Order

SHARES = np.arange(20) / 20  # published: 0, 0.05, ..., 0.95
COUNTS = np.arange(17) / 16  # shares of the layer; published are k / 4096 in steps of 128
FEW = np.arange(17) / 64  # most neurons are off anyway, so that the first quarter decides


class Panel(NamedTuple):
    """A way to remove neurons."""

    title: str
    xlabel: str
    shares: np.ndarray
    order: Order = "most"


PANELS = {
    "most": Panel("most relevant first", "share of $p_{EB}$ removed", SHARES),
    "least": Panel("least relevant first", "share of $p_{EB}$ removed", SHARES, "least"),
    "random": Panel("random", "share of neurons removed", COUNTS),
    "number": Panel("most relevant first, by number", "share of neurons removed", FEW),
}


def measure(network, images, labels, key, *, recipe, scheme: str) -> dict[str, jax.Array]:
    """Returns for each panel the label's probability `[batch, shares]` with neurons removed."""
    hidden, head = read_layer(network, images, recipe, scheme)
    evidence = excitation_evidence(head, hidden, labels)
    ranks = jnp.argsort(jnp.argsort(evidence, axis=1), axis=1) / hidden.shape[1]
    random = jax.random.permutation(key, ranks, axis=1, independent=True)
    # Of what is all but equal, a share is a number of neurons; the thousandth decides their order.
    orders = {"random": 1 + 1e-3 * random, "number": 1 + 1e-3 * ranks}
    return {
        name: compression(
            head, hidden, labels, orders.get(name, evidence), panel.shares, order=panel.order
        ).scores
        for name, panel in PANELS.items()
    }


def measure_run(folder: Path, name: str, scheme: str, test: Labelled) -> dict[str, np.ndarray]:
    """Returns for each panel the mean over the test images `[shares]`."""
    recipe = read_recipe(folder)
    graph, weights = nnx.split(load(folder, name))

    @jax.jit
    def of_batch(weights, images, labels, key):
        network, images = nnx.merge(graph, weights), prepare(images, recipe)
        found = measure(network, images, labels, key, recipe=recipe, scheme=scheme)
        return jax.tree.map(lambda scores: scores.mean(0), found)

    means = [
        of_batch(weights, images, labels, jax.random.key(number))
        for number, (images, labels) in enumerate(in_batches(test))
    ]
    return jax.tree.map(lambda *parts: np.mean(parts, axis=0), *means)


def in_batches(test: Labelled) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of one size; images beyond the last whole one are left out."""
    size = min(MEASURED, len(test.labels))
    for first in range(0, len(test.labels) - size + 1, size):
        yield test.images[first : first + size], test.labels[first : first + size]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    test = read_test(read_recipe(options.folder), limit=WATCHED)
    found = {
        scheme: [measure_run(options.folder, name, scheme, test) for name in names]
        for scheme, names in list_runs(options.folder, options.base).items()
    }
    sheet, axes = open_plots(12.6, 3.9, len(PANELS), sharey=True)
    for one, (panel, (title, xlabel, shares, _)) in zip(axes, PANELS.items(), strict=True):
        curves = {
            scheme: (shares, np.stack([run[panel] for run in runs]))
            for scheme, runs in found.items()
        }
        draw_curves(one, curves)
        label(one, title, xlabel)
        print(f"\n{title}: mean over shares, and at 0, 1/4, 1/2, 3/4 of them")
        for scheme, (_, y) in curves.items():
            at = y.mean(0)[[0, *(len(shares) * q // 4 for q in (1, 2, 3))]]
            print(f"  {scheme:16} {y.mean():.3f}   ", *(f"{value:.3f}" for value in at))
    axes[0].set_ylabel("probability of the true class", fontsize=9)
    sheet.suptitle(name_of(options.folder, options.base), fontsize=10)
    draw_legend(sheet, axes[0])
    save(sheet, options.output, "5.5_compression.png")


if __name__ == "__main__":
    main()
