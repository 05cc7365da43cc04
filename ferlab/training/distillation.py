"""Distillation: the probabilities of trained models as a second target, besides the labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ferlab import checkpoints, pretrained
from ferlab.data import Dataset
from ferlab.inference import model_list, voting
from ferlab.recipes import Recipe
from ferlab.training.objectives import Teacher


def teacher(
    paths: Sequence[Path], dataset: Dataset, recipe: Recipe, *, report: Callable[[str], None]
) -> Teacher | None:
    """The probabilities of checkpoints and model lists, as one vote, for every row.

    None without paths. For a recipe that flips images at random, the mean over an image and its
    mirror image is used.
    """
    if not paths:
        return None
    members = [member for path in paths for member in model_list.members_of(path) if member.weight]
    probabilities = voting.collect(
        members,
        dataset,
        batch_size=256,
        tta="flip" if recipe.horizontal_flip else "none",
        report=report,
    )
    rows = [_training_rows(member.path, dataset) for member in members]
    is_known = all(one is not None for one in rows)
    return Teacher(
        names=tuple(pretrained.reference(path) or path.name for path in paths),
        probabilities=voting.combine(
            probabilities, [member.weight for member in members], "soft"
        ).astype("float32"),
        rows=np.unique(np.concatenate(rows)) if is_known else None,
    )


def _training_rows(path: Path, dataset: Dataset) -> np.ndarray | None:
    """Digests of all training rows of a model, if they are comparable with the dataset's."""
    record = checkpoints.read_record(path)
    is_alike = record.image_shape == dataset.image_shape  # digests depend on it
    if not is_alike or record.has_unknown_rows:
        return None
    return checkpoints.read_training_rows(path)
