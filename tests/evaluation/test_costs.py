"""Parameters and multiply-adds, compared with independent counts."""

import keras
import numpy as np
import pytest
from keras import layers

from ferlab.errors import InputError
from ferlab.evaluation.costs import LayerCost, layer_costs, multiply_adds
from models import build_model

LINEAR = {  # by the shape of one input
    "Conv1D": ((9, 3), layers.Conv1D(4, 3, dilation_rate=2)),
    "Conv2D": ((9, 11, 6), layers.Conv2D(4, (3, 5), strides=2)),
    "Conv2D groups": ((9, 9, 6), layers.Conv2D(4, 3, groups=2)),
    "Conv3D": ((5, 6, 7, 2), layers.Conv3D(3, 2)),
    "DepthwiseConv1D": ((9, 3), layers.DepthwiseConv1D(4)),
    "DepthwiseConv2D": ((9, 9, 3), layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2)),
    "Conv1DTranspose": ((5, 2), layers.Conv1DTranspose(3, 4, strides=2)),
    "Conv2DTranspose": ((5, 4, 2), layers.Conv2DTranspose(3, 3, strides=2)),
    "Conv3DTranspose": ((3, 4, 3, 2), layers.Conv3DTranspose(3, 2)),
    "Dense": ((6,), layers.Dense(4)),
    "Dense on 3 axes": ((5, 4, 6), layers.Dense(3)),
    "TimeDistributed": ((5, 7, 7, 2), layers.TimeDistributed(layers.Conv2D(3, 3))),
    "no weights": ((4, 4, 2), layers.AveragePooling2D(2)),
}


def sequential(shape, *stack, **options):
    return keras.Sequential([keras.Input(shape), *stack], **options)


@pytest.mark.parametrize("name", LINEAR)
def test_multiply_adds_equal_the_sum_of_outputs_with_inputs_and_weights_of_1(name):
    # With inputs and weights of 1 and no bias, each multiply-add puts 1 into the sum of outputs.
    shape, layer = LINEAR[name]
    model = sequential(shape, layer)
    model.set_weights([np.full(w.shape, float(w.ndim > 1)) for w in model.get_weights()])
    outputs = keras.ops.convert_to_numpy(model(np.ones((1, *shape))))
    total = outputs.sum() if model.weights else 0
    assert multiply_adds(model) == total


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((7, 9, 3), layers.Conv2D(8, 3, strides=2, padding="same"), 4 * 5 * 9 * 3 * 8),
        (
            (3, 7, 9),
            layers.Conv2D(8, 3, padding="same", data_format="channels_first"),
            7 * 9 * 27 * 8,
        ),
        ((9, 9, 4), layers.SeparableConv2D(6, 3, strides=2), 4 * 4 * (9 * 4 + 4 * 6)),
        (
            (9, 4),
            layers.SeparableConv1D(6, 3, padding="same", depth_multiplier=2),
            9 * (3 * 8 + 8 * 6),
        ),
        ((5, 5, 2), layers.Conv2DTranspose(3, 4, strides=2, padding="same"), 25 * 16 * 2 * 3),
        ((5, 6), layers.Bidirectional(layers.LSTM(4)), 0),
    ],
)
def test_layer_costs_equal_a_manual_calculation(shape, layer, expected):
    # Called symbolically, as no CPU kernel of TensorFlow runs with the channels first.
    images = keras.Input(shape)
    (cost,) = layer_costs(keras.Model(images, layer(images)))
    assert (cost.multiply_adds, cost.parameters) == (expected, layer.count_params())


def test_multiply_adds_of_the_networks_of_the_course_report():
    cnn, dnn = (build_model(name, (48, 48, 1), 7) for name in ("cnn", "dnn"))
    convolutions = 9 * (
        48 * 48 * (1 * 32 + 2 * 32 * 32)
        + 24 * 24 * (32 * 64 + 2 * 64 * 64)
        + 12 * 12 * (64 * 128 + 2 * 128 * 128)
    )
    dense = 6 * 6 * 128 * 256 + 256 * 128 + 128 * 64 + 64 * 7
    assert multiply_adds(cnn) == convolutions + dense == 150_520_256
    biases = 3 * 512 + 256 + 7
    assert multiply_adds(dnn) == dnn.count_params() - biases


