"""The facts of a shipped model: how it was trained, and its scores.

Facts are a dict that is written as JSON. Shares are from 0 to 1; scores have n and a 95% interval.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ferlab import checkpoints, data, files, pretrained
from ferlab.audit import checks, duplicates
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation import calibration, costs, metrics, scoring
from ferlab.evaluation.scoring import Evaluation
from ferlab.labels import EMOTIONS
from ferlab.recipes import Recipe, SemiRecipe, from_record

FER_2013 = ((48, 48, 1), EMOTIONS, 28_709)  # image shape, classes, training and validation rows
_IS_VALID: dict[str, Callable[[object], bool]] = {  # required to reproduce the model
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
    """The part of a checkpoint's training record that is required to reproduce its training.

    Raises InputError unless it is one complete supervised training by a recipe, from new weights.
    """
    record = checkpoints.read_record(path)
    recipe = checkpoints.recorded_recipe(path)
    learned_from = record.learned_from
    has_teacher = learned_from.teacher_probabilities is not None
    teachers = learned_from.teachers or ("unknown",) * has_teacher
    entries = record.as_json()
    if recipe is None or any(name not in entries for name in _IS_VALID if name != "scores"):
        reason = "it does not record its recipe, seed and data"
    elif isinstance(recipe, SemiRecipe) or learned_from.has_unlabelled_images or learned_from.steps:
        reason = "it was also trained on unlabelled images"
    elif others := [teacher for teacher in teachers if not teacher.startswith(pretrained.PREFIX)]:
        reason = f"its teacher {others[0]} is not a shipped model; use --teacher pretrained:NAME"
    elif record.resumed_from or record.initialized_from:
        reason = f"it continues {record.resumed_from or record.initialized_from}"
    elif record.epochs != recipe.epochs:
        reason = f"{record.epochs} of its {recipe.epochs} epochs are complete"
    elif checkpoints.read_training_rows(path) is None:
        reason = "it does not record its training rows"
    else:
        facts = {name: entries[name] for name in (*_IS_VALID, "created") if name in entries}
        if teachers:
            names = [teacher.removeprefix(pretrained.PREFIX) for teacher in teachers]
            facts["teachers"] = {name: pretrained.read_facts(name)["sha256"] for name in names}
        return facts
    raise InputError(f"{path}: must be one complete training by a recipe: {reason}")


def require_unseen(path: Path, train: Dataset, validation: Dataset) -> None:
    """Raise InputError if a teacher was trained on validation rows: scores would be optimistic."""
    other_rows = np.setdiff1d(checkpoints.read_training_rows(path), train.row_digests())
    count = int(np.isin(validation.row_digests(), other_rows).sum())
    if count or checkpoints.read_record(path).has_unknown_rows:
        share = f"{count:,} of" if count else "possibly some of"
        raise InputError(
            f"{path}: its teacher was trained on {share} the {len(validation):,} validation rows"
        )


def require_whole(name: str, facts: dict) -> None:
    """Raise InputError if facts that are required to reproduce the model are missing or invalid."""
    invalid = [key for key, is_valid in _IS_VALID.items() if not is_valid(facts.get(key))]
    if invalid:
        raise InputError(
            f"{name}: missing or invalid in its facts: {', '.join(invalid)}; download them again"
        )


def recipe_of(facts: dict) -> Recipe:
    """The recorded recipe. Raises InputError if it is not valid in this version."""
    try:
        return from_record(facts["recipe"])
    except InputError as error:
        raise InputError(f"the recorded recipe is not valid in this version: {error}") from error


def split(source: str, facts: dict) -> tuple[Dataset, Dataset]:
    """(training rows, validation rows), read and split as in the recorded training."""
    dataset = data.read(
        source,
        role="train",
        class_names=tuple(facts["class_names"]),
        image_shape=tuple(facts["image_shape"]),
    )
    return dataset.split(recipe_of(facts).validation)


def fingerprint(train: Dataset, facts: dict) -> str:
    """Fingerprint of the labelled training rows, as in a training record."""
    removed = recipe_of(facts).labels_removed
    return train.without_labels(removed, facts["seed"]).labelled().fingerprint()


def dataset_name(train: Dataset, validation: Dataset) -> str | None:
    """'FER-2013' for its training file, recompressed or not; None for other data."""
    rows = len(train) + len(validation)
    return "FER-2013" if (train.image_shape, train.class_names, rows) == FER_2013 else None


def rows_to_score(
    checkpoint: Checkpoint,
    source: str,
    *,
    truth: str | None,
    report: Callable[[str], None],
) -> Dataset:
    """Labelled rows outside the final score that the model was not trained on.

    Raises InputError if there are none.
    """
    (dataset,), is_trained_on = scoring.rows_to_score(
        [checkpoint], source, truth=truth, report=report
    )
    if is_trained_on:
        raise InputError(f"{source}: has no labelled rows that the model was not trained on")
    return data.fit_images(dataset, checkpoint.image_shape)


def copies_of(train: Dataset, scored: Dataset) -> np.ndarray:
    """bool (n,): which of the scored rows are near-duplicates of a training row."""
    images = np.concatenate([train.images, scored.images])
    digests = np.concatenate([train.row_digests(), scored.row_digests()])
    blank, _ = checks.blank_and_flat(images)
    copies = duplicates.find_copies(images, digests, np.flatnonzero(~blank))
    groups = copies.groups(len(images))
    return np.isin(groups[len(train) :], groups[: len(train)])


def scores(evaluation: Evaluation, copies: np.ndarray) -> dict:
    """An evaluation as facts. copies: bool (n,), `copies_of` its rows."""
    entries = dataclasses.asdict(evaluation.scores)
    class_names = evaluation.dataset.class_names
    classes = dict(zip(class_names, entries.pop("classes"), strict=True))
    correct = evaluation.correct[~copies]
    scaled_error = evaluation.scaled_error
    without_copies = metrics.proportion(int(correct.sum()), len(correct)) if len(correct) else None
    return {
        "source": Path(evaluation.dataset.source).name,
        "fingerprint": evaluation.dataset.fingerprint(),
        **entries,
        "classes": classes,
        "calibration_error": dataclasses.asdict(evaluation.calibration_error),
        "calibration_error_at_temperature": scaled_error and dataclasses.asdict(scaled_error),
        "loss": evaluation.loss,
        "copies_of_training_rows": int(copies.sum()),
        "accuracy_without_copies": without_copies and dataclasses.asdict(without_copies),
    }


def float16_changes(before: list[Evaluation], after: list[Evaluation]) -> dict:
    """How many predictions float16 kernels change, over the rows of all evaluations."""

    def joined(evaluations: list[Evaluation], name: str) -> np.ndarray:
        return np.concatenate([getattr(evaluation, name) for evaluation in evaluations])

    predicted = joined(before, "predicted")
    return {
        "rows": len(predicted),
        "changed_predictions": int((predicted != joined(after, "predicted")).sum()),
        "right_before": int(joined(before, "correct").sum()),
        "right_after": int(joined(after, "correct").sum()),
    }


def measure(
    checkpoint: Checkpoint,
    path: Path,
    train: Dataset,
    parts: dict[str, Dataset],
    *,
    batch_size: int,
    report: Callable[[str], None],
) -> dict:
    """Write the checkpoint with float16 kernels and a temperature to `path`; return measured facts.

    parts: the rows to score by name, among them "validation", on which the temperature is fitted.
    """

    def evaluate(model: Checkpoint) -> dict[str, Evaluation]:
        return {
            name: scoring.evaluate(model, rows, batch_size=batch_size, report=report)
            for name, rows in parts.items()
        }

    before = evaluate(checkpoint)
    outputs, labels = before["validation"].outputs, parts["validation"].labels
    temperature = calibration.fit_temperature(outputs, labels)
    checkpoints.save(
        checkpoint.model,
        path,
        checkpoint.record.replace(temperature=temperature),
        training_rows=checkpoints.read_training_rows(checkpoint.path),
        half=True,
    )
    packed = checkpoints.load(path)
    after = evaluate(packed)
    report("looking for copies of training rows")
    return {
        "sha256": files.sha256(path),
        "bytes": path.stat().st_size,
        "parameters": packed.model.count_params(),
        "multiply_adds": costs.multiply_adds(packed.model),
        "temperature": temperature,
        "scores": {
            name: scores(evaluation, copies_of(train, evaluation.dataset))
            for name, evaluation in after.items()
        },
        "float16": float16_changes([*before.values()], [*after.values()]),
    }


def assemble(
    name: str,
    origin: dict,
    commands: dict[str, str],
    measured: dict,
    train: Dataset,
    validation: Dataset,
) -> dict:
    """All facts of a shipped model.

    origin: from the function `origin`. commands: "command" and "reproduce", to paste.
    measured: by `measure`.
    """
    removed = recipe_of(origin).labels_removed
    dataset = {
        **origin["data"],
        "name": dataset_name(train, validation),
        "rows": len(train.without_labels(removed, origin["seed"]).labelled()),
    }
    return {"name": name, "file": f"{name}.h5", **measured, **origin, "data": dataset, **commands}


def summary(facts: dict) -> list[str]:
    """Lines to print."""
    lines = []
    for name, entries in facts["scores"].items():
        lines.append(f"{name} accuracy {metrics.Proportion(**entries['accuracy'])}")
    changes = facts["float16"]
    lines.append(
        f"float16 changed {changes['changed_predictions']:,} of {changes['rows']:,} predictions"
    )
    return lines
