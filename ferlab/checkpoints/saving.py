"""Saving a model with its training record, in a format that holds it."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab import files
from ferlab.checkpoints.checkpoint import load
from ferlab.checkpoints.guard import one_line
from ferlab.checkpoints.metadata import H5_SUFFIXES, add_to_archive, add_to_h5, require_suffix
from ferlab.checkpoints.record import TrainingRecord
from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py
    import keras

TOLERANCE = 1e-4  # of outputs, relative to the largest one if that is above 1


def save(
    model: "keras.Model",
    path: Path,
    record: TrainingRecord,
    *,
    training_rows: np.ndarray | None = None,
    half: bool = False,
    examples: np.ndarray | None = None,
) -> None:
    """Write the model, its optimizer state and the training record, atomically.

    training_rows: uint64 (n,), `Dataset.row_digests()` of the rows it was trained on. half: store
    kernels as float16 and no optimizer, for an `.h5` of half the size from which training cannot be
    resumed exactly; `load` converts them back to float32. examples: images of the model, in its
    pixel scale, for which the written file must give the same outputs before it gets its name.

    Raises InputError for kernels outside float16's range, and for a file that does not open or
    gives other outputs.
    """
    from ferlab.backend import keras

    require_suffix(path)
    if half and path.suffix not in H5_SUFFIXES:
        raise InputError(f"{path}: float16 requires a name ending in {', '.join(H5_SUFFIXES)}")
    optimizer = None if half else getattr(model, "optimizer", None)
    config = keras.optimizers.serialize(optimizer) if optimizer else None
    record = record.replace(optimizer=config)
    with files.whole_file(path) as temporary:
        if path.suffix in H5_SUFFIXES:
            temporary.write_bytes(_h5_bytes(model, record, training_rows, half))
        else:
            model.save(temporary)
            add_to_archive(temporary, record, training_rows)
        problem = examples is not None and _problem(temporary, model, examples)
        if problem:
            raise InputError(f"{path}: {problem}")


def suffix_for(
    model: "keras.Model", record: TrainingRecord, examples: np.ndarray
) -> tuple[str, str | None]:
    """(`.h5`, None), or (`.keras`, the reason) for a model that `.h5` cannot hold.

    Each format is tried: a file is written, opened again and asked for the examples, as in `save`.
    Raises InputError for a model that neither holds.
    """
    problems: list[str] = []
    for suffix in (H5_SUFFIXES[0], ".keras"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{suffix}"
            try:
                save(model, path, record)
            except InputError:  # a full disk, which says nothing about the format
                raise
            except Exception as error:  # Keras and h5py raise almost anything here
                problem: str | None = _first_sentence(error)
            else:
                problem = _problem_in_keras(path, model, examples)
                problem = problem or _problem(path, model, examples)
        if problem is None:
            return suffix, problems[0] if problems else None
        problems.append(problem)
    raise InputError(
        f"model {model.name} can be saved neither as {H5_SUFFIXES[0]} ({problems[0]}) "
        f"nor as .keras ({problems[1]})"
    )


def _problem(path: Path, model: "keras.Model", examples: np.ndarray) -> str | None:
    """Why a file that was just written does not hold the model; None if it does."""
    try:
        opened = load(path, with_optimizer=True).model
    except InputError as error:
        return f"it does not open again: {str(error).removeprefix(f'{path}: ')}"
    return _difference(model, opened, examples)


def _problem_in_keras(path: Path, model: "keras.Model", examples: np.ndarray) -> str | None:
    """The same, if Keras itself opens the file, as other programs will."""
    from ferlab.backend import keras

    try:
        opened = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises almost anything here
        return f"Keras does not open it again: {_first_sentence(error)}"
    return _difference(model, opened, examples)


def _first_sentence(error: Exception) -> str:
    return one_line(error).split(". ")[0].removesuffix(".")


def _difference(model: "keras.Model", opened: "keras.Model", examples: np.ndarray) -> str | None:
    before, after = (_outputs(each, examples) for each in (model, opened))
    limit = TOLERANCE * max(1.0, float(np.abs(np.nan_to_num(before)).max()))
    if np.allclose(before, after, rtol=0, atol=limit, equal_nan=True):
        return None
    difference = float(np.abs(before - after).max())
    return f"its outputs differ by {difference:.2g} once it is opened again"


def _outputs(model: "keras.Model", examples: np.ndarray) -> np.ndarray:
    from ferlab.backend import keras

    images = keras.ops.convert_to_tensor(examples, dtype=model.inputs[0].dtype)
    outputs = model(images, training=False)
    return np.asarray(keras.ops.convert_to_numpy(outputs)).astype("float64")


def _h5_bytes(
    model: "keras.Model", record: TrainingRecord, training_rows: np.ndarray | None, half: bool
) -> memoryview:
    """The content of the `.h5` file, written in memory.

    On a full disk h5py raises other exceptions than OSError and then crashes the process, as its
    open file cannot be flushed (observed with h5py 3.14).
    """
    import h5py

    class NamedFile(h5py.File):  # Keras derives the format from the suffix
        def __str__(self) -> str:
            return "checkpoint.h5"

    buffer = io.BytesIO()
    with NamedFile(buffer, "w") as file:
        with _without_hdf5_warning():
            model.save(file, include_optimizer=not half)
        add_to_h5(file, record, training_rows)
    return (_halved(buffer) if half else buffer).getbuffer()


def _halved(whole: io.BytesIO) -> io.BytesIO:
    import h5py

    halved = io.BytesIO()
    with h5py.File(whole, "r") as source, h5py.File(halved, "w") as target:
        _copy_halved(source, target)
    return halved


def _copy_halved(source: "h5py.Group", target: "h5py.Group") -> None:
    """Copy a group, converting float32 kernels to float16.

    Arrays with one number per channel stay float32: they are small, and float16 has neither the
    range nor the precision for means and variances.
    """
    import h5py

    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, entry in source.items():
        if isinstance(entry, h5py.Group):
            _copy_halved(entry, target.create_group(name))
        elif entry.ndim > 1 and entry.dtype == np.float32:
            with np.errstate(over="ignore"):
                halves = entry[()].astype(np.float16)
            if not np.isfinite(halves).all():
                raise InputError(f"{entry.name}: has weights outside float16's range")
            target[name] = halves
        else:
            source.copy(entry, target, name)


@contextlib.contextmanager
def _without_hdf5_warning() -> Iterator[None]:
    """Hide Keras's advice to prefer `.keras`, logged with every `.h5` that it writes."""
    logger = logging.getLogger("absl")

    def other_than_hdf5(record: logging.LogRecord) -> bool:
        return "HDF5 file" not in record.getMessage()

    logger.addFilter(other_than_hdf5)
    try:
        yield
    finally:
        logger.removeFilter(other_than_hdf5)
