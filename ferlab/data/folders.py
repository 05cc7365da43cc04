"""Folders of images: ROOT/<class>/*.png, ROOT/train/<class>/*.png, or unlabelled test images."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferlab.data import images, usages
from ferlab.data.dataset import Dataset, Role
from ferlab.errors import InputError, a_few, did_you_mean
from ferlab.labels import EMOTIONS, UNLABELLED, class_index, is_emotion, means_unlabelled

_CLUTTER = ("thumbs.db", "desktop.ini")  # files that a file browser creates


def read_folder(
    path: str | Path,
    *,
    role: Role,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    report: Callable[[str], None] = print,
) -> Dataset:
    """Read a folder of class folders, or of `train` and `test` folders with class folders inside.

    role: 'train' reads `train` and validation folders such as `val`; 'test' reads `test`
    class_names: the allowed classes in order; by default the sorted names of the training folder's
        class folders. A folder may have another name of a class, or its number.
    image_shape: (height, width, channels) to resize to, by default (48, 48, 1)
    report: called with notes on what is left out

    Test images outside class folders have no label. `usage` is the name of the image's `train`,
    `val` or `test` folder, None without such folders. Raises InputError, which names all damaged
    images.
    """
    image_shape = image_shape or (48, 48, 1)
    if image_shape[2] not in (1, 3):
        raise InputError(f"images must have 1 or 3 channels. Received: {image_shape[2]}")
    listing = _list_images(path, role, class_names)
    for note in listing.notes:
        report(f"note: {path}: {note}")
    return Dataset(
        images=_read_images(path, listing.files, image_shape),
        labels=np.array(listing.labels, dtype=np.int64),
        ids=_ids([file.relative_to(listing.base) for file in listing.files]),
        class_names=listing.class_names,
        usage=None if listing.usage is None else np.array(listing.usage),
        source=str(path),
    )


def _read_images(
    path: str | Path, files: Sequence[Path], image_shape: tuple[int, int, int]
) -> np.ndarray:
    pixels = np.empty((len(files), *image_shape), dtype=np.uint8)
    errors = []
    for image, file in zip(pixels, files, strict=True):
        try:
            image[:] = images.read_image(file, image_shape)
        except InputError as error:
            errors.append(error)
    require_sound(path, errors)
    return pixels


def require_sound(path: str | Path, errors: Sequence[InputError]) -> None:
    """Raise one InputError for the errors of all images of a folder that cannot be read."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        problems = "; ".join(map(str, errors))
        raise InputError(f"{path}: {len(errors):,} files are damaged: {problems}")


def folder_files(
    path: str | Path, *, role: str, class_names: Sequence[str] | None = None
) -> list[Path]:
    """The file of each row of `read_folder`. Raises InputError."""
    return _list_images(path, role, class_names).files


def folder_roles(path: str | Path) -> list[Role]:
    """The roles for which a folder contains images. Raises InputError."""
    root = Path(path)
    parts = _parts(root)
    if parts.training and parts.scoring:
        return ["train", "test"]
    return ["train"] if parts.training or (not parts.scoring and _folders(root)) else ["test"]


def has_numbered_classes(path: str | Path) -> bool:
    """Whether a folder's class folders are numbers, which index FER-2013's classes."""
    folders = class_folders(path)
    return bool(folders) and all(name.isdecimal() for name in folders)


def class_folders(path: str | Path) -> set[str]:
    """The names of the folders in a folder, or in its parts. Raises InputError."""
    root = Path(path)
    return {folder.name for part in _parts(root).all or [root] for folder in _folders(part)}


def image_files(path: str | Path) -> list[Path]:
    """All image files in a folder, at any depth, sorted. Raises InputError."""
    return _image_files(Path(path))[0]


class _Parts(NamedTuple):
    """The parts of a data set in a folder; none where it holds class folders or images."""

    training: list[Path]
    validation: list[Path]
    scoring: list[Path]

    @property
    def all(self) -> list[Path]:
        return [*self.training, *self.validation, *self.scoring]

    def usage(self, part: Path) -> str:
        kind: usages.Kind = "training" if part in self.training else "scoring"
        return usages.of_part(part.name, "public" if part in self.validation else kind)


