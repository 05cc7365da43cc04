"""Pictures of one model, each saved as a PNG, for the root scripts.

`report` is called with the lines to print: the numbers in the picture, and its path.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab import inference, plots
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.evaluation import costs, metrics
from ferlab.interpretation import METHODS, Ascent, Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ferlab.training.semi_supervised import Outcome

Report = Callable[[str], None]


def save_structure(checkpoint: Checkpoint, path: Path, report: Report) -> None:
    """The layers: Keras's own picture where it can draw one, else `plots.layers_figure`."""
    model = checkpoint.sized_model()
    layers = costs.layer_costs(model)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    size = f"{model.count_params():,} parameters, {multiply_adds:,} multiply-adds per image"
    if not plots.save_keras_plot(model, path):
        plots.save(plots.layers_figure(layers, f"{checkpoint.path.name}: {size}"), path)
    report(size)
    report(str(path))


def save_confusion_matrix(
    dataset: Dataset, predicted: np.ndarray, title: str, path: Path, report: Report
) -> None:
    """The confusion matrix with the accuracy and the pairs of classes confused most often."""
    counts = metrics.confusion_counts(dataset.labels, predicted, dataset.num_classes)
    accuracy = f"accuracy {metrics.accuracy(dataset.labels, predicted)}"
    pairs = metrics.most_confused(counts, dataset.class_names)
    figure = plots.confusion_matrix_figure(
        counts, dataset.class_names, f"{title}\n{accuracy}", ["most often confused:", *pairs]
    )
    plots.save(figure, path)
    for line in (accuracy, str(path), *(f"  {pair}" for pair in pairs)):
        report(line)


def save_history(checkpoint: Checkpoint, path: Path, report: Report) -> None:
    """Loss, accuracy and learning rate by epoch; nothing is saved for a model without a history."""
    history = checkpoint.record.history
    if not history:
        report(f"{checkpoint.path}: contains no training history")
        return
    phases = checkpoint.record.phases
    plots.save(plots.history_figure(history, checkpoint.path.name, phases), path)
    report(str(path))


def save_saliency(
    checkpoint: Checkpoint,
    examples: Dataset,
    maps: Mapping[str, np.ndarray],
    title: str,
    path: Path,
    report: Report,
) -> None:
    """Each image with its id, label and prediction, and its map by each method."""
    captions = []
    names, probabilities = examples.class_names, inference.predict(checkpoint, examples)
    for row, label, outputs in zip(examples.ids, examples.labels, probabilities, strict=True):
        true = names[label] if label >= 0 else "unlabelled"
        captions.append(f"#{row} {true}\npredicted: {names[outputs.argmax()]} {outputs.max():.0%}")
    plots.save(saliency_figure(examples.images, captions, maps, title), path)
    report(str(path))


def saliency_figure(
    images: np.ndarray, captions: Sequence[str], maps: Mapping[str, np.ndarray], title: str
) -> "Figure":
    """`plots.saliency_figure` of maps by the name of their method."""
    return plots.saliency_figure(
        images,
        captions,
        {METHODS[name].title: column for name, column in maps.items()},
        title,
        overlaid=[METHODS[name].title for name in maps if METHODS[name].is_coarse],
    )


def save_ascent(
    checkpoint: Checkpoint, target: Target, ascent: Ascent, path: Path, report: Report
) -> None:
    """The image of each unit with its activation."""
    if ascent.dead.any():
        report(f"{ascent.dead.sum()} units are dead: the gradient is 0 on every image tried")
    labels = [
        f"{name}: dead" if dead else f"{name}: {activation:.3g}"
        for name, activation, dead in zip(
            target.names, ascent.activations, ascent.dead, strict=True
        )
    ]
    title = f"{checkpoint.path.name}: {target.title}"
    plots.save(plots.filters_figure(ascent.images, labels, title), path)
    report(str(path))


def save_pseudo_labels(outcome: "Outcome", checkpoint: Path, report: Report = print) -> None:
    """The pseudo-labels of each round, in a PNG beside the checkpoint."""
    path = checkpoint.with_name(f"{checkpoint.stem}_pseudo.png")
    names = outcome.result.record.class_names
    plots.save(plots.pseudo_labels_figure(outcome.rounds(), names, checkpoint.name), path)
    report(str(path))
