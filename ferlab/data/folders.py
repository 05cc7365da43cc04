"""Folders of images: ROOT/<class>/*.png, ROOT/train/<class>/*.png, or unlabelled test images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferlab.data.dataset import SCORING_USAGES, TRAINING_USAGES, Dataset, Role
from ferlab.data.images import read_image
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS, UNLABELLED

_VALIDATION = ("validation", "valid", "val", "dev", "public", "publictest")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def read_folder(
    path: str | Path,
    *,
    role: Role,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """Read a folder of class folders, or of `train` and `test` folders with class folders inside.

    role: 'train' reads `train` and validation folders such as `val`; 'test' reads `test`
    class_names: the allowed classes in order; by default the sorted names of the training folder's
        class folders
    image_shape: (height, width, channels) to resize to, by default (48, 48, 1)

    Test images outside class folders have no label. `usage` is the name of the image's `train`,
    `val` or `test` folder, None without such folders. Raises InputError.
    """
    image_shape = image_shape or (48, 48, 1)
    if image_shape[2] not in (1, 3):
        raise InputError(f"images must have 1 or 3 channels. Received: {image_shape[2]}")
    listing = _list_images(path, role, class_names)
    images = np.empty((len(listing.files), *image_shape), dtype=np.uint8)
    for image, file in zip(images, listing.files, strict=True):
        image[:] = read_image(file, image_shape)
    return Dataset(
        images=images,
        labels=np.array(listing.labels, dtype=np.int64),
        ids=_ids([file.relative_to(listing.base) for file in listing.files]),
        class_names=listing.class_names,
        usage=None if listing.usage is None else np.array(listing.usage),
        source=str(path),
    )


def folder_files(
    path: str | Path, *, role: str, class_names: Sequence[str] | None = None
) -> list[Path]:
    """The file of each row of `read_folder`. Raises InputError."""
    return _list_images(path, role, class_names).files


def folder_roles(path: str | Path) -> list[Role]:
    """The roles for which a folder contains images. Raises InputError."""
    root = Path(path)
    training, scoring = _named_parts(root)
    if training and scoring:
        return ["train", "test"]
    return ["train"] if training or (not scoring and _folders(root)) else ["test"]


def image_files(path: str | Path) -> list[Path]:
    """All image files in a folder, at any depth, sorted. Raises InputError."""
    return _image_files(Path(path))


class _Listing(NamedTuple):
    """The image files to read for a role, with their labels and usages."""

    files: list[Path]
    labels: list[int]
    usage: list[str] | None
    base: Path  # ids are paths relative to this folder
    class_names: tuple[str, ...]


def _list_images(path: str | Path, role: str, class_names: Sequence[str] | None) -> _Listing:
    """List the images to read for a role. Raises InputError."""
    root = Path(path)
    training, scoring = _named_parts(root)
    parts, base = [root], root
    if training or scoring:
        parts, base = _parts_for(role, root, training, scoring)
    if class_names is None:
        class_names = sorted(
            {folder.name for part in training or parts for folder in _folders(part)}
        )
        if role == "train" and len(class_names) < 2:
            raise InputError(
                f"{path}: training requires a folder for each of two or more classes, such as "
                f"{root / 'happy' / '1.png'}. Received: {', '.join(class_names) or 'no folders'}"
            )
    class_names = tuple(class_names or EMOTIONS)

    files: list[Path] = []
    labels: list[int] = []
    usage: list[str] = []
    for part in parts:
        for file, label in _labelled_files(part, class_names, role):
            files.append(file)
            labels.append(label)
            usage.append(part.name)
    return _Listing(files, labels, None if parts == [root] else usage, base, class_names)


def _named_parts(root: Path) -> tuple[list[Path], list[Path]]:
    """(training folders, test folders), by their names."""
    folders = _folders(root)
    return (
        [part for part in folders if part.name.lower() in TRAINING_USAGES],
        [part for part in folders if part.name.lower() in SCORING_USAGES],
    )


def _parts_for(
    role: str, root: Path, training: list[Path], scoring: list[Path]
) -> tuple[list[Path], Path]:
    """(the folders to read, the folder that ids are relative to)."""
    if role == "train":
        if not training:
            raise InputError(f"{root}: has no folder named train. Received: {scoring[0].name}")
        validation = [part for part in _folders(root) if part.name.lower() in _VALIDATION]
        return training + validation, root
    if len(scoring) != 1:
        names = ", ".join(part.name for part in scoring or training)
        raise InputError(
            f"{root}: expected one folder named test; pass the path of the test folder. "
            f"Received: {names}"
        )
    return scoring, scoring[0]


def _labelled_files(part: Path, class_names: tuple[str, ...], role: str) -> list[tuple[Path, int]]:
    """(file, label) of every image of a part, -1 if it has no class folders."""
    labelled = []
    for folder in _folders(part):
        if folder.name not in class_names:
            raise InputError(f"{folder}: is not one of the classes {', '.join(class_names)}")
        inside = _image_files(folder)
        if not inside:
            raise InputError(f"{folder}: is a class folder without images")
        labelled += [(file, class_names.index(folder.name)) for file in inside]
    if not labelled:
        labelled = [(file, UNLABELLED) for file in _image_files(part)]
        if role == "train" and labelled:
            raise InputError(
                f"{part}: training requires a folder for each class, such as {part / 'happy'}. "
                f"Received: {len(labelled):,} images outside class folders"
            )
    if not labelled:
        raise InputError(f"{part}: contains no images ({' '.join(_SUFFIXES)})")
    return labelled


def _folders(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    return [entry for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]


def _image_files(folder: Path) -> list[Path]:
    """All image files at any depth, sorted. Links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error

    images = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        images += [
            Path(parent, name)
            for name in names
            if not _is_hidden(name) and Path(name).suffix.lower() in _SUFFIXES
        ]
    return sorted(images)


def _is_hidden(name: str) -> bool:
    """Whether a file browser has created it: .DS_Store, ._face.png, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def _ids(paths: list[Path]) -> np.ndarray:
    """Paths without suffix, or with it if two differ only in the suffix."""
    stems = [path.with_suffix("").as_posix() for path in paths]
    unique = len(set(stems)) == len(stems)
    return np.array(stems if unique else [path.as_posix() for path in paths], dtype=np.str_)
