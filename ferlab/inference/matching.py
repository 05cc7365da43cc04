"""Match data and models: class names, their order, and image size.

Class names have three sources: the data (its folders, an archive's own, the seven emotions of a
table), the checkpoint that records those it was trained on, and the user (`--class-names`, or
`classes=` on a line of `model_list.txt`). The rules:

- Class folders are read in the order of the user's names, else of the first model's.
- Integer labels of a table and numbers as names of class folders keep their meaning. If no model
  records its classes and the user names the seven emotions in another order, that is the order of
  the models' outputs.
- Recorded names must match labelled data in the same order. Stated names may be in another order;
  the outputs are then reordered. Without names, only the number of classes must match.
- Unlabelled data of other classes gets the class names of the first model.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import data
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.data.folders import class_folders, has_numbered_classes
from ferlab.data.sources import Role
from ferlab.errors import InputError
from ferlab.labels import (
    EMOTIONS,
    are_same,
    indices_in,
    is_emotion,
    numbered,
    require_same_classes,
)


@dataclass(frozen=True)
class Outputs:
    """The classes of a model's outputs, in their order.

    where: the model in messages: `model.h5`, or `model_list.txt:3: model.h5`.
    recorded: the names in the checkpoint. stated: the names that the user gives for the model.
    count: the number of outputs; None before the checkpoint is opened.
    image_shape: (height, width, channels); None if unknown.
    """

    where: str
    recorded: tuple[str, ...] | None = None
    stated: tuple[str, ...] | None = None
    count: int | None = None
    image_shape: tuple[int, int, int] | None = None


Model = Checkpoint | Outputs


@dataclass(frozen=True)
class Match:
    """Data read for models. Predictions are in the order of `dataset.class_names`."""

    dataset: Dataset
    path: str
    role: Role

    def at(self, image_shape: tuple[int, int, int]) -> Dataset:
        """The same rows with images of this shape; those of a folder are decoded again."""
        if image_shape == self.dataset.image_shape or not Path(self.path).is_dir():
            return data.fit_images(self.dataset, image_shape)
        names = self.dataset.class_names
        decoded = data.read(
            self.path,
            role=self.role,
            class_names=names,
            image_shape=image_shape,
            report=lambda note: None,  # given when the folder was read first
        )
        return dataclasses.replace(self.dataset, images=decoded.images)

    def in_order_of(self, checkpoint: Checkpoint) -> Dataset:
        """The rows with the model's image shape and labels that number its outputs."""
        names, dataset = checkpoint.class_names, self.at(checkpoint.image_shape)
        if names is not None and indices_in(names, dataset.class_names) is not None:
            return dataset.in_order_of(names)
        return dataset


def read(
    path: str,
    models: Sequence[Model],
    *,
    role: Role,
    class_names: tuple[str, ...] | None = None,
    truth: str | Path | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Match:
    """Read data for one or several models, or before any model is known.

    class_names: stated by the user. truth: a file with labels for unlabelled rows.
    image_shape: shape to resize the images of a folder to; by default the models' largest.

    Raises InputError for data that cannot be read and for a model that does not match it.
    """
    known = _known_names(models)
    is_folder = Path(path).is_dir()
    if is_folder:
        shapes = [model.image_shape for model in models if model.image_shape]
        image_shape = image_shape or max(shapes, key=math.prod, default=None)
    names = names_to_read(path, models, class_names)
    if is_folder and role == "test" and names is None:
        names = _names_for_unlabelled(path, models)
    dataset = data.read(
        path,
        role=role,
        class_names=names,
        image_shape=image_shape if is_folder else None,
    )
    if known and not dataset.has_labels and indices_in(known, dataset.class_names) is None:
        dataset = dataclasses.replace(dataset, class_names=known)
    numbers = dataset.class_names if _name_numbers(models, class_names) else None
    dataset = data.with_truth(dataset, truth, class_names=numbers)
    for model in models:
        columns(model, dataset)
    return Match(dataset, path, role)


def names_to_read(
    path: str, models: Sequence[Model], class_names: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """The class names to read data with: those stated, of a folder else the first model's.

    None to use the data's own, where the names describe the model's outputs only.
    """
    is_folder, stated = Path(path).is_dir(), class_names
    if is_folder:
        class_names = class_names or _known_names(models)
    has_numbers = not is_folder or has_numbered_classes(path)
    if class_names and has_numbers and not _name_numbers(models, stated):
        names = numbered(class_names)
        return None if names != class_names and not is_folder else names
    return class_names


def _name_numbers(models: Sequence[Model], stated: tuple[str, ...] | None) -> bool:
    """Whether stated class names are in the order of the data's numbers, not of outputs only."""
    return bool(stated) and any(outputs_of(model).recorded for model in models)


def _names_for_unlabelled(path: str, models: Sequence[Model]) -> tuple[str, ...] | None:
    """Class names for test images in subfolders that cannot be classes; None for other folders.

    They cannot where none is an emotion and no model has as many outputs as there are subfolders.
    """
    folders = class_folders(path)
    counts = {count for model in models if (count := outputs_of(model).count)}
    if len(counts) != 1 or len(folders) in counts or any(map(is_emotion, folders)):
        return None
    (count,) = counts
    return EMOTIONS if count == len(EMOTIONS) else tuple(f"class {index}" for index in range(count))


def columns(model: Model, dataset: Dataset) -> np.ndarray:
    """int64 (num_classes,): the model's output for each class of the dataset.

    For unlabelled data of other classes the outputs stay in order. Raises InputError if the model
    does not predict the dataset's classes.
    """
    outputs = outputs_of(model)
    names, where = outputs.recorded or outputs.stated, f"{dataset.source} with {outputs.where}"
    if names is None:
        if outputs.count not in (None, dataset.num_classes):
            raise InputError(
                f"{where}: the model has {outputs.count} outputs, the data {dataset.num_classes} "
                f"classes ({', '.join(dataset.class_names)}); name the outputs with --class-names"
            )
        return np.arange(dataset.num_classes)
    places = indices_in(dataset.class_names, names)
    if places is None and not dataset.has_labels:
        return np.arange(len(names))
    if places is None or outputs.stated is None:
        require_same_classes(where, dataset.class_names, names)
    return np.array(places)


def outputs_of(model: Model) -> Outputs:
    """The outputs of a model, with a checkpoint's class names as recorded or as stated."""
    if isinstance(model, Outputs):
        return model
    is_recorded = model.records_class_names
    return Outputs(
        where=str(model.path),
        recorded=model.class_names if is_recorded else None,
        stated=None if is_recorded else model.class_names,
        count=model.num_classes,
        image_shape=model.image_shape,
    )


def report_numbering(dataset: Dataset, report: Callable[[str], None]) -> None:
    """Report the class of each label of a submission, where it is not as in FER-2013."""
    if not dataset.has_labels and not are_same(dataset.class_names, EMOTIONS):
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(dataset.class_names))
        report(f"note: the labels mean {numbered}")


def _known_names(models: Sequence[Model]) -> tuple[str, ...] | None:
    """The class names of the first model that records them, else of an opened checkpoint.

    `classes=` on a line of a list applies to that model only.
    """
    names = [outputs_of(model).recorded for model in models]
    names += [model.class_names for model in models if isinstance(model, Checkpoint)]
    return next(filter(None, names), None)
