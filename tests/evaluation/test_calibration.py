"""Temperature scaling and the calibration error."""

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
    """Probabilities, and labels drawn from them."""
    generator = np.random.default_rng(seed)
    probabilities = with_temperature(generator.dirichlet(np.ones(classes), count), 0.5)
    draws = generator.random((count, 1))
    labels = (probabilities.cumsum(axis=1) < draws).sum(axis=1).clip(max=classes - 1)
    return probabilities, labels


@pytest.mark.parametrize("temperature", [0.5, 1, 2, 5])
def test_fit_temperature_recovers_a_known_temperature(temperature):
    probabilities, labels = calibrated(20_000)
    scaled = with_temperature(probabilities, 1 / temperature).astype("float32")
    assert fit_temperature(scaled, labels) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_minimizes_the_negative_log_likelihood():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.full(5, 0.2), 300)
    labels = np.where(
        np.arange(300) % 3, probabilities.argmax(axis=1), generator.integers(0, 5, 300)
    )
    temperature = fit_temperature(probabilities, labels)
    assert 1.5 < temperature < 10
    lowest = negative_log_likelihood(with_temperature(probabilities, temperature), labels)
    for other in np.geomspace(0.05, 20, 200):
        scaled = with_temperature(probabilities, other)
        assert lowest <= negative_log_likelihood(scaled, labels) + 1e-9


def test_temperature_scaling_reduces_the_calibration_error():
    probabilities, labels = calibrated(20_000)
    overconfident = with_temperature(probabilities, 1 / 3)
    rescaled = with_temperature(overconfident, fit_temperature(overconfident, labels))
    assert expected_calibration_error(overconfident, labels) > 0.1
    assert expected_calibration_error(rescaled, labels) < 0.02
    assert (
        negative_log_likelihood(rescaled, labels)
        < negative_log_likelihood(overconfident, labels) - 0.1
    )


@pytest.mark.parametrize("temperature", [0.001, 0.05, 0.7, 1, 3, 20])
def test_temperature_scaling_gives_probabilities_and_keeps_predictions(temperature):
    probabilities = np.random.default_rng(2).dirichlet(np.ones(7), 500).astype("float32")
    scaled = with_temperature(probabilities, temperature)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    if temperature == 1:
        np.testing.assert_allclose(scaled, probabilities, atol=1e-6)
    change = scaled.max(axis=1) - probabilities.max(axis=1)
    assert (change > 0).all() if temperature < 1 else (change < 1e-6).all()


def test_temperature_scaling_equals_the_softmax_of_scaled_logits():
    logits = np.array([[2.0, 0.0, -1.0], [700.0, 0.0, 699.0]])
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = np.exp([[1.0, 0.0, -0.5]]) / np.exp([[1.0, 0.0, -0.5]]).sum()
    scaled = with_temperature(softmax / softmax.sum(axis=1, keepdims=True), 2)
    np.testing.assert_allclose(scaled[0], expected[0])
    assert scaled[1, 2] / scaled[1, 0] == pytest.approx(np.exp(-0.5))


def test_fit_temperature_with_probabilities_of_0_and_1():
    certain, labels = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0, 1]], np.array([0, 1, 2, 3, 0, 1])
    assert fit_temperature(certain, labels) == 1
    assert negative_log_likelihood(certain, labels) == 0
    assert expected_calibration_error(certain, labels) == 0
    labels[0] = 1
    assert fit_temperature(certain, labels) == pytest.approx(20, rel=1e-3)  # the maximum
    scaled = with_temperature(certain, 20)
    assert negative_log_likelihood(scaled, labels) < negative_log_likelihood(certain, labels) / 10
    assert expected_calibration_error(certain, labels) == pytest.approx(1 / 6)


def two_classes(confidences):
    return np.stack([confidences, 1 - np.asarray(confidences)], axis=1)


