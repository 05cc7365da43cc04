"""What our checkpoints carry beside the model, in HDF5 and in `.keras` archives.

A JSON text: class names, recipe, history, versions, seed, fingerprint of the data, temperature. In
HDF5 it is the attribute `ferlab`, in `.keras` the archive's member `ferlab.json`. And the digests
of the rows it was trained on, uint64, so that nobody scores or fits a vote on them.
"""

import io
import json
import math
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab import files
from ferlab.checkpoints.containers import one_line, require_checkpoint
from ferlab.errors import InputError
from ferlab.recipes import Recipe, from_record

if TYPE_CHECKING:
    import h5py

H5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (*H5_SUFFIXES, ".keras")
METADATA_ATTRIBUTE = "ferlab"
METADATA_MEMBER = "ferlab.json"
ROWS_DATASET = "ferlab_training_rows"
ROWS_MEMBER = "ferlab_training_rows.npy"
METADATA_LIMIT = 64 * 2**20  # bytes; what claims more is not ours


def require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a checkpoint's name must end in {', '.join(SUFFIXES)}")


def add_to_h5(file: "h5py.File", metadata: dict, training_rows: np.ndarray | None) -> None:
    file.attrs[METADATA_ATTRIBUTE] = json.dumps(metadata)
    if training_rows is not None:
        file[ROWS_DATASET] = training_rows


def add_to_archive(path: Path, metadata: dict, training_rows: np.ndarray | None) -> None:
    """Add them to a `.keras` archive that Keras has just written."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_MEMBER, json.dumps(metadata))
        if training_rows is not None:
            buffer = io.BytesIO()
            np.save(buffer, training_rows, allow_pickle=False)
            archive.writestr(ROWS_MEMBER, buffer.getvalue())


def update_metadata(path: Path, changes: dict) -> None:
    """Change entries of the metadata, in a file of any origin; the model stays as it is."""
    metadata = {**read_metadata(path), **changes}
    text = json.dumps(metadata)
    with files.whole_file(path) as temporary:
        if require_checkpoint(path) == "h5":
            import h5py

            buffer = io.BytesIO(path.read_bytes())  # not on the disk: see checkpoint._h5_bytes
            with h5py.File(buffer, "a") as file:
                file.attrs[METADATA_ATTRIBUTE] = text
            temporary.write_bytes(buffer.getbuffer())
        else:
            with zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
                for member in old.infolist():
                    if member.filename != METADATA_MEMBER:
                        with old.open(member) as source, new.open(member, "w") as target:
                            shutil.copyfileobj(source, target, 2**20)
                new.writestr(METADATA_MEMBER, text)


def read_metadata(path: Path) -> dict:
    """The metadata a checkpoint carries, without opening the model; {} for one that is not ours."""
    kind = require_checkpoint(path)
    try:
        text = _h5_text(path) if kind == "h5" else _member(path, METADATA_MEMBER)
        metadata = json.loads(text) if text else {}
    except Exception as error:  # h5py and zipfile raise almost anything for a damaged file
        raise InputError(f"{path}: its metadata cannot be read: {one_line(error)}") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: its ferlab metadata is not a JSON object")
    for name, is_sound in _SOUND.items():
        value = metadata.get(name)
        if value is not None and not is_sound(value):
            raise InputError(f"{path}: its metadata is damaged: {name} {str(value)[:100]}")
    return metadata


def _is_history(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(column, list) and all(isinstance(entry, int | float) for entry in column)
        for column in value.values()
    )


def _is_phases(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(phase, list)
        and len(phase) == 2
        and isinstance(phase[0], int)
        and isinstance(phase[1], str)
        for phase in value
    )


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(side, int) and side > 0 for side in value)
    )


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


_SOUND = {
    "class_names": _is_names,
    "image_shape": _is_shape,
    "history": _is_history,
    "phases": _is_phases,
    "recipe": _is_dict,
    "data": lambda value: isinstance(value, dict) and isinstance(value.get("fingerprint"), str),
    "optimizer": _is_dict,
    "objective": lambda value: _is_dict(value) and _is_names(value.get("taught_by", [])),
    "pixels": lambda value: isinstance(value, str),
    "seed": lambda value: isinstance(value, int) and value >= 0,
    "temperature": lambda value: isinstance(value, int | float) and 0 < value < math.inf,
}


def _h5_text(path: Path) -> str | bytes | None:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get(METADATA_ATTRIBUTE)
        return text if isinstance(text, str | bytes) else None


def _member(path: Path, name: str) -> bytes | None:
    with zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            return None
        if archive.getinfo(name).file_size > METADATA_LIMIT:
            raise ValueError(f"its {name} is too large")
        return archive.read(name)


def read_training_rows(path: Path) -> np.ndarray | None:
    """Digests of the rows it was trained on, uint64 (n,); None for one that does not tell."""
    kind = require_checkpoint(path)
    try:
        if kind == "h5":
            import h5py

            with h5py.File(path, "r") as file:
                rows = file[ROWS_DATASET][()] if ROWS_DATASET in file else None
        else:
            content = _member(path, ROWS_MEMBER)
            rows = content and np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # as above
        raise InputError(f"{path}: its training rows cannot be read: {one_line(error)}") from error
    if rows is None:
        return None
    if getattr(rows, "dtype", None) != np.uint64 or rows.ndim != 1:
        raise InputError(f"{path}: its training rows are not the digests that ferlab writes")
    return rows


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe a checkpoint was trained by; None for one that is not ours."""
    recorded = read_metadata(path).get("recipe")
    if recorded is None:
        return None
    try:
        return from_record(recorded)
    except InputError as error:
        raise InputError(f"{path}: its recipe is of another version: {error}") from error
