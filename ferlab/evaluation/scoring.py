"""Checkpoints asked about labelled rows: what each says of them, and how good that is."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import data, inference
from ferlab.checkpoints import Checkpoint
from ferlab.data import SCORING_USAGES, Dataset
from ferlab.evaluation import calibration, held_out, metrics


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint says of labelled rows.

    outputs: float32 (n, num_classes), its probabilities as they come, columns in the order of the
        dataset's classes.
    probabilities: the same at the checkpoint's temperature; `outputs` where it carries none.
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
    def right(self) -> np.ndarray:
        """bool (n,)"""
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
    """(the same labelled rows for each checkpoint, whether they are rows that one was trained on).

    Which rows, and what `report` is told, is said at `held_out.to_score`. Images of a folder are
    read in each checkpoint's own size. Raises InputError for data without labels, and naming the
    checkpoint that tells other classes apart.
    """
    is_folder = Path(path).is_dir()
    told = [one for one in checkpoints if one.tells_classes]
    names = class_names
    if is_folder and names is None:
        names = (told or checkpoints)[0].class_names
    # Folders and archives may keep what is for the final score in a part of their own.
    folded = (usage or "").strip().lower()
    is_test_part = Path(path).suffix.lower() == ".npz" and folded in ("test", "testing")
    role = "test" if is_test_part or (is_folder and folded in SCORING_USAGES) else "train"

    def read_at(image_shape: tuple[int, int, int] | None) -> Dataset:
        return data.read(
            path,
            role=role,
            class_names=inference.data_class_names(
                names, is_folder=is_folder, is_the_models=not told
            ),
            image_shape=image_shape,
        )

    dataset = read_at(checkpoints[0].image_shape if is_folder else None)
    for one in checkpoints:
        inference.require_same_task(one, dataset)
    dataset = data.with_truth(dataset, truth)
    if is_test_part and dataset.usage is None:
        usage = None
    chosen, is_trained_on = held_out.to_score(
        dataset,
        [one.path for one in checkpoints],
        usage=usage,
        read_at=read_at if is_folder else None,
        report=report,
    )
    parts = {dataset.image_shape: dataset.take(chosen)}
    for one in checkpoints:
        if is_folder and one.image_shape not in parts:
            images = read_at(one.image_shape).images[chosen]
            parts[one.image_shape] = dataclasses.replace(parts[dataset.image_shape], images=images)
    whole = parts[dataset.image_shape]
    return [parts.get(one.image_shape, whole) for one in checkpoints], is_trained_on


def evaluate(
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    report: Callable[[str], None] | None = None,
) -> Evaluation:
    """Ask a checkpoint about rows that all have a label. Raises InputError if they do not fit."""
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
