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


@dataclass(frozen=True)
class Difference(Proportion):
    """How much larger one accuracy is than another on the same n rows, with a 95% interval."""

    def __str__(self) -> str:
        return (
            f"{100 * self.value:+.2f} points (n={self.n}, 95% interval "
            f"{100 * self.low:+.2f} to {100 * self.high:+.2f})"
        )


def paired_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The accuracy of `first` less that of `second`, bool (n,) each: which rows they have right.

    The interval is Wald's for matched pairs with half a row added to each cell of their table
    (Agresti and Min 2005), which holds for few rows too. It tells what other rows might have shown,
    not what another seed might.
    """
    n = len(first)
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    total, more, less = n + 2, gained + 0.5, lost + 0.5
    middle = (more - less) / total
    half = 1.959964 * np.sqrt((more + less) / total - middle**2) / np.sqrt(total)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Difference((gained - lost) / n, n, float(low), float(high))


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
