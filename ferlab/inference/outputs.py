"""The kind of a model's outputs: probabilities, independent probabilities, or scores."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

_KINDS = {  # by the last activation
    "sigmoid": "independent",
    "hard_sigmoid": "independent",
    "linear": "scores",
    "log_softmax": "scores",
}
_OPERATIONS = {"Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}
_UNCHANGED = ("ActivityRegularization", "Dropout", "Flatten", "Identity", "Reshape")
SOFTMAX_NAME = "probabilities"


def output_kind(outputs: np.ndarray, model: "keras.Model | None" = None) -> str:
    """The kind of a model's outputs, float (n, num_classes).

    'probabilities' add up to 1; 'independent' are a probability for each class by itself; 'scores'
    are anything else, and their softmax is taken. The model's last activation decides between the
    last two, if it is known: a few scores may all be between 0 and 1.
    """
    sums = outputs.astype("float64").sum(axis=1)
    if not np.isfinite(outputs).all() or (outputs < 0).any():
        return "scores"
    if np.allclose(sums, 1, atol=1e-3 if outputs.dtype.itemsize > 2 else 0.03):
        return "probabilities"
    kind = _KINDS.get(_last_activation(model)) if model else None
    can_be_divided = bool((sums > 0).all())
    if kind is None:
        kind = "independent" if (outputs <= 1).all() else "scores"
    return kind if can_be_divided else "scores"


def kind_of(model: "keras.Model", images: np.ndarray) -> str:
    """The kind of a model's outputs, as `output_kind`.

    images: examples for the model, (n, height, width, channels), in its own pixel scale.
    """
    from ferlab.backend import keras

    tensor = keras.ops.convert_to_tensor(images, dtype=model.inputs[0].dtype)
    outputs = keras.ops.convert_to_numpy(model(tensor, training=False))
    return output_kind(np.asarray(outputs), model)


def with_softmax(model: "keras.Model") -> "keras.Model":
    """The model followed by a softmax, on its own variables."""
    from ferlab.backend import keras

    name = SOFTMAX_NAME
    while name in {layer.name for layer in model.layers}:
        name = f"{name}_"
    softmax = keras.layers.Softmax(dtype="float32", name=name)
    return keras.Model(model.inputs[0], softmax(model.outputs[0]), name=model.name)


def _last_activation(model: "keras.Model") -> str:
    """The name of the last activation function, at any depth of nesting; '' if unknown."""
    from ferlab.backend import keras

    tensor = keras.Model(model.inputs, model.outputs).outputs[0]
    operation, index, _ = tensor._keras_history
    while type(operation).__name__ in _UNCHANGED or _is_linear_activation(operation):
        (tensor,) = operation._inbound_nodes[index].input_tensors
        operation, index, _ = tensor._keras_history
    if isinstance(operation, keras.Model):
        return _last_activation(operation)
    name = getattr(getattr(operation, "activation", None), "__name__", "")
    return name or _OPERATIONS.get(type(operation).__name__, "")


def _is_linear_activation(operation: "keras.Operation") -> bool:
    from ferlab.backend import keras

    is_activation = isinstance(operation, keras.layers.Activation)
    return is_activation and operation.activation is keras.activations.linear
