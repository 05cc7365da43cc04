"""A loaded checkpoint, and how any version's file becomes one."""

import contextlib
import dataclasses
import operator
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ferlab.checkpoints import containers, guard, pixels, trust
from ferlab.checkpoints.containers import Contents
from ferlab.checkpoints.guard import DEFAULT_SIDE, one_line
from ferlab.checkpoints.implied_scale import implied_scale
from ferlab.checkpoints.metadata import read_record
from ferlab.checkpoints.record import TrainingRecord
from ferlab.errors import InputError
from ferlab.labels import are_same

if TYPE_CHECKING:
    import h5py
    import keras

LARGEST_SIDE = 4096  # pixels
ASSUMED_SCALE = "unit"  # the most common one
LIKELY_SIDES = (48, 64, 96, 128, 224)  # pixels; tried when a configuration has no shape


@dataclass
class Checkpoint:
    """A loaded checkpoint.

    class_names: None if neither the file nor the user specifies them. pixels: a key of
    PIXEL_SCALES. record: empty when the file has none. vintage: the Keras version that wrote it.
    architecture: as in `load`. pixels_assumed: whether the pixel scale cannot be known, so that
    `pixels` is the most common one.
    """

    path: Path
    model: "keras.Model"
    class_names: tuple[str, ...] | None
    pixels: str
    record: TrainingRecord = field(default_factory=TrainingRecord)
    vintage: str = ""
    architecture: Path | None = None
    pixels_assumed: bool = False
    _raw_model: "keras.Model | None" = field(default=None, repr=False)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.model.input_shape[1:]
        return (height or DEFAULT_SIDE, width or DEFAULT_SIDE, channels)

    @property
    def num_classes(self) -> int:
        return self.model.output_shape[-1]

    @property
    def records_class_names(self) -> bool:
        """Whether the file records its class names; otherwise the user specified them, if any."""
        return bool(self.record.class_names)

    @property
    def temperature(self) -> float | None:
        """The temperature that calibrates the probabilities; None if never fitted."""
        return self.record.temperature

    @property
    def pixels_note(self) -> str | None:
        """A note for the user if the pixel scale cannot be known."""
        if not self.pixels_assumed:
            return None
        return (
            f"note: the pixel scale of {self.path} is unknown, taken as {self.pixels} "
            f"({pixels.PIXEL_SCALES[self.pixels]}); `python -m ferlab inspect {self.path} --data "
            "DATA` finds it, --pixels sets it"
        )

    @classmethod
    def in_memory(cls, model: "keras.Model", record: TrainingRecord) -> Self:
        """A newly trained model of raw pixels that has not been saved yet."""
        return cls(Path("model"), model, record.class_names, "raw", record)

    def reload(self) -> Self:
        """Load the file again as an independent model, with its optimizer if this one has it."""
        opened = load(
            self.path,
            pixels=self.pixels,
            class_names=self.class_names,
            architecture=self.architecture,
            with_optimizer=getattr(self.model, "optimizer", None) is not None,
        )
        return dataclasses.replace(self, model=opened.model, _raw_model=None)

    def with_model(self, model: "keras.Model") -> Self:
        """This checkpoint with another model for the same pixels, such as a part of its model."""
        return dataclasses.replace(self, model=model, _raw_model=None)

    def sized_model(self) -> "keras.Model":
        """The model with a fixed input of `image_shape`, even if it accepts images of any size."""
        if None not in self.model.input_shape[1:]:
            return self.model
        from ferlab.backend import keras

        images = keras.Input(self.image_shape, name="images")
        return keras.Model(images, self.model(images), name=f"sized_{self.model.name}")

    def raw_pixel_model(self) -> "keras.Model":
        """The model on raw grey levels: preceded by scaling layers if it has none."""
        if self._raw_model is None:
            self._raw_model = pixels.on_raw_pixels(self.model, self.pixels, self.image_shape)
        return self._raw_model

    def on_network_of(self, other: "Checkpoint | None") -> "Checkpoint":
        """This checkpoint, its weights copied into the other's model if the networks are equal.

        Saves compiling the same network again. The other's weights are overwritten.
        """
        if (
            other is None
            or self.pixels != other.pixels
            or self.model.get_config() != other.model.get_config()
        ):
            return self
        other.model.set_weights(self.model.get_weights())
        return dataclasses.replace(self, model=other.model, _raw_model=other.raw_pixel_model())


