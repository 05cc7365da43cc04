"""The file formats of checkpoints, and the configuration in a checkpoint or beside it.

Keras has written HDF5 (`.h5`, `.hdf5`, before 2.12 also as `.keras`), weights only with the
architecture in a JSON file, and since 2.12 a zip archive (`.keras`). The format is derived from the
content of a file, never from its name.
"""

import difflib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ferlab import files
from ferlab.checkpoints import guard, trust
from ferlab.checkpoints.guard import one_line
from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py

Kind = Literal["h5", "keras"]
MAX_ARCHITECTURES = 200  # JSON files beside weights that are read, the most similar names first
_HEAD = 65_536  # bytes; a Keras configuration names a class within them
# The groups of layers in Keras 3's format of weights; the second until tf.keras 2.13.
LAYER_GROUPS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True)
class Contents:
    """A checkpoint's content before the model is built.

    kind: h5 or keras. config: the model's configuration, unchanged.
    keras_version, backend: '' if unknown.
    architecture: the JSON file of the configuration, if not from the checkpoint.
    weights: the HDF5 group of the weights, or 'layers' in Keras 3's format.
    survey: what its arrays hold.
    """

    path: Path
    kind: Kind
    config: dict
    keras_version: str
    backend: str
    survey: guard.Survey
    architecture: Path | None = None
    weights: str = "model_weights"

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @property
    def is_current(self) -> bool:
        """Whether Keras 3 wrote the file."""
        return int(re.match(r"\d*", self.keras_version)[0] or 0) >= 3

    @property
    def vintage(self) -> str:
        """'Keras 2.0.9, tensorflow backend'. Versions 2.4 to 2.15 are tf.keras only."""
        version = self.keras_version
        if not version:
            name = "Keras 1" if isinstance(self.config.get("config"), list) else "old Keras"
        elif version.endswith("-tf") or re.match(r"2\.([4-9]|1\d)", version):
            name = f"tf.keras {version.removesuffix('-tf')}"
        else:
            name = f"Keras {version}"
        return f"{name}, {self.backend} backend" if self.backend else name


def require_checkpoint(path: Path) -> Kind:
    """The kind of a checkpoint. Raises InputError with the file's type for others."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            raise InputError(
                f"{path}: is a TensorFlow SavedModel, a graph without a Keras configuration; "
                "save the original model as .h5 or .keras"
            )
        raise InputError(f"{path}: is a folder, not a checkpoint")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    content = files.sniff(path)
    if content == "an HDF5 file":
        _require_readable_hdf5(path)
        return "h5"
    if content == "a zip archive":
        _require_keras_archive(path)
        return "keras"
    raise InputError(
        f"{path}: a checkpoint is an HDF5 file or a .keras archive, this is {content or 'text'}"
    )


def _require_readable_hdf5(path: Path) -> None:
    try:
        guard.surveyed(path)
    except guard.Unreadable as error:
        truncated = re.search(r"eof = (\d+).*stored_eof = (\d+)", str(error))
        if truncated:
            size, full_size = map(int, truncated.groups())
            raise InputError(
                f"{path}: is truncated, {size:,} of {full_size:,} bytes; download or copy it again"
            ) from error
        raise InputError(f"{path}: is a damaged HDF5 file: {one_line(error)}") from error


def _require_keras_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises almost anything for a damaged file
        raise InputError(
            f"{path}: is a damaged or truncated zip archive: {one_line(error)}"
        ) from error
    if "config.json" in names and "model.weights.h5" in names:
        return
    file_names = [name.rsplit("/", 1)[-1] for name in names]
    inner = next((name for name in names if name.endswith((".h5", ".hdf5", ".keras"))), None)
    if "data.pkl" in file_names:
        content = "a PyTorch checkpoint, which is a pickle"
    elif "saved_model.pb" in file_names:
        content = "a zipped TensorFlow SavedModel"
    elif inner and "config.json" not in names:
        content = f"an archive that contains {inner}; unpack it first"
    elif "config.json" in names:
        content = "a .keras archive without weights"
    else:
        content = "a zip archive without a Keras model's config.json"
    raise InputError(f"{path}: is {content}")


def architecture_of(path: Path) -> Path | None:
    """The JSON file beside a weights-only file; None for a file with an architecture."""
    return read(path).architecture if any(path.parent.glob("*.json")) else None


def read(path: Path, architecture: Path | None = None) -> Contents:
    """Read a checkpoint's configuration and format.

    architecture: the JSON file of the architecture, for a file of weights only; by default one in
        the same folder. Raises InputError, also for a file that fails the security checks.
    """
    kind = require_checkpoint(path)
    try:
        return _archive(path, architecture) if kind == "keras" else _hdf5(path, architecture)
    except InputError:
        raise
    except Exception as error:  # h5py and zipfile raise almost anything for a damaged file
        raise InputError(f"{path}: cannot be read as a checkpoint: {one_line(error)}") from error


def _archive(path: Path, architecture: Path | None) -> Contents:
    _refuse_architecture(path, architecture)
    trust.require_own_archive(str(path), path)
    with zipfile.ZipFile(path) as archive:
        config = _parse(path, _limited(archive, "config.json"))
        metadata: object = {}
        if "metadata.json" in archive.namelist():
            text = _limited(archive, "metadata.json")
            metadata = guard.parsed(text, f"{path}: its metadata.json")
    survey = guard.surveyed(path, "model.weights.h5")
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    return Contents(path, "keras", config, version, "", survey, weights="layers")


def _limited(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member. Raises ValueError for one larger than `guard.JSON_LIMIT`."""
    if archive.getinfo(name).file_size > guard.JSON_LIMIT:
        raise ValueError(f"its {name} is too large")
    return archive.read(name)


