"""What a path leads to, a CSV file, an `.npz` archive or a folder: read it, or write an `.npz`."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ferlab import files
from ferlab.data.csv_files import csv_chunks
from ferlab.data.dataset import Dataset, concatenate, require_alike
from ferlab.data.folders import folder_roles, read_folder
from ferlab.data.npz_files import npz_roles, read_npz, write_array, write_part

Role = Literal["train", "test"]


def read(
    path: str | Path,
    *,
    role: Role,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """Read faces from a folder, an `.npz` archive or else a CSV file.

    role: which part to read where there are two, `train` or `test`
    class_names: the classes and their order; by default those an archive holds, the sorted names
        of the folders to train on, or EMOTIONS
    image_shape: (height, width, channels): what folders are resized to, 48x48 grey by default,
        and what the others must have

    Raises InputError that says where and what.
    """
    return concatenate(
        list(_chunks(path, role=role, class_names=class_names, image_shape=image_shape))
    )


def read_parts(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> dict[Role, Dataset]:
    """All that a path leads to: what `read` gives for each role there is. Raises InputError."""
    roles = ["train"]
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
    """Write one or two parts, each a dataset or what `read` reads; return how many rows each has.

    The test part must have, or is read with, the classes and image shape of the training part.
    Needs no more memory than the pixels of the larger part once. Raises InputError.
    """
    sources = {"train": train} if test is None else {"train": train, "test": test}
    rows = {}
    with files.whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for part, source in sources.items():
            if isinstance(source, Dataset):
                chunks = [source]
            else:
                chunks = list(
                    _chunks(source, role=part, class_names=class_names, image_shape=image_shape)
                )
            first = chunks[0]
            require_alike(first, class_names or first.class_names, image_shape or first.image_shape)
            class_names, image_shape = first.class_names, first.image_shape
            write_part(archive, part, chunks)
            rows[part] = sum(map(len, chunks))
            del chunks, first  # the next part needs the room
        write_array(archive, "class_names", np.array(class_names))
    return rows


def _chunks(
    path: str | Path,
    *,
    role: Role,
    class_names: Sequence[str] | None,
    image_shape: tuple[int, int, int] | None,
) -> Iterator[Dataset]:
    if Path(path).is_dir():
        yield read_folder(path, role=role, class_names=class_names, image_shape=image_shape)
    elif Path(path).suffix.lower() == ".npz":
        yield read_npz(path, role=role, class_names=class_names, image_shape=image_shape)
    else:
        yield from csv_chunks(path, class_names=class_names, image_shape=image_shape)
