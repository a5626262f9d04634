"""Explainers, one method family per module, one signature: `method(f, images, targets, *, at)`."""

from jaxground.attribution.cams import cam as cam
from jaxground.attribution.cams import grad_cam as grad_cam
from jaxground.attribution.excitation import (
    contrastive_excitation_backprop as contrastive_excitation_backprop,
)
from jaxground.attribution.excitation import excitation_backprop as excitation_backprop
from jaxground.attribution.gradients import deconvnet as deconvnet
from jaxground.attribution.gradients import gradient as gradient
from jaxground.attribution.gradients import guided_backprop as guided_backprop
