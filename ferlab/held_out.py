"""Rows that may decide something about trained models: a vote's weights, a temperature.

Not those kept for the final score, and not those that a model was trained on.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ferlab import checkpoints
from ferlab.data import SCORING_USAGES, TRAINING_USAGES, Dataset
from ferlab.errors import InputError


def rows(
    dataset: Dataset,
    models: Sequence[Path],
    *,
    usage: str | None = None,
    report: Callable[[str], None],
) -> Dataset:
    """The labelled rows of a usage that none of the models was trained on.

    usage: by default those that are neither for training nor for the final score, such as
        PublicTest; where there are none, the training rows. `report` is told what is left out.

    Raises InputError for a usage kept for the final score, and when no row is left.
    """
    dataset = _of_usage(dataset, usage)
    dataset = dataset.take(dataset.labels >= 0)
    seen = np.zeros(len(dataset), dtype=bool)
    silent = []
    digests = dataset.row_digests()
    for model in models:
        trained_on = checkpoints.read_training_rows(model)
        if trained_on is None:
            silent.append(model)
        else:
            seen |= np.isin(digests, trained_on)
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        report(
            f"note: {silent[0]}{more} does not tell what it was trained on; if these rows were "
            "among it, what is found on them is worth nothing"
        )
    if seen.any():
        report(f"{seen.sum():,} of {len(dataset):,} rows left out: a model was trained on them")
    if seen.all():
        raise InputError(
            f"{dataset.source}: needs labelled rows that no model was trained on. "
            f"Received: {len(dataset):,} labelled rows, {seen.sum():,} of them trained on"
        )
    return dataset.take(~seen)


def _of_usage(dataset: Dataset, usage: str | None) -> Dataset:
    if usage is not None and usage.strip().lower() in SCORING_USAGES:
        raise InputError(
            f"{dataset.source}: rows kept for the final score decide nothing. Received: {usage}"
        )
    if usage is not None:
        return dataset.of_usage(usage)
    if dataset.usage is None:
        return dataset
    folded = np.strings.lower(np.strings.strip(dataset.usage))
    other = ~np.isin(folded, (*SCORING_USAGES, *TRAINING_USAGES))
    if other.any():
        return dataset.take(other)
    if not np.isin(folded, TRAINING_USAGES).any():
        raise InputError(
            f"{dataset.source}: rows kept for the final score decide nothing. "
            f"Received: {', '.join(sorted(set(dataset.usage.tolist())))} alone"
        )
    return dataset.of_usage(None)


def with_labels(dataset: Dataset, labels: np.ndarray) -> Dataset:
    """The dataset with labels from elsewhere: int64 (n,), -1 for none."""
    return dataclasses.replace(dataset, labels=labels)
