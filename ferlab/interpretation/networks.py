"""A model taken apart: its layers, nested ones too, and what one of them gives on the way."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ferlab import inference
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint
from ferlab.errors import InputError
from ferlab.evaluation import costs
from ferlab.evaluation.costs import LayerCost
from ferlab.interpretation import autodiff

ops = keras.ops
MOST_NAMES = 40  # in an error
RIM = 8  # a map's rim is an eighth of its side


def layer_named(checkpoint: Checkpoint, name: str) -> LayerCost:
    """A layer by its name, `backbone/conv1`, or the end of it, `conv1`. Raises InputError."""
    layers = costs.layer_costs(checkpoint.sized_model())
    found = [layer for layer in layers if layer.name == name]
    found = found or [layer for layer in layers if layer.name.endswith(f"/{name}")]
    if len(found) == 1:
        return found[0]
    rule = f"no layer is called {name!r}" if not found else f"several layers are called {name!r}"
    known = [layer.name for layer in found or layers]
    if len(known) > MOST_NAMES:
        known[MOST_NAMES:] = [f"and {len(known) - MOST_NAMES} more, as `ferlab inspect` lists"]
    raise InputError(f"{checkpoint.path}: {rule}; it has {', '.join(known)}")


def first_convolution(checkpoint: Checkpoint) -> LayerCost:
    """The first layer that convolves; of a model without one, the first with multiply-adds.

    Raises InputError for a model without either.
    """
    layers = costs.layer_costs(checkpoint.sized_model())
    kinds = (*costs.CONVOLUTIONS, *costs.DEPTHWISE, *costs.SEPARABLE)
    convolutions = [layer for layer in layers if isinstance(layer.layer, kinds)]
    weighted = [layer for layer in layers if layer.multiply_adds]
    if not convolutions + weighted:
        raise InputError(f"{checkpoint.path}: has no layer with filters")
    return (convolutions + weighted)[0]


def last_map(checkpoint: Checkpoint) -> LayerCost | None:
    """The last convolution, or what follows it on a map of the same size: what Grad-CAM looks at.

    None for a model without a convolution whose output has a place for each part of the image.
    """
    found = None
    for layer in costs.layer_costs(checkpoint.sized_model()):
        if len(layer.output_shape) != 3 or min(layer.output_shape[:2]) < 2:
            continue
        follows = found and found.output_shape[:2] == layer.output_shape[:2]
        if layer.multiply_adds or (follows and "Pooling" not in layer.kind):
            found = layer
    return found


@contextlib.contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, the attribute of a layer is another."""
    original = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, original)


@contextlib.contextmanager
def tapped(layer: keras.layers.Layer, tap: Callable[[Any], Any]) -> Iterator[None]:
    """Within the block, what the layer gives goes through `tap`, however deep it is nested.

    Keras 3 gives no access to a nested model's tensors: a model from the outer input to an inner
    output is "not connected", on which libraries for Grad-CAM stumble too.
    """
    original = layer.call

    def call(*args, **kwargs):
        return tap(original(*args, **kwargs))

    with replaced(layer, "call", call):
        yield


