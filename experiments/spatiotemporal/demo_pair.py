"""The authors' demo video, cliff diving and then horse riding, by a network that knows neither.

    python -m experiments.spatiotemporal.demo_pair
    python -m experiments.spatiotemporal.demo_pair --pictures /tmp/demo   # with frames, to look at
    python -m experiments.spatiotemporal.demo_pair --smoke                # 8 frames, writes nothing

There is no network here that was trained on UCF101, and from one clip of each action none can be.
What there is knows ImageNet's things: cliffs and coasts, horses. So the video is read by
SqueezeNet, its features averaged over frames, and asked for the classes that name such things; they
were chosen by name, before anything was looked at. cEB-R then says which frames the evidence comes
from. That is grounding in time of scenery and animals, by a network that cannot see what happens.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spatiotemporal.jhmdb_clips import DATA, LAST, make_cnn
from experiments.training.records import write_whole
from jaxground import maps, metrics
from jaxground.core import split
from jaxground.data.ucf101 import read_ucf101_demo
from jaxground.plots import Track, overlay_video, timeline
from jaxground.spatiotemporal import spatiotemporal_grounding

VIDEO = DATA / "ucf101_ebp_rnn_demos" / "ucf101_demos.npz"
OUTPUT = Path(__file__).with_name("demo_pair.json")
FIGURE = Path(__file__).with_name("figures") / "demo_pair.png"
TAP = "pool5"
ASKED = {  # ImageNet's classes, all alike
    "CliffDiving": ("cliff", "promontory", "seashore", "lakeside"),
    "HorseRiding": ("sorrel", "horse cart"),
}


def make_halves(cnn):
    """Returns SqueezeNet's two halves: frames to features, those of all frames to one answer.

    The mean over positions and frames comes before the classes. SqueezeNet's own comes after: then
    both the class and its dual unit give each frame the same mass, and contrast says nothing.
    """

    def features(frames):
        return split(cnn, frames, at=LAST).hidden.mean((1, 2))

    def classify(features):
        return features.mean(1) @ cnn.conv10.kernel[...][0, 0] + cnn.conv10.bias[...]

    return features, classify


def ask(names: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    """Returns the prior of some classes, all alike, `float32[classes]`, by their first names."""
    firsts = [each.split(",")[0] for each in classes]
    prior = np.zeros(len(classes), np.float32)
    prior[[firsts.index(name) for name in names]] = 1 / len(names)
    return prior


def area(values: np.ndarray, inside: np.ndarray) -> float:
    """Returns how often, in percent, a frame inside has more than one outside (ROC's area)."""
    more = values[inside][:, None] - values[~inside]
    return round(100 * float(((more > 0) + (more == 0) / 2).mean()), 1)


def measure(cnn, frames: np.ndarray, actions: tuple[str, ...]) -> tuple[dict, dict]:
    """Returns what was measured by action, and its maps and signal."""
    video = jnp.asarray(cnn.card.preprocess(frames, crop=False))
    features, classify = make_halves(cnn)
    priors = np.stack([ask(names, cnn.card.class_names) for names in ASKED.values()])
    probabilities = np.asarray(jax.jit(lambda x: jax.nn.softmax(cnn(x)))(video))

    def ground(video, priors):
        return [
            spatiotemporal_grounding(
                features,
                classify,
                video,
                priors[None, :, None],
                at=TAP,
                batch_size=16,
                contrastive=contrastive,
            )
            for contrastive in (True, False)
        ]

    found, plain = jax.device_get(jax.jit(ground)(video[None], priors))
    measured, shown = {}, {}
    for index, (action, names) in enumerate(ASKED.items()):
        inside = np.array([each == action for each in actions])
        start, end = np.flatnonzero(inside)[[0, -1]] + [0, 1]
        signal = found.signal[0, index]
        windows = {
            "known length": metrics.best_window(signal, length=int(end - start)),
            "unknown length": metrics.greedy_window(signal),
        }
        measured[action] = {
            "asked for": names,
            "frames": [int(start), int(end)],
            "peak": int(signal.argmax()),
            "windows": {name: np.asarray(each).tolist() for name, each in windows.items()},
            "overlaps": {
                name: round(float(metrics.temporal_iou(each, jnp.array([start, end]))), 3)
                for name, each in windows.items()
            },
            "ROC area, cEB-R": area(signal, inside),
            "ROC area, EB-R": area(plain.signal[0, index], inside),
            "ROC area, probability": {
                name: area(probabilities @ ask((name,), cnn.card.class_names), inside)
                for name in names
            },
            "mean probability inside and outside": [
                round(float((probabilities @ (priors[index] * len(names)))[where].mean()), 4)
                for where in (inside, ~inside)
            ],
            "share of positive frames inside and outside": [
                round(float((signal[where] > 0).mean()), 3) for where in (inside, ~inside)
            ],
            "signal": np.round(signal, 6).tolist(),
            "EB-R": np.round(plain.signal[0, index], 6).tolist(),
        }
        shown[action] = found.maps[0, index], signal, np.asarray(windows["unknown length"])
    return measured, shown


def draw(measured: dict, path: Path) -> None:
    """Writes both signals, and below each the frames that it should be positive in."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(6.5, 3.6), facecolor="white", layout="constrained")
    FigureCanvasAgg(sheet)
    for axes, (action, found) in zip(sheet.subplots(2, sharex=True), measured.items(), strict=True):
        axes.plot(found["signal"], color="tab:blue", lw=1.2)
        axes.axhline(0, color="0.4", lw=0.8)
        axes.axvspan(*found["frames"], color="tab:green", alpha=0.12, lw=0, label=action)
        axes.set(ylabel="sum of cEB-R", title=", ".join(found["asked for"]))
        axes.title.set_size(9)
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.set_xlabel("frame")
    path.parent.mkdir(exist_ok=True)
    sheet.savefig(path, dpi=110)


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON and the figure."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--pictures", type=Path, help="folder for key frames with maps")
    parser.add_argument("--smoke", action="store_true", help="8 frames, writes nothing")
    options = parser.parse_args()
    video = read_ucf101_demo(VIDEO)
    frames, actions = video.frames, video.actions
    if options.smoke:
        frames, actions = frames[::16], actions[::16]
    measured, shown = measure(make_cnn(), frames, actions)
    for action, found in measured.items():
        print(
            action,
            json.dumps({k: v for k, v in found.items() if k not in ("signal", "EB-R")}, indent=1),
        )
    if options.smoke:
        return
    write_whole(OUTPUT, json.dumps(measured, indent=1) + "\n")
    draw(measured, FIGURE)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for action, (found, signal, window) in shown.items():
            large = np.asarray(maps.resize(found, (frames.shape[1], frames.shape[2])))
            track = Track(action, overlay_video(frames, np.maximum(large, 0)), signal, window)
            truth = measured[action]["frames"]
            timeline([track], options.pictures / f"{action}.png", truth=truth)


if __name__ == "__main__":
    main()