def test_calibration_error_equals_a_manual_calculation():
    # Bins of a fifth: 0.55 (right) and 0.6 (wrong) share one, 0.9 (right) and 1 (wrong) the last.
    probabilities, labels = two_classes([0.55, 0.6, 0.9, 1.0]), np.array([0, 1, 0, 1])
    diagram = reliability(probabilities, labels, bins=5)
    np.testing.assert_allclose(diagram.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert diagram.counts.tolist() == [0, 0, 2, 0, 2]
    np.testing.assert_allclose(diagram.confidences, [np.nan, np.nan, 0.575, np.nan, 0.95])
    np.testing.assert_allclose(diagram.accuracies, [np.nan, np.nan, 0.5, np.nan, 0.5])
    expected = 2 / 4 * abs(0.5 - 0.575) + 2 / 4 * abs(0.5 - 0.95)
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx(expected)
    one_bin = abs(0.5 - (0.55 + 0.6 + 0.9 + 1) / 4)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(one_bin)


def test_reliability_bins_include_their_upper_edge():
    confidences = [0.5, np.nextafter(0.5, 1), 0.75, 1.0, 1.0000001]
    diagram = reliability(two_classes(confidences), np.zeros(5, int), bins=4)
    assert diagram.counts.tolist() == [0, 1, 2, 2]


def test_calibration_error_of_calibrated_probabilities_is_near_0():
    probabilities, labels = calibrated(100_000)
    assert expected_calibration_error(probabilities, labels) < 0.01
    diagram = reliability(probabilities, labels)
    assert diagram.counts.sum() == 100_000
    filled = diagram.counts > 1000
    np.testing.assert_allclose(diagram.accuracies[filled], diagram.confidences[filled], atol=0.04)


def test_negative_log_likelihood_equals_a_manual_calculation():
    probabilities = np.float32([[0.5, 0.5, 0], [0.25, 0.25, 0.5]])
    assert negative_log_likelihood(probabilities, np.array([0, 1])) == pytest.approx(np.log(8) / 2)
    assert np.isfinite(negative_log_likelihood(probabilities, np.array([2, 1])))


MEASURES = ["fit_temperature", "negative_log_likelihood", "expected_calibration_error"]


@pytest.mark.parametrize("name", MEASURES)
def test_calibration_measures_ignore_rows_without_a_label(name):
    measure = getattr(calibration, name)
    probabilities, labels = calibrated(300, seed=3)
    probabilities = with_temperature(probabilities, 0.4)
    some = np.where(np.arange(300) % 3, labels, -1)
    assert measure(probabilities, some) == measure(probabilities[some >= 0], labels[some >= 0])
    for rows, none in ((0, labels[:0]), (300, np.full(300, -1))):
        with pytest.raises(InputError, match=f"0 of {rows}"):
            measure(probabilities[:rows], none)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_with_temperature_requires_a_positive_finite_temperature(temperature):
    with pytest.raises(InputError, match="above 0"):
        with_temperature(np.full((1, 2), 0.5), temperature)


@pytest.mark.parametrize("sharper", [1.0, 1.6])
def test_calibration_error_interval_has_its_coverage(monkeypatch, sharper):
    monkeypatch.setattr(calibration, "RESAMPLES", 200)
    well_calibrated, all_labels = calibrated(50_000)
    all_probabilities = with_temperature(well_calibrated, 1 / sharper)
    truth = expected_calibration_error(all_probabilities, all_labels)
    generator, covered, at_zero = np.random.default_rng(3), 0, 0
    for _ in range(80):
        rows = generator.integers(0, len(all_probabilities), 400)
        probabilities, labels = all_probabilities[rows], all_labels[rows]
        low, high = calibration.calibration_error_interval(probabilities, labels)
        assert low <= expected_calibration_error(probabilities, labels) <= high
        covered += low <= truth <= high
        at_zero += low == 0
    assert covered / 80 >= 0.85
    assert at_zero >= 72 if sharper == 1 else at_zero <= 8
