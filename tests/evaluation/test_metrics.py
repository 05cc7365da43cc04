"""Accuracy, class scores and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from ferlab.evaluation.metrics import (
    accuracy,
    accuracy_lines,
    confusion_counts,
    paired_difference,
    scores,
)


def test_wilson_interval():
    # Wilson's interval for 81 of 263, worked out in Newcombe (1998), table I.
    labels = np.zeros(263, int)
    predicted = np.ones(263, int)
    predicted[:81] = 0
    estimate = accuracy(labels, predicted)
    assert (estimate.n, round(estimate.value, 4)) == (263, 0.3080)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_accuracy_lines_has_a_line_for_each_usage_with_labels():
    labels = np.array([0, 1, 1, -1, 2])
    predicted = np.array([0, 0, 1, 1, 2])
    usage = np.array(["Training", "Training", "PublicTest", "PrivateTest", "PublicTest"])
    training, public = accuracy_lines(labels, predicted, usage)
    assert training.startswith("Training accuracy 50.00% (n=2")
    assert public.startswith("PublicTest accuracy 100.00% (n=2")
    (overall,) = accuracy_lines(labels, predicted)
    assert overall.startswith("accuracy 75.00% (n=4")
    assert accuracy_lines(np.array([-1]), np.array([0])) == []


def test_paired_difference_of_two_models():
    first = np.array([True] * 60 + [False] * 40)
    second = np.array([True] * 50 + [False] * 10 + [True] * 4 + [False] * 36)
    difference = paired_difference(first, second)
    assert difference.value == pytest.approx(0.06)
    # Agresti and Min 2005: a half added to 50, 10, 4 and 36, then Wald's interval.
    share, half = 6 / 102, 1.959964 * np.sqrt((10.5 + 4.5) / 102 - (6 / 102) ** 2) / np.sqrt(102)
    assert (difference.low, difference.high) == pytest.approx((share - half, share + half))
    reverse = paired_difference(second, first)
    assert (reverse.value, reverse.low) == pytest.approx((-difference.value, -difference.high))
    same = paired_difference(first, first)
    assert same.low < 0 < same.high
    assert str(same).startswith("+0.00 points (n=100")
    few = paired_difference(np.array([True]), np.array([False]))
    assert few.high <= 1


def test_paired_difference_interval_has_its_coverage():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        draws = generator.random(200)
        first, second = draws < 0.65, (draws > 0.08) & (draws < 0.70)
        difference = paired_difference(first, second)
        covered += difference.low <= 0.03 <= difference.high
    assert 0.93 <= covered / 1000 <= 0.985


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label")
def test_scores_equal_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    for _ in range(50):
        num_classes, n = generator.integers(2, 8), generator.integers(1, 60)
        labels = generator.integers(0, num_classes, n)
        if generator.random() < 0.5:  # a class without rows
            labels = np.minimum(labels, num_classes - 2)
        guessed = generator.integers(0, num_classes, n)
        predicted = np.where(generator.random(n) < 0.5, labels, guessed)
        result = scores(confusion_counts(labels, predicted, num_classes))
        assert result.accuracy == accuracy(labels, predicted)
        assert result.balanced_accuracy.value == pytest.approx(
            balanced_accuracy_score(labels, predicted)
        )
        *macro, _ = precision_recall_fscore_support(
            labels, predicted, average="macro", zero_division=0
        )
        ours = (result.macro_precision, result.macro_recall, result.macro_f1)
        assert [measure.value for measure in ours] == pytest.approx(macro)
        by_class = precision_recall_fscore_support(
            labels, predicted, labels=range(num_classes), zero_division=np.nan
        )
        for one, *expected in zip(result.classes, *by_class, strict=True):
            ours = [np.nan if m is None else m.value for m in (one.precision, one.recall, one.f1)]
            assert [*ours, one.rows] == pytest.approx(expected, nan_ok=True)


def test_scores_of_a_class_without_rows():
    result = scores(np.array([[8, 0, 2], [0, 10, 0], [0, 0, 0]]))
    assert result.classes[2].recall is None
    assert result.classes[2].precision.value == 0
    assert result.balanced_accuracy.value == pytest.approx(0.9)
    assert result.macro_recall.value == pytest.approx(0.6)
    absent = scores(np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]))
    assert (absent.classes[2].precision, absent.classes[2].f1) == (None, None)
    assert absent.macro_recall.value == pytest.approx(0.9)


@pytest.mark.slow
def test_scores_intervals_of_macro_means_have_their_coverage():
    generator = np.random.default_rng(0)
    shares = np.array([[24, 3, 3, 2], [2, 9, 2, 1], [3, 2, 16, 5], [1, 1, 5, 21]]) / 100
    truth = scores(np.round(shares * 1e6).astype(int))
    names = ("balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
    covered = dict.fromkeys(names, 0)
    for _ in range(200):
        sample = scores(generator.multinomial(300, shares.ravel()).reshape(4, 4))
        for name in names:
            estimate = getattr(sample, name)
            covered[name] += estimate.low <= getattr(truth, name).value <= estimate.high
    for name, times in covered.items():
        assert 0.91 <= times / 200 <= 0.98, name


def test_scores_intervals_are_deterministic():
    counts = np.array([[50, 12], [7, 31]])
    assert scores(counts) == scores(counts)
