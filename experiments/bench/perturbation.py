"""Times RISE against plain forward passes, and the pointing game against its explainer.

    python -m experiments.bench.perturbation             # 8,000 masks, minutes on two cores
    python -m experiments.bench.perturbation --smoke     # tiny, seconds
    python -m experiments.bench.perturbation --model vgg16 --size 224 --batches 32 64 128 256

Forward passes are timed at several batch sizes first; their best is the reference, and RISE runs at
the same batch size. A mask is drawn, multiplied and looked at within its pass, so that RISE does
all that the forward passes do and more: the ratio of throughputs cannot exceed one but by noise.
All functions of a comparison run in turn in every round; ratios are of medians. Memory is XLA's
buffer assignment for temporaries and outputs of one call.
"""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxground
from experiments.bench.timing import Timed, interleave, timed
from jaxground import attribution, maps, metrics, models

KEY = jax.random.key(0)
PICTURE = 375, 500  # a COCO photograph, the resolution of the pointing game
GAME = 224  # side of the network's input in the pointing game


def forward(f, images):
    """The network itself."""
    return f(images)


def hit(f, images, targets, masks, *, explain):
    """An explainer and one pointing game per map."""
    found = maps.resize(explain(f, images, targets), PICTURE)
    return metrics.pointing_game(found, masks)


def looped(function: Timed, times: int) -> Timed:
    """Several calls as one, so that they take as long as what they are compared with."""

    def run():
        for _ in range(times - 1):
            function.run()
        return function.run()

    return Timed(run, function.compile_seconds, function.temporary_mib)


def best_batch(model, size: int, batches: list[int], repeats: int) -> tuple[int, Timed]:
    """Returns the batch size with the most images per second, and its forward pass."""
    candidates = {}
    for batch in batches:
        images = jax.random.normal(KEY, (batch, size, size, 3))
        candidates[batch] = timed(jaxground.prepare(forward, model), images)
    interleave(list(candidates.values()), repeats)
    rates = {batch: batch / candidate.median for batch, candidate in candidates.items()}
    print("images/s by batch size: " + ", ".join(f"{b}: {r:.0f}" for b, r in rates.items()))
    best = max(rates, key=rates.__getitem__)
    return best, candidates[best]


def rise_against_forward(
    model, size: int, masks: int, batch: int, plain: Timed, repeats: int
) -> dict[str, Any]:
    """Returns the throughput of RISE, for one target and for twenty, over that of `plain`."""
    image = jax.random.normal(KEY, (1, size, size, 3))

    def explained(targets):
        method = functools.partial(attribution.rise, key=KEY, masks=masks, batch_size=batch)
        return timed(jaxground.prepare(method, model), image, jnp.arange(targets)[None])

    one, twenty = explained(1), explained(20)
    calls = -(-masks // batch)
    reference = looped(plain, calls)
    interleave([reference, one, twenty], repeats)
    rate = calls * batch / reference.median
    return {
        "batch": batch,
        "forward_per_s": rate,
        "rise_masks_per_s": masks / one.median,
        "throughput_ratio": masks / one.median / rate,
        "twenty_targets_over_one": twenty.median / one.median,
        "seconds": {"forward": reference.seconds, "rise": one.seconds, "rise_20": twenty.seconds},
    }


def memory(model, size: int, batch: int, numbers: list[int]) -> dict[int, float]:
    """Returns the MiB of one call by the number of masks; nothing runs."""
    arguments = jnp.zeros((1, size, size, 3)), jnp.array([0])
    mib = {}
    for masks in numbers:
        method = functools.partial(attribution.rise, key=KEY, masks=masks, batch_size=batch)
        compiled = jaxground.prepare(method, model).lower(*arguments).compile()
        mib[masks] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return mib


def pointing_game_against_explainer(
    model, size: int, images: int, batch: int, repeats: int
) -> dict[str, Any]:
    """Returns the cost of explaining and pointing over that of explaining, for many images.

    The explainer is Excitation Backprop at the network's own tap, one of the cheapest there are.
    """
    pictures = jax.random.normal(KEY, (batch, size, size, 3))
    objects = jnp.zeros((batch, *PICTURE), bool).at[:, 100:200, 100:300].set(True)
    targets = jnp.zeros(batch, int)
    explain = functools.partial(attribution.excitation_backprop, at=model.card.ground_at)
    alone = timed(jaxground.prepare(explain, model), pictures, targets)
    method = functools.partial(hit, explain=explain)
    pointing = timed(jaxground.prepare(method, model), pictures, targets, objects)
    runs = [looped(function, -(-images // batch)) for function in (alone, pointing)]
    interleave(runs, repeats)
    return {
        "images": images,
        "explainer_s": runs[0].median,
        "pointing_game_s": runs[1].median,
        "ratio": runs[1].median / runs[0].median,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="squeezenet1_1", help="a network of 20 classes or more")
    parser.add_argument("--size", type=int, default=112, help="side of the images, for RISE")
    parser.add_argument("--masks", type=int, default=8000)
    parser.add_argument("--images", type=int, default=1000, help="of the pointing game")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="64-pixel images, 64 masks")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.size, arguments.masks, arguments.images = 64, 64, 16
        arguments.batches, arguments.repeats = [4, 8], 1
    size, repeats = arguments.size, arguments.repeats
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {device}, {arguments.model}, {size}x{size}, {repeats} rounds")
    model = models.create(arguments.model)

    batch, plain = best_batch(model, size, arguments.batches, max(repeats, 2))
    mib = memory(model, size, batch, [64, 512, arguments.masks])
    print(
        "temporaries by number of masks: " + ", ".join(f"{n}: {m:.2f} MiB" for n, m in mib.items())
    )
    rise = rise_against_forward(model, size, arguments.masks, batch, plain, repeats)
    print(
        f"RISE, {arguments.masks} masks, batch {batch}: {rise['rise_masks_per_s']:.0f} masks/s, "
        f"forward {rise['forward_per_s']:.0f} images/s, ratio {rise['throughput_ratio']:.3f} "
        f"(goal 0.95); 20 targets / 1: {rise['twenty_targets_over_one']:.3f}",
        flush=True,
    )
    side = size if arguments.smoke else GAME
    game = pointing_game_against_explainer(model, side, arguments.images, 20, repeats)
    print(
        f"pointing game, {game['images']} images at {PICTURE[0]}x{PICTURE[1]}: "
        f"{game['pointing_game_s']:.2f} s, explainer alone {game['explainer_s']:.2f} s, "
        f"ratio {game['ratio']:.3f} (goal 1.2)"
    )
    if arguments.output:
        figures = {"jax": jax.__version__, "memory_mib": mib, "rise": rise, "pointing_game": game}
        arguments.output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
