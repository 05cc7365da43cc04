"""How well a model is calibrated, and the temperature that calibrates its probabilities.

Modern networks are overconfident. Dividing the logits by one temperature, fitted on held-out rows,
removes most of this and changes no prediction. Source: Guo, Pleiss, Sun and Weinberger, "On
Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

Probabilities are (n, num_classes), and each row sums to 1; labels are int (n,), and rows without a
label (-1) are ignored. Every function raises InputError if no row has a label.
"""

from dataclasses import dataclass

import numpy as np

from ferlab.errors import InputError

TEMPERATURES = (0.05, 20.0)  # range of the search
RESAMPLES = 1000  # number of bootstrap samples
SMALLEST = float(np.finfo("float32").tiny)  # float32 softmax rounds smaller values to 0


@dataclass(frozen=True)
class Reliability:
    """Rows binned by confidence, the probability of the most probable class.

    edges: float64 (bins + 1,) from 0 to 1; a bin includes its upper edge. counts: int64 (bins,).
    confidences, accuracies: float64 (bins,), means over the rows of a bin, nan for an empty one.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidences: np.ndarray
    accuracies: np.ndarray


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature from 0.05 to 20 with the lowest negative log likelihood.

    Above 1 it makes the model less confident. It is 1 if no other is better.

    >>> import numpy as np
    >>> probabilities = np.array([[0.99, 0.01]] * 4)  # very confident, but wrong once in four
    >>> temperature = fit_temperature(probabilities, np.array([0, 0, 0, 1]))
    >>> round(temperature, 2)
    4.18
    >>> with_temperature(probabilities, temperature)[0].round(2)
    array([0.75, 0.25])
    """
    from scipy.optimize import minimize_scalar

    probabilities, labels = _known(probabilities, labels)

    def cost(log_temperature: float) -> float:
        scaled = with_temperature(probabilities, float(np.exp(log_temperature)))
        return negative_log_likelihood(scaled, labels)

    # Convex in 1 / temperature, so there is one minimum, whatever the scale of the search.
    optimum = minimize_scalar(
        cost, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(optimum.x)) if optimum.fun < cost(0.0) else 1.0


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """float64 (n, num_classes): the softmax of the logits divided by the temperature.

    The most probable class stays the same. Raises InputError for a temperature of 0 or below.
    """
    from scipy.special import softmax

    if not 0 < temperature < np.inf:
        raise InputError(f"a temperature must be above 0. Received: {temperature}")
    return softmax(_log(probabilities) / temperature, axis=1)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean over the rows, in nats; Keras calls it sparse categorical cross-entropy."""
    probabilities, labels = _known(probabilities, labels)
    return float(-_log(probabilities[np.arange(len(labels)), labels]).mean())


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
    """The mean distance between confidence and accuracy over bins of equal width, 0 to 1.

    Bins are weighted by their rows, as in Guo et al. The error depends on `bins` and is biased
    upwards for few rows: compare errors on the same rows only.
    """
    binned = reliability(probabilities, labels, bins)
    filled = binned.counts > 0
    distances = np.abs(binned.accuracies - binned.confidences)[filled]
    return float(np.average(distances, weights=binned.counts[filled]))


def calibration_error_interval(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> tuple[float, float]:
    """(low, high): an approximate 95% interval of the expected calibration error, by bootstrap.

    Resampling adds noise to the error, so percentiles of the resampled errors are biased upwards;
    for a perfectly calibrated model they never contain the true error. Reflecting them at the
    estimate (the basic bootstrap, Davison and Hinkley 1997) removes the bias. The low end is 0 if
    perfect calibration cannot be rejected with this number of rows (consistency resampling,
    Broecker and Smith 2007). In simulations of 300 and 3,589 rows the interval covered
    the true error in 80 to 99% of data sets, percentile intervals in 0 to 95%.
    """
    probabilities, labels = _known(probabilities, labels)
    confidences = probabilities.max(axis=1).astype("float64")
    index = _bins(confidences, bins)
    distances = (probabilities.argmax(axis=1) == labels) - confidences
    generator, n = np.random.default_rng(0), len(labels)

    def error(index: np.ndarray, distances: np.ndarray) -> float:
        return float(np.abs(np.bincount(index, distances, bins)).sum() / n)

    resampled, calibrated = [], []
    for _ in range(RESAMPLES):
        rows = generator.integers(0, n, n)
        resampled.append(error(index[rows], distances[rows]))
        calibrated.append(error(index, (generator.random(n) < confidences) - confidences))
    estimate = expected_calibration_error(probabilities, labels, bins)
    low, high = 2 * estimate - np.percentile(resampled, (97.5, 2.5))
    if estimate <= np.percentile(calibrated, 97.5):
        low = 0
    return float(np.clip(low, 0, estimate)), max(estimate, float(high))


def calibration_lines(
    probabilities: np.ndarray, labels: np.ndarray, temperature: float | None
) -> list[str]:
    """The expected calibration error as lines to print; none without labelled rows.

    temperature: the checkpoint's temperature; None if none was fitted.
    """
    count = int((labels >= 0).sum())
    if not count:
        return []
    error = expected_calibration_error(probabilities, labels)
    line = f"expected calibration error {error:.4f} (n={count}, 15 bins)"
    if temperature is None:
        return [f"{line}; `python -m ferlab calibrate` fits a temperature that reduces it"]
    scaled = expected_calibration_error(with_temperature(probabilities, temperature), labels)
    return [f"{line}, {scaled:.4f} at its temperature of {temperature:.3f}"]


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """The bins of a reliability diagram, of equal width; `bins` is 1 or more."""
    probabilities, labels = _known(probabilities, labels)
    confidences = probabilities.max(axis=1).astype("float64")
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    index = _bins(confidences, bins)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            counts,
            np.bincount(index, weights=confidences, minlength=bins) / counts,
            np.bincount(index, weights=correct, minlength=bins) / counts,
        )


def _bins(confidences: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row; rounding may have put a confidence above 1."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidences, side="left")


def _known(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = labels >= 0
    if not known.any():
        raise InputError(f"calibration requires rows with labels. Received: 0 of {len(labels)}")
    return probabilities[known], labels[known]


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST, dtype="float64"))
