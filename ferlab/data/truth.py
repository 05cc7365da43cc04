"""Labels of a test set in a separate `id,label` table, such as the truth of a leaderboard."""

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ferlab.data import images, tables
from ferlab.data.csv_files import parse_id, parse_label, parse_usage
from ferlab.data.dataset import Dataset
from ferlab.errors import InputError
from ferlab.labels import UNLABELLED, indices_in, numbered, require_same_classes

_KNOWN_HEADER = "`id,label`"


def read_truth(
    path: str | Path, dataset: Dataset, class_names: Sequence[str] | None = None
) -> np.ndarray:
    """int64 (n,): the label of each row of the dataset by its id, -1 for ids not in the table.

    The table is read as one of images is: any delimiter and encoding, packed or not, labels as
    numbers or names. Ids are compared without the suffix of an image file and without surrounding
    spaces; `3.0` is 3. If none is in the data, they are compared without folders.

    class_names: the classes that the table's numbers mean; by default the dataset's, of the seven
        emotions in FER-2013's order

    Raises InputError for a table without these columns, a label that is not a class, an id that is
    repeated in the table or in the data, and a table without any of the dataset's ids.
    """
    names = tuple(class_names or numbered(dataset.class_names))
    return _matched(path, dataset, names)[0]


def with_truth(
    dataset: Dataset, path: str | Path | None, class_names: Sequence[str] | None = None
) -> Dataset:
    """The dataset with the labels of `read_truth` for its rows without one.

    Rows get the usage that the table gives them, unless the dataset has usages. Returns the same
    dataset if no file is given. Raises InputError where a label differs from the table's.
    """
    if path is None:
        return dataset
    names = tuple(class_names or numbered(dataset.class_names))
    labels, usage = _matched(path, dataset, names)
    is_given = dataset.labels != UNLABELLED
    differing = np.flatnonzero(is_given & (labels != UNLABELLED) & (labels != dataset.labels))
    if len(differing):
        first = differing[0]
        given, true = (dataset.class_names[side[first]] for side in (dataset.labels, labels))
        raise InputError(
            f"{path}: must agree with the labels of {dataset.source}; {len(differing):,} of "
            f"{np.count_nonzero(is_given):,} differ, the first that of id {dataset.ids[first]}: "
            f"{true}. Received: {given} in {dataset.source}"
        )
    return dataclasses.replace(
        dataset,
        labels=np.where(is_given, dataset.labels, labels),
        usage=usage if dataset.usage is None else dataset.usage,
    )


class _Truth(NamedTuple):
    """A table's ids and labels, and its usages if it has any."""

    ids: list[str]
    labels: list[int]
    usage: list[str] | None


def _matched(
    path: str | Path, dataset: Dataset, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(the label, the usage) of each row of the dataset; -1 and '' for ids not in the table.

    names: the classes that the table's numbers mean.
    """
    places = indices_in(names, dataset.class_names)
    if places is None:
        require_same_classes(str(path), names, dataset.class_names)
    lookup = np.array([*(places or ()), UNLABELLED])  # -1 is the last
    table = _read(path, names)
    keys, known = _keys(dataset.ids.tolist(), table.ids)
    if not set(keys) & set(known):
        keys, known = ([PurePosixPath(key).name for key in side] for side in (keys, known))
    if not set(keys) & set(known):
        raise InputError(
            f"{path}: contains none of the data's ids, such as {str(dataset.ids[0])!r}"
        )
    for where, those in ((path, known), (dataset.source, keys)):
        repeated = _first_repeated(those)
        if repeated is not None:
            raise InputError(
                f"{where}: contains the id {repeated!r} twice, so rows and true labels cannot be "
                "matched by id"
            )
    truth = dict(zip(known, lookup[table.labels].tolist(), strict=True))
    labels = np.array([truth.get(key, UNLABELLED) for key in keys], dtype=np.int64)
    if table.usage is None:
        return labels, None
    usage_of = dict(zip(known, table.usage, strict=True))
    return labels, np.array([usage_of.get(key, "") for key in keys], dtype=np.str_)


def _read(path: str | Path, class_names: tuple[str, ...]) -> _Truth:
    table = tables.open_table(path, _KNOWN_HEADER)
    columns = table.columns()
    id_place, label_place = columns.id, columns.label
    if (
        len(columns.names) == 2
        and columns.pixels is None
        and not tables.has_no_header(columns.names)
    ):
        # Of two columns, the other one is clear.
        if id_place is None and label_place is not None:
            id_place = 1 - label_place
        elif label_place is None and id_place is not None:
            label_place = 1 - id_place
    if id_place is None or label_place is None:
        is_headless = tables.has_no_header(columns.names)
        problem = "has no header; expected" if is_headless else "expected"
        raise InputError(
            f"{path}:{table.line}: {problem} the columns id and label. "
            f"Received: {', '.join(columns.names)[:60]!r}"
        )
    ids, labels, usage = [], [], []
    for line, fields in table.records:
        where = f"{path}:{line}"
        if len(fields) != len(columns.names):
            raise InputError(f"{where}: expected {len(columns.names)} columns, found {len(fields)}")
        ids.append(parse_id(where, fields[id_place], columns.is_named_id))
        labels.append(parse_label(where, fields[label_place].strip(), class_names))
        if columns.usage is not None:
            usage.append(parse_usage(where, fields[columns.usage]))
    if not ids:
        raise InputError(f"{path}: has a header and no rows")
    return _Truth(ids, labels, usage or None)


def _keys(ids: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids of the data and of the table for comparison.

    Without suffixes, unless the data has files that differ in nothing else.
    """
    plain, plain_others = ([_plain(text) for text in side] for side in (ids, others))
    stems, stems_of_others = (
        [_without_suffix(text) for text in side] for side in (plain, plain_others)
    )
    if len(set(stems)) < len(set(plain)):
        return plain, plain_others
    return stems, stems_of_others


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text.strip()).replace("\\", "/").removeprefix("./")
    whole, _, decimals = text.partition(".")
    return whole if whole.isdecimal() and not decimals.strip("0") else text


def _without_suffix(text: str) -> str:
    path = PurePosixPath(text)
    is_image = path.suffix.lower() in images.suffixes() and path.stem
    return path.with_suffix("").as_posix() if is_image else text


def _first_repeated(keys: Sequence[str]) -> str | None:
    key, count = Counter(keys).most_common(1)[0]
    return key if count > 1 else None
