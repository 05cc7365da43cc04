"""Held-out rows: for tuning, or for scoring.

Rows for tuning, such as a vote's weights or a temperature, exclude rows of the final score and rows
that a model was trained on. Rows for scoring exclude only the latter.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ferlab import checkpoints
from ferlab.data import Dataset, fit_images, usages
from ferlab.errors import InputError, a_few

ImagesAt = Callable[[tuple[int, int, int]], Dataset]
Report = Callable[[str], None]


def tuning_rows(
    dataset: Dataset,
    models: Sequence[Path],
    *,
    usage: str | None = None,
    images_at: ImagesAt | None = None,
    report: Report,
) -> Dataset:
    """The labelled rows of a usage that none of the models was trained on.

    usage: by default the public rows, such as PublicTest; if there are none, the training rows.
    images_at: returns the dataset with images of a given shape, for models trained on another
        shape; by default the dataset's images are resized.
    report: called with the number of rows left out, and with notes.

    Raises InputError for a usage reserved for the final score, and if no row remains.
    """
    if usage is not None and usages.kind(usage) == "scoring":
        raise InputError(
            f"{dataset.source}: rows reserved for the final score must not be tuned on. "
            f"Received: {usage}"
        )
    rows = _labelled(dataset, _rows_of_usage(dataset, usage, "must not be tuned on"))
    is_trained_on = _trained_on(dataset, rows, models, images_at, report)
    if is_trained_on.all():
        raise InputError(
            f"{dataset.source}: requires labelled rows that no model was trained on. "
            f"Received: {len(rows):,} labelled rows, {is_trained_on.sum():,} of them training rows"
        )
    return dataset.take(rows[~is_trained_on])


def scoring_rows(
    dataset: Dataset,
    models: Sequence[Path],
    *,
    usage: str | None = None,
    images_at: ImagesAt | None = None,
    report: Report,
) -> tuple[np.ndarray, bool]:
    """(indices of the rows to score on, whether a model was trained on them).

    Like `tuning_rows`, with two differences: `usage` may select rows reserved for the final score,
    and if a model was trained on every row, all are taken. Scores on these are optimistic, which
    the caller must report.

    Raises InputError if no row has a label, and without a `usage` if all rows are reserved for the
    final score.
    """
    rows = _labelled(dataset, _rows_of_usage(dataset, usage, "require --usage"))
    is_trained_on = _trained_on(dataset, rows, models, images_at, report)
    if is_trained_on.all():
        return rows, True
    return rows[~is_trained_on], False


def _labelled(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    rows = rows[dataset.labels[rows] >= 0]
    if not len(rows):
        raise InputError(
            f"{dataset.source}: requires labelled rows; --truth reads labels from a file"
        )
    return rows


def _trained_on(
    dataset: Dataset,
    rows: np.ndarray,
    models: Sequence[Path],
    images_at: ImagesAt | None,
    report: Report,
) -> np.ndarray:
    """bool (rows,): whether one of the models was trained on the row."""
    is_trained_on = np.zeros(len(rows), dtype=bool)
    unknown, pooled = [], []
    digests = {dataset.image_shape: dataset.row_digests()}
    for model in models:
        training_rows = checkpoints.read_training_rows(model)
        record = checkpoints.read_record(model)
        if training_rows is not None:
            shape = record.image_shape or dataset.image_shape
            if shape not in digests:
                resized = images_at(shape) if images_at else fit_images(dataset, shape)
                digests[shape] = resized.row_digests()
            is_trained_on |= np.isin(digests[shape][rows], training_rows)
            if record.learned_from.has_unlabelled_images:
                pooled.append(str(model))
        if training_rows is None or record.has_unknown_rows:
            unknown.append(str(model))
    if unknown:
        report(
            f"note: the training rows of these models are not all known: {a_few(unknown)}. If rows "
            f"of {dataset.source} were among them, the results are optimistic"
        )
    if pooled:
        report(
            f"note: these models were also trained on unlabelled images: {a_few(pooled)}. If "
            f"images of {dataset.source} were among them, the models are more confident on these"
        )
    if is_trained_on.any() and not is_trained_on.all():
        report(
            f"{is_trained_on.sum():,} of {len(rows):,} rows left out: a model was trained on them"
        )
    return is_trained_on


def _rows_of_usage(dataset: Dataset, usage: str | None, rule: str) -> np.ndarray:
    """Indices of the rows of a usage. rule: completes the error for rows of the final score."""
    if usage is not None:
        dataset.of_usage(usage)  # raises InputError if there are none
    if dataset.usage is None:
        return np.arange(len(dataset))
    if usage is not None:
        return np.flatnonzero(usages.is_of(dataset.usage, usage))
    kinds = usages.kinds(dataset.usage)
    for kind in ("public", "training"):
        if (kinds == kind).any():
            return np.flatnonzero(kinds == kind)
    names = ", ".join(sorted(set(dataset.usage.tolist())))
    if (kinds == "scoring").all():
        problem = f"rows reserved for the final score {rule}"
    else:
        problem = "no row is public or for training, and --usage names no other usage"
    raise InputError(f"{dataset.source}: {problem}. Received: only {names}")
