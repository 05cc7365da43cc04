"""Notes for the user before the first step of a training."""

import math
from collections.abc import Iterator

import numpy as np

from ferlab import backend, checkpoints
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.recipes import Recipe
from ferlab.training.objectives import Objective

NOT_DECISIVE = ("python", "platform")  # versions that do not change a result


def before_training(
    model: keras.Model,
    objective: Objective,
    validation: Dataset,
    resume_from: Checkpoint | None,
    first_epoch: int,
) -> Iterator[str]:
    """Notes on this training, most important first."""
    recipe = objective.recipe
    yield from _on_teachers(objective, validation, resume_from)
    if objective.outputs == "scores":
        yield "the model outputs scores; training a softmax of them, which the new file outputs"
    elif objective.outputs == "independent":
        yield (
            "the model outputs an independent probability for each class; training each by itself, "
            "by binary cross-entropy"
        )
    fingerprint = resume_from.record.fingerprint if resume_from else None
    if fingerprint and fingerprint != objective.train.fingerprint():
        yield (
            f"{resume_from.path} was trained on other rows; if validation rows were among them, "
            "the validation accuracy is optimistic"
        )
    if recipe.no_aug_fraction and recipe.without_augmentation() == recipe:
        yield "--no-aug-fraction has no effect, as the recipe has no augmentation to turn off"
    elif recipe.no_aug_fraction and all(phase.augment for phase in recipe.phases()):
        fraction = f"--no-aug-fraction {recipe.no_aug_fraction} of {recipe.epochs} epochs"
        yield f"{fraction} is less than half an epoch, so it has no effect"
    steps = objective.steps_per_epoch * (recipe.epochs - first_epoch)
    if resume_from is None and steps < _steps_to_settle(model):
        yield (
            f"{steps} steps are too few for the moving averages of batch normalization, so "
            "validation metrics lag behind; a smaller --batch-size or more --epochs helps"
        )
    if recipe.bfloat16 and not backend.has_bfloat16():
        yield "bfloat16 is not fast on this machine; training in float32"


def other_machine(recorded: dict[str, str], current: dict[str, str]) -> str | None:
    """What a resumed run no longer has as it began, which its result depends on; None if nothing.

    recorded, current: as `backend.versions`; what an earlier version did not record is left out.
    """
    changes = [
        f"{name} {recorded[name]}, now {current.get(name)}"
        for name in recorded
        if name not in NOT_DECISIVE and recorded[name] != current.get(name)
    ]
    if not changes:
        return None
    return (
        f"the run began with {'; '.join(changes)}; its result may differ in the last digits from "
        "one without interruption"
    )


def new_optimizer(resume_from: Checkpoint, recipe: Recipe, has_state: bool) -> str:
    """Why the optimizer of a checkpoint is not continued. has_state: whether the file has one."""
    recorded = checkpoints.recorded_recipe(resume_from.path)
    if recorded and recorded.optimizer != recipe.optimizer:
        reason = f"was trained with {recorded.optimizer}"
    elif has_state:
        reason = "has an optimizer for other layers"
    else:
        reason = "has no optimizer state"
    return f"{resume_from.path} {reason}, so a new optimizer is used"


def _on_teachers(
    objective: Objective, validation: Dataset, resume_from: Checkpoint | None
) -> Iterator[str]:
    teacher = objective.teacher
    if teacher and teacher.rows is None:
        yield (
            "the training rows of the teacher are not all known; if validation rows were among "
            "them, the validation accuracy is optimistic"
        )
    elif teacher:
        others = np.setdiff1d(teacher.rows, objective.train.row_digests())
        known = np.isin(validation.row_digests(), others).sum()
        if known:
            yield (
                f"the teacher was trained on {known:,} of the {len(validation):,} validation rows, "
                "so the validation accuracy is optimistic"
            )
    earlier = resume_from.record.learned_from.teachers if resume_from else ()
    if earlier and not teacher:
        names = ", ".join(earlier)
        yield f"{resume_from.path} had the teachers {names}; now it learns only from labels"


def _steps_to_settle(model: keras.Model) -> float:
    """Steps until initial values contribute less than 5% to the moving averages."""
    momenta = [
        layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    return math.log(0.05) / math.log(max(momenta)) if momenta else 0
