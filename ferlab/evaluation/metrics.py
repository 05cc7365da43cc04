"""Accuracy, recall, precision and F1, each with its 95% interval."""

from dataclasses import dataclass

import numpy as np

from ferlab.errors import InputError

RESAMPLES = 2000  # bootstrap samples; enough for intervals that depend little on the seed


@dataclass(frozen=True)
class Proportion:
    """A proportion of n rows with its 95% Wilson interval (Wilson 1927)."""

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
    """The proportion of rows predicted correctly; both are int (n,), n at least 1.

    >>> import numpy as np
    >>> str(accuracy(np.array([3, 3, 0, 6]), np.array([3, 3, 2, 6])))
    '75.00% (n=4, 95% interval 30.06 to 95.44)'
    """
    return proportion(int((labels == predicted).sum()), len(labels))


def proportion(correct: int, n: int) -> Proportion:
    """`correct` of n rows; n is at least 1.

    >>> print(proportion(70, 100))
    70.00% (n=100, 95% interval 60.42 to 78.11)
    """
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
    """The scores of one class. rows: its support; predicted: rows predicted as it.

    None if undefined: recall without rows, precision of a class that is never predicted, F1 of a
    class without both.
    """

    rows: int
    predicted: int
    recall: Proportion | None
    precision: Proportion | None
    f1: Estimate | None


@dataclass(frozen=True)
class Scores:
    """The scores of a confusion matrix; `classes` in the order of its rows."""

    accuracy: Proportion
    balanced_accuracy: Estimate
    macro_precision: Estimate
    macro_recall: Estimate
    macro_f1: Estimate
    classes: tuple[ClassScore, ...]


def scores(counts: np.ndarray) -> Scores:
    """The scores of a confusion matrix, int (num_classes, num_classes), of at least one row.

    Values equal scikit-learn's. Macro means are over the classes that have support or are
    predicted, with undefined values as 0 (`zero_division=0`); balanced accuracy is the mean recall
    of the classes with support.

    Intervals of proportions are Wilson's. The others are percentile bootstrap intervals (Efron and
    Tibshirani 1993, chapter 13) with a fixed seed: resampling rows is a multinomial draw of the
    counts. They are too narrow for a class with few rows and for one that is always or never
    correct.
    """
    n = int(counts.sum())
    correct, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    values = _measures(correct, support, predicted)

    cells = np.argwhere(counts > 0)
    shares = counts[tuple(cells.T)] / n
    draws = np.random.default_rng(0).multinomial(n, shares, size=RESAMPLES)
    classes = np.arange(len(counts))
    in_row, in_column = (cells[:, [axis]] == classes for axis in (0, 1))
    resampled = _measures(draws @ (in_row & in_column), draws @ in_row, draws @ in_column)

    intervals = {
        name: np.array([value, *np.percentile(resampled[name], (2.5, 97.5), axis=0)])
        for name, value in values.items()
    }

    def share(correct: int, count: int) -> Proportion | None:
        return proportion(int(correct), int(count)) if count else None

    f1 = intervals.pop("f1")
    return Scores(
        accuracy=proportion(int(correct.sum()), n),
        **{name: Estimate(*map(float, entry)) for name, entry in intervals.items()},
        classes=tuple(
            ClassScore(
                rows=int(support[label]),
                predicted=int(predicted[label]),
                recall=share(correct[label], support[label]),
                precision=share(correct[label], predicted[label]),
                f1=(
                    Estimate(*map(float, f1[:, label]))
                    if support[label] + predicted[label]
                    else None
                ),
            )
            for label in classes
        ),
    )


def _measures(
    correct: np.ndarray, support: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Each measure (...,) of counts by class (..., num_classes), and F1 (..., num_classes)."""
    is_present = support + predicted > 0

    def share_of(counts: np.ndarray) -> np.ndarray:
        return correct / np.maximum(counts, 1)

    def mean(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.where(classes, values, 0).sum(axis=-1) / np.maximum(classes.sum(axis=-1), 1)

    recall, f1 = share_of(support), share_of((support + predicted) / 2)
    return {
        "balanced_accuracy": mean(recall, support > 0),
        "macro_precision": mean(share_of(predicted), is_present),
        "macro_recall": mean(recall, is_present),
        "macro_f1": mean(f1, is_present),
        "f1": f1,
    }


@dataclass(frozen=True)
class Difference(Proportion):
    """The difference of two accuracies on the same n rows, with its 95% interval."""

    def __str__(self) -> str:
        return (
            f"{100 * self.value:+.2f} points (n={self.n}, 95% interval "
            f"{100 * self.low:+.2f} to {100 * self.high:+.2f})"
        )


def paired_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The accuracy of `first` minus that of `second`, bool (n,) each: whether a row is correct.

    The interval is Wald's for matched pairs with half a row added to each cell of their table
    (Agresti and Min 2005), which is valid for few rows too. It covers the sample of rows, not the
    training seed.
    """
    from scipy.stats import norm

    n = len(first)
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    total, more, less = n + 2, gained + 0.5, lost + 0.5
    middle = (more - less) / total
    half = norm.ppf(0.975) * np.sqrt((more + less) / total - middle**2) / np.sqrt(total)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Difference((gained - lost) / n, n, float(low), float(high))


def require_labels(labels: np.ndarray, source: str) -> None:
    """Raise InputError if a row has no label."""
    missing = int((labels < 0).sum())
    if missing:
        raise InputError(f"{source}: every row must have a label. Received: {missing} without one")


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (num_classes, num_classes): rows the true class, columns the predicted."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=range(num_classes))


def most_confused(counts: np.ndarray, class_names: tuple[str, ...], count: int = 7) -> list[str]:
    """The largest cells off the diagonal: 'fear predicted as sad: 582'."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    cells = [np.unravel_index(cell, wrong.shape) for cell in order]
    return [
        f"{class_names[row]} predicted as {class_names[column]}: {wrong[row, column]:,}"
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
