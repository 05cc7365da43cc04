"""Which rows to leave out of training, and copies of the data without them."""

import csv
import dataclasses
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from ferlab import data, files
from ferlab.audit.checks import Findings, Rows
from ferlab.errors import InputError

REASONS = {  # a row has the first that holds; copies come last, so that the one kept is kept
    "blank": "shows nothing",
    "flat": "mostly one grey level",
    "across": "a copy of a row of another file, or of another usage",
    "conflicts": "copies of it have another label",
    "wrong": "its label is likely wrong",
    "copies": "byte for byte a row before it",
    "near": "nearly, or mirrored, a row before it",
}
_HEADER = ("source", "usage", "row", "id", "label", "reason")
_HEADER += ("kept_source", "kept_usage", "kept_row", "kept_id")


@dataclasses.dataclass(frozen=True)
class Removal:
    """A row to leave out, why, and the row that stays in its place, if one does."""

    row: int
    reason: str
    kept: int | None = None


def removals(
    rows: Rows, findings: Findings, reasons: Collection[str], wrong: Sequence[int] = ()
) -> list[Removal]:
    """The rows to remove, in their order: labelled rows to train on, and no others ever.

    reasons: keys of REASONS; wrong: rows whose label is likely wrong
    """
    candidates, found = rows.trained_on(), {}

    def remove(chosen: Iterable[int], reason: str, kept: dict[int, int] | None = None) -> None:
        for row in map(int, chosen):
            if candidates[row]:
                found[row] = Removal(row, reason, kept[row] if kept else None)
                candidates[row] = False

    def remove_beyond_first(groups: np.ndarray, reason: str, keeping: np.ndarray) -> None:
        """Remove what has a copy among the rows `keeping`, but for the first of those itself."""
        places = np.flatnonzero(keeping)
        _, firsts = np.unique(groups[places], return_index=True)
        first_of = dict(zip(groups[places[firsts]].tolist(), places[firsts].tolist(), strict=True))
        kept = {row: first_of.get(int(groups[row]), row) for row in np.flatnonzero(candidates)}
        remove([row for row, first in kept.items() if first != row], reason, kept)

    if "blank" in reasons:
        remove(np.flatnonzero(findings.blank), "blank")
    if "flat" in reasons:
        remove(np.flatnonzero(findings.flat), "flat")
    if "across" in reasons:
        remove_beyond_first(findings.groups, "across", rows.elsewhere())
    if "conflicts" in reasons:
        trained_on, labels = rows.trained_on(), rows.dataset.labels
        for group in findings.conflicts:
            inside = group[trained_on[group]]
            if len(np.unique(labels[inside])) > 1:  # labels to validate on decide nothing
                remove(inside, "conflicts")
    if "wrong" in reasons:
        remove(wrong, "wrong")
    if "copies" in reasons:
        same = findings.copies.groups(len(candidates), exact=True)
        remove_beyond_first(same, "copies", candidates.copy())
    if "near" in reasons:
        remove_beyond_first(findings.groups, "near", candidates.copy())
    return [found[row] for row in sorted(found)]


def require_room(folder: Path, sources: Sequence[str]) -> None:
    """Raise InputError if `write` could not write there. Leaves nothing behind."""
    names = [Path(source).resolve().name for source in sources]
    for source, name in zip(sources, names, strict=True):
        if names.count(name) > 1 or name == "removed.csv":
            raise InputError(f"{source}: the cleaned copy needs a name of its own in {folder}")
        if Path(source).resolve() in (folder.resolve(), *folder.resolve().parents):
            raise InputError(f"{folder}: lies in {source}, which is read")
    files.require_new_folder(folder)


def write(
    folder: Path,
    rows: Rows,
    removed: Sequence[Removal],
    sources: Sequence[str],
    class_names: tuple[str, ...] | None = None,
) -> None:
    """Write every source less the rows removed, and `removed.csv`, which lists those.

    A CSV file keeps its columns, an archive its parts, a folder the files of images; class_names:
    as the user told them. Whole or not at all. Raises InputError.
    """
    places: dict[str, set[int]] = {source: set() for source in sources}
    where = _locations(rows)
    for removal in removed:
        part, place = where(removal.row)
        places[part.source].add(place)
    with files.whole_folder(folder) as temporary:
        for source in sources:
            target = temporary / Path(source).resolve().name
            if Path(source).is_dir():
                _copy_folder(target, source, places[source], class_names)
            elif Path(source).suffix.lower() == ".npz":
                parts = data.read_parts(source, class_names=class_names)
                train = parts.pop("train", None)
                if train is None:
                    shutil.copyfile(source, target)
                    continue
                kept = np.setdiff1d(np.arange(len(train)), list(places[source]))
                data.write_npz(target, train=train.take(kept), **parts)
            else:
                data.write_csv_without(target, source, places[source])
        _write_list(temporary / "removed.csv", rows, removed)


def _copy_folder(
    target: Path, source: str, places: set[int], class_names: tuple[str, ...] | None
) -> None:
    left_out = set()
    if places:
        found = data.folder_files(source, role="train", class_names=class_names)
        left_out = {found[place] for place in places}
    for file in data.image_files(source):
        if file not in left_out:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _write_list(path: Path, rows: Rows, removed: Sequence[Removal]) -> None:
    where, dataset = _locations(rows), rows.dataset

    def told_of(row: int) -> tuple:
        part, place = where(row)
        return (part.source, part.usage, place + 1, dataset.ids[row])

    # A file name that is not UTF-8 may be an id.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        for removal in removed:
            told = [*told_of(removal.row), dataset.class_names[dataset.labels[removal.row]]]
            kept = told_of(removal.kept) if removal.kept is not None else ("",) * 4
            writer.writerow((*told, removal.reason, *kept))


def _locations(rows: Rows):
    """A function that gives the part of a row, and its place in the part's file, from 0."""
    part_of = rows.part_of()
    places = np.empty(len(part_of), dtype=np.int64)
    for part in rows.parts:
        places[part.rows] = part.places
    return lambda row: (rows.parts[part_of[row]], int(places[row]))
