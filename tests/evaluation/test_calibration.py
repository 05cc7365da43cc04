"""Temperature scaling, and how far confidence is from accuracy."""

import numpy as np
import pytest

from ferlab.errors import InputError
from ferlab.evaluation import calibration
from ferlab.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    with_temperature,
)


def calibrated(count, seed=0, classes=7):
    """Probabilities, and labels drawn from just these."""
    generator = np.random.default_rng(seed)
    probabilities = with_temperature(generator.dirichlet(np.ones(classes), count), 0.5)
    draws = generator.random((count, 1))
    labels = (probabilities.cumsum(axis=1) < draws).sum(axis=1).clip(max=classes - 1)
    return probabilities, labels


@pytest.mark.parametrize("temperature", [0.5, 1, 2, 5])
def test_recovers_the_temperature_that_labels_were_drawn_with(temperature):
    probabilities, labels = calibrated(20_000)
    said = with_temperature(probabilities, 1 / temperature).astype("float32")
    assert fit_temperature(said, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_is_likelier():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.full(5, 0.2), 300)
    labels = np.where(
        np.arange(300) % 3, probabilities.argmax(axis=1), generator.integers(0, 5, 300)
    )
    found = fit_temperature(probabilities, labels)
    assert 1.5 < found < 10
    lowest = negative_log_likelihood(with_temperature(probabilities, found), labels)
    for other in np.geomspace(0.05, 20, 200):
        scaled = with_temperature(probabilities, other)
        assert lowest <= negative_log_likelihood(scaled, labels) + 1e-9


def test_scaling_brings_confidence_to_accuracy():
    probabilities, labels = calibrated(20_000)
    sure = with_temperature(probabilities, 1 / 3)
    mended = with_temperature(sure, fit_temperature(sure, labels))
    assert expected_calibration_error(sure, labels) > 0.1
    assert expected_calibration_error(mended, labels) < 0.02
    assert negative_log_likelihood(mended, labels) < negative_log_likelihood(sure, labels) - 0.1


@pytest.mark.parametrize("temperature", [0.001, 0.05, 0.7, 1, 3, 20])
def test_scaling_keeps_rows_probabilities_and_decisions(temperature):
    given = np.random.default_rng(2).dirichlet(np.ones(7), 500).astype("float32")
    scaled = with_temperature(given, temperature)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(scaled.argmax(axis=1), given.argmax(axis=1))
    if temperature == 1:
        np.testing.assert_allclose(scaled, given, atol=1e-6)
    change = scaled.max(axis=1) - given.max(axis=1)
    assert (change > 0).all() if temperature < 1 else (change < 1e-6).all()


def test_scaling_is_the_softmax_of_scaled_logits():
    logits = np.array([[2.0, 0.0, -1.0], [700.0, 0.0, 699.0]])
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = np.exp([[1.0, 0.0, -0.5]]) / np.exp([[1.0, 0.0, -0.5]]).sum()
    found = with_temperature(softmax / softmax.sum(axis=1, keepdims=True), 2)
    np.testing.assert_allclose(found[0], expected[0])
    assert found[1, 2] / found[1, 0] == pytest.approx(np.exp(-0.5))


def test_rows_that_are_certain():
    certain, labels = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0, 1]], np.array([0, 1, 2, 3, 0, 1])
    assert fit_temperature(certain, labels) == 1
    assert negative_log_likelihood(certain, labels) == 0
    assert expected_calibration_error(certain, labels) == 0
    labels[0] = 1
    assert fit_temperature(certain, labels) == pytest.approx(20, rel=1e-3)  # as soft as it gets
    scaled = with_temperature(certain, 20)
    assert negative_log_likelihood(scaled, labels) < negative_log_likelihood(certain, labels) / 10
    assert expected_calibration_error(certain, labels) == pytest.approx(1 / 6)


def two_classes(confidences):
    return np.stack([confidences, 1 - np.asarray(confidences)], axis=1)


def test_error_by_hand():
    # Bins of a fifth: 0.55 (right) and 0.6 (wrong) share one, 0.9 (right) and 1 (wrong) the last.
    probabilities, labels = two_classes([0.55, 0.6, 0.9, 1.0]), np.array([0, 1, 0, 1])
    found = reliability(probabilities, labels, bins=5)
    np.testing.assert_allclose(found.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert found.counts.tolist() == [0, 0, 2, 0, 2]
    np.testing.assert_allclose(found.confidences, [np.nan, np.nan, 0.575, np.nan, 0.95])
    np.testing.assert_allclose(found.accuracies, [np.nan, np.nan, 0.5, np.nan, 0.5])
    expected = 2 / 4 * abs(0.5 - 0.575) + 2 / 4 * abs(0.5 - 0.95)
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx(expected)
    one_bin = abs(0.5 - (0.55 + 0.6 + 0.9 + 1) / 4)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(one_bin)


def test_a_bin_holds_its_upper_edge():
    confidences = [0.5, np.nextafter(0.5, 1), 0.75, 1.0, 1.0000001]
    found = reliability(two_classes(confidences), np.zeros(5, int), bins=4)
    assert found.counts.tolist() == [0, 1, 2, 2]


def test_calibrated_rows_have_next_to_no_error():
    probabilities, labels = calibrated(100_000)
    assert expected_calibration_error(probabilities, labels) < 0.01
    found = reliability(probabilities, labels)
    assert found.counts.sum() == 100_000
    filled = found.counts > 1000
    np.testing.assert_allclose(found.accuracies[filled], found.confidences[filled], atol=0.04)


def test_likelihood_by_hand():
    probabilities = np.float32([[0.5, 0.5, 0], [0.25, 0.25, 0.5]])
    assert negative_log_likelihood(probabilities, np.array([0, 1])) == pytest.approx(np.log(8) / 2)
    assert np.isfinite(negative_log_likelihood(probabilities, np.array([2, 1])))


MEASURES = ["fit_temperature", "negative_log_likelihood", "expected_calibration_error"]


@pytest.mark.parametrize("name", MEASURES)
def test_rows_without_a_label_are_left_out(name):
    measure = getattr(calibration, name)
    probabilities, labels = calibrated(300, seed=3)
    probabilities = with_temperature(probabilities, 0.4)
    some = np.where(np.arange(300) % 3, labels, -1)
    assert measure(probabilities, some) == measure(probabilities[some >= 0], labels[some >= 0])
    for rows, none in ((0, labels[:0]), (300, np.full(300, -1))):
        with pytest.raises(InputError, match=f"0 of {rows}"):
            measure(probabilities[:rows], none)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_temperatures_that_are_none(temperature):
    with pytest.raises(InputError, match="above 0"):
        with_temperature(np.full((1, 2), 0.5), temperature)


@pytest.mark.parametrize("sharper", [1.0, 1.6])
def test_the_interval_of_the_calibration_error_holds(monkeypatch, sharper):
    monkeypatch.setattr(calibration, "RESAMPLES", 200)
    given, all_labels = calibrated(50_000)
    said = with_temperature(given, 1 / sharper)
    truth = expected_calibration_error(said, all_labels)
    generator, held, at_zero = np.random.default_rng(3), 0, 0
    for _ in range(80):
        rows = generator.integers(0, len(said), 400)
        probabilities, labels = said[rows], all_labels[rows]
        low, high = calibration.calibration_error_interval(probabilities, labels)
        assert low <= expected_calibration_error(probabilities, labels) <= high
        held += low <= truth <= high
        at_zero += low == 0
    assert held / 80 >= 0.85
    assert at_zero >= 72 if sharper == 1 else at_zero <= 8
