"""The named experiments, and every setting that determines a result, declared once.

A field of `Recipe` or `SemiRecipe` made by `setting` declares its default, help and accepted
values. The flag in `ferlab/cli.py`, the check of a value and the command that repeats a training
are derived from it, so a new setting is one field here.
"""

import dataclasses
import itertools
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ferlab.errors import InputError, did_you_mean

MAX_EPOCHS = 1_000_000
TRAINABLE = ("all", "head")  # parts of a model that a phase can train
SEMI_METHODS = ("self-training", "fixmatch")
FORMER_NAMES = {  # former to present names of settings, in recorded recipes and in flags
    "small_scale": "progressive_scale",
    "small_share": "progressive_fraction",
    "plain_share": "no_aug_fraction",
}


@dataclass(frozen=True)
class Setting:
    """The declaration of a field of a recipe.

    low, high: bounds of a number, or of every number of a mapping; None for no bound.
    above, below: whether low and high themselves are excluded.
    choices: the accepted values, where they are few.
    parse: an argparse type, where the type of the default does not suffice.
    group: heading of the flag in --help.
    flag: whether the setting has a flag.
    augmentation: whether `Phase.augment` switches it.
    supervised_only: whether semi-supervised recipes refuse it.
    method: the only semi-supervised method that accepts it, if not all do.
    """

    default: Any
    metavar: str | None
    help: str
    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    parse: Callable[[str], Any] | None = None
    group: str = "recipe"
    flag: bool = True
    augmentation: bool = False
    supervised_only: bool = False
    method: str | None = None

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)

    @property
    def is_whole(self) -> bool:
        return isinstance(self.default, int) and not self.is_switch

    @property
    def expected(self) -> str:
        """The accepted values in words: 'a whole number from 1 to 100'."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.is_switch:
            return "true or false"
        ends = []
        if self.low is not None:
            ends.append(f"{'above' if self.above else 'from'} {self.low:,}")
        if self.high is not None:
            ends.append(f"{'to below' if self.below else 'to'} {self.high:,}")
        return " ".join(["a whole number" if self.is_whole else "a number", *ends])

    def accepts(self, value: Any) -> bool:
        """Whether a single value, not a mapping, is within the bounds or among the choices."""
        if self.choices:
            return value in self.choices
        if self.is_switch or isinstance(value, bool):
            return self.is_switch and isinstance(value, bool)
        if self.low is None and self.high is None:
            return True
        if not isinstance(value, int if self.is_whole else int | float):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        is_low = self.low is not None and (value <= self.low if self.above else value < self.low)
        is_high = self.high is not None and (
            value >= self.high if self.below else value > self.high
        )
        return not (is_low or is_high)

    def check(self, name: str, value: Any) -> None:
        """Raise InputError naming the setting's flag, the accepted values and the one received."""
        if isinstance(self.default, Mapping) and isinstance(value, Mapping):
            refused = [f"{key}={each}" for key, each in value.items() if not self.accepts(each)]
        else:
            refused = [] if self.accepts(value) else [str(value)]
        if refused:
            nearest = did_you_mean(refused[0], self.choices or ())
            raise InputError(
                f"{flag_of(name)} must be {self.expected}. Received: {refused[0]}{nearest}"
            )


def setting(default: object, metavar: str | None, help: str, **declared: Any) -> Any:
    """A dataclass field with its `Setting`, which takes the same arguments."""
    metadata = {"setting": Setting(default, metavar, help, **declared)}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _count(default: int, help: str, low: int = 1, high: int = 2**32 - 1, **declared: Any) -> Any:
    return setting(default, "N", help, low=low, high=high, **declared)


def _fraction(default: float, help: str, metavar: str = "FRACTION", **declared: Any) -> Any:
    """A setting from 0 to below 1."""
    return setting(default, metavar, help, low=0, high=1, below=True, **declared)


def _augmentation(help: str, **declared: Any) -> Any:
    """A fraction, 0 for off, which phases with `augment=False` switch off."""
    return _fraction(0.0, help, augmentation=True, **declared)


