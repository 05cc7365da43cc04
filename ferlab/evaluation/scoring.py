"""Checkpoints scored on labelled rows."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import inference
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset, usages
from ferlab.evaluation import calibration, held_out, metrics
from ferlab.inference import matching


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a checkpoint for labelled rows, and their scores.

    outputs: float32 (n, num_classes), probabilities before temperature scaling, columns in the
        order of the dataset's classes.
    probabilities: the same at the checkpoint's temperature; `outputs` if it has none.
    counts: int64 (num_classes, num_classes), the confusion matrix.
    calibration_error: the expected calibration error of `outputs`; scaled_error: that of
        `probabilities`, None without a temperature.
    loss: the mean cross-entropy of `outputs`, in nats, as in training.
    """

    dataset: Dataset
    outputs: np.ndarray
    probabilities: np.ndarray
    scores: metrics.Scores
    counts: np.ndarray
    calibration_error: metrics.Estimate
    scaled_error: metrics.Estimate | None
    loss: float

    @property
    def predicted(self) -> np.ndarray:
        """int (n,): the most probable class of each row."""
        return self.outputs.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """bool (n,): whether the most probable class is the label."""
        return self.predicted == self.dataset.labels


def rows_to_score(
    checkpoints: Sequence[Checkpoint],
    path: str,
    *,
    class_names: tuple[str, ...] | None = None,
    truth: str | None = None,
    usage: str | None = None,
    report: Callable[[str], None],
) -> tuple[list[Dataset], bool]:
    """(the same labelled rows for each checkpoint, whether a checkpoint was trained on them).

    `held_out.scoring_rows` selects the rows; images of a folder are read in the size of each
    checkpoint. Raises InputError for data without labels and for a checkpoint of other classes.
    """
    # Folders and archives may have the rows of the final score in a separate part.
    key, is_folder = usages.key(usage or ""), Path(path).is_dir()
    is_test_part = Path(path).suffix.lower() == ".npz" and key in ("test", "testing")
    match = matching.read(
        path,
        checkpoints,
        role="test" if is_test_part or (is_folder and usages.kind(key) == "scoring") else "train",
        class_names=class_names,
        truth=truth,
        image_shape=checkpoints[0].image_shape,
    )
    if is_test_part and match.dataset.usage is None:
        usage = None
    rows, is_trained_on = held_out.scoring_rows(
        match.dataset,
        [checkpoint.path for checkpoint in checkpoints],
        usage=usage,
        images_at=match.at,
        report=report,
    )
    whole = match.dataset.take(rows)
    datasets = {whole.image_shape: whole}
    for checkpoint in checkpoints:
        shape = checkpoint.image_shape
        if is_folder and shape not in datasets:
            datasets[shape] = dataclasses.replace(whole, images=match.at(shape).images[rows])
    return [datasets.get(one.image_shape, whole) for one in checkpoints], is_trained_on


def evaluate(
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    report: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a checkpoint on rows that all have a label.

    report: called with the notes and the speed of `inference.predict`. Raises InputError if data
    and model do not match.
    """
    outputs = inference.predict(checkpoint, dataset, batch_size=batch_size, report=report)
    counts = metrics.confusion_counts(dataset.labels, outputs.argmax(axis=1), dataset.num_classes)
    probabilities, temperature = outputs, checkpoint.temperature
    if temperature is not None:
        probabilities = calibration.with_temperature(outputs, temperature)
    return Evaluation(
        dataset=dataset,
        outputs=outputs,
        probabilities=probabilities,
        scores=metrics.scores(counts),
        counts=counts,
        calibration_error=_calibration_error(outputs, dataset.labels),
        scaled_error=(
            None if temperature is None else _calibration_error(probabilities, dataset.labels)
        ),
        loss=calibration.negative_log_likelihood(outputs, dataset.labels),
    )


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> metrics.Estimate:
    return metrics.Estimate(
        calibration.expected_calibration_error(probabilities, labels),
        *calibration.calibration_error_interval(probabilities, labels),
    )
