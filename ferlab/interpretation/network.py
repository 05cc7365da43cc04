"""The layers inside a model, nested or not: by name, with their outputs and gradients."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ferlab import inference
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint
from ferlab.errors import InputError, did_you_mean
from ferlab.evaluation import costs
from ferlab.evaluation.costs import LayerCost
from ferlab.interpretation import autodiff

ops = keras.ops
MAX_NAMES = 40  # maximum number of layer names in an error message
BORDER = 8  # the border of a map is an eighth of its side


def layer_named(checkpoint: Checkpoint, name: str) -> LayerCost:
    """A layer by its full name, `backbone/conv1`, or its own, `conv1`.

    Raises InputError if there is no such layer or more than one.
    """
    layers = costs.layer_costs(checkpoint.sized_model())
    matches = [layer for layer in layers if layer.name == name]
    matches = matches or [layer for layer in layers if layer.name.endswith(f"/{name}")]
    if len(matches) == 1:
        return matches[0]
    problem = f"several layers are named {name!r}" if matches else f"no layer is named {name!r}"
    names = [layer.name for layer in matches or layers]
    nearest = "" if matches else did_you_mean(name, names)
    if len(names) > MAX_NAMES:
        names[MAX_NAMES:] = [f"and {len(names) - MAX_NAMES} more, listed by `ferlab inspect`"]
    raise InputError(f"{checkpoint.path}: {problem}; the layers are {', '.join(names)}{nearest}")


def first_convolution(checkpoint: Checkpoint) -> LayerCost:
    """The first convolution, or else the first layer with multiply-adds.

    Raises InputError for a model with neither.
    """
    layers = costs.layer_costs(checkpoint.sized_model())
    kinds = (*costs.CONVOLUTIONS, *costs.DEPTHWISE, *costs.SEPARABLE)
    convolutions = [layer for layer in layers if isinstance(layer.layer, kinds)]
    weighted = [layer for layer in layers if layer.multiply_adds]
    if not convolutions + weighted:
        raise InputError(f"{checkpoint.path}: has no layer with filters")
    return (convolutions + weighted)[0]


def last_map(checkpoint: Checkpoint) -> LayerCost | None:
    """The layer for Grad-CAM: the last convolution, or the last layer after it of equal map size.

    None for a model without a convolution whose output is at least 2 by 2.
    """
    last = None
    for layer in costs.layer_costs(checkpoint.sized_model()):
        if len(layer.output_shape) != 3 or min(layer.output_shape[:2]) < 2:
            continue
        has_same_size = last and last.output_shape[:2] == layer.output_shape[:2]
        if layer.multiply_adds or (has_same_size and "Pooling" not in layer.kind):
            last = layer
    return last


@contextlib.contextmanager
def replaced(layer: Any, attribute: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a layer within the block."""
    original = getattr(layer, attribute)
    setattr(layer, attribute, value)
    try:
        yield
    finally:
        setattr(layer, attribute, original)


@contextlib.contextmanager
def tapped(layer: keras.layers.Layer, tap: Callable[[Any], Any]) -> Iterator[None]:
    """Pass the layer's outputs through `tap` within the block, at any depth of nesting.

    Keras 3 has no access to a nested model's tensors: a model from the outer input to an inner
    output is "not connected", so libraries for Grad-CAM fail on such models.
    """
    original = layer.call

    def call(*args, **kwargs):
        return tap(original(*args, **kwargs))

    with replaced(layer, "call", call):
        yield


