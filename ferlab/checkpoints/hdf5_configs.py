"""Configurations that Keras 3 writes into HDF5, in the form that it writes into `.keras`.

Both have the same words, but HDF5 leaves out the module of layers and operations. Keras's own
reader of that form loses axes and knows no operation such as x / 255; its reader of the other form
does neither.
"""

import importlib
import inspect

from ferlab.backend import keras
from ferlab.checkpoints.trust import APPLICATION_LAYERS

_MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras", "Model": "keras"}
_OPERATION_MODULES = ("numpy", "nn", "core", "image", "math", "linalg")


def with_modules(config: object) -> object:
    """A configuration in which every layer, model and operation has its module."""
    if isinstance(config, list):
        return [with_modules(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: with_modules(value) for key, value in config.items()}
    kind = config.get("class_name")
    if not isinstance(kind, str) or "config" not in config or "module" in config:
        return config
    module = _module(kind, config["config"])
    return config | {"module": module, "registered_name": None} if module else config


def _module(kind: str, settings: object) -> str | None:
    """The module of a class; None for objects that have none, such as slices."""
    if kind.startswith("__"):
        return None
    if kind in _MODELS or kind in APPLICATION_LAYERS:
        return _MODELS.get(kind) or APPLICATION_LAYERS[kind]
    # Some names are of a layer and of an operation; only layers are trainable or not.
    is_layer = not isinstance(settings, dict) or "trainable" in settings
    if not is_layer and (module := operation_module(kind)):
        return module
    return "keras.layers"


def operation_module(kind: str) -> str | None:
    """The module of Keras's operation with this class name; None if there is none."""
    for name in _OPERATION_MODULES:
        module = importlib.import_module(f"keras.src.ops.{name}")
        operation = vars(module).get(kind)
        if inspect.isclass(operation) and issubclass(operation, keras.Operation):
            return module.__name__
    return None
