"""Times a training step with excitation dropout against one with standard dropout.

    python -m experiments.bench.dropout                  # CNN-2 and VGG-16, minutes on two cores
    python -m experiments.bench.dropout --models cnn_2 --batch 16 --runs 1 2 5
    python -m experiments.bench.dropout --smoke          # CNN-2, four images, seconds

Interleaved in one run: a step is forward, backward and update (momentum), under `jax.jit`, on
random images. The models know nothing of dropout: `jaxground.split` parts them at the layer. The
floor is counted in multiply-adds: the evidence costs three passes of the head beside the three
(forward, backward to the activations, backward to the weights) of the whole network. `--runs`
times several runs of excitation dropout as one program (`vmap`), each with images of its own,
against as many one after another: below one is what running them at once saves.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxground
from experiments.bench.timing import Timed, interleave, timed
from jaxground import dropout, models

# name: layer, input side, classes, multiply-adds of the network, of the head (forward, one image)
NETWORKS = {
    "cnn_2": ("fc1", 32, 10, 150.1e6, 4.2e6),
    "vgg16": ("fc6", 224, 101, 15.47e9, 17.2e6),
}
SCHEMES = {"standard": dropout.Standard(0.5), "excitation": dropout.Excitation(0.5)}


def training_step(graph, scheme, optimiser, layer, state, momentum, key, images, labels):
    """Returns parameters, optimiser state and loss after one step."""

    def loss(state):
        hidden, head = jaxground.split(nnx.merge(graph, state), images, at=layer)
        factors = scheme.factors(key, hidden, head=head, labels=labels)
        logits = head(hidden * jax.lax.stop_gradient(factors))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradient = jax.value_and_grad(loss)(state)
    updates, momentum = optimiser.update(gradient, momentum, state)
    return optax.apply_updates(state, updates), momentum, value


def make_steps(name: str, batch: int, schemes=tuple(SCHEMES), runs: int = 1) -> list[Timed]:
    """Returns the compiled step of each scheme; of several runs, all of them at once."""
    layer, side, classes, _, _ = NETWORKS[name]
    graph, state = nnx.split(models.create(name, num_classes=classes))
    optimiser = optax.sgd(1e-3, momentum=0.9)
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (batch, side, side, 3))
    labels = jax.random.randint(keys[1], (batch,), 0, classes)
    given = (state, optimiser.init(state), keys[2], images, labels)
    steps = [
        functools.partial(training_step, graph, SCHEMES[scheme], optimiser, layer)
        for scheme in schemes
    ]
    if runs > 1:
        given = jax.tree.map(lambda x: jnp.stack([x] * runs), given)
        steps = [jax.vmap(step) for step in steps]
    return [timed(jax.jit(step), *given) for step in steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[50, 128])
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--runs", type=int, nargs="+", default=[], help="at once, the first alone")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    names, batches, repeats = arguments.models, arguments.batch, arguments.repeats
    several = arguments.runs
    if arguments.smoke:
        names, batches, repeats, several = ["cnn_2"], [4], 2, [1, 2]
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {repeats} rounds\n")
    print("| network | batch | excitation / standard | floor | images/s | temp MiB (standard) |")
    print("|---|---|---|---|---|---|")
    for name in names:
        *_, whole, head = NETWORKS[name]
        for batch in batches:
            standard, excitation = steps = make_steps(name, batch)
            interleave(steps, repeats)
            print(
                f"| {name}, {NETWORKS[name][0]} | {batch} "
                f"| {excitation.median / standard.median:.3f} "
                f"| {1 + head / whole:.3f} | {batch / excitation.median:.0f} "
                f"| {excitation.temporary_mib:.0f} ({standard.temporary_mib:.0f}) |",
                flush=True,
            )
    if not several:
        return
    print("\n| network | batch of a run | runs at once | time / that of as many alone | images/s |")
    print("|---|---|---|---|---|")
    for name in names:
        for batch in batches:
            programs = {n: make_steps(name, batch, ["excitation"], n)[0] for n in several}
            interleave(list(programs.values()), repeats)
            alone = programs[several[0]].median / several[0]
            for runs, program in programs.items():
                print(
                    f"| {name} | {batch} | {runs} | {program.median / (runs * alone):.2f} "
                    f"| {runs * batch / program.median:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