class Network:
    """A checkpoint as functions of raw grey levels, compiled once, without its softmax.

    Gradients are those of the logits: where a probability is rounded to 1, the gradient of its
    logarithm would be 0.

    Images are float32 (n, height, width, channels), raw grey levels; targets int (n,), the output
    to explain for each image. Results are NumPy arrays.

    losses: (images, targets) -> cross-entropy of each image in nats, float32 (n,).
    """

    def __init__(self, checkpoint: Checkpoint, images: np.ndarray) -> None:
        """images: examples of those to explain, to determine the kind of the model's outputs."""
        self.checkpoint = checkpoint
        self._model = checkpoint.raw_pixel_model()
        self._last = _output_operation(self._model)
        self._kind = "scores"
        if not self._without_softmax():
            outputs = self._model(ops.convert_to_tensor(images[:16]), training=False)
            self._kind = inference.output_kind(ops.convert_to_numpy(outputs))
        self.losses = autodiff.compiled(self._losses)
        self._input_gradient = autodiff.gradient(self._sum_of_losses)
        self._compiled: dict[tuple[str, str], autodiff.Function] = {}

    def logits(self, images: Any) -> Any:
        """The logits as a tensor (n, num_classes), of a tensor of images."""
        with contextlib.ExitStack() as stack:
            for change in self._without_softmax():
                stack.enter_context(change)
            outputs = ops.cast(self._model(images, training=False), "float32")
        if self._kind == "scores":
            return outputs
        return ops.log(ops.maximum(outputs, 1e-30))  # the softmax normalizes

    def input_gradient(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Gradient of each image's loss with respect to the image: float32, of its shape."""
        return self._input_gradient(images, targets)[0]

    def layer_gradient(
        self, layer: LayerCost, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(outputs of the layer, gradient of each target's logit with respect to them).

        Both are float32 (n, *layer.output_shape).
        """
        key = ("layer", layer.name)
        if key not in self._compiled:

            def scores(change, images, targets):
                calls = []

                def tap(outputs):
                    calls.append(outputs)
                    return outputs + ops.cast(change, outputs.dtype)

                with tapped(layer.layer, tap):
                    logits = self.logits(images)
                self._require_one_call(layer, calls)
                target_logits = ops.take_along_axis(logits, targets[:, None], axis=1)
                return ops.sum(target_logits), ops.cast(calls[0], "float32")

            self._compiled[key] = autodiff.gradient(scores)
        change = np.zeros((len(images), *layer.output_shape), np.float32)
        gradients, outputs = self._compiled[key](change, images, targets)
        return outputs, gradients

    def unit_gradient(
        self, layer: LayerCost | None, images: np.ndarray, units: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(activation of each image's unit, its gradient with respect to the image).

        float32 (n,) and of the images' shape. units: int (n,), for each image a filter of the
        layer, whose activation is the mean over its map without the border, or without a layer an
        output of the model, whose activation is its logit.
        """
        key = ("unit", layer.name if layer else "")
        if key not in self._compiled:

            def activation(images, units):
                calls = []

                def tap(outputs):
                    calls.append(outputs)
                    return outputs

                if layer is None:
                    tap(self.logits(images))
                else:
                    with tapped(layer.layer, tap):
                        self.logits(images)
                self._require_one_call(layer, calls)
                outputs = _without_border(ops.cast(calls[0], "float32"))
                means = ops.mean(outputs, axis=tuple(range(1, len(outputs.shape) - 1)))
                activations = ops.take_along_axis(means, units[:, None], axis=1)[:, 0]
                return ops.sum(activations), activations

            self._compiled[key] = autodiff.gradient(activation)
        gradients, activations = self._compiled[key](images, units)
        return activations, gradients

    def _losses(self, images: Any, targets: Any) -> Any:
        log_probabilities = ops.log_softmax(self.logits(images))
        return -ops.take_along_axis(log_probabilities, targets[:, None], axis=1)[:, 0]

    def _sum_of_losses(self, images: Any, targets: Any) -> tuple[Any, Any]:
        losses = self._losses(images, targets)
        return ops.sum(losses), losses

    def _require_one_call(self, layer: LayerCost | None, calls: list) -> None:
        if len(calls) != 1:
            raise InputError(
                f"{self.checkpoint.path}: layer {layer.name} must be called once in the model. "
                f"Received: {len(calls)} calls"
            )

    def _without_softmax(self) -> list[contextlib.AbstractContextManager]:
        """Replacements that make the model return logits; none if it does not end in a softmax."""
        if type(self._last).__name__ == "Softmax":
            return [replaced(self._last, "call", lambda inputs, *args, **kwargs: inputs)]
        if getattr(self._last, "activation", None) is keras.activations.softmax:
            return [replaced(self._last, "activation", keras.activations.linear)]
        return []


def _without_border(outputs: Any) -> Any:
    """Maps (n, rows, columns, filters) without their border, where they are large enough.

    At the border a filter overlaps the zero padding, and the ascent would only draw a bright edge.
    """
    if len(outputs.shape) != 4:
        return outputs
    rows, columns = (side // BORDER for side in outputs.shape[1:3])
    return outputs[:, rows : outputs.shape[1] - rows, columns : outputs.shape[2] - columns]


def _output_operation(model: keras.Model) -> Any:
    """The layer or operation that returns the model's output, at any depth of nesting."""
    graph = keras.Model(model.inputs, model.outputs)
    operation = graph.outputs[0]._keras_history.operation
    return _output_operation(operation) if isinstance(operation, keras.Model) else operation