class _Listing(NamedTuple):
    """The image files to read for a role, with their labels and usages."""

    files: list[Path]
    labels: list[int]
    usage: list[str] | None
    base: Path  # ids are paths relative to this folder
    class_names: tuple[str, ...]
    notes: list[str]


def _list_images(path: str | Path, role: str, class_names: Sequence[str] | None) -> _Listing:
    """List the images to read for a role. Raises InputError."""
    root = Path(path)
    parts = _parts(root)
    selected, base = _parts_for(role, root, parts) if parts.all else ([root], root)
    if class_names is None:
        class_names = _class_names(root, role, parts.training or selected)
        if role == "train" and len(class_names) < 2:
            raise InputError(
                f"{path}: training requires a folder for each of two or more classes, such as "
                f"{root / 'happy' / '1.png'}. Received: {', '.join(class_names) or 'no folders'}"
            )
    class_names = tuple(class_names or EMOTIONS)

    files: list[Path] = []
    labels: list[int] = []
    usage: list[str] = []
    others: list[Path] = []
    for part in selected:
        labelled, left_out = _labelled_files(part, class_names, role)
        files += [file for file, _ in labelled]
        labels += [label for _, label in labelled]
        usage += [parts.usage(part)] * len(labelled) if parts.all else []
        others += left_out
    notes = [_left_out(others)] if others else []
    notes += _notes(selected, files, labels)
    if parts.training and role == "train":
        unknown = [folder.name for folder in _folders(root) if folder not in parts.all]
        if unknown:
            notes.append(f"left out, as neither for training nor for validation: {a_few(unknown)}")
    return _Listing(files, labels, usage if parts.all else None, base, class_names, notes)


def _notes(parts: Sequence[Path], files: Sequence[Path], labels: Sequence[int]) -> Iterator[str]:
    """Notes on folders that are no classes, and on images beside folders that are."""
    folders = [folder.name for part in parts for folder in _folders(part)]
    if folders and set(labels) == {UNLABELLED}:
        yield f"the images have no labels, as no folder is a class: {a_few(folders)}"
    beside = [
        str(file)
        for part in parts
        for file in sorted(part.iterdir())
        if file.is_file() and not _is_hidden(file.name)
        if file.suffix.lower() in images.suffixes()
    ]
    left_out = sorted(set(beside) - set(map(str, files)))
    if left_out:
        yield f"left out {len(left_out):,} images outside class folders: {a_few(left_out)}"


def _class_names(root: Path, role: str, parts: Sequence[Path]) -> list[str]:
    """The sorted names of the class folders; none for test images in folders of another kind."""
    folders = [folder for part in parts for folder in _folders(part)]
    if parts == [root] and role == "train":
        _require_no_parts(root, folders)
    names = sorted({folder.name for folder in folders if not means_unlabelled(folder.name)})
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise InputError(f"{root}: {other} and {name} are folders of one class; rename one")
    return [] if role == "test" and len(names) == 1 else names


def _require_no_parts(root: Path, folders: Sequence[Path]) -> None:
    """Raise InputError for folders that each hold the same classes' folders, so are no classes.

    They hold emotions, or their names are such as `set1` and `set2`.
    """
    if len(folders) < 2 or any(is_emotion(folder.name) for folder in folders):
        return
    inside = [{each.name for each in _folders(folder)} for folder in folders]
    are_sets = all(usages.is_unnamed_part(folder.name) for folder in folders)
    if not are_sets:
        inside = [set(filter(is_emotion, names)) for names in inside]
    if all(len(names) > 1 for names in inside):
        raise InputError(
            f"{root}: {a_few([folder.name for folder in folders])} hold folders of classes, so "
            "they are parts, not classes; parts must be named such as train, val and test"
        )


def _parts(root: Path) -> _Parts:
    """The folder's parts, by the names of its folders."""
    folders = _folders(root)
    kinds = usages.parts(folder.name for folder in folders)

    def of_kind(kind: usages.Kind) -> list[Path]:
        return [folder for folder in folders if kinds.get(folder.name) == kind]

    return _Parts(of_kind("training"), of_kind("public"), of_kind("scoring"))


