"""The only place that predicts: raw grey levels in, probabilities out."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ferlab import data
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.labels import require_same_classes


def read_for(
    checkpoint: Checkpoint,
    path: str,
    *,
    role: str,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Read data to use with this checkpoint: images of its shape, class folders in its order.

    A table's numbers keep their own meaning, so one in another order than the checkpoint's is
    found out rather than read wrongly. Raises InputError when the two do not fit.
    """
    if class_names is None and Path(path).is_dir():
        class_names = checkpoint.class_names
    dataset = data.read(
        path, role=role, class_names=class_names, image_shape=checkpoint.image_shape
    )
    require_same_task(checkpoint, dataset)
    return dataset


def require_same_task(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Raise InputError unless the checkpoint tells the dataset's classes apart.

    Rows without labels may be asked about with other classes, but not with the same in another
    order: a submission's numbers would then mean something else.
    """
    names, where = checkpoint.class_names, f"{dataset.source} with {checkpoint.path}"
    labelled = bool((dataset.labels >= 0).any())
    if names is not None and (labelled or sorted(names) == sorted(dataset.class_names)):
        require_same_classes(where, dataset.class_names, names)
    if names is None and labelled and checkpoint.num_classes != dataset.num_classes:
        raise InputError(
            f"{where}: data and model must have the same classes. "
            f"Received: {dataset.num_classes} and {checkpoint.num_classes}"
        )
    if checkpoint.image_shape != dataset.image_shape:
        raise InputError(
            f"{where}: the model takes images of {checkpoint.image_shape}. "
            f"Received: {dataset.image_shape}"
        )


def predict(
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    report: Callable[[str], None] | None = None,
) -> np.ndarray:
    """float32 (n, num_classes), rows in order. Raises InputError if data and model do not fit.

    With `report`, a terminal shows a progress bar, and `report` is told the speed.
    """
    from ferlab.batches import Batches, feed  # imports Keras

    require_same_task(checkpoint, dataset)
    if report and checkpoint.class_names is None:
        report(
            f"{checkpoint.path} does not tell its classes; taken as "
            f"{', '.join(dataset.class_names)}; --class-names says otherwise"
        )
    start = time.perf_counter()
    probabilities = checkpoint.raw_pixel_model().predict(
        feed(Batches(dataset.images, None, batch_size)),
        verbose=int(bool(report) and sys.stdout.isatty()),
    )
    seconds = time.perf_counter() - start
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise InputError(
            f"{checkpoint.path}: its outputs are no probabilities: a row must be 0 or more and "
            f"add up to 1. Received: {probabilities[0]}"
        )
    if report:
        count = len(dataset)
        report(f"{count:,} images in {seconds:.1f} s, {count / seconds:,.0f} a second")
    return probabilities.astype("float32")
