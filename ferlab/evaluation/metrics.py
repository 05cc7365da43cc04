"""How good a prediction is, and how sure that number is."""

from dataclasses import dataclass

import numpy as np

from ferlab.errors import InputError

RESAMPLES = 2000  # of a bootstrap: its 95% interval then moves by little with the seed


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
class Estimate:
    """A measure with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{100 * self.value:.2f}% (95% interval {100 * self.low:.2f} to {100 * self.high:.2f})"
        )


Measure = Estimate | Proportion


@dataclass(frozen=True)
class ClassScore:
    """One class. rows: that are of it; predicted: that were taken for it.

    None where there is nothing to divide by: recall without rows, precision of a class that is
    never predicted, F1 of one that is neither.
    """

    rows: int
    predicted: int
    recall: Proportion | None
    precision: Proportion | None
    f1: Estimate | None


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix tells, with 95% intervals; `classes` in the order of its rows."""

    accuracy: Proportion
    balanced_accuracy: Estimate
    macro_precision: Estimate
    macro_recall: Estimate
    macro_f1: Estimate
    classes: tuple[ClassScore, ...]


def scores(counts: np.ndarray) -> Scores:
    """The usual measures of int (num_classes, num_classes) counts, with at least one row in them.

    Values are scikit-learn's. A macro mean is over the classes that have a row or are predicted, in
    which what cannot be divided counts as 0 (`zero_division=0`); balanced accuracy is the mean
    recall of the classes that have a row.

    The intervals of shares of rows are Wilson's. The others come from a percentile bootstrap (Efron
    and Tibshirani 1993, chapter 13) with a fixed seed: rows drawn anew with replacement, which for
    counts is a multinomial draw. Of a class with few rows, or one that is always or never right, it
    is too narrow.
    """
    n = int(counts.sum())
    right, rows, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    values = _measures(right, rows, predicted)

    cells = np.argwhere(counts > 0)
    shares = counts[tuple(cells.T)] / n
    draws = np.random.default_rng(0).multinomial(n, shares, size=RESAMPLES)
    classes = np.arange(len(counts))
    of_row, of_column = (cells[:, [axis]] == classes for axis in (0, 1))
    drawn = _measures(draws @ (of_row & of_column), draws @ of_row, draws @ of_column)

    found = {
        name: np.array([value, *np.percentile(drawn[name], (2.5, 97.5), axis=0)])
        for name, value in values.items()
    }

    def share(correct: int, of: int) -> Proportion | None:
        return proportion(int(correct), int(of)) if of else None

    f1 = found.pop("f1")
    return Scores(
        accuracy=proportion(int(right.sum()), n),
        **{name: Estimate(*map(float, entry)) for name, entry in found.items()},
        classes=tuple(
            ClassScore(
                rows=int(rows[label]),
                predicted=int(predicted[label]),
                recall=share(right[label], rows[label]),
                precision=share(right[label], predicted[label]),
                f1=Estimate(*map(float, f1[:, label])) if rows[label] + predicted[label] else None,
            )
            for label in classes
        ),
    )


def _measures(right: np.ndarray, rows: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Each measure (...,) of counts by class (..., num_classes), and F1 (..., num_classes)."""
    there = rows + predicted > 0

    def divided(by: np.ndarray) -> np.ndarray:
        return right / np.maximum(by, 1)

    def mean(values: np.ndarray, among: np.ndarray) -> np.ndarray:
        return np.where(among, values, 0).sum(axis=-1) / np.maximum(among.sum(axis=-1), 1)

    recall, f1 = divided(rows), divided((rows + predicted) / 2)
    return {
        "balanced_accuracy": mean(recall, rows > 0),
        "macro_precision": mean(divided(predicted), there),
        "macro_recall": mean(recall, there),
        "macro_f1": mean(f1, there),
        "f1": f1,
    }


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