def settings(kind: type["Recipe"]) -> dict[str, Setting]:
    """The declared settings of a kind of recipe by name, in the order of their fields."""
    return {
        field.name: field.metadata["setting"]
        for field in dataclasses.fields(kind)
        if "setting" in field.metadata
    }


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def parse_validation(text: str) -> int | float | str:
    """'2400' as a number of rows, '0.1' as a fraction, anything else as a usage."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_class_thresholds(text: str) -> dict[str, float]:
    """'happy=0.9,disgust=0.4' by name. Raises ArgumentTypeError for another form."""
    thresholds: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.rpartition("="))
        try:
            number = float(value)
        except ValueError:
            name = ""
        if not name or name in thresholds:
            raise ArgumentTypeError(f"expected NAME=CONFIDENCE, each name once. Received: {part!r}")
        thresholds[name] = number
    return thresholds


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs with the same training settings.

    epochs: their numbers, counted from 0.
    scale: of the images' sides, from 0 to below 1; None for whole images.
    augment: whether images are distorted and blended; flips and shifts always apply.
    trainable: "all" layers or only the "head".
    learning_rate: peak learning rate of the phase; None for the recipe's.
    """

    epochs: range
    scale: float | None = None
    augment: bool = True
    trainable: str = "all"
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < 1:
            raise InputError(f"a phase's scale must be above 0 and below 1. Received: {self.scale}")
        if self.trainable not in TRAINABLE:
            known = ", ".join(TRAINABLE)
            raise InputError(
                f"a phase's trainable must be one of {known}. Received: {self.trainable!r}"
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"a phase's learning rate must be above 0. Received: {self.learning_rate}"
            )

    def as_dict(self) -> dict:
        return {**dataclasses.asdict(self), "epochs": [self.epochs.start, self.epochs.stop]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        return cls(**{**record, "epochs": range(*record["epochs"])})


WHOLE_TRAINING = Phase(range(0))  # the settings of the recipe, for no epoch in particular


@dataclass(frozen=True)
class Recipe:
    """The settings of an experiment.

    explicit_phases: phases that cover all epochs, such as two for fine-tuning; without them the
    phases follow from `progressive_scale`, `progressive_fraction` and `no_aug_fraction`.

    >>> Recipe("tuned", "cnn", epochs=15, explicit_phases=(
    ...     Phase(range(5), trainable="head", learning_rate=1e-3),
    ...     Phase(range(5, 15), learning_rate=1e-4),
    ... )).phases()[0].trainable
    'head'
    """

    name: str
    model: str
    epochs: int = _count(20, "number of epochs", high=MAX_EPOCHS)
    batch_size: int = _count(128, "images per step")
    learning_rate: float = setting(1e-3, "RATE", "peak learning rate", low=0, above=True)
    validation: int | float | str = setting(
        2400,
        "ROWS",
        "rows held out for validation: the first N (2400), the last fraction (0.1), or those of a "
        "usage (PublicTest)",
        parse=parse_validation,
    )
    shift: float = _fraction(0.1, "maximum random shift, as a fraction of the image's side")
    horizontal_flip: bool = setting(True, None, "flip images left to right at random")
    rotation: float = setting(
        0.0,
        "DEGREES",
        "maximum random rotation, in degrees",
        low=0,
        high=180,
        augmentation=True,
    )
    zoom: float = _augmentation("maximum random zoom in or out, as a fraction")
    brightness: float = _augmentation(
        "maximum random change of brightness, as a fraction of the range of grey levels"
    )
    contrast: float = _augmentation("maximum random change of contrast, as a fraction")
    sharpness: float = _augmentation("maximum random blurring or sharpening, as a fraction")
    erasing: float = _augmentation(
        "area of the largest random patch to erase, as a fraction of the image"
    )
    optimizer: str = setting(
        "adam",
        "NAME",
        "optimizer: adam, adamw, muon, or sgd with Nesterov momentum; each requires its own "
        "--learning-rate and --weight-decay",
        choices=("adam", "adamw", "muon", "sgd"),
    )
    schedule: str = setting(
        "constant",
        "NAME",
        "learning-rate schedule: constant, or cosine (decay to 0 after a warmup)",
        choices=("constant", "cosine"),
    )
    warmup: float = _fraction(0.0, "warmup of a cosine schedule, as a fraction of the steps")
    weight_decay: float = _fraction(  # Loshchilov and Hutter, arXiv 1711.05101
        0.0, "decoupled weight decay, multiplied by the learning rate", "RATE"
    )
    ema: float = _fraction(
        0.0, "EMA momentum (0: off); the EMA weights are evaluated and saved", "MOMENTUM"
    )
    label_smoothing: float = _fraction(
        0.0, "fraction of a label spread evenly over all classes", supervised_only=True
    )
    mixup: float = setting(  # Zhang et al., arXiv 1710.09412
        0.0,
        "ALPHA",
        "mixup: alpha of the Beta distribution for blending two images (0: off)",
        low=0,
        high=100,
        augmentation=True,
        supervised_only=True,
    )
    cutmix: float = setting(  # Yun et al., arXiv 1905.04899
        0.0,
        "ALPHA",
        "CutMix: alpha of the Beta distribution for the area taken from another image (0: off); "
        "with --mixup, each batch gets one of the two at random",
        low=0,
        high=100,
        augmentation=True,
        supervised_only=True,
    )
    teacher_weight: float = _fraction(
        0.5,
        "weight of the teacher's probabilities in the targets, relative to the labels",
        group="distillation",
        supervised_only=True,
    )
    progressive_scale: float = _fraction(
        0.0,
        "progressive resizing: side of the images in the first epochs, as a fraction (0: off)",
        supervised_only=True,
    )
    progressive_fraction: float = _fraction(
        0.0, "fraction of the epochs that train on smaller images", supervised_only=True
    )
    no_aug_fraction: float = _fraction(
        0.0,
        "fraction of the epochs, at the end, with no augmentation except flips and shifts",
        supervised_only=True,
    )
    bfloat16: bool = setting(
        False, None, "train in bfloat16 where that is faster; weights and scores stay float32"
    )
    labels_removed: float = _fraction(
        0.0, "fraction of the training labels to hide, drawn by the seed within each class"
    )
    explicit_phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        for name, each in settings(type(self)).items():
            each.check(name, getattr(self, name))
        if bool(self.progressive_scale) != bool(self.progressive_fraction):
            raise InputError(
                "--progressive-scale and --progressive-fraction require each other. "
                f"Received: {self.progressive_scale} and {self.progressive_fraction}"
            )
        if self.explicit_phases:
            self._check_phases()

    def _check_phases(self) -> None:
        derived = ("progressive_scale", "progressive_fraction", "no_aug_fraction")
        if flags := [flag_of(name) for name in derived if getattr(self, name)]:
            raise InputError(f"{self.name} has explicit phases. Received: {', '.join(flags)}")
        expected = 0
        for phase in self.explicit_phases:
            if phase.epochs.start != expected or not phase.epochs or phase.epochs.step != 1:
                raise InputError(
                    f"{self.name}: a phase must begin at epoch {expected} and last one or more. "
                    f"Received: {phase.epochs}"
                )
            expected = phase.epochs.stop
        if expected != self.epochs:
            raise InputError(
                f"{self.name}: phases must end after epoch {self.epochs}. Received: {expected}"
            )

    def phases(self, first_epoch: int = 0) -> list[Phase]:
        """The phases of the epochs from the first one on, in order."""
        if self.explicit_phases:
            return [
                dataclasses.replace(
                    phase, epochs=range(max(first_epoch, phase.epochs.start), phase.epochs.stop)
                )
                for phase in self.explicit_phases
                if phase.epochs.stop > first_epoch
            ]
        first_whole = round(self.progressive_fraction * self.epochs)
        first_plain = self.epochs - round(self.no_aug_fraction * self.epochs)
        later = {epoch for epoch in (first_whole, first_plain, self.epochs) if epoch > first_epoch}
        return [
            Phase(
                range(start, stop),
                scale=self.progressive_scale if start < first_whole else None,
                augment=start < first_plain,
            )
            for start, stop in itertools.pairwise(sorted({first_epoch, *later}))
        ]

    def without_augmentation(self) -> Self:
        """This recipe for a phase with `augment=False`."""
        declared = settings(type(self)).items()
        return self.override(**{name: each.default for name, each in declared if each.augmentation})

    @property
    def learns_soft_targets(self) -> bool:
        return bool(self.label_smoothing or self.mixup or self.cutmix)

    def override(self, **changes: object) -> Self:
        """This recipe with every setting that is not None replaced.

        Explicit phases are cut, or the last one prolonged, to other `epochs`. Raises InputError
        for a value out of bounds.

        >>> RECIPES["fast"].override(epochs=2, batch_size=None).epochs
        2
        >>> RECIPES["fast"].override(rotation=200)
        Traceback (most recent call last):
        ferlab.errors.InputError: --rotation must be a number from 0 to 180. Received: 200
        """
        values: dict[str, Any] = {
            name: value for name, value in changes.items() if value is not None
        }
        epochs = values.get("epochs", self.epochs)
        if self.explicit_phases and "explicit_phases" not in values and epochs != self.epochs:
            values["explicit_phases"] = _until(self.explicit_phases, epochs)
        return dataclasses.replace(self, **values)

    def as_dict(self) -> dict:
        """A JSON object for `from_record`."""
        phases = [phase.as_dict() for phase in self.explicit_phases]
        return {**dataclasses.asdict(self), "explicit_phases": phases}


def _until(phases: tuple[Phase, ...], epochs: Any) -> tuple[Phase, ...]:
    """The phases cut to this number of epochs, or the last one prolonged to it."""
    *earlier, last = [phase for phase in phases if phase.epochs.start < epochs] or phases[:1]
    return (*earlier, dataclasses.replace(last, epochs=range(last.epochs.start, epochs)))


@dataclass(frozen=True)
class SemiRecipe(Recipe):
    """The settings of an experiment that also learns from unlabelled images.

    method: self-training learns a predictor's pseudo-labels; fixmatch starts from the predictor
    and updates the pseudo-labels at every step.
    """

    method: str = setting(
        "self-training", None, "semi-supervised method", choices=SEMI_METHODS, flag=False
    )
    threshold: float = setting(
        0.5,
        "CONFIDENCE",
        "minimum confidence of a pseudo-label",
        low=0,
        high=1,
        group="unlabelled images",
    )
    class_thresholds: Mapping[str, float] = setting(
        {},
        "NAME=CONFIDENCE,...",
        "minimum confidence for single classes, such as happy=0.9,disgust=0.4",
        low=0,
        high=1,
        parse=parse_class_thresholds,
        group="unlabelled images",
    )
    rounds: int = _count(  # max_iter of scikit-learn's SelfTrainingClassifier
        1,
        "maximum rounds of self-training; each trains a model, whose pseudo-labels the next learns",
        high=100,
        group="unlabelled images",
        method="self-training",
    )
    soft_labels: bool = setting(
        False,
        None,
        "learn the predictor's probabilities instead of its most probable class",
        group="unlabelled images",
        method="self-training",
    )
    unlabelled_weight: float = setting(
        1.0,
        "WEIGHT",
        "weight of a pseudo-label in the loss, relative to a true label",
        low=0,
        above=True,
        group="unlabelled images",
    )
    ramp_epochs: int = _count(
        0,
        "epochs over which --unlabelled-weight grows from 0",
        low=0,
        group="unlabelled images",
        method="self-training",
    )
    unlabelled_ratio: int = _count(
        1,
        "unlabelled images per labelled one in a step of fixmatch",
        high=100,
        group="unlabelled images",
        method="fixmatch",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, each in settings(type(self)).items():
            value = getattr(self, name)
            if value == each.default:
                continue
            if each.supervised_only:
                raise InputError(
                    f"{flag_of(name)} is for supervised training, and {self.name} is "
                    f"semi-supervised. Received: {value}"
                )
            if each.method not in (None, self.method):
                raise InputError(
                    f"{flag_of(name)} is for {each.method}, and {self.name} is {self.method}. "
                    f"Received: {value}"
                )
        if self.explicit_phases:
            raise InputError(f"{self.name}: explicit phases are for supervised training")
        if self.ramp_epochs >= self.epochs:
            raise InputError(
                f"--ramp-epochs must be below the {self.epochs} epochs. "
                f"Received: {self.ramp_epochs}"
            )


_OWN_TRAINING: dict[str, Any] = {
    "model": "resnet",
    "optimizer": "muon",
    "learning_rate": 0.01,
    "schedule": "cosine",
    "warmup": 0.15,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "bfloat16": True,
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="fast",
            epochs=16,
            progressive_scale=2 / 3,
            progressive_fraction=0.5,
            **_OWN_TRAINING,
        ),
        Recipe(
            name="best",
            epochs=40,
            rotation=12.0,
            zoom=0.15,
            contrast=0.3,
            erasing=0.1,
            mixup=0.2,
            progressive_scale=2 / 3,
            progressive_fraction=0.4,
            no_aug_fraction=0.2,
            **_OWN_TRAINING,
        ),
        Recipe(name="cnn-report", model="cnn"),
        Recipe(name="dnn-report", model="dnn", validation=0.1),
        SemiRecipe(name="semi-report", model="cnn", labels_removed=0.5),
        SemiRecipe(
            name="fixmatch",
            model="cnn",
            batch_size=64,
            labels_removed=0.5,
            method="fixmatch",
            threshold=0.95,
            unlabelled_ratio=2,
        ),
    )
}


