"""Pictures of predictions: the confusion matrix, pseudo-labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ferlab.plots.style import BLUE, GREY, LONGEST_NAME, ORANGE, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def confusion_matrix_figure(
    counts: np.ndarray, class_names: tuple[str, ...], title: str, notes: Sequence[str] = ()
) -> "Figure":
    """Counts and row percentages, with the recall and precision of each class.

    counts: int (num_classes, num_classes), rows are true classes, columns predicted ones.
    notes: lines below the matrix, such as the pairs of classes confused most often.
    """
    from matplotlib.figure import Figure

    size = len(class_names)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    shares = counts / np.maximum(rows, 1)[:, None]
    height = 1.8 + 0.75 * size + 0.17 * len(notes)
    figure = Figure(figsize=(max(6.0, 2.2 + 0.85 * size), height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}\n{shares[row, column]:.0%}" if rows[row] else "0",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[row, column] > 0.55 else "black",
            )
    axes.set_xticks(range(size), _with_shares(class_names, np.diag(counts), columns))
    axes.set_yticks(range(size), _with_shares(class_names, np.diag(counts), rows))
    axes.set_xlabel("predicted class, with its precision")
    axes.set_ylabel("true class, with its recall")
    figure.suptitle(plain(title))
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if notes:
        figure.supxlabel(
            "\n" + "\n".join(plain(note, 70) for note in notes), fontsize=8.5, ha="center"
        )
    return figure


def _with_shares(names: Sequence[str], correct: np.ndarray, totals: np.ndarray) -> list[str]:
    """Each class name with its share of correct images, or a dash if the total is 0."""
    return [
        plain(name, 11) + (f"\n{count / total:.1%}" if total else "\n\N{EN DASH}")
        for name, count, total in zip(names, correct, totals, strict=True)
    ]


def pseudo_labels_figure(
    rounds: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    title: str,
) -> "Figure":
    """The pseudo-labels of each round by class, and their accuracy by confidence.

    rounds: the name of the predictor, its pseudo-labels, int64 (n,), -1 below the threshold, its
    probabilities, float32 (n, num_classes), and the true labels, int64 (n,), -1 where unknown.
    """
    from matplotlib.figure import Figure

    count = len(rounds)
    figure = Figure(figsize=(11, 0.8 + 3.6 * count), layout="constrained")
    figure.suptitle(plain(f"{title}: pseudo-labels"))
    panels = figure.subplots(count, 2, squeeze=False, width_ratios=(1, 1.15))
    for (predictor, labels, probabilities, truth), (left, right) in zip(
        rounds, panels, strict=True
    ):
        _draw_by_class(left, labels, truth, class_names)
        left.set_title(plain(f"by {predictor}"), fontsize=10)
        _draw_by_confidence(right, labels >= 0, probabilities, truth)
    return figure


def _draw_by_class(
    axes: "Axes", labels: np.ndarray, truth: np.ndarray, class_names: Sequence[str]
) -> None:
    """Stacked bars: correct, wrong and unverified pseudo-labels of each class."""
    known, correct = truth >= 0, labels == truth
    start = np.zeros(len(class_names))
    for rows, colour, label in (
        (known & correct, BLUE, "correct"),
        (known & ~correct, ORANGE, "wrong"),
        (~known, GREY, "truth unknown"),
    ):
        counts = np.bincount(labels[rows & (labels >= 0)], minlength=len(start))
        axes.barh(range(len(start)), counts, left=start, color=colour, label=label)
        start = start + counts
    axes.set_yticks(range(len(start)), [plain(name, LONGEST_NAME) for name in class_names])
    axes.invert_yaxis()
    axes.set_xlabel("pseudo-labels (images)")
    axes.legend(fontsize=8)


def _draw_by_confidence(
    axes: "Axes", selected: np.ndarray, probabilities: np.ndarray, truth: np.ndarray
) -> None:
    """A histogram of the confidence and, where the label is known, the accuracy in its bins."""
    from matplotlib.ticker import PercentFormatter

    known, confidence = truth >= 0, probabilities.max(axis=1)
    edges = np.linspace(0, 1, 21)
    for rows, colour, label in (
        (selected, BLUE, "used"),
        (~selected, GREY, "below the threshold"),
    ):
        axes.hist(confidence[rows], edges, color=colour, alpha=0.5, label=label)
    axes.set_xlabel("confidence (probability of the most probable class)")
    axes.set_ylabel("unlabelled images")
    correct = probabilities.argmax(axis=1) == truth
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, 19)
    points = [
        (low + 0.025, correct[rows].mean())
        for index, low in enumerate(edges[:-1])
        if (rows := known & (bins == index)).sum() >= 20
    ]
    if not points:
        return
    accuracy = axes.twinx()
    accuracy.plot(*zip(*points, strict=True), "o-", color=ORANGE, label="accuracy")
    accuracy.plot((0, 1), (0, 1), ":", color="black", label="perfectly calibrated")
    accuracy.set_ylim(0, 1)
    accuracy.set_ylabel("accuracy where the label is known")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    handles = [*axes.get_legend_handles_labels()[0], *accuracy.get_lines()]
    accuracy.legend(handles=handles, fontsize=8, loc="upper left")
