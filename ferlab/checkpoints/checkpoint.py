"""A checkpoint opened, and one written."""

import contextlib
import dataclasses
import io
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ferlab import files
from ferlab.checkpoints import containers, pixels, trust
from ferlab.checkpoints.containers import Contents, one_line
from ferlab.checkpoints.metadata import (
    H5_SUFFIXES,
    add_to_archive,
    add_to_h5,
    read_record,
    require_suffix,
)
from ferlab.checkpoints.record import TrainingRecord
from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py
    import keras

DEFAULT_SIDE = 48  # pixels; what a model that takes images of any size is given
MOST_SIDE = 4096  # pixels
LIKELY_SIDES = (48, 64, 96, 128, 224)  # pixels; tried when a configuration does not tell


@dataclass
class Checkpoint:
    """An opened checkpoint.

    class_names: None when neither the file nor the user states them. pixels: a key of
    PIXEL_SCALES. record: empty when the file has none. vintage: what wrote it.
    """

    path: Path
    model: "keras.Model"
    class_names: tuple[str, ...] | None
    pixels: str
    record: TrainingRecord = field(default_factory=TrainingRecord)
    vintage: str = ""
    _raw_model: "keras.Model | None" = field(default=None, repr=False)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.model.input_shape[1:]
        return (height or DEFAULT_SIDE, width or DEFAULT_SIDE, channels)

    @property
    def num_classes(self) -> int:
        return self.model.output_shape[-1]

    @property
    def tells_classes(self) -> bool:
        """Whether the class names are the file's own, and not what a user said of it."""
        return bool(self.record.class_names)

    @property
    def temperature(self) -> float | None:
        """Divides the logits, to calibrate the probabilities; None if it was never fitted."""
        return self.record.temperature

    @classmethod
    def in_memory(cls, model: "keras.Model", record: TrainingRecord) -> Self:
        """A model of raw pixels that was just trained and is in no file yet."""
        return cls(Path("model"), model, record.class_names, "raw", record)

    def with_model(self, model: "keras.Model") -> Self:
        """This checkpoint with another model for the same pixels, such as a part of its own."""
        return dataclasses.replace(self, model=model, _raw_model=None)

    def sized_model(self) -> "keras.Model":
        """The model, on images of `image_shape` where it takes any size."""
        if None not in self.model.input_shape[1:]:
            return self.model
        from ferlab.backend import keras

        images = keras.Input(self.image_shape, name="images")
        return keras.Model(images, self.model(images), name=f"sized_{self.model.name}")

    def raw_pixel_model(self) -> "keras.Model":
        """The model, behind the layers that scale raw grey levels if it does not do so itself."""
        if self._raw_model is None:
            self._raw_model = pixels.on_raw_pixels(self.model, self.pixels, self.image_shape)
        return self._raw_model

    def on_network_of(self, other: "Checkpoint | None") -> "Checkpoint":
        """This checkpoint, its weights put into the other's model if that is the same network.

        What a backend has compiled for the other then serves this one too; the other's weights
        are gone.
        """
        if (
            other is None
            or self.pixels != other.pixels
            or self.model.get_config() != other.model.get_config()
        ):
            return self
        other.model.set_weights(self.model.get_weights())
        return dataclasses.replace(self, model=other.model, _raw_model=other.raw_pixel_model())


def save(
    model: "keras.Model",
    path: Path,
    record: TrainingRecord,
    *,
    training_rows: np.ndarray | None = None,
    half: bool = False,
) -> None:
    """Write the model, its optimizer's state and the training record, whole or not at all.

    training_rows: uint64 (n,), `Dataset.row_digests()` of what it was trained on. half: kernels in
    float16 and no optimiser, for an `.h5` of half the size to use but not to go on with exactly;
    `load` makes float32 of them again.

    Raises InputError for kernels that float16 cannot hold.
    """
    from ferlab.backend import keras

    require_suffix(path)
    if half and path.suffix not in H5_SUFFIXES:
        raise InputError(f"{path}: float16 is for names that end in {', '.join(H5_SUFFIXES)}")
    optimizer = None if half else getattr(model, "optimizer", None)
    config = keras.optimizers.serialize(optimizer) if optimizer else None
    record = record.replace(optimizer=config)
    with files.whole_file(path) as temporary:
        if path.suffix in H5_SUFFIXES:
            temporary.write_bytes(_h5_bytes(model, record, training_rows, half))
        else:
            model.save(temporary)
            add_to_archive(temporary, record, training_rows)


