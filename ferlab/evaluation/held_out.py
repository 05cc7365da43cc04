"""Rows that trained models are asked about: to decide something, or to score them.

What decides, such as a vote's weights or a temperature, is found on rows that are neither kept for
the final score nor trained on. A score is taken on rows that were not trained on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ferlab import checkpoints
from ferlab.data import SCORING_USAGES, TRAINING_USAGES, Dataset, fit_images
from ferlab.errors import InputError, a_few


def rows(
    dataset: Dataset,
    models: Sequence[Path],
    *,
    usage: str | None = None,
    read_at: Callable[[tuple[int, int, int]], Dataset] | None = None,
    report: Callable[[str], None],
) -> Dataset:
    """The labelled rows of a usage that none of the models was trained on.

    usage: by default those that are neither for training nor for the final score, such as
        PublicTest; where there are none, the training rows. `report` is told what is left out.
    read_at: gives the dataset's rows, in their order, with images of another shape, by which a
        model that was trained on such knows them again; by default the images are brought to it.

    Raises InputError for a usage kept for the final score, and when no row is left.
    """
    chosen = _of_usage(dataset, usage)
    chosen, seen = _known_again(dataset, chosen, models, read_at, report)
    if seen.all():
        raise InputError(
            f"{dataset.source}: needs labelled rows that no model was trained on. "
            f"Received: {len(chosen):,} labelled rows, {seen.sum():,} of them trained on"
        )
    return dataset.take(chosen[~seen])


def to_score(
    dataset: Dataset,
    models: Sequence[Path],
    *,
    usage: str | None = None,
    read_at: Callable[[tuple[int, int, int]], Dataset] | None = None,
    report: Callable[[str], None],
) -> tuple[np.ndarray, bool]:
    """(indices of the rows to score on, whether they are rows that a model was trained on).

    As `rows`, but for two things, as a score decides nothing: rows kept for the final score are
    taken where `usage` names them, and where all rows were trained on, all are taken. What is
    measured on those is too good, and whoever asks must say so.

    Raises InputError when no row has a label, and for data of the final score without a `usage`.
    """
    chosen = _of_usage(dataset, usage, is_a_score=True)
    chosen, seen = _known_again(dataset, chosen, models, read_at, report)
    return (chosen, True) if seen.all() else (chosen[~seen], False)


def _known_again(
    dataset: Dataset,
    chosen: np.ndarray,
    models: Sequence[Path],
    read_at: Callable[[tuple[int, int, int]], Dataset] | None,
    report: Callable[[str], None],
) -> tuple[np.ndarray, np.ndarray]:
    """The chosen rows that have a label, and bool: those that one of the models was trained on."""
    chosen = chosen[dataset.labels[chosen] >= 0]
    if not len(chosen):
        raise InputError(f"{dataset.source}: needs rows with labels; --truth may bring them")
    seen = np.zeros(len(chosen), dtype=bool)
    silent, pooled = [], []
    digests = {dataset.image_shape: dataset.row_digests()}
    for model in models:
        trained_on, record = checkpoints.read_training_rows(model), None
        if trained_on is not None:
            record = checkpoints.read_record(model)
            shape = record.image_shape or dataset.image_shape
            if shape not in digests:
                other = read_at(shape) if read_at else fit_images(dataset, shape)
                digests[shape] = other.row_digests()
            seen |= np.isin(digests[shape][chosen], trained_on)
        if record is None or record.has_unknown_rows:
            silent.append(str(model))
        if record and record.learned_from.has_unlabelled_images:
            pooled.append(str(model))
    if silent:
        report(
            f"note: not all rows that these were trained on are known: {a_few(silent)}. If those "
            f"of {dataset.source} were among them, what is found on them is worth nothing"
        )
    if pooled:
        report(
            f"note: these have learned from unlabelled images too: {a_few(pooled)}. Where those of "
            f"{dataset.source} were among them, they are surer of them than of others"
        )
    if seen.any() and not seen.all():
        report(f"{seen.sum():,} of {len(seen):,} rows left out: a model was trained on them")
    return chosen, seen


def _of_usage(dataset: Dataset, usage: str | None, *, is_a_score: bool = False) -> np.ndarray:
    """Indices of the rows to use."""
    every = np.arange(len(dataset))
    if not is_a_score and usage is not None and usage.strip().lower() in SCORING_USAGES:
        raise InputError(
            f"{dataset.source}: rows kept for the final score decide nothing. Received: {usage}"
        )
    if dataset.usage is None and usage is None:
        return every
    if usage is not None:
        dataset.of_usage(usage)  # says when there are none
    folded = np.strings.lower(np.strings.strip(dataset.usage))
    if usage is not None:
        return every[folded == usage.strip().lower()]
    other = ~np.isin(folded, (*SCORING_USAGES, *TRAINING_USAGES))
    if other.any():
        return every[other]
    if not np.isin(folded, TRAINING_USAGES).any():
        rule = "are scored where --usage names them" if is_a_score else "decide nothing"
        raise InputError(
            f"{dataset.source}: rows kept for the final score {rule}. "
            f"Received: {', '.join(sorted(set(dataset.usage.tolist())))} alone"
        )
    return dataset.training_rows()