def load(
    path: Path,
    *,
    pixels: str | None = None,
    class_names: tuple[str, ...] | None = None,
    architecture: Path | None = None,
    with_optimizer: bool = False,
) -> Checkpoint:
    """Load a checkpoint written by any version of Keras. Code in it is never run.

    pixels, class_names: for a file without them; they must not contradict the file.
    architecture: JSON file with the architecture of a weights-only file, if not in the same folder.
    with_optimizer: also restore the optimizer and its state, as `model.optimizer`, if ferlab wrote
    the file.

    Raises InputError when the file is not a checkpoint, has layers or settings that Keras 3 does
    not know, or is not an image classifier (one input of (height, width, 1 or 3), one output of 2
    or more classes).
    """
    record = read_record(path)
    contents = containers.read(path, architecture)
    try:
        with guard.full_tracebacks():
            model = _current(contents) if contents.is_current else _legacy(contents)
            if with_optimizer and record.optimizer:
                model.optimizer = _read_optimizer(contents, model, record.optimizer)
    except InputError:
        raise
    except Exception as error:  # a foreign file can make Keras raise anything
        raise InputError(f"{path}: Keras cannot open it: {guard.reason(error)}") from error
    checkpoint = Checkpoint(
        path=path,
        model=model,
        class_names=_agreed(path, "--class-names", class_names, record.class_names, are_same),
        pixels=ASSUMED_SCALE,
        record=record,
        vintage=contents.vintage,
        architecture=architecture,
    )
    _require_image_classifier(checkpoint)
    checkpoint.pixels, checkpoint.pixels_assumed = _pixels(checkpoint, pixels)
    return checkpoint


def _current(contents: Contents) -> "keras.Model":
    """The model of a file that Keras 3 wrote."""
    from ferlab.checkpoints.hdf5_configs import with_modules
    from ferlab.checkpoints.legacy_configs import without_training

    config = without_training(contents.config)
    if contents.kind == "h5" and contents.architecture is None:
        config = with_modules(config)
    return _with_keras_3_weights(contents, config)


def _built(contents: Contents, config: dict) -> "keras.Model":
    """The model of a Keras 3 configuration, with initial weights."""
    where = str(contents.path)
    trust.require_no_code(where, config)
    return guard.built(where, config, survey=contents.survey, size=contents.size)


def _with_keras_3_weights(contents: Contents, config: dict) -> "keras.Model":
    from ferlab.backend import keras

    model = _built(contents, config)
    with _weights_alone(contents) as path:
        model.load_weights(path)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # its constants follow from weights; `.h5` sets these alone
    return model


def _legacy(contents: Contents) -> "keras.Model":
    """The model of a file that older Keras wrote, converted to Keras 3."""
    from ferlab.checkpoints.legacy_configs import NoShape

    try:
        return _repaired(contents, None)
    except NoShape:
        first_error = None
        for side in LIKELY_SIDES:
            for channels in (1, 3):
                try:
                    return _repaired(contents, (side, side, channels))
                except (InputError, ValueError) as error:  # the weights have other shapes
                    first_error = first_error or error
        raise InputError(
            f"{contents.path}: has no image shape, and its weights match no image of "
            f"{', '.join(map(str, LIKELY_SIDES))} pixels a side: {one_line(first_error)}"
        ) from first_error


def _repaired(contents: Contents, image_shape: tuple[int, int, int] | None) -> "keras.Model":
    import h5py

    from ferlab.checkpoints.legacy_configs import repair
    from ferlab.checkpoints.legacy_weights import is_theano, load_weights

    where = str(contents.path)
    if contents.weights == "layers":  # Keras 3's format, introduced by tf.keras 2.12
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
    """The file under a name with this suffix, from which Keras derives the format."""
    is_weights = suffix == ".weights.h5"
    if path.name.endswith(suffix) and path.name.endswith("weights.h5") == is_weights:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"checkpoint{suffix}"
        link.symlink_to(path.resolve())
        yield link


