r"""Draws figure 5.2: the probability of keeping a neuron as a function of its evidence.

    python -m experiments.excitation_dropout.keep_probability

From the project's root; it needs no run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.excitation_dropout.inspection import FIGURES
from experiments.excitation_dropout.pictures import label, open_plots, save
from jaxground.dropout import excitation_keep_probability

NEURONS, BASE = 10, 0.5  # of the thesis's figure
BASES = {0.25: "0.55", 0.5: "#882299", 0.75: "0.75"}
WIDTHS = {10: "#882299", 512: "0.55", 2048: "0.75"}


def draw(axes_of_bases, axes_of_widths) -> None:
    """Draws the thesis's curve in purple, beside it other bases, and other widths of the layer."""
    evidence = np.linspace(0, 1, 401)
    for base, colour in BASES.items():
        keep = excitation_keep_probability(_layer(evidence, NEURONS), base)[:, 0]
        axes_of_bases.plot(evidence, keep, color=colour, label=f"P = {base}")
        axes_of_bases.plot(1 / NEURONS, base, "o", ms=5, color=colour)
    axes_of_bases.annotate(
        "uniform evidence, 1/N:\nkept with probability P", (1 / NEURONS, BASE), (0.28, 0.62),
        fontsize=8.5, arrowprops={"arrowstyle": "-", "color": "0.5"},
    )  # fmt: skip
    label(axes_of_bases, f"N = {NEURONS}", "$p_{EB}$", "probability of keeping")
    multiples = np.geomspace(0.01, 100, 401)  # of uniform evidence
    for width, colour in WIDTHS.items():
        within = multiples[multiples <= width]
        keep = excitation_keep_probability(_layer(within / width, width), BASE)[:, 0]
        axes_of_widths.plot(within, keep, color=colour, label=f"N = {width}")
    axes_of_widths.plot(1, BASE, "o", ms=5, color="black")
    axes_of_widths.set_xscale("log")
    label(axes_of_widths, f"P = {BASE}", "$p_{EB}$ in multiples of 1/N")
    for axes in (axes_of_bases, axes_of_widths):
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False, fontsize=8.5)


def _layer(evidence, width: int) -> np.ndarray:
    """Returns layers `[n, width]`: a neuron with the given evidence, and others of whatever."""
    return np.concatenate([evidence[:, None], np.zeros((len(evidence), width - 1))], axis=1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=FIGURES, help="folder of the figures")
    parser.add_argument("--smoke", action="store_true", help="the same: it takes seconds")
    options = parser.parse_args(arguments)
    sheet, axes = open_plots(7.4, 3.2, 2)
    draw(*axes)
    save(sheet, options.output, "5.2_keep_probability.png")


if __name__ == "__main__":
    main()
