r"""Prints what trained networks do whole and with excitation dropout on: is it the masks they miss?

    python -m experiments.excitation_dropout.test_time runs/reduced
    python -m experiments.excitation_dropout.test_time --smoke

From the project's root. Excitation dropout always drops the best neurons of an image, which the
test network has back and was hardly trained with. The first 2,000 test images, and as many training
images, seen by the layer

- whole, as all tables have it;
- scaled: whole, times the share of the activations (their sum) that the masks leave, one number for
  all images, so that the layers above get as much as in training;
- masked by the evidence of the true class, as in training; this knows the label;
- masked by the evidence of the class that the whole network answers, which knows nothing;
- without the neurons most relevant to the true class, as many as at the end of figure 5.4.

Masks are of a network's own scheme and rate; of the other schemes excitation dropout's of base 0.5.
Means over the seeds that have ended.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.excitation_dropout import datasets
from experiments.excitation_dropout.compression_curves import in_batches
from experiments.excitation_dropout.inspection import (
    DRAWN,
    draw_squares,
    parse,
    prepare,
    read_layer,
    read_test,
)
from experiments.excitation_dropout.steps import SCHEMES
from experiments.excitation_dropout.switched_off import SHARES
from experiments.excitation_dropout.tables import BASE, read_results, row
from experiments.excitation_dropout.tables import head as table_head
from experiments.excitation_dropout.train import WATCHED, Run
from experiments.excitation_dropout.trained import load, read_recipe
from jaxground import dropout

WAYS = ("whole", "scaled", "masked, true class", "masked, answer", "best off")


def measure(network, images, labels, key, share, *, recipe, scheme: str, masks) -> dict:
    """Returns for each way the mean accuracy and loss, and the share that the masks leave.

    Args:
      network: See `trained.load`.
      images: From `inspection.prepare`.
      labels: `int[batch]`.
      key: Of the masks.
      share: What `scaled` multiplies the activations by.
      recipe: Of the network.
      scheme: Of the network.
      masks: A `dropout.Excitation`.
    """
    hidden, head = read_layer(network, images, recipe, scheme)
    evidence = dropout.excitation_evidence(head, hidden, labels)
    places = jnp.argsort(jnp.argsort(-evidence, axis=1), axis=1)  # 0 is the most relevant
    off = round(float(SHARES[-1]) * hidden.shape[1])
    of_label, of_answer = (
        hidden * masks.factors(key, hidden, head=head, labels=classes)
        for classes in (labels, head(hidden).argmax(-1))
    )
    seen = (hidden, hidden * share, of_label, of_answer, hidden * (places >= off))
    found = {"share": of_label.sum() / jnp.maximum(hidden.sum(), 1e-6)}
    for way, layer in zip(WAYS, seen, strict=True):
        logits = head(layer)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        found[way] = jnp.stack([(logits.argmax(-1) == labels).mean(), losses.mean()])
    return found


def measure_run(folder, run: Run, data) -> dict[str, np.ndarray]:
    """Returns the means over a data set; the share is that of its masks."""
    recipe = read_recipe(folder)
    graph, weights = nnx.split(load(folder, run.name))
    own = SCHEMES[run.scheme](run.rate, recipe)
    masks = own if isinstance(own, dropout.Excitation) else dropout.Excitation(BASE)

    @jax.jit
    def of_batch(weights, images, labels, key, share):
        given = nnx.merge(graph, weights), prepare(images, recipe), labels, key, share
        return measure(*given, recipe=recipe, scheme=run.scheme, masks=masks)

    def over_batches(share):
        found = [
            of_batch(weights, images, labels, jax.random.key(number), share)
            for number, (images, labels) in enumerate(in_batches(data))
        ]
        return jax.tree.map(lambda *parts: np.mean(parts, axis=0), *found)

    return over_batches(over_batches(np.float32(1))["share"])


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    recipe = read_recipe(options.folder)
    if recipe.dataset == DRAWN:
        training = draw_squares(recipe.side, seed=1)
    else:
        limit = min(WATCHED, recipe.images or WATCHED)
        training = datasets.load(recipe.dataset, "train", side=recipe.stored, limit=limit)
    sets = {"training": training, "test": read_test(recipe, limit=WATCHED)}
    results = read_results(options.folder)
    print(*table_head("scheme, kept", "seeds", "images", "activations left", *WAYS), sep="\n")
    for scheme, rate in sorted(results):
        runs = [Run(scheme, rate, seed) for seed in results[scheme, rate]]
        for name, data in sets.items():
            found = [measure_run(options.folder, run, data) for run in runs]
            mean = jax.tree.map(lambda *parts: np.mean(parts, axis=0), *found)
            cells = [f"{100 * a:.1f} % ({loss:.2f})" for a, loss in (mean[way] for way in WAYS)]
            print(row(f"{scheme}, {rate:g}", len(runs), name, f"{mean['share']:.2f}", *cells),
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
