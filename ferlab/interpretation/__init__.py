"""What a network sees: saliency maps, and the images that its filters and classes ask for."""

from ferlab.interpretation.activation_maximization import Ascent, maximize
from ferlab.interpretation.attribution import METHODS, methods_for, require_methods, saliency
from ferlab.interpretation.networks import first_convolution, layer_named

__all__ = [
    "METHODS",
    "Ascent",
    "first_convolution",
    "layer_named",
    "maximize",
    "methods_for",
    "require_methods",
    "saliency",
]
