"""Times a training step with excitation dropout against one with standard dropout.

    python experiments/bench/dropout.py                  # CNN-2 and VGG-16, minutes on two cores
    python experiments/bench/dropout.py --smoke          # CNN-2, four images, seconds

Interleaved in one run: a step is forward, backward and update (momentum), under `jax.jit`, on
random images. The models know nothing of dropout: `jaxground.split` parts them at the layer. The
floor is counted in multiply-adds: the evidence costs three passes of the head beside the three
(forward, backward to the activations, backward to the weights) of the whole network.
"""

import argparse
import functools

import jax
import optax
from flax import nnx
from timing import interleave, timed

import jaxground
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[50, 128])
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    names, batches, repeats = arguments.models, arguments.batch, arguments.repeats
    if arguments.smoke:
        names, batches, repeats = ["cnn_2"], [4], 2
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {repeats} rounds\n")
    print("| network | batch | excitation / standard | floor | images/s | temp MiB (standard) |")
    print("|---|---|---|---|---|---|")
    for name in names:
        layer, side, classes, whole, head = NETWORKS[name]
        graph, state = nnx.split(models.create(name, num_classes=classes))
        optimiser = optax.sgd(1e-3, momentum=0.9)
        for batch in batches:
            keys = jax.random.split(jax.random.key(0), 3)
            images = jax.random.normal(keys[0], (batch, side, side, 3))
            labels = jax.random.randint(keys[1], (batch,), 0, classes)
            given = (state, optimiser.init(state), keys[2], images, labels)
            step = {
                scheme: timed(
                    jax.jit(functools.partial(training_step, graph, value, optimiser, layer)),
                    *given,
                )
                for scheme, value in SCHEMES.items()
            }
            interleave(list(step.values()), repeats)
            standard, excitation = step["standard"], step["excitation"]
            print(
                f"| {name}, {layer} | {batch} | {excitation.median / standard.median:.3f} "
                f"| {1 + head / whole:.3f} | {batch / excitation.median:.0f} "
                f"| {excitation.temporary_mib:.0f} ({standard.temporary_mib:.0f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
