"""Pseudo-labels: what a model says of unlabelled images, where it is confident enough."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab.errors import InputError
from ferlab.evaluation import metrics
from ferlab.labels import UNLABELLED
from ferlab.recipes import SemiRecipe


@dataclass(frozen=True)
class PseudoLabels:
    """What a model says of the unlabelled rows.

    labels: int64 (n,), -1 for a row below its threshold, which is scikit-learn's word for it.
    probabilities: float32 (n, num_classes). truth: int64 (n,), -1 where nobody knows.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    truth: np.ndarray
    class_names: tuple[str, ...]

    @property
    def confidence(self) -> np.ndarray:
        return self.probabilities.max(axis=1)

    @property
    def chosen(self) -> np.ndarray:
        return self.labels != UNLABELLED

    def targets(self, *, soft: bool) -> np.ndarray:
        """float32 (n, num_classes): what is learned for each row, of use where it is chosen."""
        if soft:
            return self.probabilities
        return np.eye(len(self.class_names), dtype="float32")[self.labels]

    def write_csv(self, path: Path, ids: np.ndarray) -> None:
        """`id,label,confidence,truth`, a row for each; ids: str (n,)."""
        import pandas as pd

        columns = {"id": ids, "label": self.labels, "confidence": self.confidence}
        pd.DataFrame({**columns, "truth": self.truth}).to_csv(
            path, index=False, lineterminator="\n", float_format="%.6f"
        )

    def lines(self) -> list[str]:
        """A table to print: how many, how confident, and how right where the truth is known."""
        width = max(map(len, (*self.class_names, "pseudo-label")))
        lines = [f"{'pseudo-label':{width}}  rows    confidence  right where the truth is known"]
        named = [(name, self.labels == label) for label, name in enumerate(self.class_names)]
        for name, rows in (*named, ("all", self.chosen)):
            known = rows & (self.truth != UNLABELLED)
            right = "-"
            if known.any():
                right = str(metrics.accuracy(self.truth[known], self.labels[known]))
            confidence = f"{self.confidence[rows].mean():.3f}" if rows.any() else "-"
            lines.append(f"{name:{width}}  {rows.sum():>6,}  {confidence:>10}  {right}")
        return lines


def thresholds(recipe: SemiRecipe, class_names: tuple[str, ...]) -> np.ndarray:
    """float64 (num_classes,): the least confidence for each class. Raises InputError."""
    for name in recipe.class_thresholds:
        if name not in class_names:
            raise InputError(
                f"--class-thresholds must name classes of {', '.join(class_names)}. "
                f"Received: {name}"
            )
    return np.array([recipe.class_thresholds.get(name, recipe.threshold) for name in class_names])


def choose(
    probabilities: np.ndarray,
    recipe: SemiRecipe,
    class_names: tuple[str, ...],
    *,
    truth: np.ndarray,
) -> PseudoLabels:
    """The most probable class of each row, where it reaches the class's threshold.

    probabilities: float32 (n, num_classes); truth: int64 (n,), -1 where nobody knows.
    """
    labels = probabilities.argmax(axis=1).astype(np.int64)
    labels[probabilities.max(axis=1) < thresholds(recipe, class_names)[labels]] = UNLABELLED
    return PseudoLabels(labels, probabilities, truth, class_names)
