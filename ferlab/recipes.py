"""The named experiments: every setting that decides a result, side by side."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from ferlab.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """One experiment's settings.

    validation: rows set apart for validation: a number takes the first rows, a fraction the last,
        a word the rows with that usage.
    shift: largest shift in both directions, as a fraction of the image's side.
    labels_removed: share of the training rows that are used without their label, if at all.
    """

    name: str
    model: str
    epochs: int
    batch_size: int
    learning_rate: float
    validation: int | float | str
    shift: float
    horizontal_flip: bool
    optimizer: str = "adam"
    labels_removed: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= 1_000_000:
            raise InputError(f"epochs must be from 1 to 1,000,000. Received: {self.epochs}")
        if self.batch_size < 1:
            raise InputError(f"--batch-size must be 1 or more. Received: {self.batch_size}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate must be above 0. Received: {self.learning_rate}")
        if not 0 <= self.shift < 1:
            raise InputError(f"--shift must be from 0 to below 1. Received: {self.shift}")
        if not 0 <= self.labels_removed < 1:
            raise InputError(
                f"--labels-removed must be from 0 to below 1. Received: {self.labels_removed}"
            )

    def override(self, **settings: object) -> "Recipe":
        """This recipe with every setting that is not None replaced."""
        given = {name: value for name, value in settings.items() if value is not None}
        return dataclasses.replace(self, **given)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


SEMI_METHODS = ("self-training", "fixmatch")


@dataclass(frozen=True)
class SemiRecipe(Recipe):
    """The settings of a training that learns from unlabelled images too.

    method: self-training learns what a predictor says of them (pseudo-labels); fixmatch begins as
        the predictor, and asks itself about them at every step.
    threshold: least confidence, a probability, with which a prediction is taken for a label.
    class_thresholds: that of single classes, by name.
    rounds: of self-training; the model of a round is the next one's predictor. scikit-learn's
        SelfTrainingClassifier calls it max_iter.
    soft_labels: learn the predictor's probabilities rather than its most probable class.
    unlabelled_weight: of a pseudo-label in the loss, where a given label has 1; of the consistency
        term in fixmatch's.
    ramp_epochs: over which a pseudo-label's weight grows from 0.
    unlabelled_ratio: unlabelled images for each labelled one in a step of fixmatch.
    """

    method: str = "self-training"
    threshold: float = 0.5
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 1
    soft_labels: bool = False
    unlabelled_weight: float = 1.0
    ramp_epochs: int = 0
    unlabelled_ratio: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in SEMI_METHODS:
            raise InputError(f"method must be one of {SEMI_METHODS}. Received: {self.method!r}")
        for name, value in {"": self.threshold, **self.class_thresholds}.items():
            if not 0 <= value <= 1:
                raise InputError(
                    f"a threshold must be a probability, 0 to 1. Received: {name}{name and '='}"
                    f"{value}"
                )
        if not 0 < self.unlabelled_weight < float("inf"):
            raise InputError(
                f"--unlabelled-weight must be above 0. Received: {self.unlabelled_weight}"
            )
        if self.ramp_epochs >= self.epochs:
            raise InputError(
                f"--ramp-epochs must be below the {self.epochs} epochs. "
                f"Received: {self.ramp_epochs}"
            )
        if self.method == "fixmatch" and (self.rounds != 1 or self.soft_labels or self.ramp_epochs):
            raise InputError(
                f"{self.name} labels at every step anew; --rounds, --soft-labels and "
                "--ramp-epochs are for self-training"
            )
        if self.method == "self-training" and self.unlabelled_ratio != 1:
            raise InputError(
                f"{self.name} learns every pseudo-label once an epoch; --unlabelled-ratio is for "
                "fixmatch"
            )


_REPORT_TRAINING = {
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "shift": 0.1,
    "horizontal_flip": True,
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="cnn-report", model="cnn", validation=2400, **_REPORT_TRAINING),
        Recipe(name="dnn-report", model="dnn", validation=0.1, **_REPORT_TRAINING),
        SemiRecipe(
            name="semi-report",
            model="cnn",
            validation=2400,
            labels_removed=0.5,
            threshold=0.5,
            **_REPORT_TRAINING,
        ),
        SemiRecipe(
            name="fixmatch",
            model="cnn",
            validation=2400,
            labels_removed=0.5,
            method="fixmatch",
            threshold=0.95,
            unlabelled_ratio=2,
            **{**_REPORT_TRAINING, "batch_size": 64},
        ),
    )
}


def recipe_names(kind: type[Recipe] = Recipe) -> list[str]:
    return [name for name, recipe in RECIPES.items() if type(recipe) is kind]


def get_recipe(name: str, kind: type[Recipe] = Recipe) -> Recipe:
    """Raises InputError with the valid names for one that is not of that kind."""
    if name not in recipe_names(kind):
        known = ", ".join(recipe_names(kind))
        raise InputError(f"recipe must be one of {known}. Received: {name!r}")
    return RECIPES[name]
