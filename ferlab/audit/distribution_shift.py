"""How much the images and labels of two files or usages differ.

The images are compared with a classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting
Classifier Two-Sample Tests", arXiv:1610.06545): its AUC is 0.5 for two samples of one distribution.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from ferlab.audit.duplicates import thumbnails
from ferlab.audit.rows import Part, Rows
from ferlab.data import Dataset
from ferlab.labels import UNLABELLED

SAMPLE = 5000  # maximum number of images per part
_THUMBNAIL = 16  # side, in pixels, of the classifier's thumbnails
_MIN_GROUPS = 20  # minimum number of distinct images per part for the cross-validation
_Z = 1.959964  # normal quantile of a 95% interval


class Difference(NamedTuple):
    """Two means of a quantity and their difference, second minus first, with its 95% interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    effect: float  # Cohen's d


class TwoSampleAUC(NamedTuple):
    """AUC with its 95% interval (Hanley and McNeil 1982); n: images of both parts."""

    value: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How much two parts differ.

    first, second: the names of the parts
    first_shares, second_shares: float64 (num_classes,), class frequencies; None without labels
    brightness, contrast: difference of the images' means and standard deviations, in grey levels
    auc: AUC of a classifier that separates them; None with fewer than 20 distinct images in one
    """

    first: str
    second: str
    first_shares: np.ndarray | None
    second_shares: np.ndarray | None
    brightness: Difference
    contrast: Difference
    auc: TwoSampleAUC | None


def compare(rows: Rows, usable: np.ndarray, groups: np.ndarray) -> list[Comparison]:
    """Compare the first training part, or else the first part, with every other part.

    usable: bool (n,), rows to compare: leave out blank ones; groups: int (n,), equal for copies
    """
    reference = next((part for part in rows.parts if part.is_training), rows.parts[0])
    return [
        _compare(rows.dataset, reference, other, usable, groups)
        for other in rows.parts
        if other is not reference and usable[other.rows].any() and usable[reference.rows].any()
    ]


def _compare(
    dataset: Dataset, first: Part, second: Part, usable: np.ndarray, groups: np.ndarray
) -> Comparison:
    generator = np.random.default_rng(0)
    first_rows = _sample(first.rows[usable[first.rows]], generator)
    second_rows = _sample(second.rows[usable[second.rows]], generator)
    images = dataset.images[first_rows], dataset.images[second_rows]
    pixels = [side.reshape(len(side), -1) for side in images]
    enough = min(len(np.unique(groups[side])) for side in (first_rows, second_rows)) >= _MIN_GROUPS
    sampled_groups = groups[np.concatenate([first_rows, second_rows])]
    return Comparison(
        first=first.name,
        second=second.name,
        first_shares=_class_shares(dataset, first),
        second_shares=_class_shares(dataset, second),
        brightness=_difference(*(side.mean(axis=1, dtype=np.float32) for side in pixels)),
        contrast=_difference(*(side.std(axis=1, dtype=np.float32) for side in pixels)),
        auc=_two_sample_auc(*images, sampled_groups) if enough else None,
    )


def _sample(rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random sample of at most SAMPLE of these rows, in their order."""
    return np.sort(generator.choice(rows, min(SAMPLE, len(rows)), replace=False))


def _class_shares(dataset: Dataset, part: Part) -> np.ndarray | None:
    labels = dataset.labels[part.rows]
    labels = labels[labels != UNLABELLED]
    return np.bincount(labels, minlength=dataset.num_classes) / len(labels) if len(labels) else None


def _difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of the means of two float samples, which may be of one value each."""
    means = float(first.mean()), float(second.mean())
    difference = means[1] - means[0]
    variances = [side.var(ddof=1) if len(side) > 1 else 0.0 for side in (first, second)]
    half = _Z * np.sqrt(variances[0] / len(first) + variances[1] / len(second))
    pooled = max(np.sqrt(sum(variances) / 2), 1e-6)
    return Difference(*means, difference, difference - half, difference + half, difference / pooled)


def _two_sample_auc(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> TwoSampleAUC:
    """AUC of a cross-validated logistic regression on thumbnails and their squares.

    Copies stay in one fold: the classifier would otherwise recognize a training image's copy.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    small = thumbnails(np.concatenate([first, second]), _THUMBNAIL) / 127.5 - 1
    features = small.reshape(len(small), -1)
    side = np.repeat([0, 1], [len(first), len(second)])
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200)),
        np.concatenate([features, features**2], axis=1),
        side,
        groups=groups,
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        method="decision_function",
    )
    auc = float(roc_auc_score(side, scores))
    above, square = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (len(second) - 1) * (above - auc**2) + (len(first) - 1) * (square - auc**2)
    half = _Z * np.sqrt(max(variance, 0) / (len(first) * len(second)))
    return TwoSampleAUC(auc, max(auc - half, 0.0), min(auc + half, 1.0), len(side))
