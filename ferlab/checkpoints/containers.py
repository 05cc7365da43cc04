"""What a file that should be a checkpoint is, and the configuration that lies in it or beside it.

Keras has written HDF5 (`.h5`, `.hdf5`, before 2.12 also named `.keras`), weights alone with the
architecture in a JSON file, and since 2.12 a zip archive (`.keras`). What a file is follows from
its content, never from its name.
"""

import difflib
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ferlab import files
from ferlab.checkpoints import trust
from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py

Kind = Literal["h5", "keras"]
CONFIG_LIMIT = 64 * 2**20  # bytes of JSON
ARCHITECTURES_BESIDE = 200  # JSON files of a folder that are looked into


@dataclass(frozen=True)
class Contents:
    """A checkpoint before anything of it is built.

    kind: h5 or keras. config: the model's configuration, as the file has it.
    keras_version: '' when it does not tell. backend: '' when it does not tell.
    architecture: the JSON file the configuration came from, if not from the checkpoint.
    weights: the group of HDF5 that holds them, or 'layers' as Keras 3 keeps them. largest: the
    longest side of its arrays.
    """

    path: Path
    kind: Kind
    config: dict
    keras_version: str
    backend: str
    architecture: Path | None = None
    weights: str = "model_weights"
    largest: int = 0

    @property
    def is_current(self) -> bool:
        """Whether Keras 3 wrote it."""
        return int(re.match(r"\d*", self.keras_version)[0] or 0) >= 3

    @property
    def vintage(self) -> str:
        """'Keras 2.0.9, tensorflow backend'; standalone Keras ended with 2.3, the rest is TF's."""
        version = self.keras_version
        if not version:
            name = "Keras 1" if isinstance(self.config.get("config"), list) else "Keras of old"
        elif version.endswith("-tf") or re.match(r"2\.([4-9]|1\d)", version):
            name = f"tf.keras {version.removesuffix('-tf')}"
        else:
            name = f"Keras {version}"
        return f"{name}, {self.backend} backend" if self.backend else name


