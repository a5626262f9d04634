r"""Draws figures 5.3 and 5.6 to 5.9: accuracy, and how the layer is used, while networks train.

    python -m experiments.excitation_dropout.training_curves runs/reduced [runs/OTHER ...]
    python -m experiments.excitation_dropout.training_curves --smoke --output /tmp/figures

From the project's root. A panel of figure 5.3, and a figure of four panels, for every folder. Lines
are means over seeds, bands one standard deviation. Runs that are not finished are left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.excitation_dropout.inspection import list_runs, parse
from experiments.excitation_dropout.pictures import (
    draw_curves,
    draw_legend,
    label,
    open_plots,
    save,
)
from experiments.excitation_dropout.tables import BASE
from experiments.excitation_dropout.trained import read_recipe
from experiments.training.records import read_records

UTILISATION = {
    "neurons_on": "neurons on",
    "peak_evidence": "peak $p_{EB}$",
    "activation_entropy": "entropy of activations, nats",
    "evidence_entropy": "entropy of $p_{EB}$, nats",
}


def read_histories(
    folder: Path, metric: str, base: float = BASE
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns steps `[points]` and values `[seeds, points]` of the finished runs by scheme."""
    histories: dict[str, dict[int, float]] = {}
    for path in folder.glob("*/metrics.jsonl"):  # of a program: one run or several
        for record in read_records(path):
            histories.setdefault(record["run"], {})[record["step"]] = record[metric]
    curves = {}
    for scheme, names in list_runs(folder, base).items():
        found = [histories[name] for name in names]
        steps = sorted(set.intersection(*map(set, found)))
        curves[scheme] = np.array(steps), np.array([[h[s] for s in steps] for h in found])
    return curves


def name_of(folder: Path, base: float) -> str:
    """Returns what a folder's networks are and how they were trained, for a title."""
    recipe = read_recipe(folder)
    width = "" if recipe.width == 1 else f" of width {recipe.width:g}"
    changed = "" if base == BASE else f", excitation's base {base:g}"
    return f"{recipe.dataset}, {recipe.network}{width}, {recipe.layer}{changed}"


def draw_accuracy(folders: Sequence[Path], output: Path, base: float) -> None:
    """Draws figure 5.3, a panel for each folder."""
    sheet, axes = open_plots(max(6.4, 4.2 * len(folders)), 4.0, len(folders))
    for one, folder in zip(axes, folders, strict=True):
        curves = read_histories(folder, "accuracy", base)
        draw_curves(one, {scheme: (x, 100 * y) for scheme, (x, y) in curves.items()})
        label(one, name_of(folder, base), "training step", "test accuracy, %")
        for scheme, (_, y) in curves.items():
            print(f"{scheme:16} accuracy {100 * y[:, -1].mean():.2f} % ({len(y)} seeds)")
    draw_legend(sheet, axes[0], columns=3)
    save(sheet, output, "5.3_accuracy.png")


def draw_utilisation(folder: Path, output: Path, base: float) -> None:
    """Draws figure 5.6, or that of another data set."""
    sheet, axes = open_plots(8.2, 6.4, 2, 2)
    for one, (metric, title) in zip(axes, UTILISATION.items(), strict=True):
        draw_curves(one, read_histories(folder, metric, base))
        label(one, title, "training step")
    sheet.suptitle(name_of(folder, base), fontsize=10)
    draw_legend(sheet, axes[0], columns=3)
    save(sheet, output, f"5.6_utilisation_{folder.name}.png")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments, several=True)
    draw_accuracy(options.folder, options.output, options.base)
    for folder in options.folder:
        draw_utilisation(folder, options.output, options.base)


if __name__ == "__main__":
    main()
