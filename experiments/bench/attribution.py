"""Times explainers against a forward pass, interleaved in one run, and prints their ratios.

    python -m experiments.bench.attribution                 # all rows, ten minutes on two cores
    python -m experiments.bench.attribution --smoke         # tiny images, seconds
    python -m experiments.bench.attribution --rows vgg16 --repeats 15

Every row is a ratio of medians over rounds in which all of its functions run once, in turn, on the
same images; compilation is timed apart; memory is what XLA's buffer assignment reports for the
temporaries and outputs of one call. The floor is counted in multiply-adds: an Excitation Backprop
pass costs, for each linear map above the tap, one normaliser and one transpose beside the forward.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxground
from experiments.bench.timing import interleave, timed
from jaxground import models


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: a function against a reference on the same network and images.

    Attributes:
      name: What the table calls it; `--rows` selects by part of it.
      model: A network of the zoo.
      batch: Images.
      method: What is timed, a function of `(f, images, targets, **options)`.
      options: Options of the method.
      reference: What it is divided by.
      targets: Classes per image; 0 for one class without an axis of its own.
      goal: The ratio the project wants to reach.
      floor: The ratio by multiply-adds.
    """

    name: str
    model: str
    batch: int
    method: Callable[..., Any]
    options: dict[str, Any]
    reference: str
    goal: float
    floor: float
    targets: int = 0


def forward(f, images, targets):
    """The network itself."""
    return f(images)


def input_gradient(f, images, targets):
    """What a user of plain JAX would write: the gradient of the target's logit at the image."""

    def score(x):
        return jnp.take_along_axis(f(x), targets[:, None], axis=1).sum()

    return jax.grad(score)(images)


REFERENCES = {"forward": forward, "jax.grad": input_gradient}
EB, CEB = jaxground.excitation_backprop, jaxground.contrastive_excitation_backprop
ROWS = (
    Row("VGG-16 EB pool4", "vgg16", 4, EB, {"at": "pool4"}, "forward", 1.35, 1.20),
    Row("VGG-16 cEB pool4", "vgg16", 4, CEB, {"at": "pool4"}, "forward", 1.48, 1.20),
    Row("ResNet-50 EB layer3", "resnet50", 4, EB, {"at": "layer3"}, "forward", 1.50, 1.40),
    Row("ResNet-50 cEB layer3", "resnet50", 4, CEB, {"at": "layer3"}, "forward", 1.65, 1.40),
    Row("VGG-16 EB pool4 batch 1", "vgg16", 1, EB, {"at": "pool4"}, "forward", 1.35, 1.20),
    Row("VGG-16 EB pool4 20 classes", "vgg16", 1, EB, {"at": "pool4"}, "forward", 4.0, 3.1, 20),
    Row("VGG-16 EB image", "vgg16", 4, EB, {}, "jax.grad", 1.6, 1.5),
    Row("ResNet-50 EB image", "resnet50", 4, EB, {}, "jax.grad", 1.6, 1.5),
)


def measure(row: Row, *, size: int, repeats: int) -> dict[str, Any]:
    """Returns the figures of one row."""
    model = models.create(row.model)
    key = jax.random.key(0)
    images = jax.random.normal(key, (row.batch, size, size, 3))
    shape = (row.batch, row.targets) if row.targets else (row.batch,)
    targets = jax.random.randint(key, shape, 0, 1000)
    reference = timed(jaxground.prepare(REFERENCES[row.reference], model), images, targets)
    method = timed(jaxground.prepare(row.method, model, **row.options), images, targets)
    interleave([reference, method], repeats)
    return {
        "name": row.name,
        "batch": row.batch,
        "reference": row.reference,
        "reference_ms": 1e3 * reference.median,
        "method_ms": 1e3 * method.median,
        "ratio": method.median / reference.median,
        "goal": row.goal,
        "floor": row.floor,
        "compile_s": method.compile_seconds,
        "reference_compile_s": reference.compile_seconds,
        "temporary_mib": method.temporary_mib,
        "reference_temporary_mib": reference.temporary_mib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", help="only rows whose name or model contains this")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="64-pixel images, two rounds")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    size, repeats = (64, 2) if arguments.smoke else (224, arguments.repeats)
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}, {size}x{size}, {repeats} rounds\n")
    print("| what | ratio | goal | floor | ms | reference ms | compile s | temp MiB (ref) |")
    print("|---|---|---|---|---|---|---|---|")
    figures = []
    for row in ROWS:
        if arguments.rows not in row.name and arguments.rows not in row.model:
            continue
        f = measure(row, size=size, repeats=repeats)
        figures.append(f)
        print(
            f"| {f['name']}, batch {f['batch']}, / {f['reference']} | {f['ratio']:.2f} "
            f"| {f['goal']} | {f['floor']} | {f['method_ms']:.0f} | {f['reference_ms']:.0f} "
            f"| {f['compile_s']:.1f} ({f['reference_compile_s']:.1f}) "
            f"| {f['temporary_mib']:.0f} ({f['reference_temporary_mib']:.0f}) |",
            flush=True,
        )
    if arguments.output:
        arguments.output.write_text(json.dumps({"jax": jax.__version__, "rows": figures}, indent=1))


if __name__ == "__main__":
    main()
