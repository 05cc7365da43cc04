"""Accuracy and its interval."""

import numpy as np
import pytest

from ferlab.metrics import accuracy, accuracy_lines, paired_difference


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
