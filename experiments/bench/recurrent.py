"""Times grounding in videos against a forward pass, interleaved in one run, and prints ratios.

    python -m experiments.bench.recurrent                       # 112 pixels, minutes on two cores
    python -m experiments.bench.recurrent --size 224 --repeats 3 --output recurrent.json
    python -m experiments.bench.recurrent --memory --frames 16 32 64 128    # compiles, runs nothing
    python -m experiments.bench.recurrent --smoke               # tiny frames, a minute

The network is VGG-16 to fc7, an LSTM of 256 ReLU units and a classifier of 101 classes, with random
weights; rows at several numbers of frames say whether time stays in proportion and memory linear
or, with frames in passes, flat. Caption-guided saliency and the grounding of the same caption stand
beside each other, on a captioner that reads the mean of the last convolution.

Every row is a ratio of medians over rounds in which all functions of its number of frames run once,
in turn; compilation is timed apart; memory is what XLA's buffer assignment reports for temporaries
and outputs of one call. The floor is counted in multiply-adds at the size of the frames: above
conv5_1 every linear map costs one normaliser and one transpose beside the forward pass, and with
frames in passes one more forward pass. Clipped weights are counted nowhere: `prepare` computes them
before the call.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxground
from experiments.bench.timing import interleave, memory, timed
from jaxground import models
from jaxground.core import split
from jaxground.spatiotemporal import (
    caption_guided_saliency,
    ground_caption,
    spatiotemporal_gradient,
    spatiotemporal_grounding,
)

GOALS = {"cEB-R": 1.5}
PASSES = 8, 16  # frames in a pass
WORDS = 8  # in the caption


def floors(size: int) -> dict[str, float]:
    """Returns the multiply-adds of rows over those of a forward pass of VGG-16."""
    dense = 25088 * 4096 + 4096**2  # fc6 and fc7
    pixels = (size / 224) ** 2
    forward = 15.35e9 * pixels + dense
    above = 2 * 0.462e9 * pixels + dense  # conv5_2, conv5_3, fc6, fc7
    whole, passes = 1 + 2 * above / forward, 1 + 3 * above / forward
    return {"cEB-R": whole, **{f"cEB-R, passes of {n}": passes for n in PASSES}}


class Task(NamedTuple):
    """Functions of one network and one video.

    Attributes:
      features: The network whose weights are taken out of the functions.
      methods: Functions of `features` and the arguments, the forward pass first.
      arguments: A video, and what is asked about it.
    """

    features: Callable[..., Any]
    methods: dict[str, Callable[..., Any]]
    arguments: tuple[jax.Array, ...]


def recognition(video: jax.Array) -> Task:
    """Returns the functions of a recognition network."""
    model = models.LRCN(models.create("vgg16"), "fc7", 101, rngs=nnx.Rngs(0))
    targets = jnp.zeros(len(video), int)

    def grounding(**options: Any) -> Callable[..., Any]:
        return lambda cnn, video, targets: spatiotemporal_grounding(
            cnn, model.classify, video, targets, at="conv5_1", **options
        )

    methods = {
        "forward": lambda cnn, video, targets: model(video),
        "cEB-R": grounding(),
        "EB-R": grounding(contrastive=False),
        **{f"cEB-R, passes of {n}": grounding(batch_size=n) for n in PASSES},
        "gradient through time": lambda cnn, video, targets: spatiotemporal_gradient(
            cnn, model.classify, video, targets, at="conv5_1"
        ),
    }
    return Task(model.features, methods, (video, targets))


def captioning(video: jax.Array) -> Task:
    """Returns the functions of a captioner."""
    model = models.MeanPoolCaptioner(
        models.create("vgg16"), "conv5_3", 5000, embedding=500, units=500, rngs=nnx.Rngs(0)
    )
    words = jnp.asarray(np.arange(1, WORDS + 1)[None].repeat(len(video), 0))

    def guided(features, video, words):
        frames = video.reshape(-1, *video.shape[2:])
        hidden = split(model.cnn, frames, at="conv5_3").hidden
        return caption_guided_saliency(
            model, hidden.reshape(*video.shape[:2], *hidden.shape[1:]), words
        )

    methods = {
        "forward": lambda features, video, words: model(video, words),
        "cEB-R of every word": lambda features, video, words: ground_caption(
            model, video, words, at="conv5_1"
        ),
        "caption-guided saliency": guided,
    }
    return Task(model.features, methods, (video, words))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=112, help="side of the frames")
    parser.add_argument("--frames", type=int, nargs="*", default=[16, 128])
    parser.add_argument("--caption-frames", type=int, nargs="*", default=[16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="+", help="names of rows; the forward pass is always one")
    parser.add_argument("--memory", action="store_true", help="compile only, run nothing")
    parser.add_argument("--smoke", action="store_true", help="32 pixels, 2 and 4 frames, one round")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON, row by row")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.size, arguments.frames, arguments.caption_frames = 32, [2, 4], [2]
        arguments.repeats = 1
    size = arguments.size
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {device}, {size}x{size}, {arguments.repeats} rounds\n")
    if arguments.memory:
        print("| what | frames | temp MiB |\n|---|---|---|")
    else:
        print("| what | frames | ratio to forward | goal | floor | ms | compile s | temp MiB |")
        print("|---|---|---|---|---|---|---|---|")
    figures: list[dict[str, Any]] = []
    tasks = [(recognition, "", n) for n in arguments.frames]
    tasks += [(captioning, "caption: ", n) for n in arguments.caption_frames]
    for make, prefix, frames in tasks:
        video = jax.random.normal(jax.random.key(0), (1, frames, size, size, 3))
        task = make(video)
        rows = {"forward", *(arguments.rows or task.methods)}
        prepared = {
            name: jaxground.prepare(method, task.features)
            for name, method in task.methods.items()
            if name in rows
        }
        if arguments.memory:
            for name, function in prepared.items():
                print(f"| {prefix}{name} | {frames} | {memory(function, *task.arguments):.1f} |")
            continue
        functions = {name: timed(f, *task.arguments) for name, f in prepared.items()}
        interleave(list(functions.values()), arguments.repeats)
        for name, function in functions.items():
            row = {
                "name": prefix + name,
                "frames": frames,
                "ratio": function.median / functions["forward"].median,
                "goal": GOALS.get(name),
                "floor": floors(size).get(name),
                "ms": 1e3 * function.median,
                "compile_s": function.compile_seconds,
                "temporary_mib": function.temporary_mib,
            }
            figures.append(row)
            goal, floor = (f"{x:.2f}" if x else "" for x in (row["goal"], row["floor"]))
            print(
                f"| {row['name']} | {frames} | {row['ratio']:.2f} | {goal} | {floor} "
                f"| {row['ms']:.0f} | {row['compile_s']:.1f} | {row['temporary_mib']:.0f} |",
                flush=True,
            )
        if arguments.output:
            about = {"jax": jax.__version__, "device": device, "size": size}
            arguments.output.write_text(json.dumps({**about, "rows": figures}, indent=1))


if __name__ == "__main__":
    main()