@pytest.mark.parametrize(
    ("name", "count"), [("MobileNetV2", 300_774_272), ("ResNet50", 3857973248)]
)
def test_layer_costs_of_well_known_networks(name, count):
    # Half of what TensorFlow's profiler counts for their Conv2D, DepthwiseConv2dNative and MatMul.
    model = getattr(keras.applications, name)(weights=None)
    costs = layer_costs(model)
    assert sum(cost.multiply_adds for cost in costs) == count
    assert sum(cost.parameters for cost in costs) == model.count_params()
    assert [cost.name for cost in costs] == [layer.name for layer in model.layers[1:]]


def test_layer_costs_has_a_row_for_each_layer():
    model = build_model("cnn", (48, 48, 1), 7)
    costs = layer_costs(model)
    assert costs[:3] == [
        LayerCost("rescale", "Rescaling", (48, 48, 1), 0, 0, (), None),
        LayerCost(
            "block1_conv1", "Conv2D", (48, 48, 32), 320, 48 * 48 * 9 * 32, ("rescale",), None
        ),
        LayerCost(
            "block1_norm1", "BatchNormalization", (48, 48, 32), 128, 0, ("block1_conv1",), None
        ),
    ]
    assert sum(cost.parameters for cost in costs) == model.count_params()


def test_layer_costs_of_nested_models_use_the_shapes_of_their_calls():
    head = sequential((8,), layers.Dense(3, name="dense"), name="head")
    pixels = keras.Input((None, None, 1))
    features = layers.Conv2D(8, 3, name="conv")(pixels)
    pooled = layers.GlobalAveragePooling2D(name="pool")(features)
    body = keras.Model(pixels, head(pooled), name="body")
    images = keras.Input((12, 10, 1))
    model = keras.Model(images, layers.Softmax(name="softmax")(body(images)))
    assert [(cost.name, cost.output_shape, cost.multiply_adds) for cost in layer_costs(model)] == [
        ("body/conv", (10, 8, 8), 10 * 8 * 9 * 8),
        ("body/pool", (8,), 0),
        ("body/head/dense", (3,), 24),
        ("softmax", (3,), 0),
    ]


def test_layer_costs_count_parameters_of_a_shared_layer_once():
    shared, images = layers.Conv2D(2, 3, name="shared"), keras.Input((9, 9, 2))
    twice = shared(shared(images)) + 1.0
    (cost,) = layer_costs(keras.Model(images, twice))
    assert (cost.output_shape, cost.parameters) == ((7, 7, 2), 38)
    assert cost.multiply_adds == (49 + 25) * 9 * 2 * 2


def test_multiply_adds_count_every_call_of_a_nested_model():
    body = sequential((6,), layers.Dense(6), layers.Dense(6), name="body")
    images = keras.Input((6,))
    model = keras.Model(images, body(inputs=body(images)))
    assert multiply_adds(model) == 2 * 72
    assert sum(cost.parameters for cost in layer_costs(model)) == model.count_params() == 84
    assert multiply_adds(sequential((5, 6), layers.TimeDistributed(body))) == 5 * 72


def test_multiply_adds_ignore_calls_in_other_models():
    conv, images = layers.Conv2D(2, 3), keras.Input((9, 9, 1))
    model = keras.Model(images, conv(images))
    keras.Model(images, conv(layers.ZeroPadding2D(5)(images)))
    before = model.to_json()
    assert multiply_adds(model) == multiply_adds(model) == 49 * 9 * 2
    assert model.to_json() == before


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (lambda: keras.Sequential([layers.Dense(3)]), "built Sequential model"),
        (type("Mine", (keras.Model,), {}), "Received: Mine"),
        (lambda: sequential((None, 8, 1), layers.Conv2D(2, 3, name="conv")), "layer conv: .*fixed"),
    ],
)
def test_layer_costs_on_bad_input(model, rule):
    with pytest.raises(InputError, match=rule):
        layer_costs(model())
