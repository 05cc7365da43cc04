"""Weights that older Keras wrote into HDF5, given to the model that the configuration made.

A layer's arrays are found by its name. Within a nested model they are found by the names in the
file too, since the order depends on which layers were frozen when it was written. Keras 1 laid out
kernels its own way, and the Theano backend convolved with kernels turned by 180 degrees. What
Keras itself did when it read such files is in `preprocess_weights_for_loading` of Keras 2.
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

_KINDS = {  # the last part of a name in the file -> the variable's name in Keras 3
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # Keras 1 called the variance so
    "running_variance": "moving_variance",
    "alphas": "alpha",
}


_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv2DTranspose)
# Not the depthwise ones: Keras turned those itself.
_TURNED = (*_CONVOLUTIONS, keras.layers.Conv3D, keras.layers.ConvLSTM2D)


@dataclass(frozen=True)
class _Stored:
    """An array of the file. owner: the name of the layer it belongs to; kind: kernel, bias, ..."""

    owner: str
    kind: str
    value: np.ndarray


def renumber(path: Path) -> None:
    """Give the groups of a `.weights.h5` of tf.keras 2.12 and 2.13 the numbers of later versions.

    It counted a layer with weights twice: conv2d, conv2d_2, conv2d_4.
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
        visit(file)


def is_theano(contents: Contents, file: "h5py.File") -> bool:
    """Whether the Theano backend wrote it. Keras 1 does not tell; TensorFlow ends names in `:0`."""
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
    """Give every layer its weights. Raises InputError when the file does not hold them."""
    work = _Loading(contents, repaired, is_theano(contents, file))
    group = file[contents.weights]
    names = {
        name: attribute_list(group[name], "weight_names")
        for name in attribute_list(group, "layer_names")
    }
    names = {name: weights for name, weights in names.items() if weights}
    layers = [layer for layer in model.layers if layer.weights]
    by_name = all(repaired.original_names.get(layer.name, layer.name) in names for layer in layers)
    if not by_name and len(layers) != len(names):
        raise work.error(f"{len(layers)} layers have weights, the file has those of {len(names)}")
    for layer, in_order in zip(layers, names if not by_name else layers, strict=True):
        name = repaired.original_names.get(layer.name, layer.name) if by_name else in_order
        stored = [_stored(weight, name, group[name]) for weight in names[name]]
        work.fill(layer, stored)


def _stored(weight: str, layer: str, group: "h5py.Group") -> _Stored:
    """`block1_conv1/kernel:0`, `resnet/conv1/kernel:0` and, of Keras 1, `dense_1_W`."""
    path = re.sub(r":\d+$", "", weight)
    owner, _, kind = path.rpartition("/")
    if not owner:
        found = re.match(r"(.+?)_(running_(?:mean|std|variance)|[^_]+)$", path)
        owner, kind = found.groups() if found else (layer, path)
    kind = _KINDS.get(kind, kind)
    return _Stored(owner, re.sub(r"_\d+$", "", kind), np.asarray(group[weight]))


