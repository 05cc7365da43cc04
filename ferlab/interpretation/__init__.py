"""What a network responds to: saliency maps, and images that maximize a filter or a class.

Importing this package does not import Keras, so that scripts can list METHODS in their help.
"""

from ferlab.interpretation.activation_maximization import (
    Ascent,
    Progress,
    Target,
    maximize,
    select_target,
)
from ferlab.interpretation.attribution import (
    METHODS,
    Method,
    Options,
    map_layer,
    saliency,
    select_methods,
    suitable_methods,
)
from ferlab.interpretation.examples import one_per_class, rows_by_name

__all__ = [
    "METHODS",
    "Ascent",
    "Method",
    "Options",
    "Progress",
    "Target",
    "map_layer",
    "maximize",
    "one_per_class",
    "rows_by_name",
    "saliency",
    "select_methods",
    "select_target",
    "suitable_methods",
]
