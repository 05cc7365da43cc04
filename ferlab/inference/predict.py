"""Predict: raw images in, probabilities out. No other module calls `predict` of Keras."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ferlab import data
from ferlab.checkpoints import Checkpoint, asking, batch_size_within_memory
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.inference import engines, matching
from ferlab.inference.outputs import output_kind
from ferlab.inference.tta import VIEWS, views
from ferlab.labels import UNLABELLED

WARM_UP = 3  # batches before the clock starts; the first one compiles


def predict(
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    tta: str = "none",
    engine: str = "keras",
    columns: np.ndarray | None = None,
    report: Callable[[str], None] | None = None,
) -> np.ndarray:
    """float32 (n, num_classes): rows in order, columns in the order of the dataset's classes.

    Images of another size or number of channels are converted to the model's.

    tta: a key of `tta.VIEWS`; the mean over these views of an image. engine: a key of ENGINES.
    columns: the output for each class of the dataset; by default `matching.columns` of the two.
    report: called with notes and the speed; in a terminal, also shows a progress bar.

    Raises InputError if data and model do not match, and for an engine that is not installed or
    cannot run the model.
    """
    engines.require_engine(engine)
    if columns is None:
        columns = matching.columns(checkpoint, dataset)
    dataset = data.fit_images(dataset, checkpoint.image_shape)
    if report and checkpoint.class_names is None:
        report(
            f"{checkpoint.path} records no class names, taken as "
            f"{', '.join(dataset.class_names)}; set --class-names for another order, which "
            "`python -m ferlab inspect` finds"
        )
    elif report:
        matching.report_numbering(dataset, report)
    start = time.perf_counter()
    outputs_of = _network(checkpoint, dataset.images, batch_size, engine, report)
    total: np.ndarray | float = 0.0
    for images in views(dataset.images, tta):
        probabilities, conversion = _as_probabilities(outputs_of(images), checkpoint)
        total = total + probabilities
    mean = np.take(total / VIEWS[tta], columns, axis=1)
    seconds = time.perf_counter() - start
    if report:
        count = len(dataset)
        report(f"{count:,} images in {seconds:.1f} s, {count / seconds:,.0f} a second")
        if conversion:
            report(f"note: {checkpoint.path} outputs {conversion}")
    return mean.astype("float32")


def _network(
    checkpoint: Checkpoint,
    images: np.ndarray,
    batch_size: int,
    engine: str,
    report: Callable[[str], None] | None,
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from raw images to the model's outputs. images: examples to check an engine."""
    model = checkpoint.raw_pixel_model()
    batch_size = batch_size_within_memory(model, batch_size)
    if engine == "keras":
        from ferlab.data.batches import Batches, feed  # imports Keras

        verbose = int(bool(report) and sys.stdout.isatty())

        def outputs_of(images: np.ndarray) -> np.ndarray:
            with asking(checkpoint.path):
                return model.predict(feed(Batches(images, None, batch_size)), verbose=verbose)

        return outputs_of
    try:
        network = engines.network_on(engine, model, checkpoint.image_shape, images)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from error
    return lambda images: network(images, batch_size)


@dataclass(frozen=True)
class Speed:
    """Milliseconds per image with batches of this size: the median and the quartiles."""

    batch_size: int
    batches: int
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        middle = f"{self.low:.3g} to {self.high:.3g}"
        return f"{self.median:.3g} ms (half of {self.batches} batches: {middle})"


def speed(checkpoint: Checkpoint, *, batch_size: int, seconds: float) -> Speed:
    """Time the model on this machine, for about `seconds` and at least five batches.

    Includes the copy of images from memory to the device, not reading and resizing them.
    """
    model = checkpoint.raw_pixel_model()
    shape = (batch_size, *checkpoint.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    with asking(checkpoint.path):
        for _ in range(WARM_UP):
            model.predict_on_batch(images)
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        model.predict_on_batch(images)
        times.append(time.perf_counter() - start)
    low, median, high = 1000 * np.percentile(times, (25, 50, 75)) / batch_size
    return Speed(batch_size, len(times), float(median), float(low), float(high))


def output_indices(checkpoint: Checkpoint, dataset: Dataset) -> np.ndarray:
    """int64 (n,): the index of the model's output for each row's label.

    For a row without a label, the index of the largest output. Raises InputError as `predict` does.
    """
    columns, labels = matching.columns(checkpoint, dataset), dataset.labels
    if not dataset.is_labelled:
        predicted = predict(checkpoint, dataset, columns=columns).argmax(axis=1)
        labels = np.where(labels == UNLABELLED, predicted, labels)
    return columns[labels]


def features(checkpoint: Checkpoint, dataset: Dataset, *, batch_size: int = 256) -> np.ndarray:
    """float32 (n, k): the input of the model's last layer with weights, and log-probabilities.

    Of feature maps, the mean over height and width. Only the log-probabilities if the last layer
    with weights is itself a model or has several inputs. They can be used for data of any classes.
    """
    from ferlab.backend import keras
    from ferlab.data.batches import Batches, feed

    model = checkpoint.model
    weighted = [layer for layer in model.layers if layer.weights]
    inputs = [] if not weighted or isinstance(weighted[-1], keras.Model) else [weighted[-1].input]
    if inputs and isinstance(inputs[0], (list, tuple, dict)):
        inputs = []
    body = keras.Model(model.inputs, [*inputs, model.outputs[0]])
    truncated = checkpoint.with_model(body).raw_pixel_model()
    batch_size = batch_size_within_memory(truncated, batch_size)
    images = data.fit_images(dataset, checkpoint.image_shape).images
    with asking(checkpoint.path):
        outputs = truncated.predict(feed(Batches(images, None, batch_size)), verbose=0)
    *maps, last_outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    probabilities, _ = _as_probabilities(last_outputs, checkpoint)
    columns = [places.mean(axis=tuple(range(1, places.ndim - 1))) for places in maps]
    columns.append(np.log(np.maximum(probabilities, 1e-6)))
    return np.concatenate(columns, axis=1).astype("float32")


def _as_probabilities(outputs: np.ndarray, checkpoint: Checkpoint) -> tuple[np.ndarray, str]:
    """(rows that add up to 1, how they were converted; '' if they were probabilities)."""
    if not np.isfinite(outputs).all():
        path = checkpoint.path
        raise InputError(f"{path}: outputs must be finite numbers. Received: nan or infinity")
    kind = output_kind(outputs, checkpoint.model)
    is_rounded = outputs.dtype.itemsize <= 2
    outputs = np.asarray(outputs, dtype="float64")
    sums = outputs.sum(axis=1, keepdims=True)
    if kind == "probabilities":
        return outputs / sums if is_rounded else outputs, ""
    if kind == "independent":
        return outputs / sums, "an independent probability for each class; divided by their sum"
    from scipy.special import softmax

    return softmax(outputs, axis=1), "scores; their softmax is taken"
