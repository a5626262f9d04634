"""Where and when on J-HMDB, beside the thesis's numbers: tables 7.1 to 7.3 and figure 7.6.

    python -m experiments.spatiotemporal.train_jhmdb --output runs/jhmdb
    python -m experiments.spatiotemporal.jhmdb --networks runs/jhmdb
    python -m experiments.spatiotemporal.jhmdb --smoke --networks /tmp/smoke   # untrained

Intervals are bootstrap, 95 %, over the source videos of the test clips, for clips of one video are
alike. Orders of methods are judged by the intervals of their differences, clip by clip. Results
are written after every part; `--parts` measures some of them anew. What is measured on pixels is
kept clip by clip beside the networks: stopped, the same command goes on.
"""

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flax import nnx

from experiments.spatiotemporal import jhmdb_space, jhmdb_time
from experiments.spatiotemporal.intervals import interval, table, verdict
from experiments.spatiotemporal.jhmdb_clips import (
    LOOK,
    ActionReader,
    compute_features,
    load_reader,
    make_cnn,
    read_clips,
)
from experiments.spatiotemporal.jhmdb_order import make_answer, measure_order
from experiments.training.records import claim, resume_records, write_whole
from jaxground.weights import sha256

OUTPUT = Path(__file__).with_name("jhmdb.json")
FIGURE = Path(__file__).with_name("figures") / "jhmdb_halves.png"
PLACES = {f"{inside} of {length}": (length, inside) for length, inside in jhmdb_time.PLACES}
PARTS = "order", "halves", *PLACES, "space", "both"
# What the thesis found: the first above the second, in which metric.
ORDERS = {
    "space": [
        ("EB-R", "EB by frame"),
        ("cEB-R", "cEB by frame"),
        ("BP-R", "BP by frame"),
        ("EB-R", "cEB-R"),
        ("EB by frame", "cEB by frame"),
    ],
    "known": [("cEB-R", "EB-R"), ("EB-R", "thresholded probability")],
    "unknown": [("cEB-R", "thresholded probability")],
    "pointing": [
        ("cEB-R", "chance"),
        ("probability + cEB-R", "probability"),
        ("probability + cEB-R", "cEB-R"),
    ],
}


def summarise(scores: dict, groups: np.ndarray, orders: dict) -> dict:
    """Returns intervals by method and metric, and what they say of orders, by metric."""
    rows = {
        name: {metric: interval(values, groups) for metric, values in of_method.items()}
        for name, of_method in scores.items()
    }
    judged = {}
    for metric, pairs in orders.items():
        for more, less in pairs:
            difference = interval(scores[more][metric] - scores[less][metric], groups)
            judged[f"{metric}: {more} above {less}"] = [*difference, verdict(difference)]
    return {"scores": rows, "orders": judged}


