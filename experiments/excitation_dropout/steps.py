"""One step of training under a scheme of dropout, and what is measured of a trained network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import jaxground
from experiments.excitation_dropout.recipes import Recipe
from experiments.training.augmentation import augment, central
from experiments.training.loop import TrainState, updated
from experiments.training.placement import place
from jaxground import dropout, models
from jaxground.metrics import utilisation

# name: scheme of a rate, the probability of keeping a neuron (curriculum: its limit)
SCHEMES = {
    "none": lambda rate, recipe: None,
    "standard": lambda rate, recipe: dropout.Standard(rate),
    "standard_batch": lambda rate, recipe: dropout.Standard(rate, per="batch"),
    "curriculum": lambda rate, recipe: dropout.Curriculum(rate, recipe.decay),
    "standout": lambda rate, recipe: dropout.Standout(),
    "excitation": lambda rate, recipe: dropout.Excitation(rate),
    "excitation_none": lambda rate, recipe: dropout.Excitation(rate, rescale="none"),
    "excitation_unit": lambda rate, recipe: dropout.Excitation(rate, rescale="unit"),
}
MEASURED = 500  # images at once


def normalise(images, recipe: Recipe):
    return (images - jnp.array(recipe.mean)) / jnp.array(recipe.scale)


def parts(network, images, layer: str):
    """Returns what enters the ReLU of a layer, what leaves it, and the network from there.

    A layer and the tap after its ReLU have one name: the output of the module comes first.
    """
    before, rest = jaxground.split(models.with_taps(network), images, at=layer)
    hidden, head = jaxground.split(rest, before, at=layer)
    return before, hidden, head


def make_step(graph, recipe: Recipe, scheme: str, optimiser):
    """Returns the training step `(state, images, labels) -> (state, metrics)` of one run."""

    def step(state: TrainState, images, labels):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        augmentation, masks = jax.random.split(key)
        images = augment(augmentation, images, side=recipe.side, padding=recipe.padding)
        images = normalise(images, recipe)

        def loss(weights):
            before, hidden, head = parts(nnx.merge(graph, weights), images, recipe.layer)
            if (chosen := SCHEMES[scheme](state.setting, recipe)) is not None:
                factors = chosen.factors(
                    masks, hidden, head=head, labels=labels, step=state.step, preactivations=before
                )
                hidden = hidden * jax.lax.stop_gradient(factors).astype(hidden.dtype)
            logits = head(hidden)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), (logits.argmax(-1) == labels).mean()

        (value, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(state.weights)
        return updated(state, optimiser, gradient), {"loss": value, "accuracy": accuracy}

    return step


def make_evaluation(graph, recipe: Recipe, scheme: str, images, labels, mesh):
    """Returns the function `state -> {name: [runs]}`: accuracy, and how the layer is used.

    Every value is the mean over images, with `first=` over the first batches that hold so many;
    evidence is of the true class, as in training.
    """
    together = mesh.shape["batch"]
    size = -(-min(MEASURED, len(labels)) // together) * together
    batches = []
    for first in range(0, len(labels), size):
        rows = np.arange(first, first + size)
        weights = (rows < len(labels)).astype(np.float32)  # the last batch is filled up
        rows = np.minimum(rows, len(labels) - 1)
        batch = np.asarray(images)[rows], np.asarray(labels, np.int32)[rows], weights
        batches.append(place(batch, mesh, "batch"))

    def of_run(state, images, labels, weights):
        images = normalise(central(images, recipe.side), recipe)
        before, hidden, head = parts(nnx.merge(graph, state.weights), images, recipe.layer)
        chosen = SCHEMES[scheme](state.setting, recipe)
        expected = None if chosen is None else chosen.expected(preactivations=before)
        hidden = hidden if expected is None else hidden * expected
        logits = head(hidden)
        evidence = dropout.excitation_evidence(head, hidden, labels)
        values = {
            "images": jnp.ones(len(labels)),
            "accuracy": logits.argmax(-1) == labels,
            "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
            **utilisation(hidden, evidence)._asdict(),
        }
        return {name: weights @ value.astype(jnp.float32) for name, value in values.items()}

    of_runs = jax.jit(
        jax.vmap(of_run, in_axes=(0, None, None, None), spmd_axis_name="run"),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )

    def evaluate(state, first=None):
        # No `lax.map`: XLA's convolutions on CPUs are five times slower inside a loop.
        count = len(labels) if first is None else min(first, len(labels))
        sums = [of_runs(state, *batch) for batch in batches[: -(-count // size)]]
        sums = jax.tree.map(lambda *parts: sum(map(np.asarray, parts)), *sums)
        images = sums.pop("images")
        return {name: value / images for name, value in sums.items()}

    return evaluate
