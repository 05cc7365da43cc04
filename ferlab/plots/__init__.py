"""Pictures: matplotlib only, colour-blind safe, legible at the size they are saved.

Functions return a matplotlib Figure, which `save` writes.
"""

from ferlab.plots.datasets import (
    class_counts_figure,
    file_sizes_figure,
    image_grid_figure,
    side_by_side,
)
from ferlab.plots.networks import (
    filters_figure,
    layers_figure,
    saliency_figure,
    save_keras_plot,
)
from ferlab.plots.predictions import confusion_matrix_figure, pseudo_labels_figure
from ferlab.plots.scores import (
    FEW,
    class_scores_figure,
    comparison_figure,
    reliability_figure,
)
from ferlab.plots.style import png, save
from ferlab.plots.trainings import history_figure

__all__ = [
    "FEW",
    "class_counts_figure",
    "class_scores_figure",
    "comparison_figure",
    "confusion_matrix_figure",
    "file_sizes_figure",
    "filters_figure",
    "history_figure",
    "image_grid_figure",
    "layers_figure",
    "png",
    "pseudo_labels_figure",
    "reliability_figure",
    "saliency_figure",
    "save",
    "save_keras_plot",
    "side_by_side",
]
