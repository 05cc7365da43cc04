"""All rows of all files that are audited together, and the parts they form."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ferlab import data
from ferlab.data import Dataset, usages
from ferlab.data.dataset import describe
from ferlab.data.sources import has_numbers
from ferlab.errors import InputError
from ferlab.labels import UNLABELLED, indices_in, numbered


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of one file that belong together: all of them, or those of one usage.

    name: for tables and messages, such as 'fer2013.csv PublicTest'
    source: the path of the file, archive or folder
    role: 'train' or 'test'
    usage: the rows' usage; 'train' or 'test' for a source with both; otherwise ''
    rows: int64, indices into `Rows.dataset`
    file_rows: int64, indices of the same rows among the source's rows for this role
    is_training: whether the model is to be trained on these rows; only such may be removed
    is_scoring: whether these rows are for the final score, or may be, so that their labels must not
        be used
    """

    name: str
    source: str
    role: data.Role
    usage: str
    rows: np.ndarray
    file_rows: np.ndarray
    is_training: bool
    is_scoring: bool


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of all sources in one dataset, and the parts they form."""

    dataset: Dataset
    parts: list[Part]

    def part_numbers(self) -> np.ndarray:
        """int64 (n,): the index into `parts` of each row."""
        numbers = np.empty(len(self.dataset), dtype=np.int64)
        for number, part in enumerate(self.parts):
            numbers[part.rows] = number
        return numbers

    def training(self) -> np.ndarray:
        """bool (n,): labelled training rows, the only ones that are ever removed."""
        return self._mask([part for part in self.parts if part.is_training]) & self._labelled()

    def not_training(self) -> np.ndarray:
        """bool (n,): rows of other files or usages than the training rows."""
        return self._mask([part for part in self.parts if not part.is_training])

    def not_scoring(self) -> np.ndarray:
        """bool (n,): labelled rows that are not for the final score."""
        return self._mask([part for part in self.parts if not part.is_scoring]) & self._labelled()

    def _labelled(self) -> np.ndarray:
        return self.dataset.labels != UNLABELLED

    def _mask(self, parts: list[Part]) -> np.ndarray:
        mask = np.zeros(len(self.dataset), dtype=bool)
        for part in parts:
            mask[part.rows] = True
        return mask


def read_rows(
    sources: Sequence[str],
    *,
    class_names: tuple[str, ...] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Rows:
    """Read all rows of all sources, including both parts of an archive or a folder.

    The first source with labelled training rows is the training data; the others are compared with
    it. Images of folders are resized to the shape of the first source's; others must have it.
    Raises InputError for sources of different classes or image shapes.
    """
    for source in sources:
        if list(sources).count(source) > 1:
            raise InputError(f"{source}: is listed twice")
    file_names = [Path(source).name for source in sources]
    datasets: list[Dataset] = []
    parts: list[Part] = []
    start, training_source = 0, None
    for source, file_name in zip(sources, file_names, strict=True):
        first = datasets[0] if datasets else None
        by_role = data.read_parts(
            source,
            class_names=class_names or _class_names_to_read_with(first, source),
            image_shape=first.image_shape if first else image_shape,
        )
        for role, dataset in by_role.items():
            if first:
                dataset = _matched(dataset, first)
            can_train = role == "train" and dataset.has_labels
            if training_source is None and can_train and len(dataset.training_rows()):
                training_source = source
            parts += _parts(
                file_name if file_name and file_names.count(file_name) == 1 else source,
                dataset,
                usage=role if len(by_role) > 1 else "",
                role=role,
                start=start,
                may_train=can_train and source == training_source,
            )
            datasets.append(dataset)
            start += len(dataset)
    return Rows(data.concatenate(_with_usage(datasets)), parts)


def _class_names_to_read_with(first: Dataset | None, source: str) -> tuple[str, ...] | None:
    """The class names to read a later source with: those of the first, or None for its own."""
    if first is None or Path(source).suffix.lower() == ".npz":
        return None
    return numbered(first.class_names) if has_numbers(source) else first.class_names


def _matched(dataset: Dataset, first: Dataset) -> Dataset:
    """A later dataset with the class order of the first. Raises InputError for a mismatch."""
    if dataset.image_shape != first.image_shape:
        raise InputError(
            f"{dataset.source}: images must have the shape of the images of {first.source}, "
            f"{describe(first.image_shape)}. Received: {describe(dataset.image_shape)}"
        )
    if indices_in(dataset.class_names, first.class_names) is not None:
        return dataset.in_order_of(first.class_names)
    if not dataset.has_labels:
        return dataclasses.replace(dataset, class_names=first.class_names)
    raise InputError(
        f"{first.source} and {dataset.source}: must have the same classes: "
        f"{', '.join(first.class_names)}. Received: {', '.join(dataset.class_names)}"
    )


def _with_usage(datasets: list[Dataset]) -> list[Dataset]:
    """Add an empty usage column to datasets without one if others have one, to concatenate them."""
    if all(dataset.usage is None for dataset in datasets):
        return datasets
    return [
        dataclasses.replace(dataset, usage=np.full(len(dataset), ""))
        if dataset.usage is None
        else dataset
        for dataset in datasets
    ]


def _parts(
    name: str, dataset: Dataset, *, usage: str, role: data.Role, start: int, may_train: bool
) -> list[Part]:
    """The parts of one dataset. usage: the usage of all rows if there is no usage column."""
    rows_by_usage = {usage: np.arange(len(dataset))}
    if dataset.usage is not None:
        rows_by_usage = {
            usage: np.flatnonzero(dataset.usage == usage)
            for usage in dict.fromkeys(dataset.usage.tolist())
        }
    is_training_row = np.isin(np.arange(len(dataset)), dataset.training_rows())
    return [
        Part(
            name=f"{name} {usage}".strip(),
            source=dataset.source,
            role=role,
            usage=usage,
            rows=start + rows,
            file_rows=rows,
            is_training=may_train and bool(is_training_row[rows].all()),
            is_scoring=role == "test"
            or (dataset.usage is not None and usages.kind(usage) in ("scoring", "unknown")),
        )
        for usage, rows in rows_by_usage.items()
    ]
