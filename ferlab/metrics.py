"""How good a prediction is, and how sure that number is."""

from dataclasses import dataclass

import numpy as np

from ferlab.errors import InputError


@dataclass(frozen=True)
class Proportion:
    """A share of n with its 95% Wilson interval (Wilson 1927)."""

    value: float
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{100 * self.value:.2f}% (n={self.n}, 95% interval "
            f"{100 * self.low:.2f} to {100 * self.high:.2f})"
        )


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> Proportion:
    """The share of rows, int (n,) each, whose prediction is the label. n must be at least 1."""
    return proportion(int((labels == predicted).sum()), len(labels))


def proportion(correct: int, n: int) -> Proportion:
    """`correct` of n, which must be at least 1."""
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(method="wilson")
    return Proportion(correct / n, n, float(interval.low), float(interval.high))


def require_labels(labels: np.ndarray, source: str) -> None:
    """Raise InputError if a row has no label."""
    missing = int((labels < 0).sum())
    if missing:
        raise InputError(f"{source}: every row must have a label. Received: {missing} without")


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (num_classes, num_classes): rows the true class, columns the predicted."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=range(num_classes))


def most_confused(counts: np.ndarray, class_names: tuple[str, ...], count: int = 7) -> list[str]:
    """The largest cells off the diagonal: 'fear taken for sad: 582'."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    cells = [np.unravel_index(cell, wrong.shape) for cell in order]
    return [
        f"{class_names[row]} taken for {class_names[column]}: {wrong[row, column]:,}"
        for row, column in cells
        if wrong[row, column]
    ]


def accuracy_lines(
    labels: np.ndarray, predicted: np.ndarray, usage: np.ndarray | None = None
) -> list[str]:
    """A line to print for each usage that has labelled rows; none without labelled rows."""
    parts = {"": labels >= 0}
    if usage is not None:
        parts = {f"{name} ": (usage == name) & (labels >= 0) for name in dict.fromkeys(usage)}
    return [
        f"{name}accuracy {accuracy(labels[rows], predicted[rows])}"
        for name, rows in parts.items()
        if rows.any()
    ]
