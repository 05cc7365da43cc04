"""The only place that predicts: raw grey levels in, probabilities out."""

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import data
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.inference import engines
from ferlab.inference.tta import VIEWS, views
from ferlab.labels import EMOTIONS, is_reordering, require_same_classes

WARM_UP = 3  # batches before the clock runs: the first builds the graph


def read_for(
    checkpoint: Checkpoint,
    path: str,
    *,
    role: str,
    class_names: tuple[str, ...] | None = None,
    truth: str | None = None,
) -> Dataset:
    """Read data to use with this checkpoint: its image size and channels, its class folders.

    A table's numbers keep their own meaning, so one in another order than the checkpoint's is
    found out rather than read wrongly; one without labels has the checkpoint's classes. Raises
    InputError when the two do not fit. truth: a file of labels that the data lacks.
    """
    is_folder = Path(path).is_dir()
    dataset = data.read(
        path,
        role=role,
        class_names=data_class_names(
            class_names or (checkpoint.class_names if is_folder else None),
            is_folder=is_folder,
            is_the_models=not checkpoint.tells_classes,
        ),
        image_shape=checkpoint.image_shape if is_folder else None,
    )
    dataset = data.with_truth(dataset, truth)
    require_same_task(checkpoint, dataset)
    if checkpoint.class_names:
        dataset = with_models_classes(dataset, checkpoint.class_names)
    return data.fit_images(dataset, checkpoint.image_shape)


def with_models_classes(dataset: Dataset, class_names: tuple[str, ...]) -> Dataset:
    """Data without labels under a model's classes; data with some as it is, as they mean its own.

    Where both name the same classes the data keeps its order, in which answers are then given.
    """
    if dataset.has_labels or sorted(class_names) == sorted(dataset.class_names):
        return dataset
    return dataclasses.replace(dataset, class_names=class_names)


def data_class_names(
    class_names: tuple[str, ...] | None, *, is_folder: bool, is_the_models: bool
) -> tuple[str, ...] | None:
    """The names to read data with, of those the user gave; None for the data's own.

    A table of the seven emotions has one order. When a user tells another for a model that does
    not tell its own (`is_the_models`), it is the model's outputs that are in that order.
    """
    if is_the_models and not is_folder and is_reordering(class_names, EMOTIONS):
        return None
    return class_names


def note_classes(dataset: Dataset, report: Callable[[str], None]) -> None:
    """Report what a submission's numbers mean for data without labels that are no emotions'."""
    if not dataset.has_labels and set(dataset.class_names) != set(EMOTIONS):
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(dataset.class_names))
        report(f"note: the labels mean {numbered}")


def require_same_task(
    checkpoint: Checkpoint, dataset: Dataset, *, may_reorder: bool | None = None
) -> None:
    """Raise InputError unless the checkpoint tells the dataset's classes apart.

    may_reorder: whether outputs in another order are put into the data's, rather than an error;
        by default if it is the user who told the order and not the file. Rows without labels may
        be asked about with other classes.
    """
    names, where = checkpoint.class_names, f"{dataset.source} with {checkpoint.path}"
    if names is None and checkpoint.num_classes != dataset.num_classes:
        raise InputError(
            f"{where}: the model has {checkpoint.num_classes} outputs, the data "
            f"{dataset.num_classes} classes ({', '.join(dataset.class_names)}); say what the "
            "outputs are with --class-names"
        )
    may_reorder = not checkpoint.tells_classes if may_reorder is None else may_reorder
    if may_reorder and is_reordering(names, dataset.class_names):
        return
    if names is not None and (dataset.has_labels or sorted(names) == sorted(dataset.class_names)):
        require_same_classes(where, dataset.class_names, names)


def predict(
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    tta: str = "none",
    may_reorder: bool | None = None,
    engine: str = "keras",
    report: Callable[[str], None] | None = None,
) -> np.ndarray:
    """float32 (n, num_classes), rows in order, columns in the order of the dataset's classes.

    tta: the mean over which views of an image, one of `test_time_augmentation.VIEWS`.

    Images of another size or number of channels are brought to the model's. Raises InputError if
    data and model do not fit; may_reorder as in `require_same_task`.
    engine: a key of ENGINES; InputError too if it is not installed or cannot take the model.
    With `report`, a terminal shows a progress bar, and `report` is told the speed.
    """
    engines.require_engine(engine)
    require_same_task(checkpoint, dataset, may_reorder=may_reorder)
    dataset = data.fit_images(dataset, checkpoint.image_shape)
    names = checkpoint.class_names
    if report and names is None:
        report(
            f"{checkpoint.path} does not tell its classes; taken as "
            f"{', '.join(dataset.class_names)}; --class-names says otherwise, and "
            "`python -m ferlab inspect` finds out"
        )
    if report and names is not None:
        note_classes(dataset, report)
    start = time.perf_counter()
    outputs_of, total = _network(checkpoint, dataset.images, batch_size, engine, report), 0.0
    for images in views(dataset.images, tta):
        probabilities, kind = _as_probabilities(outputs_of(images), checkpoint.path)
        total = total + probabilities
    probabilities = total / VIEWS[tta]
    seconds = time.perf_counter() - start
    if is_reordering(names, dataset.class_names):
        probabilities = probabilities[:, [names.index(name) for name in dataset.class_names]]
    if report:
        count = len(dataset)
        report(f"{count:,} images in {seconds:.1f} s, {count / seconds:,.0f} a second")
        if kind:
            report(f"note: {checkpoint.path} gives {kind}")
    return probabilities.astype("float32")


