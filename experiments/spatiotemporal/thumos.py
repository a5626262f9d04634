"""When, on THUMOS 2014: tables 7.3 and 7.4 of the thesis, for who has its films and a network.

    python -m experiments.spatiotemporal.thumos --annotations TH14_Temporal_annotations_test \
        --videos TH14_test_set_mp4 --network my_package.my_module:make --output runs/thumos

The network is what a function of yours without arguments returns, an `ActionNetwork`. A video is
cut into consecutive clips of 128 frames, and asked in each, at the last step, for each class that
is annotated in it. Table 7.3: of the clips with frames of the class, in how many does the signal's
peak lie in one? Table 7.4: the greedy windows of all clips are detections, scored by THUMOS's own
rules. How the thesis merges clips, which scores it gives detections, and how it combines
probability and evidence is not said: here a detection has the class's mean probability in its
clip, and the combination is the sum of both, each stretched to 0..1.

What was measured of a video is kept in the output folder: stopped, the same command goes on. (After
training the network again give another folder: the function is known by its name alone.)
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spatiotemporal.intervals import interval, table
from experiments.spatiotemporal.jhmdb_time import rescaled
from experiments.spatiotemporal.networks import ActionNetwork, load
from experiments.training.records import claim, resume_records, write_whole
from jaxground import metrics
from jaxground.data import ActionIntervals, frame_rate, read_chunks, read_thumos14
from jaxground.data.thumos import CATEGORIES as CLASSES
from jaxground.spatiotemporal import class_probability, spatiotemporal_grounding

CLIP, BATCH = 128, 16  # frames of a clip, and those that the CNN reads at once
THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5  # of overlap; the thesis has 0.1
POINTING = "cEB-R", "EB-R", "probability", "probability + cEB-R"
THESIS = {"random": 57.3, "probability": 65.8, "cEB-R": 65.1, "probability + cEB-R": 77.4}


class Question(NamedTuple):
    """A class that is asked for in a clip."""

    signals: dict[str, np.ndarray]  # float[CLIP], NaN beyond the video's end
    confidence: float
    inside: np.ndarray  # bool[CLIP], when the action happens
    start: int  # frames of the video before the clip
    label: int


def find_videos(names: tuple[str, ...], folder: Path) -> dict[str, Path]:
    """Returns the film, or folder of frames, of each name.

    Raises:
      SystemExit: Some are missing.
    """
    there = {path.stem if path.is_file() else path.name: path for path in sorted(folder.iterdir())}
    missing = [name for name in names if name not in there]
    if missing:
        raise SystemExit(
            f"{folder} lacks {len(missing)} of {len(names)} videos, {missing[0]} is the first: "
            "each must be there as a film or a folder of frames"
        )
    return {name: there[name] for name in names}


def make_programs(network: ActionNetwork) -> tuple[Callable, Callable]:
    """Returns compiled functions from frames to features, and from features to signals.

    The second takes features `[CLIP, width]`, classes `int[k]` and the number of frames that are
    no padding, and returns signals `[k, CLIP]` by name and confidences `[k]`.
    """

    def ground(features, targets, length, contrastive):
        return spatiotemporal_grounding(
            lambda frames: frames[:, 0, 0],
            network.classify,
            features[None, :, None, None],
            targets[None],
            contrastive=contrastive,
            at=None,
            lengths=length[None],
        ).signal[0]

    @jax.jit
    def ask(features, targets, length):
        inside = jnp.arange(CLIP) < length
        said = class_probability(network.classify(features[None]), targets[None])[0]
        said = jnp.where(inside, said, 0)
        signals = {
            "cEB-R": ground(features, targets, length, True),
            "EB-R": ground(features, targets, length, False),
            "probability": said,
        }
        masked = {name: jnp.where(inside, each, jnp.nan) for name, each in signals.items()}
        masked["probability + cEB-R"] = rescaled(masked["probability"]) + rescaled(masked["cEB-R"])
        return masked, said.sum(1) / length

    return jax.jit(network.features), ask


def read_features(network: ActionNetwork, program: Callable, frames: np.ndarray) -> np.ndarray:
    """Returns features `[CLIP, width]` of a clip of as many frames or fewer, zeros beyond them."""
    parts = []
    for first in range(0, len(frames), BATCH):
        some = frames[first : first + BATCH]
        padded = np.concatenate([some, np.repeat(some[-1:], BATCH - len(some), 0)])
        parts.append(np.asarray(program(network.preprocess(padded)))[: len(some)])
    features = np.concatenate(parts)
    return np.pad(features, [(0, CLIP - len(features)), (0, 0)])


def ask_video(network, programs, path: Path, windows, labels, rate: float) -> Iterator[Question]:
    """Yields what is asked of a video: every class that is annotated, in every clip.

    Args:
      network: The network.
      programs: From `make_programs`.
      path: A film or a folder of frames.
      windows: When actions happen, `float[m, 2]` in seconds.
      labels: Which, `int[m]`, none of them ambiguous.
      rate: Frames a second.
    """
    classes = np.unique(labels)
    places = [network.class_names.index(CLASSES[label]) for label in classes]
    for number, frames in enumerate(read_chunks(path, length=CLIP)):
        start = number * CLIP
        features = read_features(network, programs[0], frames)
        signals, confidence = jax.device_get(
            programs[1](features, jnp.array(places), jnp.int32(len(frames)))
        )
        for row, label in enumerate(classes):
            there = windows[labels == label] * rate - start
            inside = np.asarray(metrics.frames_inside(there, length=CLIP))
            inside = inside & (np.arange(CLIP) < len(frames))
            of_class = {name: each[row] for name, each in signals.items()}
            yield Question(of_class, float(confidence[row]), inside, start, int(label))


def score(questions: list[Question], rate: float) -> dict:
    """Returns the hits of each clip in which an action happens, and the detections of a video."""
    hits: dict[str, list[float]] = {name: [] for name in (*POINTING, "random")}
    for question in questions:
        length = np.isfinite(question.signals["probability"]).sum()
        if question.inside.any() and length > 1:  # one frame has no peak
            for name in POINTING:
                hit = metrics.temporal_pointing_game(question.signals[name], question.inside)
                hits[name].append(float(hit))
            hits["random"].append(float(question.inside.sum() / length))
    detections = []
    for question in questions:
        start, end = np.asarray(metrics.greedy_window(question.signals["cEB-R"])).tolist()
        if end > start:
            seconds = [round((question.start + frame) / rate, 3) for frame in (start, end)]
            detections.append([*seconds, round(question.confidence, 6), question.label])
    return {"hits": hits, "detections": detections}


def measure(network: ActionNetwork, known: ActionIntervals, videos: dict[str, Path],
            path: Path, rate: float | None) -> list[dict]:  # fmt: skip
    """Returns the scores of all videos; those in `path` are not measured again."""
    programs = make_programs(network)
    found = resume_records(path)
    with path.open("a") as file:
        done = {row["video"] for row in found}
        for number, (name, video) in enumerate(videos.items()):
            if name in done:
                continue
            mine = (known.videos == known.names.index(name)) & (known.labels >= 0)
            frames_a_second = rate if video.is_dir() and rate else frame_rate(video)
            asked = ask_video(
                network, programs, video, known.windows[mine], known.labels[mine], frames_a_second
            )
            found.append({"video": name, **score(list(asked), frames_a_second)})
            file.write(json.dumps(found[-1]) + "\n")
            file.flush()
            print(f"{number + 1} of {len(videos)}: {name}", flush=True)
    return found


def summarise(found: list[dict], known: ActionIntervals) -> dict:
    """Returns both tables: intervals over videos, and mean average precision in percent."""
    if not any(row["hits"]["random"] for row in found):
        raise SystemExit("no clip of these videos has frames of an action that is asked for")
    pointing = {}
    for name in (*POINTING, "random"):
        hits = [(hit, number) for number, row in enumerate(found) for hit in row["hits"][name]]
        values, groups = np.array(hits).T
        pointing[name] = interval(values, groups.astype(int))
    places = [known.names.index(row["video"]) for row in found]
    kept = np.isin(known.videos, places)
    rows = [(place, *each) for place, row in zip(places, found, strict=True)
            for each in row["detections"]]  # fmt: skip
    videos, starts, ends, confidences, labels = np.array(rows).reshape(-1, 5).T
    precision = metrics.detection_average_precision(
        np.stack([starts, ends], 1),
        confidences,
        known.windows[kept],
        labels=labels.astype(int),
        videos=videos.astype(int),
        truth_labels=known.labels[kept],
        truth_videos=known.videos[kept],
        count=len(CLASSES),
        thresholds=THRESHOLDS,
        convention="thumos14",
    )
    means = [round(100 * float(each), 1) for each in precision.mean]
    return {
        "videos": len(found),
        "clips with an action": sum(len(row["hits"]["random"]) for row in found),
        "pointing": pointing,
        "detections": len(rows),
        "mAP": dict(zip(map(str, THRESHOLDS), means, strict=True)),
        "thesis": {"pointing": THESIS, "mAP": {"0.1": 57.9}},
    }


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the times")
    parser.add_argument("--videos", type=Path, required=True, help="folder of films or of folders")
    parser.add_argument("--network", required=True, help="package.module:function")
    parser.add_argument("--output", type=Path, required=True, help="folder of what was measured")
    parser.add_argument("--split", default="test", choices=("test", "validation"))
    parser.add_argument("--rate", type=float, help="frames a second, of folders of frames")
    parser.add_argument("--limit", type=int, help="of videos, for a first look")
    options = parser.parse_args()
    known = read_thumos14(options.annotations, options.split)
    network = load(options.network, ActionNetwork)
    unknown = sorted({*known.categories} - {*network.class_names})
    if unknown:
        parser.error(f"the network does not know {', '.join(unknown)}")
    names = tuple(known.names[i] for i in np.unique(known.videos[known.labels >= 0]))
    videos = find_videos(names[: options.limit], options.videos)
    if any(value is not None and value <= 0 for value in (options.rate, options.limit)):
        parser.error("--rate and --limit must be above zero")
    if not options.rate and any(path.is_dir() for path in videos.values()):
        parser.error("folders of frames do not say how many a second: give --rate")
    told = "annotations", "videos", "network", "split", "rate"
    recipe = {name: str(getattr(options, name)) for name in told}
    claim(options.output, recipe)
    found = measure(network, known, videos, options.output / "videos.jsonl", options.rate)
    results = summarise(found, known)
    print(table({name: {"hits": each} for name, each in results["pointing"].items()}, ("hits",)))
    print("mAP at overlaps above", results["mAP"])
    write_whole(options.output / "results.json", json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
