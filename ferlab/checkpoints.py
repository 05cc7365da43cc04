"""Checkpoints: a Keras model in one file, with what is needed to use it without its run folder.

Ours carry a JSON text: class names, recipe, history, versions, seed, fingerprint of the data.
In `.h5` it is the attribute `ferlab`, in `.keras` the archive's member `ferlab.json`.
"""

import contextlib
import json
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import files
from ferlab.errors import InputError
from ferlab.recipes import Recipe

if TYPE_CHECKING:
    import keras

H5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (*H5_SUFFIXES, ".keras")
METADATA_ATTRIBUTE = "ferlab"
METADATA_MEMBER = "ferlab.json"
# How a model takes grey levels: (scale, offset) of what goes in.
PIXEL_SCALES = {"unit": (1 / 255, 0), "raw": (1, 0), "symmetric": (1 / 127.5, -1)}
METADATA_LIMIT = 64 * 2**20  # bytes; what claims more is not ours


@dataclass
class Checkpoint:
    """An opened checkpoint.

    class_names: None when the file does not tell. metadata: empty when the file carries none.
    pixels: how grey levels go in: raw 0 to 255, unit x / 255, symmetric x / 127.5 - 1.
    """

    path: Path
    model: "keras.Model"
    class_names: tuple[str, ...] | None
    pixels: str
    metadata: dict = field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.model.input_shape[1:])

    @property
    def num_classes(self) -> int:
        return self.model.output_shape[-1]

    def raw_pixel_model(self) -> "keras.Model":
        """The model, behind a rescaling layer if it does not take raw grey levels itself."""
        if self.pixels == "raw":
            return self.model
        from ferlab.backend import keras

        scale, offset = PIXEL_SCALES[self.pixels]
        images = keras.Input(self.image_shape, name="images")
        rescaled = keras.layers.Rescaling(scale, offset, name="rescale")(images)
        return keras.Model(images, self.model(rescaled), name=f"raw_{self.model.name}")


def require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a checkpoint's name must end in {', '.join(SUFFIXES)}")


def save(model: "keras.Model", path: Path, metadata: dict) -> None:
    """Write the model, its optimiser's state and the metadata, whole or not at all."""
    from ferlab.backend import keras

    require_suffix(path)
    optimizer = getattr(model, "optimizer", None)
    config = keras.optimizers.serialize(optimizer) if optimizer else None
    text = json.dumps({**metadata, "optimizer": config})
    with files.whole_file(path) as temporary:
        if path.suffix in H5_SUFFIXES:
            import h5py

            with _without_hdf5_warning():
                model.save(temporary)
            with h5py.File(temporary, "a") as file:
                file.attrs[METADATA_ATTRIBUTE] = text
        else:
            model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(METADATA_MEMBER, text)


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


def read_metadata(path: Path) -> dict:
    """The metadata a checkpoint carries, without opening the model; {} for one that is not ours."""
    _require_checkpoint(path)
    try:
        text = _metadata_text(path)
        metadata = json.loads(text) if text else {}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a checkpoint: {_one_line(error)}") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: its ferlab metadata is not a JSON object")
    return metadata


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe a checkpoint was trained by; None for one that is not ours."""
    recorded = read_metadata(path).get("recipe")
    if recorded is None:
        return None
    try:
        return Recipe(**recorded)
    except TypeError as error:
        raise InputError(f"{path}: its recipe is of another version: {error}") from error


def _metadata_text(path: Path) -> str | bytes | None:
    if path.suffix in H5_SUFFIXES:
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get(METADATA_ATTRIBUTE)
            return text if isinstance(text, str | bytes) else None
    with zipfile.ZipFile(path) as archive:
        if METADATA_MEMBER not in archive.namelist():
            return None
        if archive.getinfo(METADATA_MEMBER).file_size > METADATA_LIMIT:
            raise ValueError("its ferlab.json is too large")
        return archive.read(METADATA_MEMBER)


def _require_checkpoint(path: Path) -> None:
    require_suffix(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    expected = "an HDF5 file" if path.suffix in H5_SUFFIXES else "a zip archive"
    found = files.sniff(path)
    if found != expected:
        found = found or ("an empty file" if path.stat().st_size == 0 else "text")
        raise InputError(f"{path}: a {path.suffix} checkpoint is {expected}, this is {found}")


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def load(
    path: Path,
    *,
    pixels: str | None = None,
    class_names: tuple[str, ...] | None = None,
    with_optimizer: bool = False,
) -> Checkpoint:
    """Open a checkpoint in Keras's safe mode, which refuses one that carries code.

    pixels and class_names say what the file does not; they must not contradict what it says.
    with_optimizer: also bring back the optimiser and its state, as `model.optimizer`, if the file
    is ours.

    Raises InputError when the file is no checkpoint, Keras cannot open it, or it is no classifier
    of images (one input of (height, width, 1 or 3), one output of at least 2 classes).
    """
    metadata = read_metadata(path)
    from ferlab.backend import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        if with_optimizer and metadata.get("optimizer"):
            model.optimizer = _read_optimizer(path, model, metadata["optimizer"])
    except Exception as error:  # Keras raises whatever a foreign file makes it trip over
        raise InputError(f"{path}: Keras cannot open it: {_one_line(error)}") from error
    checkpoint = Checkpoint(
        path=path,
        model=model,
        class_names=_agreed(path, "--class-names", class_names, _names(metadata)),
        pixels=_agreed(path, "--pixels", pixels, _pixels(path, metadata)) or "unit",
        metadata=metadata,
    )
    _require_image_classifier(checkpoint)
    return checkpoint


def _read_optimizer(path: Path, model: "keras.Model", config: dict) -> "keras.optimizers.Optimizer":
    """The optimiser with its state.

    Keras's own loader of `.h5` builds a functional model's optimiser on no variables and drops the
    state it has read; and writing `.h5` takes the optimiser out of what `.keras` would record of
    it (both seen with Keras 3.15).
    """
    import h5py

    from ferlab.backend import keras

    if path.suffix in H5_SUFFIXES:
        with h5py.File(path, "r") as file:
            group = file["optimizer_weights"]
            values = [group[name][()] for name in group.attrs["weight_names"]]
    else:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open("model.weights.h5") as member,
            h5py.File(member, "r") as file,
        ):
            group = file["optimizer/vars"]
            values = [group[str(index)][()] for index in range(len(group))]
    optimizer = keras.optimizers.deserialize(config)
    optimizer.build(model.trainable_variables)
    for variable, value in zip(optimizer.variables, values, strict=True):
        variable.assign(value)
    return optimizer


def _names(metadata: dict) -> tuple[str, ...] | None:
    names = metadata.get("class_names")
    return tuple(map(str, names)) if isinstance(names, list) else None


def _pixels(path: Path, metadata: dict) -> str | None:
    pixels = metadata.get("pixels")
    if pixels is not None and pixels not in PIXEL_SCALES:
        raise InputError(f"{path}: pixels must be {', '.join(PIXEL_SCALES)}. Received: {pixels!r}")
    return pixels


def _agreed(path: Path, flag: str, given, recorded):
    if given is not None and recorded is not None and given != recorded:
        raise InputError(f"{path}: {flag} must be what it was trained with: {recorded}")
    return recorded if given is None else given


def _require_image_classifier(checkpoint: Checkpoint) -> None:
    model, path = checkpoint.model, checkpoint.path
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise InputError(f"{path}: a model must have one input and one output")
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or shape[-1] not in (1, 3) or None in shape:
        raise InputError(
            f"{path}: a model must take images of (height, width, 1 or 3). Received: {shape}"
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
