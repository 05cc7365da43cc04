"""The training record: how a checkpoint was trained.

It is stored as JSON beside the model. Checkpoints of ferlab 0.1 use other names for some entries,
which are read too.
"""

import dataclasses
import math
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ferlab.errors import InputError

ROOT = Path(__file__).parents[2]
# What no text file can hold; the others stand for bytes of a file name that are not UTF-8.
_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
FORMER_NAMES = {  # names in ferlab 0.1
    "objective": "learned_from",
    "previous": "resumed_from",
    "origin": "initialized_from",
    "previous_rows_unknown": "has_unknown_rows",
}
FORMER_SOURCE_NAMES = {"teacher": "teacher_probabilities", "taught_by": "teachers"}


@dataclass(frozen=True)
class LearnedFrom:
    """What a model learned from besides labelled images.

    teachers: names of the models whose probabilities were learned. steps: steps per epoch, where
    an epoch is not one pass over the training images. labelled_by: the model that predicted the
    pseudo-labels. All others are fingerprints of arrays: the teachers' probabilities, the
    pseudo-labels with their images, the unlabelled images.
    """

    teachers: tuple[str, ...] = ()
    teacher_probabilities: str | None = None
    pseudo_labels: str | None = None
    labelled_by: str | None = None
    unlabelled: str | None = None
    steps: int | None = None

    @property
    def has_unlabelled_images(self) -> bool:
        return self.unlabelled is not None or self.pseudo_labels is not None

    def as_json(self) -> dict:
        return {name: value for name, value in dataclasses.asdict(self).items() if value}


@dataclass(frozen=True)
class TrainingRecord:
    """The training of a checkpoint. The default of a field means that it is unknown.

    Attributes:
        class_names: the classes in the order of the model's outputs.
        image_shape: (height, width, channels) of the images.
        pixels: a key of PIXEL_SCALES: how the model expects its pixels.
        recipe: the settings, by name, as they were written; see `recipes.from_record`.
        seed: random seed of the initial weights, the order of the images and augmentation.
        history: for each metric its value after each epoch.
        phases: for each training in the history, its first epoch and the name of its recipe.
        data: `source`, the file's name, and `fingerprint` of the training rows.
        validation_rows: number of rows of the validation metrics.
        learned_from: teachers, pseudo-labels, unlabelled images.
        resumed_from: the checkpoint whose weights, optimizer and history were continued.
        initialized_from: the checkpoint that only the weights were taken from.
        has_unknown_rows: whether the model or its teachers have learned from rows that are not
            among the recorded digests.
        versions: of Python, Keras and its backend, and the device.
        git_commit: commit of ferlab, followed by " (modified)" if files differed from it.
        created: date and time in UTC, ISO 8601.
        temperature: divides the logits, to calibrate the probabilities.
        optimizer: Keras's configuration of the optimizer whose state is in the file.
    """

    class_names: tuple[str, ...] | None = None
    image_shape: tuple[int, int, int] | None = None
    pixels: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    history: dict[str, list[float]] = field(default_factory=dict)
    phases: tuple[tuple[int, str], ...] = ()
    data: dict[str, str] = field(default_factory=dict)
    validation_rows: int | None = None
    learned_from: LearnedFrom = field(default_factory=LearnedFrom)
    resumed_from: str | None = None
    initialized_from: str | None = None
    has_unknown_rows: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    created: str | None = None
    temperature: float | None = None
    optimizer: dict[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is recorded, as in a checkpoint that ferlab did not write."""
        return self == TrainingRecord()

    @property
    def epochs(self) -> int:
        """Number of epochs in the history."""
        return len(self.history.get("loss", ()))

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the labelled training rows."""
        return self.data.get("fingerprint")

    def replace(self, **changes: object) -> Self:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def with_epoch(self, metrics: dict[str, float]) -> Self:
        """This record after one more epoch with these metrics."""
        history = {name: list(values) for name, values in self.history.items()}
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        return self.replace(history=history)

    def as_json(self) -> dict:
        """The JSON object that `from_json` reads; fields with an unknown value are left out."""
        entries: dict[str, Any] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, LearnedFrom):
                value = value.as_json()
            if not (value is None or value is False or value in ((), {})):
                entries[each.name] = value
        return entries

    @classmethod
    def from_json(cls, entries: object, where: str) -> Self:
        """The record in a JSON object, of this version or an earlier one.

        Entries that this version does not know are ignored. Raises InputError, which begins with
        `where`, for an entry of the wrong kind.
        """
        if not isinstance(entries, dict):
            raise InputError(f"{where}: the training record is not a JSON object")
        known = {each.name for each in dataclasses.fields(cls)}
        settings: dict[str, Any] = {}
        for former, value in entries.items():
            name = FORMER_NAMES.get(former, former)
            if name not in known or value is None:
                continue
            if not _IS_VALID[name](value):
                raise InputError(
                    f"{where}: the training record is damaged: {former} is {str(value)[:100]}"
                )
            settings[name] = _CONVERT.get(name, lambda value: value)(value)
        return cls(**settings)


def _learned_from(entries: dict) -> LearnedFrom:
    known = _known_sources(entries)
    return LearnedFrom(**{**known, "teachers": tuple(known.get("teachers", ()))})


def git_commit() -> str | None:
    """The commit that ferlab runs from; None outside a git checkout of ferlab."""
    if not (ROOT / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        is_modified = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" (modified)" if is_modified else "")
    except (OSError, subprocess.CalledProcessError):  # no git here, or no commit
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not _HALF_CHARACTER.search(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _is_shape(value: object) -> bool:
    is_triple = isinstance(value, list | tuple) and len(value) == 3
    return is_triple and all(_is_count(side) and side > 0 for side in value)


def _is_history(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(column, list) and all(isinstance(entry, int | float) for entry in column)
        for column in value.values()
    )


def _is_phases(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(phase, list | tuple)
        and len(phase) == 2
        and _is_count(phase[0])
        and _is_text(phase[1])
        for phase in value
    )


def _is_learned_from(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    known = _known_sources(value)
    return (
        _is_names(known.pop("teachers", ()))
        and _is_count(known.pop("steps", 0))
        and all(map(_is_text, known.values()))
    )


def _known_sources(entries: dict) -> dict[str, Any]:
    """The entries of `LearnedFrom` under their present names, without unknown ones."""
    named = {FORMER_SOURCE_NAMES.get(name, name): value for name, value in entries.items()}
    names = {each.name for each in dataclasses.fields(LearnedFrom)}
    return {name: value for name, value in named.items() if name in names and value is not None}


_IS_VALID: dict[str, Callable[[object], bool]] = {
    "class_names": _is_names,
    "image_shape": _is_shape,
    "pixels": _is_text,
    "recipe": _is_dict,
    "seed": _is_count,
    "history": _is_history,
    "phases": _is_phases,
    "data": lambda value: _is_dict(value) and _is_text(value.get("fingerprint")),
    "validation_rows": _is_count,
    "learned_from": _is_learned_from,
    "resumed_from": _is_text,
    "initialized_from": _is_text,
    "has_unknown_rows": lambda value: isinstance(value, bool),
    "versions": _is_dict,
    "git_commit": _is_text,
    "created": _is_text,
    "temperature": lambda value: isinstance(value, int | float) and 0 < value < math.inf,
    "optimizer": _is_dict,
}
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "class_names": tuple,
    "image_shape": tuple,
    "phases": lambda phases: tuple((epoch, name) for epoch, name in phases),
    "learned_from": _learned_from,
}
