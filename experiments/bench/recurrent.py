"""Times grounding in videos against a forward pass, interleaved in one run, and prints ratios.

    python experiments/bench/recurrent.py                       # 112 pixels, minutes on two cores
    python experiments/bench/recurrent.py --size 224 --repeats 3 --output recurrent.json
    python experiments/bench/recurrent.py --smoke               # tiny frames, a minute

The network is VGG-16 to fc7, an LSTM of 256 ReLU units and a classifier of 101 classes, with random
weights; rows at several numbers of frames say whether time stays in proportion and memory linear
or, with frames in passes, flat. Caption-guided saliency and the grounding of the same caption stand
beside each other, on a captioner that reads the mean of the last convolution.

Every row is a ratio of medians over rounds in which all functions of its number of frames run once,
in turn; compilation is timed apart; memory is what XLA's buffer assignment reports for temporaries
and outputs of one call. The floor is counted in multiply-adds at 224 pixels: above conv5_1 every
linear map costs one normaliser and one transpose beside the forward pass, and with frames in passes
one more forward pass.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from timing import Timed, interleave, timed

import jaxground
from jaxground import models
from jaxground.core import split
from jaxground.spatiotemporal import (
    caption_guided_saliency,
    ground_caption,
    spatiotemporal_gradient,
    spatiotemporal_grounding,
)

CONVOLUTIONS = 15.35e9  # multiply-adds of VGG-16 at 224 pixels
ABOVE = 2 * 0.462e9 + 25088 * 4096 + 4096**2  # of conv5_2, conv5_3, fc6, fc7
FORWARD = CONVOLUTIONS + 25088 * 4096 + 4096**2
FLOORS = {"cEB-R": 1 + 2 * ABOVE / FORWARD, "cEB-R, passes of 8": 1 + 3 * ABOVE / FORWARD}
GOALS = {"cEB-R": 1.5}
WORDS = 8  # in the caption


def recognition(video: jax.Array) -> dict[str, Timed]:
    """Returns the compiled functions of a recognition network, the forward pass first."""
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
        "cEB-R, passes of 8": grounding(batch_size=8),
        "gradient through time": lambda cnn, video, targets: spatiotemporal_gradient(
            cnn, model.classify, video, targets, at="conv5_1"
        ),
    }
    return {
        name: timed(jaxground.prepare(method, model.features), video, targets)
        for name, method in methods.items()
    }


def captioning(video: jax.Array) -> dict[str, Timed]:
    """Returns the compiled functions of a captioner, the forward pass first."""
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
    return {
        name: timed(jaxground.prepare(method, model.features), video, words)
        for name, method in methods.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=112, help="side of the frames")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--caption-frames", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="32 pixels, 2 and 4 frames, one round")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON, row by row")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.size, arguments.frames, arguments.caption_frames = 32, [2, 4], 2
        arguments.repeats = 1
    size = arguments.size
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {device}, {size}x{size}, {arguments.repeats} rounds\n")
    print("| what | frames | ratio to forward | goal | floor | ms | compile s | temp MiB |")
    print("|---|---|---|---|---|---|---|---|")
    figures: list[dict[str, Any]] = []
    tasks = [(recognition, "", n) for n in arguments.frames]
    for make, prefix, frames in [*tasks, (captioning, "caption: ", arguments.caption_frames)]:
        video = jax.random.normal(jax.random.key(0), (1, frames, size, size, 3))
        functions = make(video)
        interleave(list(functions.values()), arguments.repeats)
        for name, function in functions.items():
            row = {
                "name": prefix + name,
                "frames": frames,
                "ratio": function.median / functions["forward"].median,
                "goal": GOALS.get(name),
                "floor": FLOORS.get(name),
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
