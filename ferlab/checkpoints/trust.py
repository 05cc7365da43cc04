"""Security checks of checkpoints: only Keras's own layers and functions, and no code.

Keras's safe mode refuses Python code in a Lambda. These checks go further: every object named in a
configuration must be on an allow list, and an archive must not lead out of itself. What a file may
cost is limited by `guard`.
"""

import importlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ferlab.checkpoints import guard
from ferlab.errors import InputError

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
# Layers that belong to networks of keras.applications; Keras keeps them beside these.
APPLICATION_LAYERS = {
    "LayerScale": "keras.src.applications.convnext",
    "StochasticDepth": "keras.src.applications.convnext",
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
}
_FUNCTIONAL_OPERATIONS = (  # they call functions, perhaps for ever
    "AssociativeScan",
    "Cond",
    "ForiLoop",
    "Map",
    "Scan",
    "Switch",
    "VectorizedMap",
    "WhileLoop",
)
_DROPPED_LAYERS = (
    "CuDNNGRU",
    "CuDNNLSTM",
    "DenseFeatures",
    "Highway",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "MaxoutDense",
)
_OWN_CLASSES = (("ferlab.optimizers", "Muon"),)
_PLAIN_OBJECTS = ("__tuple__", "__slice__", "__ellipsis__", "__tensor__", "__numpy__", "__bytes__")
_PLAIN_OBJECTS += ("__keras_tensor__", "TensorShape", "ListWrapper", "Policy")


def layer_class(where: str, kind: str, name: str) -> type:
    """The Keras layer class of that name. Raises InputError for an unknown or unsafe one."""
    from ferlab.backend import keras

    if kind in _CODE_LAYERS:
        raise InputError(
            f"{where}: the layer {name!r} is a {kind}, which {_CODE_LAYERS[kind]}; "
            "code in a checkpoint is never run"
        )
    if kind in APPLICATION_LAYERS:
        return getattr(importlib.import_module(APPLICATION_LAYERS[kind]), kind)
    cls = getattr(keras.layers, kind, None)
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
        return cls
    if kind in _DROPPED_LAYERS:
        raise InputError(
            f"{where}: the layer {name!r} has the class {kind!r}, which Keras 3 no longer has; "
            "the Keras that wrote this file opens it"
        )
    raise InputError(
        f"{where}: the layer {name!r} has the class {kind!r}, which is not one of Keras: "
        "custom code, which a checkpoint does not contain"
    )


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
        if kind == "__numpy__":
            _require_number_type(where, entry)
        if kind in _PLAIN_OBJECTS or (module, kind) in _OWN_CLASSES:
            continue
        if isinstance(kind, str) and module and APPLICATION_LAYERS.get(kind) == module:
            continue
        if kind in ("__lambda__", "Lambda"):
            layer_class(where, "Lambda", name)
        if kind == "function":
            activation = entry.get("config")
            require_known_activation(where, str(activation), name)
            continue
        if kind in _FUNCTIONAL_OPERATIONS:
            raise InputError(f"{where}: {name!r} is an operation that calls functions ({kind})")
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


def _require_number_type(where: str, entry: dict) -> None:
    """Raise InputError for an array of text, of which a short type can claim gigabytes."""
    settings = entry.get("config")
    dtype = settings.get("dtype") if isinstance(settings, dict) else None
    if not re.fullmatch(r"b?float\d+|u?int\d+|bool", str(dtype)):
        raise InputError(f"{where}: has an array that is not of numbers. Received: {dtype!r}")


def require_own_archive(where: str, path: Path) -> None:
    """Raise InputError for a `.keras` archive that is too large or has paths that leave it."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size, limit = sum(member.file_size for member in members), guard.byte_limit(path)
    if size > limit:
        raise InputError(
            f"{where}: must unpack to at most {limit / 2**30:.2g} GiB. "
            f"Received: {size / 2**30:.3g} GiB"
        )
    for member in members:
        if member.filename.startswith("/") or ".." in Path(member.filename).parts:
            raise InputError(f"{where}: the path {member.filename!r} leaves the archive")