def measure_each(clips: list, measure: Callable, path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Returns scores by method and metric of all clips; those in `path` are not measured again."""
    found = [each["scores"] for each in resume_records(path)]
    with path.open("a") as file:
        for number, clip in enumerate(clips[len(found) :], len(found)):
            found.append(measure(number, clip))
            file.write(json.dumps({"clip": clip.key, "scores": found[-1]}) + "\n")
            file.flush()
    return {
        name: {metric: np.array([clip[name][metric] for clip in found]) for metric in metrics}
        for name, metrics in found[0].items()
    }


def measure_space(networks, clips, folder: Path) -> dict:
    """Returns table 7.1."""
    program = jhmdb_space.make_program(networks, jhmdb_space.TABLE)

    def measure(number, clip):
        return jhmdb_space.measure_clip(program, networks[0], clip, number)

    scores = measure_each(clips, measure, folder / "space.jsonl")
    orders = {metric: ORDERS["space"] for metric in ("box", "pixels")}
    groups = np.array([clip.group for clip in clips])
    return {"clips": len(clips), **summarise(scores, groups, orders)}


def measure_both(networks, clips, folder: Path) -> dict:
    """Returns whether the one peak of a spliced clip is right in time, and in space and time."""
    program = jhmdb_space.make_program(networks, jhmdb_space.BOTH)
    labels = np.array([clip.label for clip in clips])

    def measure(number, clip):
        others = np.flatnonzero(labels != clip.label)
        other = clips[np.random.default_rng(number).choice(others)]
        first = number % 2 == 0
        return jhmdb_space.measure_both(program, networks[0], clip, other, first, number)

    scores = measure_each(clips, measure, folder / "both.jsonl")
    orders = {"where and when": [("cEB-R", "EB-R"), ("cEB-R", "chance")]}
    groups = np.array([clip.group for clip in clips])
    return {"clips": len(clips), **summarise(scores, groups, orders)}


def measure_place(signals, features, length: int, inside: int) -> dict:
    """Returns tables 7.2 and 7.3 for one number of frames of all and of the action."""
    scores, means, groups = jhmdb_time.measure_place(features, signals, length, inside)
    orders = {metric: ORDERS[metric] for metric in ("known", "unknown", "pointing")}
    return {"clips": len(groups), **summarise(scores, groups, orders), "mAP": means}


def draw_halves(halves: dict, path: Path) -> None:
    """Writes figure 7.6: the mean signal over spliced clips, and its deviation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(5.5, 3), facecolor="white", layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.add_subplot()
    colours = {"action, then another": "tab:green", "another, then the action": "tab:blue"}
    for name, of_order in halves.items():
        mean, deviation = np.array(of_order["mean"]), np.array(of_order["deviation"])
        time = np.arange(len(mean))
        axes.plot(time, mean, color=colours[name], label=name, marker="o", markersize=3)
        axes.fill_between(
            time, mean - deviation, mean + deviation, color=colours[name], alpha=0.15, lw=0
        )
    axes.axhline(0, color="0.4", lw=0.8)
    axes.axvline(7.5, color="0.4", lw=0.8, ls=":")
    axes.set(xlabel="frame", ylabel="sum of cEB-R")
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(exist_ok=True)
    sheet.savefig(path, dpi=110)


def show(results: dict) -> None:
    """Prints what was measured, as Markdown."""
    for name, found in results.items():
        if "scores" not in found:
            continue
        columns = list(dict.fromkeys(metric for row in found["scores"].values() for metric in row))
        print(f"\n{name}, {found['clips']} clips\n\n{table(found['scores'], columns)}\n")
        for order, (mean, low, high, said) in found["orders"].items():
            print(f"- {order}: {mean} ({low} to {high}), {said}")


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON and the figure."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--networks", type=Path, required=True, help="from train_jhmdb")
    parser.add_argument("--kind", default="relu", choices=("relu", "tanh"))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--smoke", action="store_true", help="few clips, untrained, no results")
    options = parser.parse_args()
    kinds = options.kind, "frame"
    weights = {kind: options.networks / f"{LOOK}-{kind}.safetensors" for kind in kinds}
    missing = [path for path in weights.values() if not path.is_file()]
    if missing and not options.smoke:
        parser.error(f"there is no {missing[0]}: train_jhmdb writes it")
    clips, classes = read_clips(12 if options.smoke else None)
    features = compute_features(clips, LOOK, options.networks)
    tested = [clip for clip in clips if clip.is_test]
    readers = [
        ActionReader(kind, len(classes), rngs=nnx.Rngs(0))
        if options.smoke
        else load_reader(weights[kind], kind, len(classes))
        for kind in kinds
    ]
    networks = make_cnn(), *readers
    signals = jhmdb_time.make_signals(*readers)
    some = tested[:2] if options.smoke else tested
    folder = options.networks / f"{options.kind}-pointing"
    digests = {kind: "untrained" if options.smoke else sha256(weights[kind]) for kind in kinds}
    claim(folder, digests)  # scores that are kept there are of these networks
    parts = {
        "order": lambda: measure_order(tested, make_answer(networks[0], readers[0])),
        "halves": lambda: jhmdb_time.measure_halves(features, signals),
        "space": lambda: measure_space(networks, some, folder),
        "both": lambda: measure_both(networks, some, folder),
    }
    for name, place in PLACES.items():
        parts[name] = functools.partial(measure_place, signals, features, *place)
    path = OUTPUT if options.kind == "relu" else OUTPUT.with_name("jhmdb_tanh.json")
    results = {}
    for name in options.parts:
        results[name] = parts[name]()
        show({name: results[name]})
        if not options.smoke:
            before = json.loads(path.read_text()) if path.exists() else {}
            write_whole(path, json.dumps(before | {name: results[name]}, indent=1) + "\n")
    if "halves" in options.parts and options.kind == "relu" and not options.smoke:
        draw_halves(results["halves"], FIGURE)


if __name__ == "__main__":
    main()