def _parts_for(role: str, root: Path, parts: _Parts) -> tuple[list[Path], Path]:
    """(the folders to read, the folder that ids are relative to)."""
    names = ", ".join(part.name for part in parts.scoring or parts.all)
    if role == "train":
        if not parts.training:
            raise InputError(f"{root}: has no folder named train. Received: {names}")
        return parts.training + parts.validation, root
    if len(parts.scoring) != 1:
        raise InputError(
            f"{root}: expected one folder named test; pass the path of the test folder. "
            f"Received: {names}"
        )
    return parts.scoring, parts.scoring[0]


def _labelled_files(
    part: Path, class_names: tuple[str, ...], role: str
) -> tuple[list[tuple[Path, int]], list[Path]]:
    """((file, label) of every image of a part, other files).

    The label is -1 without class folders: images side by side, or test images in other folders.
    """
    folders = _folders(part)
    classes = _classes(folders, class_names)
    labelled: list[tuple[Path, int]] = []
    others: list[Path] = []
    if role == "test" and all(label is None for label in classes.values()):
        folders = []
    for folder in folders:
        label = classes[folder]
        if label is None:
            nearest = did_you_mean(folder.name, class_names)
            raise InputError(
                f"{folder}: is not one of the classes {', '.join(class_names)}{nearest}"
            )
        inside, left_out = _image_files(folder)
        if not inside:
            reason = f"; {_left_out(left_out)}" if left_out else ""
            raise InputError(f"{folder}: is a class folder without images{reason}")
        labelled += [(file, label) for file in inside]
        others += left_out
    if not folders:
        inside, others = _image_files(part)
        labelled = [(file, UNLABELLED) for file in inside]
        if role == "train" and labelled:
            raise InputError(
                f"{part}: training requires a folder for each class, such as {part / 'happy'}. "
                f"Received: {len(labelled):,} images outside class folders"
            )
    if not labelled:
        reason = f"; {_left_out(others)}" if others else ""
        raise InputError(
            f"{part}: contains no images ({' '.join(sorted(images.suffixes()))}){reason}"
        )
    return labelled, others


def _classes(folders: Sequence[Path], class_names: tuple[str, ...]) -> dict[Path, int | None]:
    """The class of each class folder, None for other folders.

    Numbers are classes only where all are numbers of classes, from 0: others may be of people.
    """
    classes = {folder: class_index(folder.name, class_names) for folder in folders}
    for folder, label in classes.items():
        if label is None and means_unlabelled(folder.name):
            classes[folder] = UNLABELLED
    numbers = [folder for folder in folders if folder.name.isdecimal()]
    if numbers and not any(folder.name in class_names for folder in numbers):
        is_numbering = len(numbers) == len(folders) and 0 in classes.values()
        if not is_numbering or None in classes.values():
            classes |= dict.fromkeys(numbers)
    return classes


def _left_out(others: Sequence[Path]) -> str:
    """How many files of which suffixes are not read."""
    counts = Counter(file.suffix.lower() or "no suffix" for file in others)
    suffixes = ", ".join(f"{suffix} {count:,}" for suffix, count in counts.most_common())
    return f"left out {len(others):,} files that are not read as images ({suffixes}): {others[0]}"


def _folders(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    return [entry for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]


def _image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the image files at any depth, the other files), sorted; without those of linked folders."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error

    inside: list[Path] = []
    others: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in names:
            if not _is_hidden(name):
                is_image = Path(name).suffix.lower() in images.suffixes()
                (inside if is_image else others).append(Path(parent, name))
    return sorted(inside), sorted(others)


def _is_hidden(name: str) -> bool:
    """Whether a file browser has created it: .DS_Store, ._face.png, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX" or name.lower() in _CLUTTER


def _ids(paths: list[Path]) -> np.ndarray:
    """Paths without suffix, or with it if two differ only in the suffix."""
    stems = [path.with_suffix("").as_posix() for path in paths]
    unique = len(set(stems)) == len(stems)
    return np.array(stems if unique else [path.as_posix() for path in paths], dtype=np.str_)