def _h5_bytes(
    model: "keras.Model", record: TrainingRecord, training_rows: np.ndarray | None, half: bool
) -> memoryview:
    """The `.h5` file, made in memory.

    On a full disk h5py fails in ways that are no OSError, and then crashes the process (seen with
    h5py 3.14): its file stays open and cannot be flushed.
    """
    import h5py

    class NamedFile(h5py.File):  # Keras tells the format by the name's end
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
    """Copy all of a group, its float32 kernels as float16.

    What has one number a channel stays as it is: that is little, and of a channel's mean and
    variance float16 has neither the range nor the digits.
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
                raise InputError(f"{entry.name}: has weights that float16 cannot hold")
            target[name] = halves
        else:
            source.copy(entry, target, name)


@contextlib.contextmanager
def _without_hdf5_warning() -> Iterator[None]:
    """Keras recommends `.keras` at every `.h5` it writes; ours are `.h5` by intent."""
    logger = logging.getLogger("absl")

    def other_than_hdf5(record: logging.LogRecord) -> bool:
        return "HDF5 file" not in record.getMessage()

    logger.addFilter(other_than_hdf5)
    try:
        yield
    finally:
        logger.removeFilter(other_than_hdf5)


def load(
    path: Path,
    *,
    pixels: str | None = None,
    class_names: tuple[str, ...] | None = None,
    architecture: Path | None = None,
    with_optimizer: bool = False,
) -> Checkpoint:
    """Open a checkpoint that any Keras wrote. Nothing it holds is run.

    pixels and class_names say what the file does not; they must not contradict what it says.
    architecture: JSON of the architecture, for a file of weights alone that has none beside it.
    with_optimizer: also bring back the optimiser and its state, as `model.optimizer`, if the file
    is ours.

    Raises InputError when the file is no checkpoint, holds what Keras 3 has no word for, or is no
    classifier of images (one input of (height, width, 1 or 3), one output of 2 or more classes).
    """
    record = read_record(path)
    contents = containers.read(path, architecture)
    try:
        model = _current(contents) if contents.is_current else _legacy(contents)
        if with_optimizer and record.optimizer:
            model.optimizer = _read_optimizer(contents, model, record.optimizer)
    except InputError:
        raise
    except Exception as error:  # Keras raises whatever a foreign file makes it trip over
        raise InputError(f"{path}: Keras cannot open it: {one_line(error)}") from error
    checkpoint = Checkpoint(
        path=path,
        model=model,
        class_names=_agreed(path, "--class-names", class_names, record.class_names),
        pixels="unit",
        record=record,
        vintage=contents.vintage,
    )
    _require_image_classifier(checkpoint)
    checkpoint.pixels = _pixels(checkpoint, pixels)
    return checkpoint


def _current(contents: Contents) -> "keras.Model":
    """What Keras 3 wrote, it reads."""
    from ferlab.backend import keras
    from ferlab.checkpoints.legacy_configs import without_training

    if contents.kind == "h5" and contents.architecture is None:
        _require_trust(contents, contents.config)
        with _under_suffix(contents.path, ".h5") as path:
            return keras.models.load_model(path, compile=False, safe_mode=True)
    return _with_keras_3_weights(contents, without_training(contents.config))


def _require_trust(contents: Contents, config: dict) -> None:
    trust.require_no_code(str(contents.path), config)
    trust.require_stored_sizes(str(contents.path), config, contents.largest)


def _built(contents: Contents, config: dict) -> "keras.Model":
    """The model of a configuration in Keras 3's words, its weights as they begin."""
    from ferlab.backend import keras

    _require_trust(contents, config)
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


def _with_keras_3_weights(contents: Contents, config: dict) -> "keras.Model":
    model = _built(contents, config)
    with _weights_alone(contents) as path:
        model.load_weights(path)
    return model


def _legacy(contents: Contents) -> "keras.Model":
    """What older Keras wrote, repaired."""
    from ferlab.checkpoints.legacy_configs import NoShape

    try:
        return _repaired(contents, None)
    except NoShape:
        first_error = None
        for side in LIKELY_SIDES:
            for channels in (1, 3):
                try:
                    return _repaired(contents, (side, side, channels))
                except (InputError, ValueError) as error:  # weights that do not fit that shape
                    first_error = first_error or error
        raise InputError(
            f"{contents.path}: does not tell the shape of its images, and its weights fit none of "
            f"{', '.join(map(str, LIKELY_SIDES))} pixels a side: {one_line(first_error)}"
        ) from first_error


