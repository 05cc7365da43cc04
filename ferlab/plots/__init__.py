"""The pictures: matplotlib only, colour-blind safe, legible at the size they are saved.

Every function gives a matplotlib Figure, which `save` writes.
"""

from ferlab.plots.datasets import (
    class_counts_figure,
    file_sizes_figure,
    image_grid_figure,
    side_by_side,
)
from ferlab.plots.predictions import confusion_matrix_figure, pseudo_labels_figure
from ferlab.plots.style import png, save
from ferlab.plots.trainings import history_figure

__all__ = [
    "class_counts_figure",
    "confusion_matrix_figure",
    "file_sizes_figure",
    "history_figure",
    "image_grid_figure",
    "png",
    "pseudo_labels_figure",
    "save",
    "side_by_side",
]
