"""What `explainers.py` measures: methods and metrics, of which networks, on which pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.compact_vgg.photographs import data_folder, load_cifar10
from experiments.scenes_network.network import SCENES, load
from jaxground import data, evaluation, models
from jaxground.data import mosaics, scenes
from jaxground.evaluation.classes import category_classes

AT_TAPS = (  # a pass or two, and nearly all below the tap is shared
    "excitation_backprop",
    "excitation_backprop:score=log_probability",
    "contrastive_excitation_backprop",
    "grad_cam",
    "grad_cam:score=log_probability",
    "grad_cam_plus_plus",
    "layer_cam",
    "cam",
)
AT_IMAGE = (  # a backward pass to the image, or several
    "gradient",
    "input_x_gradient",
    "guided_backprop",
    "deconvnet",
    "guided_grad_cam",
    "lrp:rules=z_plus",
)
CHEAP = *AT_TAPS, *AT_IMAGE
LRP = "lrp", "lrp:rules=gamma", "lrp:rules=alpha_beta"
SAMPLED = (  # many passes to the image and back
    "integrated_gradients:steps=20",
    "smooth_grad(gradient):samples=20",
    "smooth_grad(input_x_gradient):samples=20",
    "var_grad(gradient):samples=20",
)
MASKED = "rise:masks=1000", "score_cam"
ONE_AREA = "extremal_perturbation:areas=0.1,:steps=150"
SEVERAL_SIZES = (
    "excitation_backprop@fire7:score=log_probability",
    "multi_scale(excitation_backprop@fire7:score=log_probability):sizes=352,480:mirror=False",
)

MAPS = (  # of the map alone, or against the truth
    "pointing_game",
    "pointing_game_difficult",
    "pointing_game_micro",
    "energy_pointing_game",
    "top_k_intersection",
    "localisation_error",
    "sparseness",
    "entropy",
)
CURVES = "insertion", "deletion", "road_morf", "road_lerf"
SHARED = "infidelity", "sensitivity_n"  # all explainers share the passes
REGIONS = "morf", "lerf"


@dataclass(frozen=True)
class Stage:
    """Methods and metrics, on which of the play's pictures, how many of them at once."""

    methods: Sequence[str]
    metrics: Sequence[str]
    pictures: range
    batch_size: int


@dataclass(frozen=True)
class Play:
    """What is evaluated, on what.

    Attributes:
      read: Returns the network and the labelled pictures.
      fit: From a picture to the input.
      tolerance: Of the pointing game.
      stages: What is done, most important first; what is dear on fewer pictures.
    """

    read: Callable[[], tuple[models.Network, data.Dataset]]
    fit: evaluation.Fit
    tolerance: str
    stages: tuple[Stage, ...]


def read_scenes() -> tuple[models.Network, data.Dataset]:
    """Returns the network that names shapes, and scenes it was not trained on."""
    return load(), scenes.draw_dataset(SCENES, count=300)


def read_mosaics() -> tuple[models.Network, data.Dataset]:
    """Returns the embedded network, and 100 mosaics of CIFAR-10 (JPEG) test photographs."""
    photographs = load_cifar10("test")
    model = models.create("compact_vgg", weights="embedded")
    names = model.card.class_names
    drawn = mosaics.draw_dataset(photographs.images, photographs.labels, names, count=100)
    return model, drawn


def read_coco_mini() -> tuple[models.Network, data.Dataset]:
    """Returns SqueezeNet 1.1, and the 266 photographs that have a category it knows.

    They are shuffled, and 24 with one or two such categories come first: one program does for them.
    """
    weights = data_folder() / "weights" / "squeezenet1_1.safetensors"
    model = models.create("squeezenet1_1", weights=weights)
    found = data.read_coco(data_folder() / "coco_mini")
    known = category_classes(found, model.card.class_names, 1000)
    counts = [len(set(example.categories) & set(known)) for example in found.examples]
    shuffled = np.random.default_rng(0).permutation(len(counts))
    few = [i for i in shuffled if 1 <= counts[i] <= 2][:24]
    rest = [i for i in shuffled if counts[i] and i not in few]
    return model, replace(found, examples=[found.examples[i] for i in [*few, *rest]])


def _scenes() -> tuple[Stage, ...]:
    whole, squares = (*CHEAP, *LRP), "occlusion"
    many = (*SAMPLED, *MASKED, squares)
    extremal = ("extremal_perturbation:steps=200",)
    return (
        Stage(whole, MAPS, range(20, 300), 20),
        Stage((*whole, *many, *extremal), (*MAPS, *CURVES, *SHARED), range(20), 10),
        Stage(many, MAPS, range(20, 100), 10),
        Stage((*whole, *SAMPLED, *MASKED), ("max_sensitivity",), range(12), 6),
        Stage((*whole, *many), REGIONS, range(12), 6),
        Stage(extremal, MAPS, range(20, 40), 10),
    )


def _mosaics() -> tuple[Stage, ...]:
    whole = (*CHEAP, *LRP)
    many = (*SAMPLED, *MASKED, "occlusion:window=9:stride=4")
    return (
        Stage(whole, MAPS, range(10, 100), 15),
        Stage((*whole, *many), (*MAPS, *CURVES, *SHARED), range(10), 5),
        Stage(many, MAPS, range(10, 40), 5),
        Stage((ONE_AREA,), MAPS, range(10), 5),
    )


def _coco_mini() -> tuple[Stage, ...]:
    many, curves = (*SAMPLED, *MASKED, "occlusion:window=32:stride=16"), CURVES[:2]
    return (
        Stage(CHEAP, MAPS, range(266), 4),
        Stage(many, (*MAPS, *curves), range(8), 4),
        Stage(CHEAP, curves, range(8), 4),
        Stage(many, MAPS, range(8, 24), 8),
        Stage((ONE_AREA,), (*MAPS, *curves), range(8), 4),
    )


PLAYS = {
    "scenes": Play(read_scenes, evaluation.Fit(64), "0", _scenes()),
    "mosaics": Play(read_mosaics, evaluation.Fit(64), "0", _mosaics()),
    "coco_mini": Play(read_coco_mini, evaluation.Fit(224, "square"), "15", _coco_mini()),
    "coco_mini_480": Play(
        read_coco_mini,
        evaluation.Fit(480, "square"),
        "15",
        (Stage(SEVERAL_SIZES, MAPS, range(266), 2),),
    ),
}
