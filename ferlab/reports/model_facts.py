"""What is told of a trained model that is shipped: where it comes from and how good it is.

Facts are a dict that is written as JSON. Shares are from 0 to 1; what is measured comes with n and
its 95% interval.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ferlab import checkpoints, data, pretrained
from ferlab.audit import checks, duplicates
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation import metrics, scoring
from ferlab.evaluation.scoring import Evaluation
from ferlab.labels import EMOTIONS
from ferlab.recipes import Recipe, SemiRecipe, from_record

FER_2013 = ((48, 48, 1), EMOTIONS, 28_709)  # image shape, classes, rows to train on
_IS_SOUND: dict[str, Callable[[object], bool]] = {  # what it takes to train and score again
    "recipe": lambda value: isinstance(value, dict),
    "seed": lambda value: type(value) is int and value >= 0,
    "class_names": lambda value: _are(str, value) and len(set(value)) >= 2,
    "image_shape": lambda value: _are(int, value) and len(value) == 3 and min(value) > 0,
    "data": lambda value: isinstance(value, dict) and isinstance(value.get("fingerprint"), str),
    "scores": lambda value: isinstance(value, dict) and all(map(_is_score, value.values())),
    "versions": lambda value: isinstance(value, dict),
}


def _are(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(type(one) is kind for one in value)


def _is_score(value: object) -> bool:
    accuracy = value.get("accuracy") if isinstance(value, dict) else None
    return (
        isinstance(accuracy, dict)
        and isinstance(value.get("fingerprint"), str)
        and type(accuracy.get("n")) is int
        and all(type(accuracy.get(name)) is float for name in ("value", "low", "high"))
    )


def origin(path: Path) -> dict:
    """The part of a checkpoint's training record by which its training can be done again.

    Raises InputError unless that is one whole supervised training, from its beginning by a recipe.
    """
    record = checkpoints.read_record(path)
    recipe = checkpoints.recorded_recipe(path)
    learned_from = record.learned_from
    is_taught = learned_from.teacher_probabilities is not None
    teachers = learned_from.teachers or ("not told",) * is_taught
    entries = record.as_json()
    if recipe is None or any(name not in entries for name in _IS_SOUND if name != "scores"):
        reason = "it does not tell its recipe, seed and data"
    elif isinstance(recipe, SemiRecipe) or learned_from.has_unlabelled_images or learned_from.steps:
        reason = "it has learned from more than given labels"
    elif unshipped := [one for one in teachers if not one.startswith(pretrained.PREFIX)]:
        reason = f"its teacher {unshipped[0]} is no shipped model; teach by pretrained:NAME"
    elif record.resumed_from or record.initialized_from:
        reason = f"it went on from {record.resumed_from or record.initialized_from}"
    elif record.epochs != recipe.epochs:
        reason = f"{record.epochs} of its {recipe.epochs} epochs are trained"
    elif checkpoints.read_training_rows(path) is None:
        reason = "it does not tell which rows it was trained on"
    else:
        known = {name: entries[name] for name in (*_IS_SOUND, "created") if name in entries}
        if teachers:
            names = [teacher.removeprefix(pretrained.PREFIX) for teacher in teachers]
            known["teachers"] = {name: pretrained.read_facts(name)["sha256"] for name in names}
        return known
    raise InputError(f"{path}: must be of one whole training by a recipe: {reason}")


def require_unseen(path: Path, train: Dataset, validation: Dataset) -> None:
    """Raise InputError if its teachers knew validation rows, so that its scores would flatter."""
    others = np.setdiff1d(checkpoints.read_training_rows(path), train.row_digests())
    known = int(np.isin(validation.row_digests(), others).sum())
    if known or checkpoints.read_record(path).has_unknown_rows:
        told = f"{known:,} of" if known else "perhaps some of"
        raise InputError(
            f"{path}: its teacher was trained on {told} the {len(validation):,} validation rows"
        )


def require_whole(name: str, facts: dict) -> None:
    """Raise InputError for facts without what it takes to train and score the model again."""
    unsound = [key for key, is_sound in _IS_SOUND.items() if not is_sound(facts.get(key))]
    if unsound:
        raise InputError(f"{name}: its facts do not tell {', '.join(unsound)}; fetch them again")


def recipe_of(facts: dict) -> Recipe:
    """Raises InputError for a recipe that this version does not know."""
    try:
        return from_record(facts["recipe"])
    except InputError as error:
        raise InputError(f"the recorded recipe is none of this version: {error}") from error


def split(source: str, facts: dict) -> tuple[Dataset, Dataset]:
    """(rows to train on, validation rows), read and set apart as the recorded training did."""
    dataset = data.read(
        source,
        role="train",
        class_names=tuple(facts["class_names"]),
        image_shape=tuple(facts["image_shape"]),
    )
    return dataset.split(recipe_of(facts).validation)


def fingerprint(train: Dataset, facts: dict) -> str:
    """Of the rows whose labels are learned, as a training record has it."""
    removed = recipe_of(facts).labels_removed
    return train.without_labels(removed, facts["seed"]).labelled().fingerprint()


def dataset_name(train: Dataset, validation: Dataset) -> str | None:
    """'FER-2013' for its training half, whoever recompressed the images; None for other data."""
    rows = len(train) + len(validation)
    return "FER-2013" if (train.image_shape, train.class_names, rows) == FER_2013 else None


def rows_to_score(
    checkpoint: Checkpoint,
    source: str,
    *,
    truth: str | None,
    report: Callable[[str], None],
) -> Dataset:
    """The labelled rows that are not for the final score, which the model was not trained on.

    Raises InputError when there are none.
    """
    (dataset,), is_trained_on = scoring.rows_to_score(
        [checkpoint], source, truth=truth, report=report
    )
    if is_trained_on:
        raise InputError(f"{source}: has no labelled rows that the model was not trained on")
    return data.fit_images(dataset, checkpoint.image_shape)


def copies_of(train: Dataset, scored: Dataset) -> np.ndarray:
    """bool (n,): the scored rows that show what a training row shows; see `audit.duplicates`."""
    images = np.concatenate([train.images, scored.images])
    digests = np.concatenate([train.row_digests(), scored.row_digests()])
    blank, _ = checks.blank_and_flat(images)
    found = duplicates.find_copies(images, digests, np.flatnonzero(~blank))
    groups = found.groups(len(images))
    return np.isin(groups[len(train) :], groups[: len(train)])


def scores(found: Evaluation, copies: np.ndarray) -> dict:
    """An evaluation as facts. copies: as `copies_of` gives them for its rows."""
    told = dataclasses.asdict(found.scores)
    classes = dict(zip(found.dataset.class_names, told.pop("classes"), strict=True))
    right = found.correct[~copies]
    return {
        "source": Path(found.dataset.source).name,
        "fingerprint": found.dataset.fingerprint(),
        **told,
        "classes": classes,
        "calibration_error": dataclasses.asdict(found.calibration_error),
        "calibration_error_at_temperature": (
            dataclasses.asdict(found.scaled_error) if found.scaled_error else None
        ),
        "loss": found.loss,
        "copies_of_training_rows": int(copies.sum()),
        "accuracy_without_copies": (
            dataclasses.asdict(metrics.proportion(int(right.sum()), len(right)))
            if len(right)
            else None
        ),
    }


def difference(whole: list[Evaluation], half: list[Evaluation]) -> dict:
    """What float16 has changed, over the rows of all evaluations, pair by pair."""
    before, after = (
        [np.concatenate([getattr(one, name) for one in found]) for name in ("predicted", "correct")]
        for found in (whole, half)
    )
    return {
        "rows": len(before[0]),
        "changed_predictions": int((before[0] != after[0]).sum()),
        "right_before": int(before[1].sum()),
        "right_after": int(after[1].sum()),
    }
