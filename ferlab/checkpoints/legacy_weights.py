"""Loading weights of older Keras from HDF5 into a model built from the configuration.

A layer's arrays are looked up by its name, also within a nested model, as their order depends on
which layers were frozen at saving. Keras 1 had other kernel layouts, and the Theano backend
convolved with kernels rotated by 180 degrees. Keras's own conversion is
`preprocess_weights_for_loading` of Keras 2.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab.backend import keras
from ferlab.checkpoints.containers import Contents, attribute_list
from ferlab.checkpoints.legacy_configs import Repaired
from ferlab.errors import InputError

if TYPE_CHECKING:
    import h5py

_KINDS = {  # last part of a name in the file: the variable's name in Keras 3
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # the variance in Keras 1
    "running_variance": "moving_variance",
    "alphas": "alpha",
}


_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv2DTranspose)
# Without the depthwise ones, which Keras rotated itself.
_ROTATED = (*_CONVOLUTIONS, keras.layers.Conv3D, keras.layers.ConvLSTM2D)


@dataclass(frozen=True)
class _Stored:
    """An array in the file. owner: the name of its layer; kind: kernel, bias, ..."""

    owner: str
    kind: str
    value: np.ndarray


def rename_groups(path: Path, *, are_counted_twice: bool) -> None:
    """Give the groups of a `.weights.h5` the names of later versions.

    On Windows tf.keras 2.12 to 2.15 joined the parts of a name by backslashes. are_counted_twice:
    whether to renumber the layers of versions 2.12 and 2.13, which counted each layer with weights
    twice: conv2d, conv2d_2, conv2d_4.
    """
    import h5py

    def visit(group: "h5py.Group") -> None:
        for inner in [value for value in group.values() if isinstance(value, h5py.Group)]:
            visit(inner)
        layers = group.get("_layer_checkpoint_dependencies")
        if layers is None:
            return
        numbered: dict[str, list[int]] = {}
        for name in layers:
            kind, _, number = name.rpartition("_")
            if kind and number.isdecimal() and kind in layers:
                numbered.setdefault(kind, []).append(int(number))
        for kind, numbers in numbered.items():
            for rank, number in enumerate(sorted(numbers), start=1):
                if number != rank:
                    layers.move(f"{kind}_{number}", f"{kind}_{rank}")

    with h5py.File(path, "a") as file:
        for name in sorted(file):  # a group before those in it
            if "\\" in name:
                file.move(name, name.replace("\\", "/"))
        if are_counted_twice:
            visit(file)


def is_theano(contents: Contents, file: "h5py.File") -> bool:
    """Whether the Theano backend wrote the file.

    Keras 1 did not record its backend, but TensorFlow's names end in `:0`.
    """
    if contents.backend or not _is_keras_1(contents):
        return contents.backend == "theano"
    group = file[contents.weights]
    names = [
        name
        for layer in attribute_list(group, "layer_names")
        for name in attribute_list(group[layer], "weight_names")
    ]
    return bool(names) and not any(name.endswith(":0") for name in names)


def _is_keras_1(contents: Contents) -> bool:
    return int(re.match(r"\d*", contents.keras_version)[0] or 1) == 1


def load_weights(model: keras.Model, contents: Contents, repaired: Repaired, file: "h5py.File"):
    """Load the weights of every layer. Raises InputError when the file lacks any."""
    loader = _Loader(contents, repaired, is_theano(contents, file))
    group = file[contents.weights]
    names = {
        name: attribute_list(group[name], "weight_names")
        for name in attribute_list(group, "layer_names")
    }
    names = {name: weights for name, weights in names.items() if weights}
    layers = [layer for layer in model.layers if layer.weights]
    by_name = all(repaired.original_names.get(layer.name, layer.name) in names for layer in layers)
    if not by_name and len(layers) != len(names):
        raise loader.error(
            f"the model has {len(layers)} layers with weights, the file {len(names)}"
        )
    for layer, in_order in zip(layers, names if not by_name else layers, strict=True):
        name = repaired.original_names.get(layer.name, layer.name) if by_name else in_order
        stored = [_stored(weight, name, group[name]) for weight in names[name]]
        loader.fill(layer, stored)


def _stored(weight: str, layer: str, group: "h5py.Group") -> _Stored:
    """An array by its name: `block1_conv1/kernel:0`, `resnet/conv1/kernel:0`, `dense_1_W`."""
    path = re.sub(r":\d+$", "", weight)
    owner, _, kind = path.rpartition("/")
    if not owner:
        match = re.match(r"(.+?)_(running_(?:mean|std|variance)|[^_]+)$", path)
        owner, kind = match.groups() if match else (layer, path)
    kind = _KINDS.get(kind, kind)
    return _Stored(owner, re.sub(r"_\d+$", "", kind), np.asarray(group[weight]))


class _Loader:
    """Assigns the arrays of one file to the layers of a model."""

    def __init__(self, contents: Contents, repaired: Repaired, is_theano: bool) -> None:
        self.contents, self.repaired, self.is_theano = contents, repaired, is_theano
        self.is_keras_1 = _is_keras_1(contents)

    def error(self, reason: str) -> InputError:
        return InputError(f"{self.contents.path}: its weights do not match its layers: {reason}")

    def fill(self, layer: keras.layers.Layer, stored: list[_Stored]) -> None:
        """Assign the arrays of a layer, or of all layers of a nested model."""
        leaves = _leaves(layer)
        if len(leaves) == 1:
            self.assign(leaves[0], stored)
            return
        pairs = self.by_name(leaves, stored) or self.in_order(layer, leaves, stored)
        for leaf, arrays in pairs:
            self.assign(leaf, arrays)

    def by_name(self, leaves: list, stored: list[_Stored]) -> list | None:
        """Each leaf with its arrays, or None when the names do not match."""
        by_owner: dict[str, list[_Stored]] = {}
        for array in stored:
            by_owner.setdefault(array.owner.rpartition("/")[2], []).append(array)
        names = [self.repaired.original_names.get(leaf.name, leaf.name) for leaf in leaves]
        names = [name.rpartition("/")[2] for name in names]
        if len(set(names)) != len(names) or set(names) != set(by_owner):
            return None
        return [(leaf, by_owner[name]) for leaf, name in zip(leaves, names, strict=True)]

    def in_order(self, model: keras.Model, leaves: list, stored: list[_Stored]) -> list:
        """Each leaf with its arrays in Keras 2's order: trainable weights, then the others."""
        variables = [*model.trainable_weights, *model.non_trainable_weights]
        if len(variables) != len(stored):
            raise self.error(f"{model.name} has {len(variables)} arrays, the file {len(stored)}")
        array_of = {id(variable): array for variable, array in zip(variables, stored, strict=True)}
        return [(leaf, [array_of[id(variable)] for variable in leaf.weights]) for leaf in leaves]

    def assign(self, layer: keras.layers.Layer, stored: list[_Stored]) -> None:
        variables = layer.weights
        stored = _merged_gates(layer, stored) if self.is_keras_1 else stored
        if len(stored) != len(variables):
            raise self.error(f"{layer.name} has {len(variables)} arrays, the file {len(stored)}")
        by_kind = {array.kind: array for array in stored}
        if sorted(variable.name for variable in variables) == sorted(by_kind):
            stored = [by_kind[variable.name] for variable in variables]
        for variable, array in zip(variables, stored, strict=True):
            value = self.converted(layer, array.value)
            if self.is_keras_1 and variable.name == "moving_variance":
                value = self.variance_of_keras_1(layer.epsilon, value)
            if value.shape != tuple(variable.shape):
                raise self.error(
                    f"{layer.name} has {variable.name} of {tuple(variable.shape)}, "
                    f"the file one of {value.shape}"
                )
            variable.assign(value)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # computes its constants from the weights

    def converted(self, layer: keras.layers.Layer, value: np.ndarray) -> np.ndarray:
        """The array in Keras 3's layout, channels last, for cross-correlation."""
        if isinstance(layer, keras.layers.TimeDistributed):
            return self.converted(layer.layer, value)
        if self.is_keras_1 and value.ndim == 4:
            value = self.kernel_of_keras_1(layer, value)
        if self.is_theano and isinstance(layer, _ROTATED):
            value = np.flip(value, range(value.ndim - 2))
        if isinstance(layer, keras.layers.PReLU) and self.repaired.was_channels_first:
            value = value.transpose(1, 2, 0) if value.ndim == 3 else value
        return value

    def kernel_of_keras_1(self, layer: keras.layers.Layer, value: np.ndarray) -> np.ndarray:
        """A kernel in Keras 3's layout.

        Keras 1 has (rows, columns, in, out), with `th` (out, in, rows, columns), also for Conv1D.
        """
        if isinstance(layer, keras.layers.Conv1D):
            is_current = value.shape[:2] == (layer.kernel_size[0], 1)
            return value[:, 0] if is_current else value.transpose(2, 3, 1, 0)[:, 0]
        if isinstance(layer, (*_CONVOLUTIONS, keras.layers.SeparableConv2D)):
            value = value.transpose(2, 3, 1, 0) if self.repaired.was_channels_first else value
        if isinstance(layer, keras.layers.Conv2DTranspose):
            value = value.transpose(0, 1, 3, 2)
        return value

    def variance_of_keras_1(self, epsilon: float, value: np.ndarray) -> np.ndarray:
        """The variance from `running_std`, which contains it since Keras 1.0.6 (Theano: 1.0.8)."""
        version = tuple(map(int, re.findall(r"\d+", self.contents.keras_version)[:3])) or (1, 0, 0)
        if version < (1, 0, 6) or (self.is_theano and version == (1, 0, 6)):
            return (value + epsilon) ** 2 - epsilon
        if self.is_theano and version == (1, 0, 7):
            return (np.sqrt(value) + epsilon) ** 2 - epsilon
        return value


def _leaves(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers with weights of a nested model, in order; for a plain layer, the layer itself."""
    if not isinstance(layer, keras.Model):
        return [layer]
    return [leaf for inner in layer.layers if inner.weights for leaf in _leaves(inner)]


def _merged_gates(layer: keras.layers.Layer, stored: list[_Stored]) -> list[_Stored]:
    """Merge the gates of a recurrent layer, separate arrays in Keras 1: W_i, U_i, b_i, W_c, ..."""
    if isinstance(layer, keras.layers.Bidirectional):
        half = len(stored) // 2
        return [
            *_merged_gates(layer.forward_layer, stored[:half]),
            *_merged_gates(layer.backward_layer, stored[half:]),
        ]
    orders = {"LSTM": "ifco", "GRU": "zrh"}
    gates = orders.get(type(layer).__name__)
    if gates is None or len(stored) != 3 * len(gates):
        return stored
    by_gate = {re.sub(r".*_([WUb]_[a-z])$", r"\1", f"_{a.owner}_{a.kind}"): a for a in stored}
    return [
        _Stored("", kind, np.concatenate([by_gate[f"{letter}_{gate}"].value for gate in gates], -1))
        for letter, kind in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias"))
    ]
