"""Security checks of checkpoints: only Keras's own layers and functions, and no code.

Keras's safe mode refuses Python code in a Lambda. These checks go further: every object named in a
configuration must be on an allow list, and an HDF5 file must not link to other files.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py

# Keras layers that run code, or read files named in the checkpoint.
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
_ALLOWED_MODULES = (  # their objects are harmless
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
UNPACKED_LIMIT = 4 * 2**30  # bytes of weights; a face classifier has fewer


def layer_class(where: str, kind: str, name: str) -> type:
    """The Keras layer class of that name. Raises InputError for an unknown or unsafe one."""
    from ferlab.backend import keras

    if kind in _CODE_LAYERS:
        raise InputError(
            f"{where}: the layer {name!r} is a {kind}, which {_CODE_LAYERS[kind]}; "
            "code in a checkpoint is never run"
        )
    cls = getattr(keras.layers, kind, None)
    if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
        raise InputError(
            f"{where}: the layer {name!r} has the class {kind!r}, which is not in Keras 3: "
            "custom code, which a checkpoint does not contain, or a layer removed from Keras"
        )
    return cls


def require_known_activation(where: str, activation: str, name: str) -> None:
    """Raise InputError unless Keras or ferlab has an activation function of that name."""
    from ferlab.backend import keras

    is_known = callable(getattr(keras.activations, activation, None)) and activation not in (
        "deserialize",
        "serialize",
        "get",
    )
    if not is_known and activation != "ferlab>hard_sigmoid":
        raise InputError(
            f"{where}: the activation {activation!r} of the layer {name!r} is not in Keras: "
            "custom code, which a checkpoint does not contain"
        )


def require_no_code(where: str, config: object) -> None:
    """Raise InputError for an object in a Keras 3 configuration that could run code."""
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
            if kind not in _classes_without_module():
                layer_class(where, kind, name)
        elif not any(f"{module}.".startswith(f"{allowed}.") for allowed in _ALLOWED_MODULES):
            raise InputError(
                f"{where}: {kind!r} of {name!r} is custom code of the module {module!r}; "
                "code in a checkpoint is never run"
            )


def _classes_without_module() -> set[str]:
    """Classes other than layers that a configuration may name without their module."""
    from ferlab.backend import keras

    names = {"Sequential", "Model", "Functional", "DTypePolicy"}
    for module in (keras.initializers, keras.regularizers, keras.constraints):
        names |= {name for name in dir(module) if name[0].isupper()}
    return names


def _objects(config: object, name: str) -> Iterator[tuple[dict, str]]:
    """Every dictionary with a `class_name`, and the name of its layer."""
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
    """Raise InputError for a layer that is larger than every array in the file.

    Keras would allocate its memory before comparing shapes. largest: the largest dimension of
    any array.
    """
    for entry, name in _objects(config, ""):
        settings = entry.get("config")
        for key in ("units", "filters", "output_dim"):
            size = settings.get(key) if isinstance(settings, dict) else None
            if isinstance(size, int | float) and size > largest:
                raise InputError(
                    f"{where}: the layer {name!r} has {key}={size:g}, but the largest array in "
                    f"the file has {largest:,} along an axis"
                )


def require_own_data(where: str, file: "h5py.File") -> int:
    """The largest dimension of any array in an HDF5 file.

    Raises InputError for a file that links to other files, or unpacks to more than UNPACKED_LIMIT.
    """
    import h5py

    links: list[tuple[str, object]] = []
    file.visititems_links(lambda name, link: links.append((name, link)))
    size, largest = 0, 0
    for name, link in links:
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{where}: contains a link ({name}); checkpoints need none")
        dataset = file.get(name)
        if isinstance(dataset, h5py.Dataset):
            if dataset.is_virtual or dataset.external:
                raise InputError(f"{where}: {name} is stored in another file")
            size += dataset.nbytes
            largest = max(largest, *dataset.shape, 0)
    if size > UNPACKED_LIMIT:
        raise InputError(
            f"{where}: its weights must be {UNPACKED_LIMIT // 2**30} GiB at most. "
            f"Received: {size / 2**30:.1f} GiB"
        )
    return largest


def require_own_archive(where: str, path: Path) -> None:
    """Raise InputError for a `.keras` archive that is too large or has paths that leave it."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > UNPACKED_LIMIT:
        raise InputError(
            f"{where}: must unpack to at most {UNPACKED_LIMIT // 2**30} GiB. "
            f"Received: {size / 2**30:.1f} GiB"
        )
    for member in members:
        if member.filename.startswith("/") or ".." in Path(member.filename).parts:
            raise InputError(f"{where}: the path {member.filename!r} leaves the archive")
