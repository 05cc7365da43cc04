"""The kind of a network's outputs, which decides what it is trained on."""

import numpy as np

from ferlab import inference
from ferlab.backend import keras

_KINDS = {  # by the last activation; others are decided by the outputs for some images
    "softmax": "probabilities",
    "sigmoid": "independent",
    "hard_sigmoid": "independent",
    "linear": "scores",
    "log_softmax": "scores",
}
_UNCHANGED = ("ActivityRegularization", "Dropout", "Flatten", "Identity", "Reshape")
_OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}
SOFTMAX_NAME = "probabilities"


def kind_of(model: keras.Model, images: np.ndarray) -> str:
    """The kind of a model's outputs, as in `inference.output_kind`.

    images: examples for the model, (n, height, width, channels), in its own pixel scale.
    """
    kind = _KINDS.get(_last_activation(model))
    if kind:
        return kind
    tensor = keras.ops.convert_to_tensor(images, dtype=model.inputs[0].dtype)
    outputs = keras.ops.convert_to_numpy(model(tensor, training=False)).astype("float64")
    is_rounded = "16" in str(model.outputs[0].dtype)  # sums of bfloat16 are not exactly 1
    if is_rounded and (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=0.03):
        return "probabilities"
    return inference.output_kind(outputs)


def with_softmax(model: keras.Model) -> keras.Model:
    """The model followed by a softmax, on its own variables."""
    name = SOFTMAX_NAME
    while name in {layer.name for layer in model.layers}:
        name = f"{name}_"
    softmax = keras.layers.Softmax(dtype="float32", name=name)
    return keras.Model(model.inputs[0], softmax(model.outputs[0]), name=model.name)


def _last_activation(model: keras.Model) -> str:
    """The name of the last activation function, at any depth of nesting; '' if unknown."""
    tensor = keras.Model(model.inputs, model.outputs).outputs[0]
    operation, index, _ = tensor._keras_history
    while type(operation).__name__ in _UNCHANGED or _is_linear_activation(operation):
        (tensor,) = operation._inbound_nodes[index].input_tensors
        operation, index, _ = tensor._keras_history
    if isinstance(operation, keras.Model):
        return _last_activation(operation)
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", "")
    return name or _OPERATIONS.get(type(operation).__name__, "")


def _is_linear_activation(operation: keras.Operation) -> bool:
    is_activation = isinstance(operation, keras.layers.Activation)
    return is_activation and operation.activation is keras.activations.linear
