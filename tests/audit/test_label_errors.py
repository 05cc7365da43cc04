import dataclasses

import numpy as np
import pytest
from support import faces

from ferlab.audit import label_errors
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS


def test_find_label_issues_ranks_wrong_labels_first():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 800)
    features = rng.normal(size=(800, 10)) + 3 * np.eye(10)[truth]
    planted = rng.choice(800, 40, replace=False)
    labels = truth.copy()
    labels[planted] = (truth[planted] + rng.integers(1, 4, 40)) % 4
    probabilities = label_errors.out_of_sample_probabilities(
        features, labels, np.arange(800), ("a", "b", "c", "d", "e")
    )
    assert (probabilities[:, 4] == 0).all()  # a class without rows
    issues = label_errors.find_label_issues(labels, probabilities)
    assert np.isin(issues.rows[:40], planted).mean() > 0.8  # 0.05 by chance
    assert (issues.suggested[:20] == truth[issues.rows[:20]]).mean() > 0.9
    assert (np.diff(issues.given_probability - issues.suggested_probability) >= 0).all()
    assert (issues.suggested != labels[issues.rows]).all()


def test_out_of_sample_probabilities_ignore_copies():
    rng = np.random.default_rng(0)
    groups = np.arange(600) // 2
    labels = rng.integers(0, 3, 300)[groups]
    features = rng.normal(size=(300, 200))[groups]
    probabilities = label_errors.out_of_sample_probabilities(features, labels, groups, EMOTIONS[:3])
    assert (
        probabilities.argmax(axis=1) == labels
    ).mean() < 0.42  # 0.9 if copies were in the training folds


def test_find_label_issues_uses_a_threshold_for_each_class():
    """Class 1 is never above 0.5, and still the suggested one."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.6, 0.4], [0.6, 0.4]])
    issues = label_errors.find_label_issues(np.array([0, 0, 0, 1, 1]), probabilities)
    assert issues.rows.tolist() == [2]
    assert issues.suggested.tolist() == [1]


def test_search_label_issues_names_rows_of_the_dataset():
    dataset = faces(200, seed=7)
    labels = dataset.labels.copy()
    labels[150] = (labels[150] + 1) % 7
    dataset = dataclasses.replace(dataset, labels=labels)
    rows = np.arange(50, 200)
    features = np.eye(7)[faces(200, seed=7).labels][rows]
    search = label_errors.search_label_issues(dataset, rows, features, rows)
    assert search.issues.rows.tolist() == [150]
    assert (search.searched, search.agreeing, search.is_informative) == (150, 149, True)


def test_search_label_issues_has_none_when_the_classifier_learns_nothing():
    dataset = faces(200, seed=8)
    features = np.random.default_rng(0).normal(size=(200, 3))
    search = label_errors.search_label_issues(dataset, np.arange(200), features, np.arange(200))
    assert not search.is_informative
    assert len(search.issues) == 0


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([0] * 9 + [1] * 4, range(13)),
        ([0] * 9 + [1] * 9, [*range(9), *[9] * 9]),
        ([0] * 9, range(9)),
    ],
)
def test_out_of_sample_probabilities_require_enough_different_images(labels, groups):
    with pytest.raises(InputError, match="requires"):
        label_errors.out_of_sample_probabilities(
            np.zeros((len(labels), 2)), np.array(labels), np.array(groups), ("a", "b")
        )
