"""What a model costs: parameters, and multiply-adds for one image."""

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
    """A layer of a model, under every model it is nested in: name `backbone/block1_conv2`.

    kind: its class. output_shape: of one image, where it is first called. parameters: trainable
    or not, once. multiply_adds: for one image, all its calls together. inputs: the layers
    whose outputs it takes, also by way of operations such as `x + y`; none for one that takes the
    images. layer: itself.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    multiply_adds: int
    inputs: tuple[str, ...]
    layer: layers.Layer = field(repr=False, compare=False)


def layer_costs(model: keras.Model) -> list[LayerCost]:
    """Every layer that an image passes, in order, nested models expanded; inputs are left out.

    Multiply-adds are those of convolutions (transposed ones too, each input times each weight it
    meets, the cropped edge included) and dense layers, also inside TimeDistributed. Everything
    else is 0 by definition, as papers count: biases, normalisation, pooling, activations. So are
    recurrent and attention layers and any layer of another kind, whatever it holds.

    Raises InputError for a model without a graph (a subclass, or a Sequential not yet built), or
    one whose images have no fixed size.
    """
    costs: dict[int, LayerCost] = {}
    inputs = _graph(model).inputs
    _walk(model, inputs, "", costs, [()] * len(inputs))
    return list(costs.values())


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds for one image; what counts, and the errors, as in `layer_costs`."""
    return sum(cost.multiply_adds for cost in layer_costs(model))


def _graph(model: keras.Model) -> keras.Model:
    """The functional model on the same layers, uncompiled."""
    try:
        return keras.Model(model.inputs, model.outputs)
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"model {model.name}: costs are counted of functional and built Sequential models. "
            f"Received: {type(model).__name__}"
        ) from error


Names = tuple[str, ...]


def _walk(
    model: keras.Model, inputs: list, prefix: str, costs: dict[int, LayerCost], sources: list[Names]
) -> list[Names]:
    """Add a model's calls on inputs of these shapes to `costs`, by the layer's id.

    The graph is called anew, since a nested model may be called on other shapes than it was
    built on: a backbone for images of any size is. `sources` are the layers each input comes from;
    those that each output comes from are returned.
    """
    calls = []

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        tensors = keras.tree.flatten((args, kwargs))
        calls.append((layer, [x for x in tensors if keras.backend.is_keras_tensor(x)], outputs))
        return outputs

    graph = _graph(model)
    inputs = inputs[: len(graph.inputs)]  # the rest are masks and the like
    new = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
    called = keras.models.clone_model(
        graph, input_tensors=new, clone_function=lambda layer: layer, call_function=call
    )
    names = {id(tensor): source for tensor, source in zip(new, sources, strict=False)}
    order = {id(layer): index for index, layer in enumerate(graph.layers)}
    operations = {}  # such as `x + y`, which are no layers: what comes out, by what goes in
    for layer, tensors, outputs in calls:
        if id(layer) not in order:
            operations |= {id(output): tensors for output in keras.tree.flatten(outputs)}

    def came_from(tensor: keras.KerasTensor) -> Names:
        if id(tensor) in names:
            return names[id(tensor)]
        found = [name for each in operations.get(id(tensor), ()) for name in came_from(each)]
        return tuple(dict.fromkeys(found))

    calls = [call for call in calls if id(call[0]) in order]
    for layer, tensors, outputs in sorted(calls, key=lambda call: order[id(call[0])]):
        name = prefix + layer.name
        flat = keras.tree.flatten(outputs)
        taken = [came_from(tensor) for tensor in tensors]
        if isinstance(layer, keras.Model):
            given = _walk(layer, tensors, f"{name}/", costs, taken)
            names |= {id(tensor): source for tensor, source in zip(flat, given, strict=True)}
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
            inputs=tuple(dict.fromkeys([*cost.inputs, *(name for part in taken for name in part)])),
        )
    return [came_from(tensor) for tensor in called.outputs]


def _multiply_adds(layer: layers.Layer, name: str, inputs: keras.KerasTensor, shape: tuple) -> int:
    """Of one call on `inputs` that gives `shape`, which includes the batch."""
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


def _places(layer: layers.Layer, shape: tuple) -> tuple:
    """The axes along which a convolution's kernel moves."""
    return shape[2:] if layer.data_format == "channels_first" else shape[1:-1]


def _size(name: str, shape: tuple) -> int:
    if None in shape:
        raise InputError(
            f"layer {name}: multiply-adds are counted of images of a fixed size. Received: {shape}"
        )
    return math.prod(shape)
