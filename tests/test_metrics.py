"""Accuracy and its interval."""

import numpy as np
import pytest

from ferlab.metrics import accuracy, accuracy_lines


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
