"""Finished runs as the figures of chapter 5 look at them: their networks, images, the layer."""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.excitation_dropout import datasets, train
from experiments.excitation_dropout.pictures import STYLES
from experiments.excitation_dropout.recipes import RECIPES, Recipe
from experiments.excitation_dropout.steps import SCHEMES, normalise, parts
from experiments.excitation_dropout.tables import BASE, rate_of, read_results
from experiments.training.augmentation import central
from jaxground.data.classification import Labelled

FIGURES = Path(__file__).with_name("figures")
DRAWN = "squares"  # a data set that needs no files, of `--smoke`


def parse(
    doc: str | None,
    arguments: Sequence[str] | None,
    *,
    several: bool = False,
    add: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """Returns the options of a script: folders of runs, `output`, and those that `add` adds.

    With `--smoke` the folder is that of a tiny network, trained here and now.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    help = "where train.py wrote"
    parser.add_argument("folder", type=Path, nargs="*" if several else "?", help=help)
    parser.add_argument("--output", type=Path, default=FIGURES, help="folder of the figures")
    help = "of excitation dropout; the others keep a half"
    parser.add_argument("--base", type=float, default=BASE, help=help)
    parser.add_argument("--smoke", action="store_true", help="a tiny network instead of a folder")
    if add is not None:
        add(parser)
    options = parser.parse_args(arguments)
    if options.smoke:
        folder = Path(tempfile.mkdtemp(prefix="excitation_dropout_"))
        train_tiny(folder)
        options.folder = [folder] if several else folder
    if not options.folder:
        parser.error("give a folder of runs, or --smoke")
    return options


def list_runs(folder: Path, base: float = BASE) -> dict[str, list[str]]:
    """Returns the names of the finished runs by scheme, in the order of `STYLES`.

    Args:
      folder: Where `train.py` wrote.
      base: Of excitation dropout; the others keep a half, as in the thesis.
    """
    results = read_results(folder)
    if not results:
        raise FileNotFoundError(
            f"{folder} has no finished run: train.py writes <scheme>-<rate>-<seed>.json at its end"
        )
    rates = {name: rate_of(name, base) for name in STYLES}
    return {
        scheme: [train.Run(scheme, rate, seed).name for seed in results[scheme, rate]]
        for scheme, rate in rates.items()
        if (scheme, rate) in results
    }


def read_test(recipe: Recipe, *, side: int | None = None, limit: int | None = None) -> Labelled:
    """Returns test images of a recipe's data set."""
    side = recipe.stored if side is None else side
    if recipe.dataset == DRAWN:
        return draw_squares(side or recipe.side, seed=0)
    return datasets.load(recipe.dataset, "test", side=side, limit=limit)


def prepare(images: np.ndarray, recipe: Recipe) -> jax.Array:
    """Returns what the network takes: the central square of each image, normalised."""
    return normalise(central(jnp.asarray(images), recipe.side), recipe)


def read_layer(network, images, recipe: Recipe, scheme: str):
    """Returns the activations of the layer at test time, and the network from there.

    Args:
      network: See `trained.load`.
      images: From `prepare`.
      recipe: Of the network.
      scheme: Of the network: adaptive dropout multiplies the activations at test time.
    """
    before, hidden, head = parts(network, images, recipe.layer)
    chosen = SCHEMES[scheme](BASE, recipe)
    expected = None if chosen is None else chosen.expected(preactivations=before)
    return hidden if expected is None else hidden * expected, head


def draw_squares(side: int, *, seed: int) -> Labelled:
    """Returns pictures of a square whose place is its class: a data set that needs no files."""
    generator = np.random.default_rng(seed)
    labels = np.arange(40, dtype=np.int32) % 8
    rows = np.arange(side) * 4 // side == (labels // 2)[:, None]
    columns = np.arange(side) * 2 // side == (labels % 2)[:, None]
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    images = generator.integers(0, 120, (40, side, side, 3)) + 120 * inside
    return Labelled(images.astype(np.uint8), labels)


def train_tiny(folder: Path) -> None:
    """Trains a network of a few neurons for four steps, on drawn shapes."""
    recipe = dataclasses.replace(
        RECIPES["reduced"], dataset=DRAWN, width=1 / 32, batch=8, steps=4, every=2, images=None
    )
    (folder / "recipe.json").write_text(json.dumps(dataclasses.asdict(recipe)))
    data = draw_squares(recipe.side, seed=1), read_test(recipe)
    options = argparse.Namespace(stream=False, dispatch=None, tensorboard=False)
    train.train_program(recipe, [train.Run("excitation", BASE, 0)], folder, data, options)
