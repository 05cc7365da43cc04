"""Select rows to remove before training, and write copies of the data without them."""

import csv
import dataclasses
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from ferlab import data, files
from ferlab.audit.checks import Findings
from ferlab.audit.rows import Part, Rows
from ferlab.data.tables import unpacked_name
from ferlab.errors import InputError

# A row gets the first reason that applies. Copies come last, so that the replacement of a
# removed row is never removed itself.
REASONS = {
    "blank": "an almost constant image",
    "flat": "mostly one grey level",
    "across": "a copy of a row of another file or usage",
    "conflicts": "has copies with a different label",
    "wrong": "label likely wrong",
    "copies": "an exact copy of an earlier row",
    "near": "a near or mirrored copy of an earlier row",
}
_HEADER = [
    "source",
    "usage",
    "row",
    "id",
    "label",
    "reason",
    "kept_source",
    "kept_usage",
    "kept_row",
    "kept_id",
]


@dataclasses.dataclass(frozen=True)
class Removal:
    """A row to remove, the reason, and the copy that replaces it, if there is one."""

    row: int
    reason: str
    replacement: int | None = None


def removals(
    rows: Rows, findings: Findings, reasons: Collection[str], wrong: Sequence[int] = ()
) -> list[Removal]:
    """The rows to remove, in order; only labelled training rows are ever removed.

    reasons: keys of REASONS
    wrong: rows whose label is likely wrong
    """
    candidates = rows.training()
    removed: dict[int, Removal] = {}

    def remove(
        selected: Iterable[int], reason: str, replacements: dict[int, int] | None = None
    ) -> None:
        for row in map(int, selected):
            if candidates[row]:
                removed[row] = Removal(row, reason, replacements[row] if replacements else None)
                candidates[row] = False

    def remove_copies(groups: np.ndarray, reason: str, originals: np.ndarray) -> None:
        """Remove the copies of rows in `originals`, bool (n,), but the first of each group."""
        places = np.flatnonzero(originals)
        _, firsts = np.unique(groups[places], return_index=True)
        first_of = dict(zip(groups[places[firsts]].tolist(), places[firsts].tolist(), strict=True))
        first_copy = {
            int(row): first_of.get(int(groups[row]), int(row)) for row in np.flatnonzero(candidates)
        }
        remove([row for row, first in first_copy.items() if first != row], reason, first_copy)

    if "blank" in reasons:
        remove(np.flatnonzero(findings.blank), "blank")
    if "flat" in reasons:
        remove(np.flatnonzero(findings.flat), "flat")
    if "across" in reasons:
        remove_copies(findings.groups, "across", rows.not_training())
    if "conflicts" in reasons:
        training, labels = rows.training(), rows.dataset.labels
        for group in findings.conflicts:
            inside = group[training[group]]
            if len(np.unique(labels[inside])) > 1:  # validation labels must not decide
                remove(inside, "conflicts")
    if "wrong" in reasons:
        remove(wrong, "wrong")
    if "copies" in reasons:
        exact_groups = findings.copies.groups(len(candidates), exact=True)
        remove_copies(exact_groups, "copies", candidates.copy())
    if "near" in reasons:
        remove_copies(findings.groups, "near", candidates.copy())
    return [removed[row] for row in sorted(removed)]


def require_room(folder: Path, sources: Sequence[str]) -> None:
    """Raise InputError if `write` could not write to this folder. Leaves nothing behind."""
    names = [_copy_name(source) for source in sources]
    for source, name in zip(sources, names, strict=True):
        if names.count(name) > 1 or name == "removed.csv":
            raise InputError(f"{source}: its copy requires a unique name in {folder}")
        if Path(source).resolve() in (folder.resolve(), *folder.resolve().parents):
            raise InputError(f"{folder}: is inside the input {source}")
    files.require_new_folder(folder)


def write(
    folder: Path,
    rows: Rows,
    removed: Sequence[Removal],
    sources: Sequence[str],
    class_names: tuple[str, ...] | None = None,
) -> None:
    """Write a copy of every source without the removed rows, and `removed.csv`, their list.

    A CSV file keeps its columns, an archive its parts, a folder its image files. The folder is
    written completely or not at all.

    class_names: the class names to read the sources with, as given by the user. Raises InputError.
    """
    file_rows: dict[str, set[int]] = {source: set() for source in sources}
    locate = _locations(rows)
    for removal in removed:
        part, file_row = locate(removal.row)
        file_rows[part.source].add(file_row)
    with files.whole_folder(folder) as temporary:
        for source in sources:
            target = temporary / _copy_name(source)
            if Path(source).is_dir():
                _write_folder(target, source, file_rows[source], class_names)
            elif Path(source).suffix.lower() == ".npz":
                _write_npz(target, source, file_rows[source], class_names)
            else:
                data.write_csv_without(target, source, file_rows[source])
        _write_removed(temporary / "removed.csv", rows, removed)


def _copy_name(source: str) -> str:
    """The name of a source's copy; that of a packed table is not packed."""
    path = Path(source).resolve()
    return path.name if path.is_dir() else unpacked_name(path)


def _write_npz(
    target: Path, source: str, removed: set[int], class_names: tuple[str, ...] | None
) -> None:
    parts = data.read_parts(source, class_names=class_names)
    if "train" not in parts:
        shutil.copyfile(source, target)
        return
    train = parts["train"]
    remaining = np.setdiff1d(np.arange(len(train)), list(removed))
    data.write_npz(target, train=train.take(remaining), test=parts.get("test"))


def _write_folder(
    target: Path, source: str, removed: set[int], class_names: tuple[str, ...] | None
) -> None:
    removed_files = set()
    if removed:
        row_files = data.folder_files(source, role="train", class_names=class_names)
        removed_files = {row_files[row] for row in removed}
    for file in data.image_files(source):
        if file not in removed_files:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _write_removed(path: Path, rows: Rows, removed: Sequence[Removal]) -> None:
    locate, dataset = _locations(rows), rows.dataset

    def location(row: int) -> tuple[str, str, int, str]:
        part, file_row = locate(row)
        return part.source, part.usage, file_row + 1, dataset.ids[row]

    # An id may be a file name that is not UTF-8.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        for removal in removed:
            label = dataset.class_names[dataset.labels[removal.row]]
            replacement = (
                ("",) * 4 if removal.replacement is None else location(removal.replacement)
            )
            writer.writerow((*location(removal.row), label, removal.reason, *replacement))


def _locations(rows: Rows) -> Callable[[int], tuple[Part, int]]:
    """A function from a row to its part and its index in the part's source."""
    part_numbers = rows.part_numbers()
    file_rows = np.empty(len(part_numbers), dtype=np.int64)
    for part in rows.parts:
        file_rows[part.rows] = part.file_rows
    return lambda row: (rows.parts[part_numbers[row]], int(file_rows[row]))
