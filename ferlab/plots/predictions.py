"""Pictures of predictions: the confusion matrix, pseudo-labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ferlab.plots.style import BLUE, GREY, LONGEST_NAME, ORANGE, plain

if TYPE_CHECKING:
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
    """For each round the pseudo-labels by class, and their accuracy by confidence.

    rounds: the name of the predictor, its pseudo-labels, int64 (n,), -1 below the threshold, its
    probabilities, float32 (n, num_classes), and the true labels, int64 (n,), -1 where unknown.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    count = len(rounds)
    figure = Figure(figsize=(11, 0.8 + 3.6 * count), layout="constrained")
    figure.suptitle(plain(f"{title}: pseudo-labels"))
    panels = figure.subplots(count, 2, squeeze=False, width_ratios=(1, 1.15))
    for (predictor, labels, probabilities, truth), (by_class, by_confidence) in zip(
        rounds, panels, strict=True
    ):
        known, selected = truth >= 0, labels >= 0
        correct = labels == truth
        confidence = probabilities.max(axis=1)
        start = np.zeros(len(class_names))
        for rows, colour, label in (
            (known & correct, BLUE, "correct"),
            (known & ~correct, ORANGE, "wrong"),
            (~known, GREY, "truth unknown"),
        ):
            counts = np.bincount(labels[rows & selected], minlength=len(start))
            by_class.barh(range(len(start)), counts, left=start, color=colour, label=label)
            start = start + counts
        by_class.set_yticks(range(len(start)), [plain(name, LONGEST_NAME) for name in class_names])
        by_class.invert_yaxis()
        by_class.set_xlabel("pseudo-labels (images)")
        by_class.set_title(plain(f"by {predictor}"), fontsize=10)
        by_class.legend(fontsize=8)

        edges = np.linspace(0, 1, 21)
        for rows, colour, label in (
            (selected, BLUE, "used"),
            (~selected, GREY, "below the threshold"),
        ):
            by_confidence.hist(confidence[rows], edges, color=colour, alpha=0.5, label=label)
        by_confidence.set_xlabel("confidence (probability of the most probable class)")
        by_confidence.set_ylabel("unlabelled images")
        predicted = probabilities.argmax(axis=1) == truth
        bins = np.clip(np.digitize(confidence, edges) - 1, 0, 19)
        shares = [
            (low + 0.025, predicted[rows].mean())
            for index, low in enumerate(edges[:-1])
            if (rows := known & (bins == index)).sum() >= 20
        ]
        if shares:
            accuracy = by_confidence.twinx()
            accuracy.plot(*zip(*shares, strict=True), "o-", color=ORANGE, label="accuracy")
            accuracy.plot((0, 1), (0, 1), ":", color="black", label="perfectly calibrated")
            accuracy.set_ylim(0, 1)
            accuracy.set_ylabel("accuracy where the label is known")
            accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            handles = [*by_confidence.get_legend_handles_labels()[0], *accuracy.get_lines()]
            accuracy.legend(handles=handles, fontsize=8, loc="upper left")
    return figure
