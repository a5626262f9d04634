"""Where and when, on clips of which both are known exactly: tables 7.1 to 7.3 in small.

    python -m experiments.spatiotemporal.moving_scenes           # 200 clips, minutes of a core
    python -m experiments.spatiotemporal.moving_scenes --smoke   # 8 clips, writes nothing

The network is the one that ships. Asked for is the true event, at the last step. In space: of the
frames of the event, in how many does the map's peak lie on the actor? In time: does the peak of
the signal lie in the event? And how well does the greedy window overlap with it? Intervals are
bootstrap, 95 %, over clips. Chance is a random pixel of a random frame, and the whole clip.

Where frames differ, something moves: "frame difference" knows no class, and says how hard the
clips are.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spatiotemporal.explainers import SIGNED, make_explainers
from experiments.spatiotemporal.intervals import interval, table
from jaxground import maps, metrics, models
from jaxground.data.moving_scenes import MovingScenes, draw_clips

SCENES, SEED, BATCH = MovingScenes(), 0, 50
OUTPUT = Path(__file__).with_name("moving_scenes.json")
TOLERANCE = 0  # masks are exact
COLUMNS = "space", "time", "overlap"


def measure(explain, video, targets, masks, times) -> dict:
    """Returns scores of each clip: `[batch]` by name."""
    found, signal = explain(video, targets)
    length = video.shape[1]
    inside = metrics.frames_inside(times[:, None], length=length)
    actor = masks & inside[..., None, None]
    large = maps.resize(found, masks.shape[-2:])
    windows = metrics.greedy_window(signal)
    return {
        "space": metrics.video_pointing_game(large, actor, tolerance=TOLERANCE).mean,
        "time": metrics.temporal_pointing_game(signal, inside),
        "overlap": metrics.temporal_iou(windows, times),
    }


def measure_all(model, at: str, indices: range, seed: int) -> dict:
    """Returns scores of all explainers, `[mean, low, high]` in percent by name and metric."""
    gathered: dict = {}
    answers, chance, late, times = [], [], [], []

    def classify_frames(frames):
        return model(frames[:, None])[:, 0]

    explainers = make_explainers(model.features, model.classify, classify_frames, at=at)
    programs = {
        name: jax.jit(functools.partial(measure, explain)) for name, explain in explainers.items()
    }
    classify = jax.jit(lambda video: model(video)[:, -1].argmax(-1))
    for start in range(indices.start, indices.stop, BATCH):
        part = range(start, min(start + BATCH, indices.stop))
        clips = draw_clips(SCENES, part, seed=seed)
        video = model.card.preprocess(clips.frames.reshape(-1, *clips.frames.shape[2:]))
        video = jnp.asarray(video.reshape(*clips.frames.shape[:2], *video.shape[1:]))
        masks = clips.masks[:, 0]
        answers.append(np.asarray(classify(video)) == clips.labels)
        inside = np.asarray(metrics.frames_inside(clips.times[:, None], length=video.shape[1]))
        shown = masks.any((2, 3)) & inside
        chance.append((masks.mean((2, 3)) * shown).sum(1) / shown.sum(1))
        times.append(clips.times)
        late.append(inside.mean(1))
        for name, program in programs.items():
            scores = program(video, clips.labels, masks, clips.times)
            for metric, values in scores.items():
                gathered.setdefault(name, {}).setdefault(metric, []).append(np.asarray(values))
    rows = {
        name: {metric: interval(np.concatenate(v)) for metric, v in scores.items()}
        for name, scores in gathered.items()
    }
    rows["probability"]["space"] = None  # it has no maps
    for name in rows.keys() - set(SIGNED):
        rows[name]["overlap"] = None
    found = metrics.temporal_iou(np.array([[0, SCENES.frames]]), np.concatenate(times))
    expected = {
        "space": interval(np.concatenate(chance)),
        "overlap": interval(np.asarray(found)),
    }
    rows["chance"] = expected | {"time": interval(np.concatenate(late))}
    right = round(100 * float(np.concatenate(answers).mean()), 1)
    return {"tap": at, "clips": len(indices), "accuracy": right, "scores": rows}


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--taps", nargs="+", default=["conv1", "conv2"])
    parser.add_argument("--weights", default="embedded")
    parser.add_argument("--smoke", action="store_true", help="8 clips, writes nothing")
    options = parser.parse_args()
    model = models.create("compact_lrcn", options.weights)
    clips, taps = (8, ["conv2"]) if options.smoke else (options.clips, options.taps)
    results = []
    for tap in taps:
        results.append(measure_all(model, tap, range(clips), SEED))
        found = results[-1]
        print(f"tap {tap}, {found['clips']} clips, accuracy {found['accuracy']} %\n")
        print(table(found["scores"], COLUMNS), flush=True)
        if not options.smoke:
            OUTPUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
