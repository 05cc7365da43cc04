"""The cost of a model: parameters, and multiply-adds for one image."""

import itertools
import math
from dataclasses import dataclass, field, replace

from ferlab.backend import keras
from ferlab.errors import InputError

layers = keras.layers
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


@dataclass(frozen=True)
class LayerCost:
    """A layer of a model; the name includes the models that it is nested in: `backbone/conv2`.

    kind: its class. output_shape: for one image, at the first call. parameters: trainable or not,
    counted once. multiply_adds: for one image, over all calls. inputs: names of the layers whose
    outputs it takes, also through operations such as `x + y`; empty if it takes the images.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    multiply_adds: int
    inputs: tuple[str, ...]
    layer: keras.layers.Layer = field(repr=False, compare=False)


def layer_costs(model: keras.Model) -> list[LayerCost]:
    """The layers between images and outputs, in order; nested models are expanded.

    Multiply-adds are counted for convolutions (for transposed ones each input times each of its
    weights, cropped edges included) and dense layers, also inside TimeDistributed. By convention
    everything else counts 0: biases, normalization, pooling, activations; and so do recurrent,
    attention and custom layers.

    Raises InputError for a model without a graph (a subclass, or a Sequential not yet built) and
    for one without a fixed image size.
    """
    costs: dict[int, LayerCost] = {}
    inputs = _graph(model).inputs
    _walk(model, inputs, "", costs, [()] * len(inputs))
    return list(costs.values())


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds for one image, counted as in `layer_costs`, which raises the same errors."""
    return sum(cost.multiply_adds for cost in layer_costs(model))


def _graph(model: keras.Model) -> keras.Model:
    """The functional model on the same layers, uncompiled."""
    try:
        return keras.Model(model.inputs, model.outputs)
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"model {model.name}: costs require a functional or a built Sequential model. "
            f"Received: {type(model).__name__}"
        ) from error


Names = tuple[str, ...]


def _walk(
    model: keras.Model, inputs: list, prefix: str, costs: dict[int, LayerCost], sources: list[Names]
) -> list[Names]:
    """Add the layers of a model, called on inputs of these shapes, to `costs`, by layer id.

    The graph is called again because a nested model may be called on other shapes than it was
    built with, such as a backbone for images of any size. sources: the names of the layers that
    each input comes from. Returns the names of the layers that each output comes from.
    """
    calls = []

    def call(layer: keras.layers.Layer, *args: object, **kwargs: object) -> object:
        outputs = layer(*args, **kwargs)
        tensors = keras.tree.flatten((args, kwargs))
        calls.append((layer, [x for x in tensors if keras.backend.is_keras_tensor(x)], outputs))
        return outputs

    graph = _graph(model)
    inputs = inputs[: len(graph.inputs)]  # the rest are masks and the like
    new = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
    clone = keras.models.clone_model(
        graph, input_tensors=new, clone_function=lambda layer: layer, call_function=call
    )
    names = {id(tensor): source for tensor, source in zip(new, sources, strict=False)}
    order = {id(layer): index for index, layer in enumerate(graph.layers)}
    # Inputs of operations such as `x + y`, which are not layers, by the id of the output.
    operations: dict[int, list] = {}
    for layer, tensors, outputs in calls:
        if id(layer) not in order:
            operations |= {id(output): tensors for output in keras.tree.flatten(outputs)}

    def source_names(tensor: keras.KerasTensor) -> Names:
        if id(tensor) in names:
            return names[id(tensor)]
        operands = operations.get(id(tensor), [])
        return tuple(dict.fromkeys(name for each in operands for name in source_names(each)))

    calls = [call for call in calls if id(call[0]) in order]
    for layer, tensors, outputs in sorted(calls, key=lambda call: order[id(call[0])]):
        name = prefix + layer.name
        flat = keras.tree.flatten(outputs)
        input_names = [source_names(tensor) for tensor in tensors]
        if isinstance(layer, keras.Model):
            output_names = _walk(layer, tensors, f"{name}/", costs, input_names)
            names |= {id(tensor): source for tensor, source in zip(flat, output_names, strict=True)}
            continue
        names |= {id(tensor): (name,) for tensor in flat}
        shape = flat[0].shape
        cost = costs.get(id(layer)) or LayerCost(
            name, type(layer).__name__, shape[1:], layer.count_params(), 0, (), layer
        )
        count = _multiply_adds(layer, name, tensors[0], shape)
        costs[id(layer)] = replace(
            cost,
            multiply_adds=cost.multiply_adds + count,
            inputs=tuple(dict.fromkeys([*cost.inputs, *itertools.chain(*input_names)])),
        )
    return [source_names(tensor) for tensor in clone.outputs]


def _multiply_adds(
    layer: keras.layers.Layer, name: str, inputs: keras.KerasTensor, shape: tuple
) -> int:
    """Multiply-adds of one call with outputs of `shape`, which includes the batch."""
    if isinstance(layer, layers.TimeDistributed):
        step = keras.KerasTensor((inputs.shape[0], *inputs.shape[2:]), inputs.dtype)
        if isinstance(layer.layer, keras.Model):
            costs: dict[int, LayerCost] = {}
            _walk(layer.layer, [step], f"{name}/", costs, [()])
            count = sum(cost.multiply_adds for cost in costs.values())
        else:
            count = _multiply_adds(layer.layer, name, step, (shape[0], *shape[2:]))
        return count and count * _size(name, shape[1:2])
    if isinstance(layer, layers.Dense):
        return _size(name, shape[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, TRANSPOSED):
        return _size(name, _places(layer, inputs.shape)) * math.prod(layer.kernel.shape)
    if isinstance(layer, CONVOLUTIONS + DEPTHWISE):
        return _size(name, _places(layer, shape)) * math.prod(layer.kernel.shape)
    if isinstance(layer, SEPARABLE):
        weights = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return _size(name, _places(layer, shape)) * weights
    return 0


def _places(layer: keras.layers.Layer, shape: tuple) -> tuple:
    """The sizes of the axes along which a convolution's kernel moves."""
    return shape[2:] if layer.data_format == "channels_first" else shape[1:-1]


def _size(name: str, shape: tuple) -> int:
    if None in shape:
        raise InputError(
            f"layer {name}: multiply-adds require a fixed image size. Received: {shape}"
        )
    return math.prod(shape)
