"""Sanity figure: does an explanation change when the network loses what it has learnt?

    python -m experiments.sanity --weights ../shared/data/weights/squeezenet1_1.safetensors \
        --images ../shared/data/imagenet_sample_500/images
    python -m experiments.sanity --smoke      # the embedded network and its photograph, seconds

Layers are randomised one after another from the output down (Adebayo et al., "Sanity Checks for
Saliency Maps", NeurIPS 2018), each by a draw of the network's own initialiser, as published, or
(`--draw shuffled`) by putting its own weights in random order. Explained is the class that the
trained network predicts. Published: guided backprop stays similar to itself where the gradient
does not. Dear methods are checked on fewer photographs, with fewer masks. Writes `metrics.json` and
`cascade.png` (a curve per method) into `--output`, where README.md says what was measured; and, if
asked, what the maps of the first photograph become. Methods that `metrics.json` has, with the same
photographs and draw, are not checked again.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import jaxground
from jaxground import attribution, core, data, metrics, models
from jaxground.evaluation.summary import CONFIDENCE, resamples

PARTS = {  # from the output down; a fire module loses its three convolutions at once
    "squeezenet1_1": ("conv10", *(f"fire{i}" for i in range(9, 1, -1)), "conv1"),
    "compact_vgg": (),  # every layer
}
MIDDLE = {"squeezenet1_1": "fire5", "compact_vgg": "pool2"}  # where EB is read, besides its best


class Check(NamedTuple):
    """What is checked: `explain(model, images, targets)`, on how many photographs at most."""

    explain: Callable[..., Any]
    photographs: int = sys.maxsize


def methods(model: models.Network) -> dict[str, Check]:
    """Returns what is compared, dear ones on fewer photographs."""
    ground, last, middle = model.card.ground_at, model.card.cam_at, MIDDLE[model.card.name]
    at, key = functools.partial, jax.random.key(0)
    contrastive = attribution.contrastive_excitation_backprop
    return {
        "gradient": Check(attribution.gradient),
        "guided backprop": Check(attribution.guided_backprop),
        "integrated gradients, 10 steps": Check(at(attribution.integrated_gradients, steps=10), 4),
        f"EB at {middle}": Check(at(attribution.excitation_backprop, at=middle)),
        f"Grad-CAM at {last}": Check(at(attribution.grad_cam, at=last)),
        "occlusion, 49 squares": Check(at(attribution.occlusion, window=32, stride=32), 4),
        "deconvnet": Check(attribution.deconvnet),
        "LRP z+": Check(at(attribution.lrp, rules=core.z_plus())),
        "LRP epsilon": Check(attribution.lrp),
        f"contrastive EB at {middle}": Check(at(contrastive, at=middle)),
        "input x gradient": Check(attribution.input_x_gradient),
        f"EB at {ground}": Check(at(attribution.excitation_backprop, at=ground)),
        f"Layer-CAM at {last}": Check(at(attribution.layer_cam, at=last)),
        f"guided Grad-CAM at {last}": Check(at(attribution.guided_grad_cam, at=last)),
        "nothing (a constant map)": Check(lambda f, images, targets: jnp.ones(images.shape[:3])),
        "SmoothGrad, 10 samples": Check(
            at(attribution.smooth_grad(attribution.gradient, samples=10), key=key), 4
        ),
        "RISE, 200 masks": Check(at(attribution.rise, masks=200, key=key), 4),
        f"Score-CAM at {last}": Check(at(attribution.score_cam, at=last), 2),
        "extremal perturbation, 150 steps": Check(
            at(attribution.extremal_perturbation, areas=(0.1,), steps=150), 1
        ),
    }


def check(explain, model, images, targets, drawn, parts) -> metrics.Randomisation:
    """Returns the cascade, compiled once with the weights as arguments."""
    cascade = jax.jit(
        lambda model, drawn, images, targets: metrics.cascading_randomisation(
            explain, model, images, targets, random=drawn, layers=parts
        )
    )
    return cascade(model, drawn, images, targets)


def summarise(similarity: metrics.Similarity) -> dict[str, Any]:
    """Returns means over photographs by stage, and one of all stages with its interval."""
    found = {
        measure: np.asarray(values, np.float64).mean(1).round(4).tolist()
        for measure, values in similarity._asdict().items()
    }
    each = np.asarray(similarity.absolute_spearman, np.float64)[1:].mean(0)  # of a photograph
    means = resamples(len(each)) @ each / len(each)
    tail = (1 - CONFIDENCE) / 2
    interval = [float(np.quantile(means, share)) for share in (tail, 1 - tail)]
    found["mean"] = {"value": float(each.mean()), "interval": interval, "each": each.tolist()}
    return found


def draw_curves(scores: dict[str, dict[str, list[float]]], parts, file: Path) -> None:
    """Draws mean similarity against what has been randomised, one panel per measure."""
    sheet = Figure(figsize=(15, 5.5), layout="constrained")
    FigureCanvasAgg(sheet)
    titles = {
        "spearman": "rank correlation",
        "absolute_spearman": "rank correlation of absolute values",
        "ssim": "structural similarity",
    }
    styles = ("-", "--", ":", "-.")
    for axes, (measure, title) in zip(
        sheet.subplots(1, 3, sharey=True), titles.items(), strict=True
    ):
        for i, (name, values) in enumerate(scores.items()):
            axes.plot(values[measure], styles[i // 7], color=f"C{i % 7}", label=name, marker=".")
        axes.set_xticks(range(len(parts) + 1), ["trained", *parts], rotation=60, ha="right")
        axes.set(title=title, xlabel="randomised down to", ylim=(-0.25, 1.05))
        axes.grid(alpha=0.3)
    sheet.axes[0].set_ylabel("similarity to the map of the trained network")
    sheet.legend(*sheet.axes[0].get_legend_handles_labels(), loc="outside right upper")
    sheet.savefig(file, dpi=110)


def already(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the similarities that a file has, if they were measured with these settings."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text())
    return found.pop("similarity") if settings == {k: found[k] for k in settings} else {}


def draw_maps(maps: dict[str, np.ndarray], parts, photograph: np.ndarray, file: Path) -> None:
    """Draws the maps of one photograph, a row per method, a column per stage."""
    shown = np.unique(np.linspace(0, len(parts), min(7, len(parts) + 1)).astype(int))
    sheet = Figure(figsize=(1.6 * len(shown) + 1.6, 1.62 * len(maps)), layout="constrained")
    FigureCanvasAgg(sheet)
    grid = sheet.subplots(len(maps), len(shown) + 1, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for row, (name, stages) in zip(grid, maps.items(), strict=True):
        row[0].imshow(photograph)
        row[0].set_ylabel(name.replace(" at ", "\nat ").replace(" (", "\n("), fontsize=8)
        for axes, stage in zip(row[1:], shown, strict=True):
            values = np.nan_to_num(stages[stage].astype(np.float32))
            top = np.quantile(values, 0.99)  # a few pixels of a gradient outshine all others
            axes.imshow(values, cmap="inferno", vmin=values.min(), vmax=max(top, values.min()))
    for axes, stage in zip(grid[0, 1:], shown, strict=True):
        axes.set_title("trained" if stage == 0 else f"to {parts[stage - 1]}", fontsize=8)
    sheet.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", help="of SqueezeNet 1.1; without, the embedded network")
    parser.add_argument("--images", type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=8, help="photographs, evenly from the folder")
    parser.add_argument("--draw", choices=("initialiser", "shuffled"), default="initialiser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument(
        "--smoke", action="store_true", help="two methods, seconds; writes elsewhere"
    )
    parser.add_argument("--output", type=Path, default=Path("experiments/sanity"))
    parser.add_argument("--maps", type=Path, help="a picture of the first photograph's maps")
    options = parser.parse_args()

    name = "squeezenet1_1" if options.weights else "compact_vgg"
    model = models.create(name, weights=options.weights or "embedded")
    if options.draw == "shuffled":
        drawn = metrics.shuffled(model, jax.random.key(options.seed))
    else:
        drawn = models.create(name, seed=options.seed)
    files = [data.example_photograph()]
    if options.images:
        everything = sorted(p for p in options.images.iterdir() if p.is_file())
        files = everything[:: max(1, len(everything) // options.count)][: options.count]
    photographs = [data.read_image(file) for file in files]
    images = jnp.asarray(np.stack([model.preprocess(photo) for photo in photographs]))
    targets = jax.jit(lambda model, x: model(x).argmax(-1))(model, images)
    parts = PARTS[name] or metrics.layers(model, images)
    table = {n: m for n, m in methods(model).items() if options.only in n}
    if options.smoke:
        table = {n: table[n] for n in ("gradient", "guided backprop")}
        options.output = Path(tempfile.mkdtemp())

    cropped = np.asarray(images[0] - images[0].min()) / float(np.ptp(np.asarray(images[0])))
    suffix = "" if options.draw == "initialiser" else "_shuffled"
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {
        "jaxground": jaxground.__version__,
        "network": name,
        "photographs": [file.name for file in map(Path, files)],
        "draw": options.draw,
        "seed": options.seed,
        "parts": list(parts),
    }
    written = options.output / f"metrics{suffix}.json"
    scores = already(written, settings)
    examples = {}
    for method, (explain, count) in table.items():
        if method in scores and not options.maps:
            continue
        start = time.perf_counter()
        found = check(explain, model, images[:count], targets[:count], drawn, parts)
        scores[method] = summarise(found.similarity)
        examples[method] = np.asarray(found.maps[:, 0])
        mean, rest = scores[method]["mean"], scores[method]["absolute_spearman"]
        low, high = mean["interval"]
        print(
            f"{method:32s} absolute rank correlation: half way {rest[len(parts) // 2]:5.2f}, "
            f"in the end {rest[-1]:5.2f}, mean {mean['value']:5.2f} [{low:.2f}, {high:.2f}], "
            f"{len(mean['each'])} photographs ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
        # After every method: what is done is not lost.
        written.write_text(json.dumps({**settings, "similarity": scores}, indent=1) + "\n")
        draw_curves(scores, parts, options.output / f"cascade{suffix}.png")
        if options.maps:
            draw_maps(examples, parts, cropped, options.maps)


if __name__ == "__main__":
    main()
