"""Read a CSV file, an `.npz` archive or a folder; write an archive."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.data.csv_files import csv_chunks, require_header
from ferlab.data.dataset import Dataset, Role, concatenate, require_alike
from ferlab.data.folders import folder_roles, has_numbered_classes, read_folder
from ferlab.data.npz_files import npz_roles, read_npz, write_array, write_part
from ferlab.errors import InputError
from ferlab.labels import numbered


def read(
    path: str | Path,
    *,
    role: Role,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    report: Callable[[str], None] = print,
) -> Dataset:
    """Read images with labels from a folder, an `.npz` archive, or otherwise a CSV file.

    role: the part to read from a source with a training and a test part
    class_names: the classes in order; by default those stored in an archive, the sorted names of
        the training folders, or EMOTIONS
    image_shape: (height, width, channels); images of folders are resized to it (by default 48x48
        grey), those of other sources must have it
    report: called with notes on what is left out

    Raises InputError with the file and, if there is one, the line.

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "train.csv")
    >>> _ = path.write_text("emotion,pixels\\n3,0 64 128 255\\n6,9 9 9 9\\n")
    >>> dataset = read(path, role="train")
    >>> dataset.images.shape, [dataset.class_names[label] for label in dataset.labels]
    ((2, 2, 2, 1), ['happy', 'neutral'])
    >>> folder.cleanup()
    """
    chunks = _chunks(
        path, role=role, class_names=class_names, image_shape=image_shape, report=report
    )
    return concatenate(list(chunks))


def require_readable(path: str | Path) -> None:
    """Raise InputError for a source that `read` refuses by its first bytes: a header, a format."""
    if not Path(path).exists():
        raise InputError(f"{path}: no such file or folder")
    if Path(path).suffix.lower() == ".npz" and not Path(path).is_dir():
        npz_roles(path)
    elif not Path(path).is_dir():
        require_header(path)


def read_parts(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> dict[Role, Dataset]:
    """Read the parts of a source: training, test or both. Raises InputError."""
    roles: list[Role] = ["train"]
    if Path(path).is_dir():
        roles = folder_roles(path)
    elif Path(path).suffix.lower() == ".npz":
        roles = npz_roles(path)
    parts: dict[Role, Dataset] = {}
    for role in roles:
        parts[role] = read(path, role=role, class_names=class_names, image_shape=image_shape)
        class_names = class_names or parts[role].class_names
    return parts


def write_npz(
    path: str | Path,
    *,
    train: str | Path | Dataset,
    test: str | Path | Dataset | None = None,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> dict[str, int]:
    """Write an archive with one or two parts; return the number of rows of each.

    train, test: a dataset, or a path that `read` can read
    class_names, image_shape: as for `read`; the test part must have those of the training part

    Requires memory for the pixels of the larger part. Raises InputError.
    """
    sources: dict[Role, str | Path | Dataset] = {"train": train}
    if test is not None:
        sources["test"] = test
    rows: dict[str, int] = {}
    stated = class_names is not None
    with files.whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for part, source in sources.items():
            if isinstance(source, Dataset):
                chunks = [source]
            else:
                names = class_names
                if class_names and not stated and has_numbers(source):
                    names = numbered(class_names)
                chunks = list(
                    _chunks(source, role=part, class_names=names, image_shape=image_shape)
                )
                if class_names and names != class_names:
                    chunks = [chunk.in_order_of(class_names) for chunk in chunks]
            first = chunks[0]
            require_alike(first, class_names or first.class_names, image_shape or first.image_shape)
            class_names, image_shape = first.class_names, first.image_shape
            write_part(archive, part, chunks)
            rows[part] = sum(map(len, chunks))
            del chunks, first  # the next part needs the memory
        write_array(archive, "class_names", np.array(class_names))
    return rows


def has_numbers(path: str | Path) -> bool:
    """Whether numbers may be the labels of a source: a table's, or names of class folders."""
    if Path(path).is_dir():
        return has_numbered_classes(path)
    return Path(path).suffix.lower() != ".npz"


def _ignore(note: str) -> None:
    """Called with notes that are not needed."""


def _chunks(
    path: str | Path,
    *,
    role: Role,
    class_names: Sequence[str] | None,
    image_shape: tuple[int, int, int] | None,
    report: Callable[[str], None] = print,
) -> Iterator[Dataset]:
    if Path(path).is_dir():
        yield read_folder(
            path, role=role, class_names=class_names, image_shape=image_shape, report=report
        )
    elif Path(path).suffix.lower() == ".npz":
        yield read_npz(path, role=role, class_names=class_names, image_shape=image_shape)
    else:
        notes = report if role == "test" else _ignore  # only a submission needs ids
        yield from csv_chunks(path, class_names=class_names, image_shape=image_shape, report=notes)