def _hdf5(path: Path, architecture: Path | None) -> Contents:
    import h5py

    survey = guard.surveyed(path)
    with h5py.File(path, "r") as file:
        version, backend = (_text(file.attrs.get(key, "")) for key in ("keras_version", "backend"))
        text = file.attrs.get("model_config")
        if text is not None:
            _refuse_architecture(path, architecture)
            group = file.get("model_weights")
            if group is None:
                raise InputError(f"{path}: has a configuration but no weights")
            version = version or _text(group.attrs.get("keras_version", ""))
            backend = backend or _text(group.attrs.get("backend", ""))
            return Contents(path, "h5", _parse(path, text), version, backend, survey)
        if "layer_names" in file.attrs or "layer_names0" in file.attrs:
            weights, layers = "/", attribute_list(file, "layer_names")
        elif "layer_names" in getattr(file.get("model_weights"), "attrs", ()):
            weights, layers = "model_weights", attribute_list(file["model_weights"], "layer_names")
        elif any(_path_parts(name)[0] in LAYER_GROUPS for name in survey.names):
            weights, layers = "layers", []
        else:
            if "nb_layers" in file.attrs:
                raise InputError(
                    f"{path}: was written by Keras 0.x, without layer names; load it there and "
                    "save it with a newer Keras"
                )
            entries = ", ".join(map(str, list(file)[:5])) or "nothing"
            raise InputError(f"{path}: is an HDF5 file without a Keras model; contains {entries}")
    architecture = architecture or _architecture_beside(path, layers, weights)
    config = _read_architecture(architecture)
    version = version or str(config.get("keras_version", "") or _unwritten_version(config))
    backend = backend or str(config.get("backend", ""))
    return Contents(path, "h5", config, version, backend, survey, architecture, weights)


def _path_parts(name: str) -> list[str]:
    """The parts of a group's name: tf.keras on Windows joined them by backslashes."""
    return name.replace("\\", "/").split("/")


def _unwritten_version(config: dict) -> str:
    """'3' for the `to_json()` of Keras 3, which names no version, else ''.

    Modules are named since tf.keras 2.12, which called an input's shape `batch_input_shape`.
    """
    return "3" if "module" in config and not _has_key(config, "batch_input_shape") else ""


def _has_key(config: object, key: str) -> bool:
    if isinstance(config, list):
        return any(_has_key(value, key) for value in config)
    if isinstance(config, dict):
        return key in config or any(_has_key(value, key) for value in config.values())
    return False


def _refuse_architecture(path: Path, architecture: Path | None) -> None:
    if architecture is not None:
        raise InputError(f"{path}: has an architecture already. Received: {architecture}")


def attribute_list(group: "h5py.Group", name: str) -> list[str]:
    """A list of names, which Keras splits into `name0`, `name1` and so on if it is long."""
    keys = [name] if name in group.attrs else []
    while not keys or keys[0] != name:
        key = f"{name}{len(keys)}"
        if key not in group.attrs:
            break
        keys.append(key)
    return [_text(value) for key in keys for value in group.attrs[key]]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _parse(path: Path, text: str | bytes) -> dict:
    config = guard.parsed(text, f"{path}: its configuration")
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise InputError(f"{path}: its configuration is not a Keras model")
    return config


def _read_architecture(path: Path) -> dict:
    with files.open_to_read(path) as file:
        text = file.read(guard.JSON_LIMIT + 1)
    try:
        return _parse(path, text)
    except (ValueError, RecursionError) as error:
        content = files.sniff(path) or "not JSON"
        raise InputError(
            f"{path}: an architecture is the JSON text of model.to_json(), this is {content}"
        ) from error


def _architecture_beside(path: Path, layers: list[str], weights: str) -> Path:
    """The JSON file in the same folder that has the layers of the weights."""
    # In Keras 1 a nested Sequential model has no name in the configuration.
    expected = {name for name in layers if not name.startswith(("sequential_", "model_"))}

    def similarity(candidate: Path) -> float:
        return difflib.SequenceMatcher(None, candidate.stem, path.stem).ratio()

    candidates = sorted(filter(_names_a_class, path.parent.glob("*.json")))
    candidates.sort(key=similarity, reverse=True)
    matches = []
    for candidate in candidates[:MAX_ARCHITECTURES]:  # the nearest name wins, so none is missed
        try:
            config = _read_architecture(candidate)
        except InputError:
            continue
        if weights == "layers" or expected <= _layer_names(config):
            matches.append((candidate, config))
    if not matches:
        unread = len(candidates) - MAX_ARCHITECTURES
        raise InputError(
            f"{path}: has weights without an architecture, and no JSON file beside it has the same "
            "layers; pass the text of model.to_json() with --architecture model.json, or with "
            "architecture=model.json in a list of models"
            + (f". {unread} JSON files with other names were not read" if unread > 0 else "")
        )

    best = similarity(matches[0][0])
    nearest = [pair for pair in matches if similarity(pair[0]) == best]
    if any(config != nearest[0][1] for _, config in nearest):
        names = ", ".join(candidate.name for candidate, _ in nearest)
        raise InputError(
            f"{path}: several JSON files match ({names}); choose one with --architecture"
        )
    return nearest[0][0]


def _names_a_class(path: Path) -> bool:
    """Whether a JSON file may be an architecture, by its beginning."""
    try:
        with files.open_to_read(path) as file:
            return b'"class_name"' in file.read(_HEAD)
    except InputError:
        return False


def _layer_names(config: object) -> set[str]:
    if isinstance(config, list):
        return set().union(*map(_layer_names, config))
    if not isinstance(config, dict):
        return set()
    name = {config["name"]} if isinstance(config.get("name"), str) else set()
    return name.union(*map(_layer_names, config.values()))
