"""Explainers, one method family per module, one signature: `method(f, images, targets, *, at)`."""

from jaxground.attribution.cams import cam as cam
from jaxground.attribution.cams import grad_cam as grad_cam
from jaxground.attribution.cams import grad_cam_plus_plus as grad_cam_plus_plus
from jaxground.attribution.cams import guided_grad_cam as guided_grad_cam
from jaxground.attribution.cams import layer_cam as layer_cam
from jaxground.attribution.ensembles import smooth_grad as smooth_grad
from jaxground.attribution.ensembles import square_grad as square_grad
from jaxground.attribution.ensembles import var_grad as var_grad
from jaxground.attribution.excitation import (
    contrastive_excitation_backprop as contrastive_excitation_backprop,
)
from jaxground.attribution.excitation import excitation_backprop as excitation_backprop
from jaxground.attribution.extremal import extremal_masks as extremal_masks
from jaxground.attribution.extremal import extremal_perturbation as extremal_perturbation
from jaxground.attribution.gradients import deconvnet as deconvnet
from jaxground.attribution.gradients import gradient as gradient
from jaxground.attribution.gradients import guided_backprop as guided_backprop
from jaxground.attribution.gradients import input_x_gradient as input_x_gradient
from jaxground.attribution.gradients import signed_gradient as signed_gradient
from jaxground.attribution.integrated import integrated_gradients as integrated_gradients
from jaxground.attribution.integrated import score_difference as score_difference
from jaxground.attribution.multi_scale import multi_scale as multi_scale
from jaxground.attribution.perturbation import occlusion as occlusion
from jaxground.attribution.perturbation import rise as rise
from jaxground.attribution.relevance import lrp as lrp
from jaxground.attribution.score_cam import score_cam as score_cam
