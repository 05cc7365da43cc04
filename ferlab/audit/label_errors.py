"""Labels that are likely wrong, by confident learning.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, arXiv:1911.00068. A row is a label issue if a classifier that was not trained on it
gives another class a probability of at least that class's threshold: the mean predicted probability
of the class over the rows labelled with it.

Measured on FER-2013's PublicTest, with a 64% model that was not trained on it and 144 of 3,589
labels replaced at random, five seeds: 37% of the first 144 issues were replaced labels (4% by
chance) and 54% of the first 50; all issues, about 800, contained 68% of the replaced labels.
"""

import dataclasses
import warnings

import numpy as np

from ferlab.data import Dataset
from ferlab.errors import InputError

FOLDS = 5
STRENGTH = 0.01  # scikit-learn's C: strong regularization, against single wrong labels
MAX_FEATURES = 256  # principal components of a model's features


@dataclasses.dataclass(frozen=True)
class LabelIssues:
    """Rows whose label is likely wrong, most likely first.

    rows: int64 (m,)
    suggested: int64 (m,), the class that is more likely
    suggested_probability, given_probability: float64 (m,), of that class and of the row's label
    """

    rows: np.ndarray
    suggested: np.ndarray
    suggested_probability: np.ndarray
    given_probability: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclasses.dataclass(frozen=True)
class LabelSearch:
    """The result of `search_label_issues`.

    issues: empty where the classifier is no better than the baseline
    searched: the number of rows; agreeing: those for which the classifier predicts the given label
    baseline: the share of the most frequent class
    """

    issues: LabelIssues
    searched: int
    agreeing: int
    baseline: float

    @property
    def is_informative(self) -> bool:
        """Whether the classifier predicts the labels better than the most frequent class does.

        By the lower end of the 95% Wilson interval of its agreement.
        """
        from scipy.stats import binomtest

        interval = binomtest(self.agreeing, self.searched).proportion_ci(method="wilson")
        return bool(interval.low > self.baseline)


def search_label_issues(
    dataset: Dataset, rows: np.ndarray, features: np.ndarray, groups: np.ndarray
) -> LabelSearch:
    """Search some rows of a dataset for label issues, with a cross-validated classifier.

    rows: int (m,), labelled rows of `dataset`; the issues name rows of `dataset` too
    features: float (m, k), of these rows; groups: int (m,), equal for copies

    Raises InputError for too few images of a class.
    """
    labels = dataset.labels[rows]
    probabilities = out_of_sample_probabilities(features, labels, groups, dataset.class_names)
    issues = find_label_issues(labels, probabilities)
    search = LabelSearch(
        issues=dataclasses.replace(issues, rows=rows[issues.rows]),
        searched=len(rows),
        agreeing=int((labels == probabilities.argmax(axis=1)).sum()),
        baseline=float(np.bincount(labels).max() / len(labels)),
    )
    if search.is_informative:
        return search
    none = LabelIssues(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    return dataclasses.replace(search, issues=none)


def out_of_sample_probabilities(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    *,
    seed: int = 0,
) -> np.ndarray:
    """float64 (n, num_classes), by logistic regressions trained on neither the row nor its copies.

    features: float (n, k); labels: int64 (n,), 0 and above; groups: int (n,), equal for copies

    Raises InputError for a class that has rows, but fewer than FOLDS or fewer than two groups.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _require_enough(labels, groups, class_names)
    features = features.astype(np.float32)
    if features.shape[1] > MAX_FEATURES:
        components = min(MAX_FEATURES, len(features))
        features = PCA(components, random_state=seed).fit_transform(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about small classes and non-convergence
        predicted = cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=200)),
            features,
            labels,
            groups=groups,
            cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed),
            method="predict_proba",
        )
    probabilities = np.zeros((len(labels), len(class_names)))
    probabilities[:, np.unique(labels)] = predicted
    return probabilities


def _require_enough(labels: np.ndarray, groups: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Raise InputError unless every class with rows can be in all folds."""
    present, counts = np.unique(labels, return_counts=True)
    for label, count in zip(present, counts, strict=True):
        if count < FOLDS or len(np.unique(groups[labels == label])) < 2:
            raise InputError(
                f"the search for wrong labels requires {FOLDS} or more different images of a "
                f"class. Received: {count} of {class_names[label]}"
            )
    if len(present) < 2:
        raise InputError(
            "the search for wrong labels requires two or more classes. "
            f"Received: only {class_names[present[0]]}"
        )


def find_label_issues(labels: np.ndarray, probabilities: np.ndarray) -> LabelIssues:
    """The off-diagonal rows of the confident joint, ranked by normalized margin.

    labels: int64 (n,), 0 and above; probabilities: float (n, num_classes), out of sample

    A row's suggested class is the most probable of those that reach their threshold: the average
    probability of the class in the rows labelled with it.

    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.05, 0.95], [0.1, 0.9]])
    >>> issues = find_label_issues(np.array([0, 0, 0, 1]), probabilities)
    >>> issues.rows, issues.suggested
    (array([2]), array([1]))
    """
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=given, minlength=probabilities.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    suggested = confident.argmax(axis=1)
    issues = np.flatnonzero((confident[rows, suggested] >= 0) & (suggested != labels))
    margins = given[issues] - probabilities[issues, suggested[issues]]
    issues = issues[np.argsort(margins, kind="stable")]
    return LabelIssues(
        rows=issues,
        suggested=suggested[issues],
        suggested_probability=probabilities[issues, suggested[issues]],
        given_probability=given[issues],
    )