@contextlib.contextmanager
def _weights_alone(contents: Contents) -> Iterator[Path]:
    """A file of the weights only, with the suffix that Keras 3 expects for their format."""
    is_from_windows = any("\\" in name for name in contents.survey.names)
    is_old = contents.weights == "layers" and not contents.is_current
    if contents.kind == "h5" and not is_old and not is_from_windows:
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
        if is_old or is_from_windows:
            from ferlab.checkpoints.legacy_weights import rename_groups

            rename_groups(path, are_counted_twice=is_old)
        yield path


def _read_optimizer(
    contents: Contents, model: "keras.Model", config: dict
) -> "keras.optimizers.Optimizer":
    """The optimizer with its state.

    Keras's own loader of `.h5` builds the optimizer of a functional model without variables and
    drops its state; and saving `.h5` removes the optimizer from a later `.keras` (both observed
    with Keras 3.15).
    """
    import h5py

    from ferlab import optimizers
    from ferlab.backend import keras

    trust.require_no_code(str(contents.path), config)
    if contents.kind == "h5":
        with h5py.File(contents.path, "r") as file:
            group = file["optimizer_weights"]
            values = [_array(group[name]) for name in group.attrs["weight_names"]]
    else:
        with (
            zipfile.ZipFile(contents.path) as archive,
            archive.open("model.weights.h5") as member,
            h5py.File(member, "r") as file,
        ):
            group = file["optimizer/vars"]
            values = [_array(group[str(index)]) for index in range(len(group))]
    optimizer = keras.optimizers.deserialize(
        config, custom_objects={"ferlab>Muon": optimizers.Muon}
    )
    optimizer.build(model.trainable_variables)
    for variable, value in zip(optimizer.variables, values, strict=True):
        variable.assign(value)
    return optimizer


def _array(dataset: "h5py.Dataset") -> np.ndarray:
    """The values of an array; bfloat16, which HDF5 does not have, as float32."""
    values = dataset[()]
    if dataset.attrs.get("dtype") != "bfloat16":
        return values
    bits = np.frombuffer(values.tobytes(), np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(values.shape)


def _pixels(checkpoint: Checkpoint, specified: str | None) -> tuple[str, bool]:
    """(the pixel scale, whether it is assumed): recorded, specified or implied by the graph."""
    path, shape = checkpoint.path, checkpoint.image_shape
    recorded = checkpoint.record.pixels
    for scale in (recorded, specified):
        if scale is not None:
            pixels.require_scale(str(path), scale, shape)
    scale = _agreed(path, "--pixels", specified, recorded)
    scale = scale or implied_scale(checkpoint.model, shape)
    return scale or ASSUMED_SCALE, scale is None


def _agreed(path: Path, flag: str, specified, recorded, are_equal=operator.eq):
    """The value recorded in the file or specified by the user, which must be equal."""
    if specified is not None and recorded is not None and not are_equal(specified, recorded):
        value = recorded if isinstance(recorded, str) else ",".join(recorded)
        raise InputError(f"{path}: {flag} must match the checkpoint: {value}")
    return specified if recorded is None else recorded


def _require_image_classifier(checkpoint: Checkpoint) -> None:
    model, path = checkpoint.model, checkpoint.path
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise InputError(f"{path}: a model must have one input and one output")
    shape = tuple(model.input_shape[1:])
    if (
        len(shape) != 3
        or shape[-1] not in (1, 3)
        or max(side or 1 for side in shape) > LARGEST_SIDE
    ):
        raise InputError(
            f"{path}: a model must take images of (height, width, 1 or 3), "
            f"at most {LARGEST_SIDE:,} pixels a side. Received: {shape}"
        )
    shape = tuple(model.output_shape[1:])
    if len(shape) != 1 or shape[0] is None or shape[0] < 2:
        raise InputError(
            f"{path}: a model must output a probability for each of 2 or more classes. "
            f"Received: {shape}"
        )
    names = checkpoint.class_names
    if names is not None and len(names) != checkpoint.num_classes:
        raise InputError(f"{path}: has {checkpoint.num_classes} classes, not {len(names)}")