def recipe_names(kind: type[Recipe] = Recipe) -> list[str]:
    return [name for name, recipe in RECIPES.items() if type(recipe) is kind]


def get_recipe(name: str, kind: type[Recipe] = Recipe) -> Recipe:
    """The recipe of that name and kind. Raises InputError with the valid names otherwise.

    >>> get_recipe("best").epochs
    40
    >>> get_recipe("worst")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ferlab.errors.InputError: recipe must be one of fast, best, ... Received: 'worst'
    """
    if name not in recipe_names(kind):
        known = ", ".join(recipe_names(kind))
        nearest = did_you_mean(name, recipe_names(kind))
        raise InputError(f"recipe must be one of {known}. Received: {name!r}{nearest}")
    return RECIPES[name]


def current_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings under their present names.

    Version 0.1 recorded a teacher's weight for semi-supervised trainings, where it has no effect.
    """
    current = {FORMER_NAMES.get(name, name): value for name, value in record.items()}
    if "method" in current and "teacher_weight" in current:
        current["teacher_weight"] = settings(Recipe)["teacher_weight"].default
    return current


def from_record(record: Mapping[str, Any]) -> Recipe:
    """The recipe, or SemiRecipe, that `as_dict` recorded here or in an earlier version.

    Raises InputError for settings that this version does not know or accept.

    >>> from_record({"name": "old", "model": "cnn", "plain_share": 0.2}).no_aug_fraction
    0.2
    """
    values = current_names(record)
    kind = SemiRecipe if "method" in values else Recipe
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise InputError(f"unknown settings: {', '.join(unknown)}")
    if missing := sorted({"name", "model"} - values.keys()):
        raise InputError(f"missing settings: {', '.join(missing)}")
    try:
        phases = tuple(map(Phase.from_record, values.pop("explicit_phases", ())))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"explicit_phases cannot be read: {error!r}") from error
    return kind(**values, explicit_phases=phases)