class Network:
    """A checkpoint as functions of raw grey levels, compiled once, its softmax left out.

    The logarithm of a probability that has been rounded to 1 does not change with the image any
    more, and neither would its gradient; the logits before the softmax do.

    Images are float32 (n, height, width, channels), raw grey levels; targets int (n,), for each
    the output it is about. What comes back are NumPy arrays.

    losses: (images, targets) -> cross-entropy of each image in nats, float32 (n,).
    """

    def __init__(self, checkpoint: Checkpoint, images: np.ndarray) -> None:
        """images: some that it will be asked about, by which is told what its outputs are."""
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
        """Scores whose softmax are the probabilities: tensors in and out, (n, num_classes)."""
        with contextlib.ExitStack() as stack:
            for change in self._without_softmax():
                stack.enter_context(change)
            outputs = ops.cast(self._model(images, training=False), "float32")
        if self._kind == "scores":
            return outputs
        return ops.log(ops.maximum(outputs, 1e-30))  # softmax divides by the sum, as it is meant

    def input_gradient(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Of each image's loss with respect to the image: float32, in its shape."""
        return self._input_gradient(images, targets)[0]

    def layer_gradient(
        self, layer: LayerCost, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(what the layer gives, the gradient of each target's logit with respect to that).

        float32 (n, *layer.output_shape) both.
        """
        key = ("layer", layer.name)
        if key not in self._compiled:

            def scores(change, images, targets):
                found = []

                def tap(outputs):
                    found.append(outputs)
                    return outputs + ops.cast(change, outputs.dtype)

                with tapped(layer.layer, tap):
                    logits = self.logits(images)
                self._require_one_call(layer, found)
                chosen = ops.take_along_axis(logits, targets[:, None], axis=1)
                return ops.sum(chosen), ops.cast(found[0], "float32")

            self._compiled[key] = autodiff.gradient(scores)
        change = np.zeros((len(images), *layer.output_shape), np.float32)
        gradients, outputs = self._compiled[key](change, images, targets)
        return outputs, gradients

    def unit_gradient(
        self, layer: LayerCost | None, images: np.ndarray, units: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(how active each image's unit is, the gradient of that with respect to the image).

        float32 (n,) and in the shape of the images. units: int (n,), for each image a filter of
        the layer, whose activation is the mean over its map but for the rim, or without a layer an
        output of the model, whose activation is its logit.
        """
        key = ("unit", layer.name if layer else "")
        if key not in self._compiled:

            def activity(images, units):
                found = []

                def tap(outputs):
                    found.append(outputs)
                    return outputs

                if layer is None:
                    tap(self.logits(images))
                else:
                    with tapped(layer.layer, tap):
                        self.logits(images)
                self._require_one_call(layer, found)
                outputs = _inside(ops.cast(found[0], "float32"))
                means = ops.mean(outputs, axis=tuple(range(1, len(outputs.shape) - 1)))
                chosen = ops.take_along_axis(means, units[:, None], axis=1)[:, 0]
                return ops.sum(chosen), chosen

            self._compiled[key] = autodiff.gradient(activity)
        gradients, activations = self._compiled[key](images, units)
        return activations, gradients

    def _losses(self, images: Any, targets: Any) -> Any:
        log_probabilities = ops.log_softmax(self.logits(images))
        return -ops.take_along_axis(log_probabilities, targets[:, None], axis=1)[:, 0]

    def _sum_of_losses(self, images: Any, targets: Any) -> tuple[Any, Any]:
        losses = self._losses(images, targets)
        return ops.sum(losses), losses

    def _require_one_call(self, layer: LayerCost | None, found: list) -> None:
        if len(found) != 1:
            raise InputError(
                f"{self.checkpoint.path}: layer {layer.name} must be used once in the model. "
                f"Received: {len(found)} times"
            )

    def _without_softmax(self) -> list[contextlib.AbstractContextManager]:
        """What has to be changed for the model to give logits; nothing if no softmax is last."""
        if type(self._last).__name__ == "Softmax":
            return [replaced(self._last, "call", lambda inputs, *args, **kwargs: inputs)]
        if getattr(self._last, "activation", None) is keras.activations.softmax:
            return [replaced(self._last, "activation", keras.activations.linear)]
        return []


def _inside(outputs: Any) -> Any:
    """Maps (n, rows, columns, filters) without their rim, where they are large enough.

    There a filter sees the black that pads the image, and would ask for nothing but a bright edge.
    """
    if len(outputs.shape) != 4:
        return outputs
    rows, columns = (side // RIM for side in outputs.shape[1:3])
    return outputs[:, rows : outputs.shape[1] - rows, columns : outputs.shape[2] - columns]


def _output_operation(model: keras.Model) -> Any:
    """The layer or operation that gives the model's output, however deep it is nested."""
    graph = keras.Model(model.inputs, model.outputs)
    operation = graph.outputs[0]._keras_history.operation
    return _output_operation(operation) if isinstance(operation, keras.Model) else operation
