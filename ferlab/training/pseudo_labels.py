"""Pseudo-labels: a model's confident predictions for unlabelled images, used as labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab.errors import InputError, did_you_mean
from ferlab.evaluation import metrics
from ferlab.labels import UNLABELLED, class_index
from ferlab.recipes import SemiRecipe


@dataclass(frozen=True)
class PseudoLabels:
    """A model's predictions for the unlabelled rows.

    labels: int64 (n,), -1 for a row below its threshold, as in scikit-learn. probabilities:
    float32 (n, num_classes). truth: the true labels, int64 (n,), -1 where unknown.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    truth: np.ndarray
    class_names: tuple[str, ...]

    @property
    def confidence(self) -> np.ndarray:
        return self.probabilities.max(axis=1)

    @property
    def is_confident(self) -> np.ndarray:
        """bool (n,): the rows that have a pseudo-label."""
        return self.labels != UNLABELLED

    def targets(self, *, soft: bool) -> np.ndarray:
        """Targets to learn, float32 (n, num_classes); meaningless for a row below its threshold.

        soft: the probabilities instead of the most probable class.
        """
        if soft:
            return self.probabilities
        return np.eye(len(self.class_names), dtype="float32")[self.labels]

    def write_csv(self, path: Path, ids: np.ndarray) -> None:
        """Write columns `id,label,confidence,truth`. ids: str (n,)."""
        import pandas as pd

        columns = {"id": ids, "label": self.labels, "confidence": self.confidence}
        pd.DataFrame({**columns, "truth": self.truth}).to_csv(
            path, index=False, lineterminator="\n", float_format="%.6f"
        )

    def lines(self) -> list[str]:
        """A table to print: number, mean confidence and, where known, accuracy by class."""
        width = max(map(len, (*self.class_names, "pseudo-label")))
        lines = [f"{'pseudo-label':{width}}  rows    confidence  accuracy where the label is known"]
        named = [(name, self.labels == label) for label, name in enumerate(self.class_names)]
        for name, rows in (*named, ("all", self.is_confident)):
            known = rows & (self.truth != UNLABELLED)
            accuracy = "-"
            if known.any():
                accuracy = str(metrics.accuracy(self.truth[known], self.labels[known]))
            confidence = f"{self.confidence[rows].mean():.3f}" if rows.any() else "-"
            lines.append(f"{name:{width}}  {rows.sum():>6,}  {confidence:>10}  {accuracy}")
        return lines


def thresholds(recipe: SemiRecipe, class_names: tuple[str, ...]) -> np.ndarray:
    """The minimum confidence for each class, float64 (num_classes,).

    Raises InputError for a threshold of an unknown class.
    """
    minimum = np.full(len(class_names), recipe.threshold, dtype=np.float64)
    for name, threshold in recipe.class_thresholds.items():
        label = class_index(name, class_names)
        if label is None:
            raise InputError(
                f"--class-thresholds must name classes from {', '.join(class_names)}. "
                f"Received: {name}{did_you_mean(name, class_names)}"
            )
        minimum[label] = threshold
    return minimum


def select(
    probabilities: np.ndarray,
    recipe: SemiRecipe,
    class_names: tuple[str, ...],
    *,
    truth: np.ndarray,
) -> PseudoLabels:
    """Label each row with its most probable class if the confidence reaches the class's threshold.

    probabilities: float32 (n, num_classes). truth: as in `PseudoLabels`.
    """
    labels = probabilities.argmax(axis=1).astype(np.int64)
    labels[probabilities.max(axis=1) < thresholds(recipe, class_names)[labels]] = UNLABELLED
    return PseudoLabels(labels, probabilities, truth, class_names)
