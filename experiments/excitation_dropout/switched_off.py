r"""Draws figure 5.4: where a class stands as the neurons most relevant to it are switched off.

    python -m experiments.excitation_dropout.switched_off runs/reduced --label 7
    python -m experiments.excitation_dropout.switched_off --smoke --output /tmp/figures

From the project's root. Neurons are switched off in the order of their evidence in the intact
network; the maps are Excitation Backprop of what is left, with the probability that is left as
their mass: of a mass of one nothing would fade. The thesis does not say how it scaled its maps.
The image is the first of its class that every network has right.

Printed is for each run, over the images that it has right, what part of the probability is left,
and what part of the map of the intact network is in place: the sum of the smaller of the two, of
maps whose sum is one.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.excitation_dropout.inspection import (
    list_runs,
    parse,
    prepare,
    read_layer,
    read_test,
)
from experiments.excitation_dropout.pictures import STYLES, open_sheet, save
from experiments.excitation_dropout.train import WATCHED
from experiments.excitation_dropout.trained import load, read_recipe
from jaxground import excitation_backprop, plots
from jaxground.dropout import excitation_evidence
from jaxground.scores import score_values

SHARES = np.arange(6) * 100 / 4096  # of the layer's neurons; the thesis's 0, 100, ..., 500 of fc6
TAPS = {"cnn_2": "conv2", "alexnet": "conv4"}  # of the maps; the thesis's for VGG is conv5_1
SHOWN = 128  # pixels of the photograph, at least


def switch_off(network, images, labels, counts, *, recipe, scheme: str):
    """Returns maps and the label's probability with the most relevant neurons switched off.

    Args:
      network: See `trained.load`.
      images: From `inspection.prepare`.
      labels: `int[batch]`.
      counts: `int[n]`, how many neurons.
      recipe: Of the network.
      scheme: Of the network.

    Returns:
      Maps `[n, batch, h, w]` at the recipe's tap, and probabilities `[n, batch]`.
    """
    hidden, head = read_layer(network, images, recipe, scheme)
    evidence = excitation_evidence(head, hidden, labels)
    places = jnp.argsort(jnp.argsort(-evidence, axis=1), axis=1)  # 0 is the most relevant

    def with_off(count):
        def damaged(images):
            hidden, head = read_layer(network, images, recipe, scheme)
            return head(hidden * (places >= count))

        at = TAPS.get(recipe.network, "conv5_1")
        maps = excitation_backprop(damaged, images, labels, at=at)
        return maps, score_values(damaged(images), labels, "probability")[0][:, 0]

    return jax.vmap(with_off)(jnp.asarray(counts))


def in_place(maps) -> jax.Array:
    """Returns what part of the first maps `[batch]` is still where it was in each `[n, batch]`."""
    shares = maps / jnp.maximum(maps.sum((-2, -1), keepdims=True), 1e-30)
    return jnp.minimum(shares, shares[:1]).sum((-2, -1))


def main(arguments: Sequence[str] | None = None) -> None:
    def add(parser):
        parser.add_argument("--label", type=int, default=7, help="class of the image shown")
        parser.add_argument("--schemes", nargs="+", choices=STYLES, help="rows; all by default")

    options = parse(__doc__, arguments, add=add)
    recipe, limit = read_recipe(options.folder), WATCHED // 4
    test, large = (read_test(recipe, side=side, limit=limit) for side in (None, SHOWN))
    if not (test.labels == options.label).any():
        raise ValueError(f"none of the first {len(test.labels)} images has label {options.label}")
    rows = {}
    for scheme, (name, *_) in list_runs(options.folder, options.base).items():
        if options.schemes and scheme not in options.schemes:
            continue
        graph, weights = nnx.split(load(options.folder, name))
        neurons = len(weights[recipe.layer]["bias"][...])
        counts = [round(share * neurons) for share in SHARES]

        @jax.jit
        def of_images(weights, images, labels, graph=graph, scheme=scheme, counts=tuple(counts)):
            network, images = nnx.merge(graph, weights), prepare(images, recipe)
            maps, scores = switch_off(network, images, labels, counts, recipe=recipe, scheme=scheme)
            hidden, head = read_layer(network, images, recipe, scheme)
            right = head(hidden).argmax(-1) == labels
            return maps, scores, in_place(maps), right

        maps, scores, kept, right = map(np.asarray, of_images(weights, *test))
        rows[scheme] = maps, scores, right, counts
        left = (scores / scores[0])[:, right].mean(1)
        print(f"{name:20} right {right.mean():.3f}; off {counts}; probability left, map in place:",
              *(f"{a:.2f}/{b:.2f}" for a, b in zip(left, kept[:, right].mean(1), strict=True)),
              flush=True)  # fmt: skip
    every = np.all([right for _, _, right, _ in rows.values()], axis=0)
    of_class = np.flatnonzero((test.labels == options.label) & every)
    image = of_class[0] if len(of_class) else np.flatnonzero(test.labels == options.label)[0]
    if not len(of_class):
        print("no image of the class is right under every scheme: the first is shown")
    columns = len(SHARES)
    sheet, axes = open_sheet(1.45 * columns + 0.5, 1.62 * len(rows) + 0.3, columns, len(rows))
    for row, (scheme, (maps, scores, _, counts)) in zip(axes, rows.items(), strict=True):
        # One scale to a row, that of all its maps together: what is lost is seen.
        weighted = maps[:, image] * scores[:, image, None, None]
        panels = plots.overlay_video(large.images[[image] * columns], weighted)
        for one, panel, score, count in zip(row, panels, scores[:, image], counts, strict=True):
            one.imshow(panel)
            if not maps[0, image].any():  # the decision stands on biases
                style = {"ha": "center", "fontsize": 8.5, "color": "white"}
                one.text(0.5, 0.06, "no evidence", transform=one.transAxes, **style)
            one.set(xticks=[], yticks=[])
            one.spines[:].set_visible(False)
            one.set_title(f"{count} off: {score:.2f}", fontsize=8.5)
        row[0].set_ylabel(STYLES[scheme][0].replace(", ", ",\n"), fontsize=8.5)
    sheet.suptitle("neurons switched off: probability of the class that is left", fontsize=10)
    save(sheet, options.output, "5.4_switched_off.jpg")


if __name__ == "__main__":
    main()
