"""How good a prediction is, and how sure that number is."""

from dataclasses import dataclass

import numpy as np


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
    from scipy.stats import binomtest

    correct, n = int((labels == predicted).sum()), len(labels)
    interval = binomtest(correct, n).proportion_ci(method="wilson")
    return Proportion(correct / n, n, float(interval.low), float(interval.high))


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
