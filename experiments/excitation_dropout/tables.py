r"""Prints tables 5.1, 5.2, 5.3 and 5.5 from runs of `train.py`, with the thesis's numbers beside.

    python -m experiments.excitation_dropout.tables runs/reduced --beside cifar10

Intervals are of the mean over seeds: 95 %, Student's t. Differences are paired: runs of one seed
begin with the same weights and see the same images in the same order. Table 5.4, of run time, is
printed by `experiments/bench/dropout.py`.
"""

import argparse
import json
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text())
BASE = 0.5  # probability of keeping a neuron in all tables but 5.5
NAMES = {
    "none": "no dropout",
    "standard": "standard, mask per image",
    "standard_batch": "standard, mask per batch",
    "curriculum": "curriculum",
    "standout": "adaptive (standout)",
    "excitation": "excitation, rescale mean (authors' 2023)",
    "excitation_none": "excitation, no rescale (authors' 2019)",
    "excitation_unit": "excitation, rescale per unit",
}
UTILISATION = {
    "neurons_on": "neurons on",
    "peak_evidence": "peak p_EB",
    "activation_entropy": "entropy of activations",
    "evidence_entropy": "entropy of p_EB",
    "conservative_filters": "conservative filters",
    "filter_change": "mean change of a filter",
}


def read_results(folder: Path) -> dict[tuple[str, float], dict[int, dict]]:
    """Returns the results of a folder of runs: `{(scheme, rate): {seed: metrics}}`.

    One that is torn is left out with a warning.
    """
    found = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text())
        except ValueError as error:
            again = "delete it, and train.py writes it again from the run's last checkpoint"
            warnings.warn(f"{path} is left out, it is torn ({error}): {again}", stacklevel=2)
            continue
        if "scheme" in result:  # not the recipe
            found[result["scheme"], result["rate"]][result["seed"]] = result
    return dict(found)


def rate_of(scheme: str, base: float) -> float:
    """Returns the rate at which a scheme is compared: excitation dropout's base, else a half."""
    return base if scheme.startswith("excitation") else BASE


def interval(values) -> tuple[float, float]:
    """Returns mean and half-width of its 95 % interval (Student's t; infinite for one value)."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("inf")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(error * stats.t.ppf(0.975, len(values) - 1))


def shown(values, digits: int = 2) -> str:
    mean, half = interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if np.isfinite(half) else f"{mean:.{digits}f}"


def row(*cells) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells) -> list[str]:
    return [row(*cells), row(*("---" for _ in cells))]


def published_accuracies(beside: str) -> dict[str, float]:
    """Returns what the thesis reports for a data set or network, by scheme."""
    if beside in PUBLISHED["5.2"]:
        return PUBLISHED["5.2"][beside]
    rates = PUBLISHED["5.5"][beside]
    return PUBLISHED["5.1"][beside] | {name: of["0.5"] for name, of in rates.items()}


def table_of_schemes(results, beside: str, base: float = BASE) -> list[str]:
    """Returns tables 5.1 and 5.2 in one: test accuracy of every scheme, and its difference."""
    lines = head(
        "scheme", "seeds", "test accuracy %", "minus standard, paired", f"thesis, {beside}"
    )
    published, standard = published_accuracies(beside), results.get(("standard", BASE), {})
    for scheme, name in NAMES.items():
        if not (runs := results.get((scheme, rate_of(scheme, base)))):
            continue
        accuracies = {seed: 100 * run["accuracy"] for seed, run in runs.items()}
        both = sorted(set(runs) & set(standard))
        change = [accuracies[seed] - 100 * standard[seed]["accuracy"] for seed in both]
        lines.append(
            row(
                name,
                len(runs),
                shown(list(accuracies.values())),
                shown(change) if both and scheme != "standard" else "",
                published.get(scheme.partition("_")[0], ""),
            )
        )
    return lines


def table_of_utilisation(results, beside: str, base: float = BASE) -> list[str]:
    """Returns table 5.3: how the layer is used; the thesis's in brackets."""
    found = {scheme: results.get((scheme, rate_of(scheme, base))) for scheme in NAMES}
    if not (schemes := [scheme for scheme, runs in found.items() if runs]):
        return [f"No run of rate {BASE} has ended."]
    published = PUBLISHED["5.3"].get(beside, {})
    neurons = next(iter(found[schemes[0]].values()))["neurons"]
    lines = head(f"of {neurons} neurons (thesis: {published.get('neurons', '-')})", *schemes)
    for metric, name in UTILISATION.items():
        cells = []
        for scheme in schemes:
            values = [run[metric] for run in found[scheme].values()]
            beside_it = published.get(metric, {}).get(scheme)
            digits = 4 if metric in ("peak_evidence", "filter_change") else 2
            cells.append(shown(values, digits) + (f" ({beside_it})" if beside_it else ""))
        lines.append(row(name, *cells))
    return lines


def table_of_rates(results, beside: str, base: float = BASE) -> list[str]:
    """Returns table 5.5: accuracy at each dropout rate; the thesis's in brackets."""
    del base  # of all
    rates = sorted({rate for scheme, rate in results if scheme.startswith("excitation")})[::-1]
    lines = head("scheme", *(f"dropout {1 - rate:g}" for rate in rates))
    published = PUBLISHED["5.5"].get(beside, {})
    for scheme, name in NAMES.items():
        cells = []
        for rate in rates:
            runs = results.get((scheme, rate), {})
            accuracy = shown([100 * run["accuracy"] for run in runs.values()]) if runs else ""
            beside_it = published.get(scheme, {}).get(f"{1 - rate:g}")
            cells.append(accuracy + (f" ({beside_it})" if beside_it and runs else ""))
        if sum(map(bool, cells)) > 1:
            lines.append(row(name, *cells))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where train.py wrote")
    known = [*PUBLISHED["5.1"], *PUBLISHED["5.2"]]
    parser.add_argument("--beside", default="cifar10", choices=known, help="of the thesis")
    help = "of excitation dropout in tables 5.1 to 5.3; the others keep a half"
    parser.add_argument("--base", type=float, default=BASE, help=help)
    options = parser.parse_args()
    results = read_results(options.folder)
    if not results:
        parser.error(f"{options.folder} has no results yet: train.py writes one when a run ends")
    for number, table in (
        ("5.1 and 5.2: schemes", table_of_schemes),
        ("5.3: utilisation", table_of_utilisation),
        ("5.5: rates", table_of_rates),
    ):
        print(f"\n### {number}\n", *table(results, options.beside, options.base), sep="\n")


if __name__ == "__main__":
    main()
