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
    from jaxground import maps as maps
    from jaxground import models as models
    from jaxground import plots as plots
    from jaxground import scores as scores
    from jaxground import weights as weights
    from jaxground.attribution import cam as cam
    from jaxground.attribution import (
        contrastive_excitation_backprop as contrastive_excitation_backprop,
    )
    from jaxground.attribution import deconvnet as deconvnet
    from jaxground.attribution import excitation_backprop as excitation_backprop
    from jaxground.attribution import grad_cam as grad_cam
    from jaxground.attribution import gradient as gradient
    from jaxground.attribution import guided_backprop as guided_backprop
    from jaxground.core import CAFFE as CAFFE
    from jaxground.core import DECONVNET as DECONVNET
    from jaxground.core import EXCITATION as EXCITATION
    from jaxground.core import GRADIENT as GRADIENT
    from jaxground.core import GUIDED as GUIDED
    from jaxground.core import MissingRuleError as MissingRuleError
    from jaxground.core import Rules as Rules
    from jaxground.core import excite as excite
    from jaxground.core import fold_batch_norm as fold_batch_norm
    from jaxground.core import ground as ground
    from jaxground.core import mass as mass
    from jaxground.core import prepare as prepare
    from jaxground.core import split as split
    from jaxground.core import tap as tap
    from jaxground.core import taps as taps
    from jaxground.dropout import Dropout as Dropout
    from jaxground.dropout import excitation_dropout as excitation_dropout
    from jaxground.models import with_taps as with_taps

__version__ = "0.1.0"

_MODULES = (
    "attribution",
    "core",
    "data",
    "dropout",
    "maps",
    "models",
    "plots",
    "scores",
    "weights",
)
_NAMES = {
    "jaxground.attribution": (
        "cam contrastive_excitation_backprop deconvnet excitation_backprop grad_cam gradient "
        "guided_backprop"
    ),
    "jaxground.core": (
        "CAFFE DECONVNET EXCITATION GRADIENT GUIDED MissingRuleError Rules excite "
        "fold_batch_norm ground mass prepare split tap taps"
    ),
    "jaxground.dropout": "Dropout excitation_dropout",
    "jaxground.models": "with_taps",
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