def _repaired(contents: Contents, image_shape: tuple[int, int, int] | None) -> "keras.Model":
    import h5py

    from ferlab.checkpoints.legacy_configs import repair
    from ferlab.checkpoints.legacy_weights import is_theano, load_weights

    where = str(contents.path)
    if contents.weights == "layers":  # the format of Keras 3, of which tf.keras 2.12 was the first
        config = repair(contents.config, where, image_shape=image_shape).config
        return _with_keras_3_weights(contents, config)
    with h5py.File(contents.path, "r") as file:
        theano = is_theano(contents, file)
        repaired = repair(contents.config, where, image_shape=image_shape, is_theano=theano)
        model = _built(contents, repaired.config)
        load_weights(model, contents, repaired, file)
    return model


@contextlib.contextmanager
def _under_suffix(path: Path, suffix: str) -> Iterator[Path]:
    """The file under a name with this suffix, by which Keras decides how to read it."""
    if path.name.endswith(suffix):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"checkpoint{suffix}"
        link.symlink_to(path.resolve())
        yield link


@contextlib.contextmanager
def _weights_alone(contents: Contents) -> Iterator[Path]:
    """The weights in a file of their own, under a name that tells Keras 3 how they lie in it."""
    if contents.kind == "h5" and (contents.is_current or contents.weights != "layers"):
        suffix = ".weights.h5" if contents.weights == "layers" else ".h5"
        with _under_suffix(contents.path, suffix) as path:
            yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        if contents.kind == "h5":
            shutil.copyfile(contents.path, path)
        else:
            with zipfile.ZipFile(contents.path) as archive:
                archive.extract(path.name, folder)
        if not contents.is_current:
            from ferlab.checkpoints.legacy_weights import renumber

            renumber(path)
        yield path


def _read_optimizer(
    contents: Contents, model: "keras.Model", config: dict
) -> "keras.optimizers.Optimizer":
    """The optimiser with its state.

    Keras's own loader of `.h5` builds a functional model's optimiser on no variables and drops the
    state it has read; and writing `.h5` takes the optimiser out of what `.keras` would record of
    it (both seen with Keras 3.15).
    """
    import h5py

    from ferlab import optimizers
    from ferlab.backend import keras

    trust.require_no_code(str(contents.path), config)
    if contents.kind == "h5":
        with h5py.File(contents.path, "r") as file:
            group = file["optimizer_weights"]
            values = [group[name][()] for name in group.attrs["weight_names"]]
    else:
        with (
            zipfile.ZipFile(contents.path) as archive,
            archive.open("model.weights.h5") as member,
            h5py.File(member, "r") as file,
        ):
            group = file["optimizer/vars"]
            values = [group[str(index)][()] for index in range(len(group))]
    optimizer = keras.optimizers.deserialize(
        config, custom_objects={"ferlab>Muon": optimizers.Muon}
    )
    optimizer.build(model.trainable_variables)
    for variable, value in zip(optimizer.variables, values, strict=True):
        variable.assign(value)
    return optimizer


def _pixels(checkpoint: Checkpoint, given: str | None) -> str:
    """What the file or the user says; else what its first layers tell; else x / 255."""
    path, shape = checkpoint.path, checkpoint.image_shape
    recorded = checkpoint.record.pixels
    for told in (recorded, given):
        if told is not None:
            pixels.require_scale(str(path), told, shape)
    chosen = _agreed(path, "--pixels", given, recorded)
    return chosen or ("raw" if pixels.takes_raw_pixels(checkpoint.model) else "unit")


def _agreed(path: Path, flag: str, given, recorded):
    if given is not None and recorded is not None and given != recorded:
        told = recorded if isinstance(recorded, str) else ",".join(recorded)
        raise InputError(f"{path}: {flag} must be what it was trained with: {told}")
    return recorded if given is None else given


def _require_image_classifier(checkpoint: Checkpoint) -> None:
    model, path = checkpoint.model, checkpoint.path
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise InputError(f"{path}: a model must have one input and one output")
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or shape[-1] not in (1, 3) or max(side or 1 for side in shape) > MOST_SIDE:
        raise InputError(
            f"{path}: a model must take images of (height, width, 1 or 3), at most {MOST_SIDE:,} "
            f"pixels a side. Received: {shape}"
        )
    shape = tuple(model.output_shape[1:])
    if len(shape) != 1 or shape[0] is None or shape[0] < 2:
        raise InputError(
            f"{path}: a model must give a probability for each of 2 or more classes. "
            f"Received: {shape}"
        )
    names = checkpoint.class_names
    if names is not None and len(names) != checkpoint.num_classes:
        raise InputError(f"{path}: it has {checkpoint.num_classes} classes, not {len(names)}")
