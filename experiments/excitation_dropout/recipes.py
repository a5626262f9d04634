"""What is trained and how: the published settings, and one that a CPU can afford."""

import dataclasses
from typing import Literal

import jax
import optax
from flax import nnx

from jaxground import models
from jaxground.models.network import Network
from jaxground.models.preprocess import IMAGENET

IMAGENET_MEAN = (123.68, 116.779, 103.939)  # RGB, 0-255


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One experiment, but for the scheme, its rate and the seed.

    Attributes:
      dataset: See `datasets.load`.
      network: Of `jaxground.models`.
      layer: Where dropout acts: a fully connected layer, and the tap after its ReLU.
      classifier: The last layer.
      side: Of the square that the network sees.
      optimiser: A function of this module: `caffe`, `adam` or `fine_tuning`.
      learning_rate: At the start.
      batch: Images in a step.
      steps: In a run.
      threshold: Below which a filter's change is called conservative; of table 5.3.
      width: Of a network from scratch, times the published one.
      images: First training images only, `None` for all.
      stored: Side that images are resized to, before a random square of `side` is taken.
      padding: Zeros around them before that.
      mean: Of the pixels, subtracted.
      scale: They are divided by, per channel.
      start: Weights to fine-tune: a file or a name, see `models.create`; `None` is from scratch.
      every: Steps between measurements, and checkpoints.
      decay: Of curriculum dropout, per step.
    """

    dataset: str
    network: str = "cnn_2"
    layer: str = "fc1"
    classifier: str = "fc3"
    side: int = 32
    optimiser: Literal["caffe", "adam", "fine_tuning"] = "caffe"
    learning_rate: float = 1e-3
    batch: int = 100
    steps: int = 100_000
    threshold: float = 0.25
    width: float = 1.0
    images: int | None = None
    stored: int | None = None
    padding: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    scale: tuple[float, float, float] = (1.0,) * 3
    start: str | None = None
    every: int = 1000
    decay: float = 5e-4


def _of_curriculum(dataset: str, **changes) -> Recipe:
    """Returns the settings of the code of Curriculum Dropout, which CNN-2 comes from."""
    common = {"optimiser": "adam", "learning_rate": 1e-4, "batch": 128}
    return Recipe(dataset, mean=(127.5,) * 3, scale=(255.0,) * 3, **common, **changes)


def _fine_tuned(network: str, batch: int, steps: int) -> Recipe:
    """Returns the settings for UCF101, here for the frames of J-HMDB; needs `start`."""
    return Recipe(
        "jhmdb12", network, "fc6", "fc8", side=224, stored=256, optimiser="fine_tuning",
        batch=batch, steps=steps, threshold=0.15,
        mean=tuple(255 * x for x in IMAGENET.mean), scale=tuple(255 * x for x in IMAGENET.std),
    )  # fmt: skip


def _reduced(
    dataset: str, side: int, steps: int, *, threshold: float = 0.25, learning_rate: float = 1e-3
) -> Recipe:
    """Returns settings for one core: a quarter of the width, low resolution, few images."""
    recipe = _of_curriculum(
        dataset, side=side, stored=side, steps=steps, width=0.25, threshold=threshold
    )
    decay = 10 / steps  # the rule of thumb of Curriculum Dropout
    changes = {"images": 2000, "batch": 50, "every": steps // 8}
    return dataclasses.replace(recipe, learning_rate=learning_rate, decay=decay, **changes)


RECIPES = {
    # The authors' optimiser; the normalisation of CIFAR is published nowhere.
    "cifar10_jpeg": Recipe("cifar10_jpeg"),
    "cifar10": Recipe("cifar10"),
    "cifar100": Recipe("cifar100", threshold=0.30),
    "caltech101_20": Recipe("caltech101_20", side=128, threshold=1.25, every=500),
    "cifar10_jpeg_adam": _of_curriculum("cifar10_jpeg"),
    "cifar100_adam": _of_curriculum("cifar100", threshold=0.30),
    "vgg16": _fine_tuned("vgg16", 50, 30_000),
    "vgg19": _fine_tuned("vgg19", 50, 30_000),
    "alexnet": _fine_tuned("alexnet", 128, 5_000),
    # Minutes to a run on one core.
    "reduced": _reduced("cifar10_jpeg", 16, 1600),
    # At 1e-3 a network without dropout dies within 300 steps.
    "reduced_caltech101": _reduced("caltech101_20", 16, 2400, threshold=1.25, learning_rate=3e-4),
    "reduced_jhmdb12": _reduced("jhmdb12", 16, 1600, threshold=0.15),
}


def make_network(recipe: Recipe, classes: int, seed: int) -> Network:
    """Returns the network before training, with a classifier of its own where it is fine-tuned."""
    if recipe.start is None:
        options = {"size": recipe.side, "width": recipe.width} if recipe.network == "cnn_2" else {}
        return models.create(recipe.network, num_classes=classes, seed=seed, **options)
    network = models.create(recipe.network, recipe.start)
    if (found := network.card.preprocess) != IMAGENET:
        raise ValueError(
            f"{recipe.start} expects images as {found}; the recipes prepare them as for the "
            "weights of torchvision: take such a file"
        )
    inputs = getattr(network, recipe.classifier).in_features
    fresh = nnx.Linear(
        inputs, classes, kernel_init=nnx.initializers.normal(0.01), rngs=nnx.Rngs(seed)
    )
    setattr(network, recipe.classifier, fresh)
    return network


def make_optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """Returns the optimiser of a recipe."""
    return {"caffe": caffe, "adam": adam, "fine_tuning": fine_tuning}[recipe.optimiser](recipe)


def caffe(recipe: Recipe) -> optax.GradientTransformation:
    """Returns that of the code of Excitation Dropout: SGD as Caffe has it.

    The rate is inside the momentum; the decay, ten times the usual, is of biases too; biases learn
    twice as fast, the classifier ten times. A tenth of the rate after a quarter of the steps.
    """
    schedule = optax.piecewise_constant_schedule(recipe.learning_rate, {recipe.steps // 4 + 1: 0.1})
    return _sgd(recipe, schedule, decay=0.005)


def fine_tuning(recipe: Recipe) -> optax.GradientTransformation:
    """Returns SGD at a constant rate; decay and multipliers are Caffe's habit, not published."""
    return _sgd(recipe, recipe.learning_rate, decay=5e-4)


def adam(recipe: Recipe) -> optax.GradientTransformation:
    """Returns that of the code of Curriculum Dropout."""
    return optax.adam(recipe.learning_rate, b1=0.95)


def _sgd(recipe: Recipe, rate: optax.ScalarOrSchedule, *, decay: float):
    def multiplied(updates, weights):
        del weights
        return jax.tree_util.tree_map_with_path(
            lambda path, update: update * _multiplier(path, recipe.classifier), updates
        )

    return optax.chain(
        optax.add_decayed_weights(decay),
        optax.stateless(multiplied),
        optax.scale_by_learning_rate(rate),
        optax.trace(0.9),
    )


def _multiplier(path, classifier: str) -> float:
    names = jax.tree_util.keystr(path)
    return (2.0 if "'bias'" in names else 1.0) * (10.0 if f"'{classifier}'" in names else 1.0)
