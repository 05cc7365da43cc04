"""The named experiments: every setting that decides a result, side by side."""

import dataclasses
from dataclasses import dataclass

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
    )
}


def get_recipe(name: str) -> Recipe:
    """Raises InputError with the valid names for an unknown one."""
    if name not in RECIPES:
        raise InputError(f"recipe must be one of {', '.join(RECIPES)}. Received: {name!r}")
    return RECIPES[name]
