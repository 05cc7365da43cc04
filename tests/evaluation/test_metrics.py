"""Accuracy and its interval."""

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
    found = accuracy(labels, predicted)
    assert (found.n, round(found.value, 4)) == (263, 0.3080)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_line_for_each_usage_with_labels():
    labels = np.array([0, 1, 1, -1, 2])
    predicted = np.array([0, 0, 1, 1, 2])
    usage = np.array(["Training", "Training", "PublicTest", "PrivateTest", "PublicTest"])
    training, public = accuracy_lines(labels, predicted, usage)
    assert training.startswith("Training accuracy 50.00% (n=2")
    assert public.startswith("PublicTest accuracy 100.00% (n=2")
    (overall,) = accuracy_lines(labels, predicted)
    assert overall.startswith("accuracy 75.00% (n=4")
    assert accuracy_lines(np.array([-1]), np.array([0])) == []


def test_a_difference_of_two_models_is_paired():
    first = np.array([True] * 60 + [False] * 40)
    second = np.array([True] * 50 + [False] * 10 + [True] * 4 + [False] * 36)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(0.06)
    # Agresti and Min 2005: a half added to 50, 10, 4 and 36, then Wald's interval.
    share, half = 6 / 102, 1.959964 * np.sqrt((10.5 + 4.5) / 102 - (6 / 102) ** 2) / np.sqrt(102)
    assert (found.low, found.high) == pytest.approx((share - half, share + half))
    reverse = paired_difference(second, first)
    assert (reverse.value, reverse.low) == pytest.approx((-found.value, -found.high))
    same = paired_difference(first, first)
    assert same.low < 0 < same.high
    assert str(same).startswith("+0.00 points (n=100")
    few = paired_difference(np.array([True]), np.array([False]))
    assert few.high <= 1


def test_the_interval_of_a_difference_holds_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        draws = generator.random(200)
        first, second = draws < 0.65, (draws > 0.08) & (draws < 0.70)
        found = paired_difference(first, second)
        held += found.low <= 0.03 <= found.high
    assert 0.93 <= held / 1000 <= 0.985


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label")
def test_scores_are_scikit_learns():
    generator = np.random.default_rng(0)
    for _ in range(50):
        num_classes, n = generator.integers(2, 8), generator.integers(1, 60)
        labels = generator.integers(0, num_classes, n)
        if generator.random() < 0.5:  # a class without rows
            labels = np.minimum(labels, num_classes - 2)
        guessed = generator.integers(0, num_classes, n)
        predicted = np.where(generator.random(n) < 0.5, labels, guessed)
        found = scores(confusion_counts(labels, predicted, num_classes))
        assert found.accuracy == accuracy(labels, predicted)
        assert found.balanced_accuracy.value == pytest.approx(
            balanced_accuracy_score(labels, predicted)
        )
        *macro, _ = precision_recall_fscore_support(
            labels, predicted, average="macro", zero_division=0
        )
        ours = (found.macro_precision, found.macro_recall, found.macro_f1)
        assert [measure.value for measure in ours] == pytest.approx(macro)
        by_class = precision_recall_fscore_support(
            labels, predicted, labels=range(num_classes), zero_division=np.nan
        )
        for one, *expected in zip(found.classes, *by_class, strict=True):
            ours = [np.nan if m is None else m.value for m in (one.precision, one.recall, one.f1)]
            assert [*ours, one.rows] == pytest.approx(expected, nan_ok=True)


def test_a_class_without_rows_has_no_recall_and_lowers_the_macro_mean_alone():
    found = scores(np.array([[8, 0, 2], [0, 10, 0], [0, 0, 0]]))
    assert found.classes[2].recall is None
    assert found.classes[2].precision.value == 0
    assert found.balanced_accuracy.value == pytest.approx(0.9)
    assert found.macro_recall.value == pytest.approx(0.6)
    absent = scores(np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]))
    assert (absent.classes[2].precision, absent.classes[2].f1) == (None, None)
    assert absent.macro_recall.value == pytest.approx(0.9)


def test_the_intervals_of_macro_means_hold_as_often_as_they_say():
    generator = np.random.default_rng(0)
    shares = np.array([[24, 3, 3, 2], [2, 9, 2, 1], [3, 2, 16, 5], [1, 1, 5, 21]]) / 100
    truth = scores(np.round(shares * 1e6).astype(int))
    names = ("balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
    held = dict.fromkeys(names, 0)
    for _ in range(200):
        found = scores(generator.multinomial(300, shares.ravel()).reshape(4, 4))
        for name in names:
            estimate = getattr(found, name)
            held[name] += estimate.low <= getattr(truth, name).value <= estimate.high
    for name, times in held.items():
        assert 0.91 <= times / 200 <= 0.98, name


def test_intervals_repeat():
    counts = np.array([[50, 12], [7, 31]])
    assert scores(counts) == scores(counts)