def require_checkpoint(path: Path) -> Kind:
    """What kind of checkpoint a file is. Raises InputError that says what it is instead."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            raise InputError(
                f"{path}: is a TensorFlow SavedModel, a graph without a Keras configuration; "
                "save the model as .h5 or .keras where it was made"
            )
        raise InputError(f"{path}: is a folder, not a checkpoint")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    found = files.sniff(path)
    if found == "an HDF5 file":
        _require_sound_hdf5(path)
        return "h5"
    if found == "a zip archive":
        _require_keras_archive(path)
        return "keras"
    raise InputError(
        f"{path}: a checkpoint is an HDF5 file or a .keras archive, this is {found or 'text'}"
    )


def _require_sound_hdf5(path: Path) -> None:
    import h5py

    try:
        with h5py.File(path, "r"):
            return
    except Exception as error:  # h5py raises almost anything for a damaged file
        truncated = re.search(r"eof = (\d+).*stored_eof = (\d+)", str(error))
        if truncated:
            here, whole = map(int, truncated.groups())
            raise InputError(
                f"{path}: is truncated, {here:,} of {whole:,} bytes; download or copy it again"
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
    ends = [name.rsplit("/", 1)[-1] for name in names]
    inner = next((name for name in names if name.endswith((".h5", ".hdf5", ".keras"))), None)
    if "data.pkl" in ends:
        what = "a PyTorch checkpoint, which is a pickle"
    elif "saved_model.pb" in ends:
        what = "a zipped TensorFlow SavedModel"
    elif inner and "config.json" not in names:
        what = f"an archive that holds {inner}; unpack it first"
    elif "config.json" in names:
        what = "a .keras archive without weights"
    else:
        what = "a zip archive without a Keras model's config.json"
    raise InputError(f"{path}: is {what}")


def architecture_of(path: Path) -> Path | None:
    """The JSON file beside a file of weights alone; None for one that needs none."""
    return read(path).architecture if any(path.parent.glob("*.json")) else None


def read(path: Path, architecture: Path | None = None) -> Contents:
    """Read what a checkpoint says of itself.

    architecture: the JSON file of the architecture, for weights alone; without it one is looked
        for beside them. Raises InputError, also for a file that holds or leads to more than a
        checkpoint should.
    """
    kind = require_checkpoint(path)
    try:
        return _archive(path, architecture) if kind == "keras" else _hdf5(path, architecture)
    except InputError:
        raise
    except Exception as error:  # h5py and zipfile raise almost anything for a damaged file
        raise InputError(f"{path}: cannot be read as a checkpoint: {one_line(error)}") from error


def _archive(path: Path, architecture: Path | None) -> Contents:
    import h5py

    _refuse_architecture(path, architecture)
    trust.require_own_archive(str(path), path)
    with zipfile.ZipFile(path) as archive:
        config = _parse(path, _limited(archive, "config.json"))
        names = archive.namelist()
        told = json.loads(_limited(archive, "metadata.json")) if "metadata.json" in names else {}
        with archive.open("model.weights.h5") as member, h5py.File(member, "r") as file:
            largest = trust.require_own_data(str(path), file)
    version = str(told.get("keras_version", "")) if isinstance(told, dict) else ""
    return Contents(path, "keras", config, version, "", weights="layers", largest=largest)


def _limited(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > CONFIG_LIMIT:
        raise ValueError(f"its {name} is too large")
    return archive.read(name)


def _hdf5(path: Path, architecture: Path | None) -> Contents:
    import h5py

    with h5py.File(path, "r") as file:
        largest = trust.require_own_data(str(path), file)
        version, backend = (_text(file.attrs.get(key, "")) for key in ("keras_version", "backend"))
        text = file.attrs.get("model_config")
        if text is not None:
            _refuse_architecture(path, architecture)
            group = file.get("model_weights")
            if group is None:
                raise InputError(f"{path}: holds a configuration but no weights")
            version = version or _text(group.attrs.get("keras_version", ""))
            backend = backend or _text(group.attrs.get("backend", ""))
            return Contents(path, "h5", _parse(path, text), version, backend, largest=largest)
        if "layer_names" in file.attrs or "layer_names0" in file.attrs:
            weights, layers = "/", attribute_list(file, "layer_names")
        elif "layer_names" in getattr(file.get("model_weights"), "attrs", ()):
            weights, layers = "model_weights", attribute_list(file["model_weights"], "layer_names")
        elif "layers" in file or "_layer_checkpoint_dependencies" in file:
            weights = "layers"
            layers = list(file.get("layers") or file["_layer_checkpoint_dependencies"])
        else:
            if "nb_layers" in file.attrs:
                raise InputError(
                    f"{path}: was written by Keras 0.x, which kept no names; load it there and "
                    "save it with a newer Keras"
                )
            held = ", ".join(map(str, list(file)[:5])) or "nothing"
            raise InputError(f"{path}: is an HDF5 file without a Keras model; it holds {held}")
    architecture = architecture or _architecture_beside(path, layers, weights)
    config = _read_architecture(architecture)
    version = version or str(config.get("keras_version", ""))
    backend = backend or str(config.get("backend", ""))
    return Contents(path, "h5", config, version, backend, architecture, weights, largest)


def _refuse_architecture(path: Path, architecture: Path | None) -> None:
    if architecture is not None:
        raise InputError(f"{path}: carries its architecture itself. Received: {architecture}")


def attribute_list(group: "h5py.Group", name: str) -> list[str]:
    """A list of names; Keras splits a long one into `name0`, `name1` and so on."""
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
    if len(text) > CONFIG_LIMIT:
        raise InputError(f"{path}: its configuration is too large")
    config = json.loads(text)
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise InputError(f"{path}: its configuration is none of a Keras model")
    return config


def _read_architecture(path: Path) -> dict:
    with files.open_to_read(path) as file:
        text = file.read(CONFIG_LIMIT + 1)
    try:
        return _parse(path, text)
    except (ValueError, RecursionError) as error:
        found = files.sniff(path) or "no JSON"
        raise InputError(
            f"{path}: an architecture is the JSON text of model.to_json(), this is {found}"
        ) from error


def _architecture_beside(path: Path, layers: list[str], weights: str) -> Path:
    """The JSON file in the same folder whose layers are those of the weights."""
    # Keras 1 gave a Sequential model within another no name in its configuration.
    own = {name for name in layers if not name.startswith(("sequential_", "model_"))}
    fitting = []
    found = sorted(path.parent.glob("*.json"))[:ARCHITECTURES_BESIDE]
    for candidate in found:
        try:
            config = _read_architecture(candidate)
        except InputError:
            continue
        if weights == "layers" or own <= _layer_names(config):
            fitting.append((candidate, config))
    if not fitting:
        raise InputError(
            f"{path}: holds weights without an architecture, and no JSON file beside it has its "
            "layers; give the text of model.to_json() with --architecture model.json, in a list of "
            "models with architecture=model.json"
        )

    def likeness(pair: tuple[Path, dict]) -> float:
        return difflib.SequenceMatcher(None, pair[0].stem, path.stem).ratio()

    best = max(map(likeness, fitting))
    nearest = [pair for pair in fitting if likeness(pair) == best]
    if any(config != nearest[0][1] for _, config in nearest):
        names = ", ".join(candidate.name for candidate, _ in nearest)
        raise InputError(f"{path}: several files beside it fit ({names}); choose --architecture")
    return nearest[0][0]


def _layer_names(config: object) -> set[str]:
    if isinstance(config, list):
        return set().union(*map(_layer_names, config))
    if not isinstance(config, dict):
        return set()
    own = {config["name"]} if isinstance(config.get("name"), str) else set()
    return own.union(*map(_layer_names, config.values()))


def one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
