"""Visual grounding for JAX: which pixels, frames and neurons a decision stands on.

Names are loaded when first used, so that `import jaxground` costs little more than `import jax`.

>>> import jaxground
>>> jaxground.excite.__module__
'jaxground.core.transform'
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxground import attribution as attribution
    from jaxground import core as core
    from jaxground import data as data
    from jaxground import dropout as dropout
    from jaxground import evaluation as evaluation
    from jaxground import maps as maps
    from jaxground import metrics as metrics
    from jaxground import models as models
    from jaxground import plots as plots
    from jaxground import scores as scores
    from jaxground import spatiotemporal as spatiotemporal
    from jaxground import weights as weights
    from jaxground.attribution import cam as cam
    from jaxground.attribution import (
        contrastive_excitation_backprop as contrastive_excitation_backprop,
    )
    from jaxground.attribution import deconvnet as deconvnet
    from jaxground.attribution import excitation_backprop as excitation_backprop
    from jaxground.attribution import extremal_masks as extremal_masks
    from jaxground.attribution import extremal_perturbation as extremal_perturbation
    from jaxground.attribution import grad_cam as grad_cam
    from jaxground.attribution import grad_cam_plus_plus as grad_cam_plus_plus
    from jaxground.attribution import gradient as gradient
    from jaxground.attribution import guided_backprop as guided_backprop
    from jaxground.attribution import guided_grad_cam as guided_grad_cam
    from jaxground.attribution import input_x_gradient as input_x_gradient
    from jaxground.attribution import integrated_gradients as integrated_gradients
    from jaxground.attribution import layer_cam as layer_cam
    from jaxground.attribution import lrp as lrp
    from jaxground.attribution import multi_scale as multi_scale
    from jaxground.attribution import occlusion as occlusion
    from jaxground.attribution import rise as rise
    from jaxground.attribution import score_cam as score_cam
    from jaxground.attribution import score_difference as score_difference
    from jaxground.attribution import signed_gradient as signed_gradient
    from jaxground.attribution import smooth_grad as smooth_grad
    from jaxground.attribution import square_grad as square_grad
    from jaxground.attribution import var_grad as var_grad
    from jaxground.core import CAFFE as CAFFE
    from jaxground.core import DECONVNET as DECONVNET
    from jaxground.core import EXCITATION as EXCITATION
    from jaxground.core import GRADIENT as GRADIENT
    from jaxground.core import GUIDED as GUIDED
    from jaxground.core import Composite as Composite
    from jaxground.core import MissingRuleError as MissingRuleError
    from jaxground.core import Rules as Rules
    from jaxground.core import alpha_beta as alpha_beta
    from jaxground.core import attn_lrp as attn_lrp
    from jaxground.core import epsilon as epsilon
    from jaxground.core import excite as excite
    from jaxground.core import flat as flat
    from jaxground.core import fold_batch_norm as fold_batch_norm
    from jaxground.core import gamma as gamma
    from jaxground.core import ground as ground
    from jaxground.core import mass as mass
    from jaxground.core import prepare as prepare
    from jaxground.core import split as split
    from jaxground.core import tap as tap
    from jaxground.core import taps as taps
    from jaxground.core import w_squared as w_squared
    from jaxground.core import z_box as z_box
    from jaxground.core import z_plus as z_plus
    from jaxground.data import read_coco as read_coco
    from jaxground.data import read_imagenet as read_imagenet
    from jaxground.data import read_video as read_video
    from jaxground.data import read_voc as read_voc
    from jaxground.dropout import Dropout as Dropout
    from jaxground.dropout import excitation_dropout as excitation_dropout
    from jaxground.models import with_taps as with_taps
    from jaxground.spatiotemporal import ground_caption as ground_caption
    from jaxground.spatiotemporal import spatiotemporal_grounding as spatiotemporal_grounding

__version__ = "0.1.0"

_MODULES = (
    "attribution",
    "core",
    "data",
    "dropout",
    "evaluation",
    "maps",
    "metrics",
    "models",
    "plots",
    "scores",
    "spatiotemporal",
    "weights",
)
_NAMES = {
    "jaxground.attribution": (
        "cam contrastive_excitation_backprop deconvnet excitation_backprop extremal_masks "
        "extremal_perturbation grad_cam grad_cam_plus_plus gradient guided_backprop "
        "guided_grad_cam input_x_gradient integrated_gradients layer_cam lrp multi_scale "
        "occlusion rise score_cam score_difference signed_gradient smooth_grad square_grad "
        "var_grad"
    ),
    "jaxground.core": (
        "CAFFE Composite DECONVNET EXCITATION GRADIENT GUIDED MissingRuleError Rules alpha_beta "
        "attn_lrp epsilon excite flat fold_batch_norm gamma ground mass prepare split tap taps "
        "w_squared z_box z_plus"
    ),
    "jaxground.data": "read_coco read_imagenet read_video read_voc",
    "jaxground.dropout": "Dropout excitation_dropout",
    "jaxground.models": "with_taps",
    "jaxground.spatiotemporal": "ground_caption spatiotemporal_grounding",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted([*_HOMES, *_MODULES])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Loads a module or a public name when it is first used."""
    if name in _MODULES:
        return importlib.import_module(f"jaxground.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'jaxground' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return [*__all__, "__version__"]
