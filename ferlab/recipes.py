"""The named experiments: every setting that decides a result, side by side."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from ferlab.errors import InputError

OPTIMIZERS = ("adam", "adamw", "muon", "sgd")  # sgd with Nesterov momentum of 0.9
SCHEDULES = ("constant", "cosine")
_FRACTIONS = (
    *("shift", "zoom", "contrast", "erasing", "warmup", "weight_decay", "ema", "label_smoothing"),
    *("teacher_weight", "small_scale", "small_share", "plain_share", "labels_removed"),
)


@dataclass(frozen=True)
class Recipe:
    """One experiment's settings.

    validation: rows set apart for validation: a number takes the first rows, a fraction the last,
        a word the rows with that usage.
    shift: largest shift in both directions, as a fraction of the image's side.
    rotation: largest turn either way, in degrees. zoom and contrast: largest change either way, as
        a fraction. erasing: largest patch greyed out, as a fraction of the image's area.
    schedule: of the learning rate: constant, or cosine: it rises to learning_rate in the first
        `warmup` share of the steps and falls to 0 along a cosine.
    weight_decay: the share of a kernel's weights that a step takes off, over the learning rate
        (decoupled, Loshchilov and Hutter, arXiv 1711.05101).
    ema: momentum of the running mean of the weights, which is evaluated and saved in their place;
        0 for none.
    label_smoothing: the part of a label spread evenly over all classes.
    mixup: alpha of the Beta distribution by which two images are blended; 0 for none (Zhang et al.,
        arXiv 1710.09412).
    teacher_weight: of the probabilities of a teacher in the target, where one is given.
    small_scale, small_share: the first share of the epochs sees images so much smaller
        (progressive resizing); 0 for none.
    plain_share: the last share of the epochs goes without rotation, zoom, contrast, erasing and
        mixup.
    bfloat16: compute in it, where the processor does so faster.
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
    rotation: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    optimizer: str = "adam"
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    ema: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    teacher_weight: float = 0.5
    small_scale: float = 0.0
    small_share: float = 0.0
    plain_share: float = 0.0
    bfloat16: bool = False
    labels_removed: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= 1_000_000:
            raise InputError(f"epochs must be from 1 to 1,000,000. Received: {self.epochs}")
        if self.batch_size < 1:
            raise InputError(f"--batch-size must be 1 or more. Received: {self.batch_size}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate must be above 0. Received: {self.learning_rate}")
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise InputError(f"--optimizer must be one of {known}. Received: {self.optimizer!r}")
        if self.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise InputError(f"--schedule must be one of {known}. Received: {self.schedule!r}")
        for name in _FRACTIONS:
            value = getattr(self, name)
            if not 0 <= value < 1:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} must be from 0 to below 1. Received: {value}")
        for name, most in (("rotation", 180), ("mixup", 100)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} must be from 0 to {most}. Received: {value}")
        if bool(self.small_scale) != bool(self.small_share):
            raise InputError(
                "--small-scale and --small-share go together. "
                f"Received: {self.small_scale} and {self.small_share}"
            )

    def stages(self, first_epoch: int = 0) -> list["Stage"]:
        """The epochs from the first one on, those together that see images alike."""
        small = round(self.small_share * self.epochs)
        plain = self.epochs - round(self.plain_share * self.epochs)

        def seen(epoch: int) -> tuple[float | None, bool]:
            return self.small_scale if epoch < small else None, epoch >= plain

        grouped = itertools.groupby(range(first_epoch, self.epochs), seen)
        return [Stage(list(epochs), *how) for how, epochs in grouped]

    @property
    def plain(self) -> "Recipe":
        """This recipe without what its last epochs leave off."""
        return self.override(rotation=0.0, zoom=0.0, contrast=0.0, erasing=0.0, mixup=0.0)

    @property
    def learns_soft_targets(self) -> bool:
        return bool(self.label_smoothing or self.mixup)

    def override(self, **settings: object) -> "Recipe":
        """This recipe with every setting that is not None replaced."""
        given = {name: value for name, value in settings.items() if value is not None}
        return dataclasses.replace(self, **given)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Stage:
    """Epochs that see images alike.

    scale: by which images are made smaller, None if not at all. is_plain: see Recipe.plain_share.
    """

    epochs: list[int]
    scale: float | None = None
    is_plain: bool = False


WHOLE = Stage([])  # images as the recipe has them, for no epoch in particular

SEMI_METHODS = ("self-training", "fixmatch")
SUPERVISED_ALONE = ("label_smoothing", "mixup", "small_scale", "small_share", "plain_share")


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
        if any(getattr(self, name) for name in SUPERVISED_ALONE):
            raise InputError(
                f"{self.name} knows no --label-smoothing, --mixup, --small-scale or --plain-share; "
                "they are for supervised training"
            )
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

_OWN_TRAINING = {
    "model": "resnet",
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 0.01,
    "schedule": "cosine",
    "warmup": 0.15,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "validation": 2400,
    "shift": 0.1,
    "horizontal_flip": True,
    "bfloat16": True,
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="fast", epochs=16, small_scale=2 / 3, small_share=0.5, **_OWN_TRAINING),
        Recipe(
            name="best",
            epochs=40,
            rotation=12.0,
            zoom=0.15,
            contrast=0.3,
            erasing=0.1,
            mixup=0.2,
            small_scale=2 / 3,
            small_share=0.4,
            plain_share=0.2,
            **_OWN_TRAINING,
        ),
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