class _Loading:
    def __init__(self, contents: Contents, repaired: Repaired, is_theano: bool) -> None:
        self.contents, self.repaired, self.is_theano = contents, repaired, is_theano
        self.is_keras_1 = _is_keras_1(contents)

    def error(self, what: str) -> InputError:
        return InputError(f"{self.contents.path}: its weights do not fit its layers: {what}")

    def fill(self, layer: keras.layers.Layer, stored: list[_Stored]) -> None:
        """Give a layer, or all the layers of a nested model, what the file holds for it."""
        leaves = _leaves(layer)
        if len(leaves) == 1:
            self.assign(leaves[0], stored)
            return
        pieces = self.by_name(leaves, stored) or self.in_order(layer, leaves, stored)
        for leaf, own in pieces:
            self.assign(leaf, own)

    def by_name(self, leaves: list, stored: list[_Stored]) -> list | None:
        """Each leaf with its arrays, or None when the names do not tell."""
        owned: dict[str, list[_Stored]] = {}
        for array in stored:
            owned.setdefault(array.owner.rpartition("/")[2], []).append(array)
        names = [self.repaired.original_names.get(leaf.name, leaf.name) for leaf in leaves]
        names = [name.rpartition("/")[2] for name in names]
        if len(set(names)) != len(names) or set(names) != set(owned):
            return None
        return [(leaf, owned[name]) for leaf, name in zip(leaves, names, strict=True)]

    def in_order(self, model: keras.Model, leaves: list, stored: list[_Stored]) -> list:
        """As Keras 2 wrote them: all that was trainable, then the rest."""
        variables = [*model.trainable_weights, *model.non_trainable_weights]
        if len(variables) != len(stored):
            raise self.error(f"{model.name} has {len(variables)} arrays, the file {len(stored)}")
        place = {id(variable): array for variable, array in zip(variables, stored, strict=True)}
        return [(leaf, [place[id(variable)] for variable in leaf.weights]) for leaf in leaves]

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
            layer.finalize_state()  # what it computes with follows from its weights

    def converted(self, layer: keras.layers.Layer, value: np.ndarray) -> np.ndarray:
        """The array in the layout of Keras 3 with channels last, correlating."""
        if isinstance(layer, keras.layers.TimeDistributed):
            return self.converted(layer.layer, value)
        if self.is_keras_1 and value.ndim == 4:
            value = self.kernel_of_keras_1(layer, value)
        if self.is_theano and isinstance(layer, _TURNED):
            value = np.flip(value, range(value.ndim - 2))
        if isinstance(layer, keras.layers.PReLU) and self.repaired.was_channels_first:
            value = value.transpose(1, 2, 0) if value.ndim == 3 else value
        return value

    def kernel_of_keras_1(self, layer: keras.layers.Layer, value: np.ndarray) -> np.ndarray:
        """(rows, columns, in, out), and with `th` (out, in, rows, columns); Conv1D had 2 axes."""
        if isinstance(layer, keras.layers.Conv1D):
            kernel = value.shape[:2] == (layer.kernel_size[0], 1)
            return value[:, 0] if kernel else value.transpose(2, 3, 1, 0)[:, 0]
        if isinstance(layer, (*_CONVOLUTIONS, keras.layers.SeparableConv2D)):
            value = value.transpose(2, 3, 1, 0) if self.repaired.was_channels_first else value
        if isinstance(layer, keras.layers.Conv2DTranspose):
            value = value.transpose(0, 1, 3, 2)
        return value

    def variance_of_keras_1(self, epsilon: float, value: np.ndarray) -> np.ndarray:
        """What `running_std` holds became the variance with 1.0.6, on Theano with 1.0.8."""
        version = tuple(map(int, re.findall(r"\d+", self.contents.keras_version)[:3])) or (1, 0, 0)
        if version < (1, 0, 6) or (self.is_theano and version == (1, 0, 6)):
            return (value + epsilon) ** 2 - epsilon
        if self.is_theano and version == (1, 0, 7):
            return (np.sqrt(value) + epsilon) ** 2 - epsilon
        return value


def _leaves(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers with weights of a nested model, in its order; the layer itself if it is none."""
    if not isinstance(layer, keras.Model):
        return [layer]
    return [leaf for inner in layer.layers if inner.weights for leaf in _leaves(inner)]


def _merged_gates(layer: keras.layers.Layer, stored: list[_Stored]) -> list[_Stored]:
    """Keras 1 kept the gates of a recurrent layer apart: W_i, U_i, b_i, W_c and so on."""
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
    found = {re.sub(r".*_([WUb]_[a-z])$", r"\1", f"_{a.owner}_{a.kind}"): a for a in stored}
    return [
        _Stored("", kind, np.concatenate([found[f"{letter}_{gate}"].value for gate in gates], -1))
        for letter, kind in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias"))
    ]