def _network(
    checkpoint: Checkpoint,
    images: np.ndarray,
    batch_size: int,
    engine: str,
    report: Callable[[str], None] | None,
) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the model's outputs of raw grey levels. images: some that it will be asked."""
    model = checkpoint.raw_pixel_model()
    if engine == "keras":
        from ferlab.data.batches import Batches, feed  # imports Keras

        verbose = int(bool(report) and sys.stdout.isatty())
        return lambda images: model.predict(
            feed(Batches(images, None, batch_size)), verbose=verbose
        )
    try:
        network = engines.network_on(engine, model, checkpoint.image_shape, images)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from error
    return lambda images: network(images, batch_size)


@dataclass(frozen=True)
class Speed:
    """Milliseconds an image, with batches of this size: the median and the quartiles."""

    batch_size: int
    batches: int
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        middle = f"{self.low:.3g} to {self.high:.3g}"
        return f"{self.median:.3g} ms (half of {self.batches} batches: {middle})"


def speed(checkpoint: Checkpoint, *, batch_size: int, seconds: float) -> Speed:
    """How fast the model is on this machine, on grey levels in memory, timed for about `seconds`.

    Reading and resizing images is not in it, handing them to the device is. Five batches or more
    are timed, whatever they take.
    """
    model = checkpoint.raw_pixel_model()
    shape = (batch_size, *checkpoint.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
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
    """int64 (n,): which of the model's outputs stands for each row's label.

    Of a row without a label, the largest output. Raises InputError as `predict` does.
    """
    require_same_task(checkpoint, dataset)
    names = checkpoint.class_names
    order = np.arange(dataset.num_classes)
    if is_reordering(names, dataset.class_names):
        order = np.array([names.index(name) for name in dataset.class_names])
    labels = dataset.labels
    if not dataset.is_labelled:
        labels = np.where(labels < 0, predict(checkpoint, dataset).argmax(axis=1), labels)
    return order[labels]


def output_kind(outputs: np.ndarray) -> str:
    """What a model gives, by its outputs (n, num_classes).

    'probabilities' that add up to 1, 'independent' ones of each class by itself, else 'scores',
    whose softmax are probabilities.
    """
    if (outputs < 0).any() or not np.isfinite(outputs).all():
        return "scores"
    sums = outputs.sum(axis=1, keepdims=True)
    if np.allclose(sums, 1, atol=1e-3):
        return "probabilities"
    return "independent" if (outputs <= 1).all() and (sums > 0).all() else "scores"


def features(checkpoint: Checkpoint, dataset: Dataset, *, batch_size: int = 256) -> np.ndarray:
    """float32 (n, k): what the model's last layer with weights sees, then its log-probabilities.

    They serve data of other classes than the model's, too. Of a map of features, the mean over its
    places. Where the last such layer is itself a model, or joins several, the log-probabilities
    alone.
    """
    from ferlab.backend import keras
    from ferlab.data.batches import Batches, feed

    model, last = checkpoint.model, [layer for layer in checkpoint.model.layers if layer.weights]
    seen = [] if not last or isinstance(last[-1], keras.Model) else [last[-1].input]
    if seen and isinstance(seen[0], (list, tuple, dict)):
        seen = []
    body = keras.Model(model.inputs, [*seen, model.outputs[0]])
    both = checkpoint.with_model(body)
    images = data.fit_images(dataset, checkpoint.image_shape).images
    outputs = both.raw_pixel_model().predict(feed(Batches(images, None, batch_size)), verbose=0)
    *maps, last_outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    probabilities, _ = _as_probabilities(last_outputs, checkpoint.path)
    columns = [places.mean(axis=tuple(range(1, places.ndim - 1))) for places in maps]
    columns.append(np.log(np.maximum(probabilities, 1e-6)))
    return np.concatenate(columns, axis=1).astype("float32")


def _as_probabilities(outputs: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Rows that add up to 1, and what was done to have them so; '' when they were."""
    outputs = np.asarray(outputs, dtype="float64")
    if not np.isfinite(outputs).all():
        raise InputError(f"{path}: its outputs must be numbers. Received: nan or infinity")
    kind = output_kind(outputs)
    if kind == "probabilities":
        return outputs, ""
    if kind == "independent":
        sums = outputs.sum(axis=1, keepdims=True)
        return outputs / sums, "a probability for each class by itself; divided by their sum"
    scores = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True), "scores; softmax makes them probabilities"
