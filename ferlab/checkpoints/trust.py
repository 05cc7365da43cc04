"""What a checkpoint may ask for: Keras's own layers and functions, and nothing that carries code.

Keras's safe mode refuses Python code in a Lambda. This goes further: every object that a
configuration names must be on a list of harmless ones, and an HDF5 file may not lead to others.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py

# Layers of Keras that run code or read files which the checkpoint names.
_CODE_LAYERS = {
    "Lambda": "carries Python code",
    "TorchModuleWrapper": "carries a pickled object",
    "TFSMLayer": "runs a TensorFlow graph from another file",
    "JaxLayer": "carries code",
    "FlaxLayer": "carries code",
    "TextVectorization": "may read other files",
    "StringLookup": "may read other files",
    "IntegerLookup": "may read other files",
}
_MODULES = ("keras", "builtins", "ferlab")
_CLASSES_IN = (  # where Keras says a harmless object lives
    "keras.layers",
    "keras.models",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.optimizers",
    "keras.quantizers",
    "keras.src.layers",
    "keras.src.models",
    "keras.src.ops",
    "keras.ops",
    "keras.src.initializers",
    "keras.src.regularizers",
    "keras.src.constraints",
    "keras.src.dtype_policies",
)
_OWN_CLASSES = (("ferlab.optimizers", "Muon"),)
_PLAIN_OBJECTS = ("__tuple__", "__slice__", "__ellipsis__", "__tensor__", "__numpy__", "__bytes__")
_PLAIN_OBJECTS += ("__keras_tensor__", "TensorShape", "ListWrapper", "Policy")
UNPACKED_LIMIT = 4 * 2**30  # bytes of weights in all; what claims more is no face classifier


def layer_class(where: str, kind: str, name: str) -> type:
    """Keras's layer class of that name. Raises InputError for one that is not to be trusted."""
    from ferlab.backend import keras

    if kind in _CODE_LAYERS:
        raise InputError(
            f"{where}: the layer {name!r} is a {kind}, which {_CODE_LAYERS[kind]}; "
            "nothing from a checkpoint is ever run"
        )
    found = getattr(keras.layers, kind, None)
    if not (isinstance(found, type) and issubclass(found, keras.layers.Layer)):
        raise InputError(
            f"{where}: the layer {name!r} is of the class {kind!r}, which Keras 3 does not have: "
            "custom code, of which a checkpoint holds the name alone, or a layer since dropped"
        )
    return found


def require_known_activation(where: str, activation: str, name: str) -> None:
    """Raise InputError unless Keras, or this project, has an activation function of that name."""
    from ferlab.backend import keras

    known = callable(getattr(keras.activations, activation, None)) and activation not in (
        "deserialize",
        "serialize",
        "get",
    )
    if not known and activation != "ferlab>hard_sigmoid":
        raise InputError(
            f"{where}: the activation {activation!r} of the layer {name!r} is not one of Keras's: "
            "custom code, of which a checkpoint holds the name alone"
        )


def require_no_code(where: str, config: object) -> None:
    """Raise InputError, naming it, for an object in a Keras 3 configuration that may do harm."""
    for entry, name in _objects(config, ""):
        kind, module = entry["class_name"], entry.get("module")
        if kind in _PLAIN_OBJECTS or (module, kind) in _OWN_CLASSES:
            continue
        if kind in ("__lambda__", "Lambda"):
            layer_class(where, "Lambda", name)
        if kind == "function":
            activation = entry.get("config")
            require_known_activation(where, str(activation), name)
            continue
        if module in (None, "keras", "keras.layers") or str(module).startswith("keras.src.layers"):
            if kind not in _others():
                layer_class(where, kind, name)
        elif not any(module == known or module.startswith(f"{known}.") for known in _CLASSES_IN):
            raise InputError(
                f"{where}: {kind!r} of {name!r} is custom code of the module {module!r}; "
                "nothing from a checkpoint is ever run"
            )


def _others() -> set[str]:
    """What is no layer but may stand in a configuration without saying where it lives."""
    from ferlab.backend import keras

    names = {"Sequential", "Model", "Functional", "DTypePolicy"}
    for module in (keras.initializers, keras.regularizers, keras.constraints):
        names |= {name for name in dir(module) if name[0].isupper()}
    return names


def _objects(config: object, name: str) -> Iterator[tuple[dict, str]]:
    """Every dictionary with a `class_name`, and the name of the layer it belongs to."""
    if isinstance(config, list):
        for value in config:
            yield from _objects(value, name)
    elif isinstance(config, dict):
        inner = config.get("config")
        own = config.get("name") or (inner.get("name") if isinstance(inner, dict) else None) or name
        if "class_name" in config:
            yield config, str(own)
        for value in config.values():
            yield from _objects(value, own)


def require_stored_sizes(where: str, config: object, largest: int) -> None:
    """Raise InputError for a layer that is larger than any array that the file holds for it.

    Its memory would be taken before anybody noticed. largest: the longest side of the arrays.
    """
    for entry, name in _objects(config, ""):
        settings = entry.get("config")
        for key in ("units", "filters", "output_dim"):
            size = settings.get(key) if isinstance(settings, dict) else None
            if isinstance(size, int | float) and size > largest:
                raise InputError(
                    f"{where}: the layer {name!r} has {key}={size:g}, but the file holds no "
                    f"weights of more than {largest:,} a side"
                )


def require_own_data(where: str, file: "h5py.File") -> int:
    """The longest side of the arrays that the file holds.

    Raises InputError for an HDF5 file that leads to other files, or unpacks beyond reason.
    """
    import h5py

    links: list[tuple[str, object]] = []
    file.visititems_links(lambda name, link: links.append((name, link)))
    size, largest = 0, 0
    for name, link in links:
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{where}: holds a link ({name}), which a checkpoint has no use for")
        dataset = file.get(name)
        if isinstance(dataset, h5py.Dataset):
            if dataset.is_virtual or dataset.external:
                raise InputError(f"{where}: {name} lies in another file; a checkpoint is one file")
            size += dataset.nbytes
            largest = max(largest, *dataset.shape, 0)
    if size > UNPACKED_LIMIT:
        raise InputError(
            f"{where}: its weights must be {UNPACKED_LIMIT // 2**30} GiB at most. "
            f"Received: {size / 2**30:.1f} GiB"
        )
    return largest


def require_own_archive(where: str, path: Path) -> None:
    """Raise InputError for a `.keras` archive that unpacks beyond reason, or out of its place."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > UNPACKED_LIMIT:
        raise InputError(f"{where}: unpacks to {size / 2**30:.1f} GiB")
    for member in members:
        if member.filename.startswith("/") or ".." in Path(member.filename).parts:
            raise InputError(f"{where}: its member {member.filename!r} would leave its place")
