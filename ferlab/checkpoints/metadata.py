"""ferlab's metadata beside the model, in HDF5 files and `.keras` archives.

The training record is JSON: the attribute `ferlab` in HDF5, the member `ferlab.json` in `.keras`.
The digests of the training rows, uint64, keep these rows out of scores and of the tuning of votes.
"""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab import files
from ferlab.checkpoints import guard
from ferlab.checkpoints.containers import require_checkpoint
from ferlab.checkpoints.guard import one_line
from ferlab.checkpoints.record import TrainingRecord
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
ROWS_LIMIT = 64 * 2**20  # bytes; eight million rows


def require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a checkpoint's name must end in {', '.join(SUFFIXES)}")


def add_to_h5(file: "h5py.File", record: TrainingRecord, training_rows: np.ndarray | None) -> None:
    file.attrs[METADATA_ATTRIBUTE] = json.dumps(record.as_json())
    if training_rows is not None:
        file[ROWS_DATASET] = training_rows


def add_to_archive(path: Path, record: TrainingRecord, training_rows: np.ndarray | None) -> None:
    """Add the metadata to a `.keras` archive that Keras has just written."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_MEMBER, json.dumps(record.as_json()))
        if training_rows is not None:
            buffer = io.BytesIO()
            np.save(buffer, training_rows, allow_pickle=False)
            archive.writestr(ROWS_MEMBER, buffer.getvalue())


def update_record(path: Path, **changes: object) -> None:
    """Change entries of the training record of any checkpoint, leaving the model unchanged."""
    text = json.dumps(read_record(path).replace(**changes).as_json())
    with files.whole_file(path) as temporary:
        if require_checkpoint(path) == "h5":
            import h5py

            buffer = io.BytesIO(path.read_bytes())  # not on the disk: see saving._h5_bytes
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


def read_record(path: Path) -> TrainingRecord:
    """The training record of a checkpoint, without opening the model.

    It is empty for a checkpoint that ferlab did not write. Raises InputError for a damaged one.
    """
    kind = require_checkpoint(path)
    try:
        text = _h5_text(path) if kind == "h5" else _member(path, METADATA_MEMBER, guard.JSON_LIMIT)
        entries = guard.parsed(text, f"{path}: its training record") if text else {}
    except InputError:
        raise
    except Exception as error:  # h5py and zipfile raise almost anything for a damaged file
        raise InputError(
            f"{path}: its training record cannot be read: {one_line(error)}"
        ) from error
    return TrainingRecord.from_json(entries, str(path))


def _h5_text(path: Path) -> str | bytes | None:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get(METADATA_ATTRIBUTE)
        return text if isinstance(text, str | bytes) else None


def _member(path: Path, name: str, limit: int) -> bytes | None:
    with zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            return None
        if archive.getinfo(name).file_size > limit:
            raise ValueError(f"its {name} is too large")
        return archive.read(name)


def read_training_rows(path: Path) -> np.ndarray | None:
    """Digests of the rows it was trained on, uint64 (n,); None if they are not recorded."""
    kind = require_checkpoint(path)
    try:
        if kind == "h5":
            import h5py

            with h5py.File(path, "r") as file:
                rows = file[ROWS_DATASET][()] if ROWS_DATASET in file else None
        else:
            content = _member(path, ROWS_MEMBER, ROWS_LIMIT)
            rows = content and np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # h5py and zipfile raise almost anything for a damaged file
        raise InputError(f"{path}: its training rows cannot be read: {one_line(error)}") from error
    if rows is None:
        return None
    if getattr(rows, "dtype", None) != np.uint64 or rows.ndim != 1:
        raise InputError(f"{path}: its training rows are not the digests that ferlab writes")
    return rows


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe a checkpoint was trained with; None if none is recorded."""
    recorded = read_record(path).recipe
    if not recorded:
        return None
    try:
        return from_record(recorded)
    except InputError as error:
        raise InputError(
            f"{path}: its recipe is from another version of ferlab: {error}"
        ) from error
