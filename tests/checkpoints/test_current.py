"""Checkpoints that Keras 3 itself wrote answer as the models that were saved, in every format."""

import json

import h5py
import numpy as np
import pytest

from ferlab import checkpoints
from ferlab.backend import keras
from ferlab.errors import InputError

L, ops = keras.layers, keras.ops
IMAGES = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3)).astype("float32")


def classifier(body, shape=(8, 8, 3)) -> keras.Model:
    """A functional model: `body` of images, then a convolution and a classifier."""
    images = keras.Input(shape)
    features = L.Conv2D(4, 3, padding="same", activation="tanh")(body(images))
    outputs = L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(features))
    return keras.Model(images, outputs)


def assert_opens_as_saved(model, path):
    expected = model.predict(IMAGES, verbose=0)
    checkpoint = checkpoints.load(path)
    np.testing.assert_allclose(checkpoint.model.predict(IMAGES, verbose=0), expected, atol=1e-6)
    return checkpoint


def saved(model, folder, suffix):
    path = folder / f"model{suffix}"
    model.save(path)
    return path


OPERATIONS = {
    "x / 255": lambda x: x / 255.0,
    "x / 127.5 - 1": lambda x: x / 127.5 - 1.0,
    "1 - x": lambda x: 1.0 - x / 255,
    "numpy array": lambda x: (x - np.array([1.0, 2.0, 3.0], "float32")) / 255,
    "channels": lambda x: x[..., ::-1] / 255,
    "one channel": lambda x: x[:, :, :, 0:1] / 255,
    "rows": lambda x: x[:, 1:7, 2:] / 255,
    "mean": lambda x: x / 255 * ops.mean(x / 255, axis=-1, keepdims=True),
    "max of two axes": lambda x: x / 255 - ops.max(x / 255, axis=(1, 2), keepdims=True),
    "relu": lambda x: ops.relu(x / 255 - 0.5),
    "softmax": lambda x: ops.softmax(x / 255, axis=-1),
    "cast": lambda x: ops.cast(ops.cast(x / 100, "int32"), "float32"),
    "repeat": lambda x: ops.repeat(x[..., :1] / 255, 3, axis=-1),
    "tile": lambda x: ops.tile(x[..., :1] / 255, [1, 1, 1, 3]),
    "resize": lambda x: ops.image.resize(x / 255, (5, 7)),
    "grey": lambda x: ops.image.rgb_to_grayscale(x / 255),
    "concatenate": lambda x: ops.concatenate([x / 255, 1 - x / 255], axis=-1),
    "maximum": lambda x: ops.maximum(x / 255, 0.5),
    "clip": lambda x: ops.clip(x / 255, 0.2, 0.8),
    "power": lambda x: (x / 255) ** 2,
    "reshape": lambda x: ops.reshape(x / 255, (-1, 4, 16, 3)),
    "transpose": lambda x: ops.transpose(x / 255, (0, 2, 1, 3)),
    "add": lambda x: ops.add(x / 255, x / 127.5),
    "layer of that name": lambda x: L.Add()([x / 255, x / 127.5]),
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_open_with_their_constants(operation, suffix, tmp_path):
    model = classifier(OPERATIONS[operation])
    assert_opens_as_saved(model, saved(model, tmp_path, suffix))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_operations_in_a_nested_model(suffix, tmp_path):
    inner = keras.Input((8, 8, 3))
    scaled = keras.Model(inner, inner / 255.0 - 0.5, name="scaled")
    model = classifier(lambda x: ops.relu(scaled(x)))
    assert_opens_as_saved(model, saved(model, tmp_path, suffix))


LAYERS = {
    "axes of LayerNormalization": lambda: L.LayerNormalization(axis=[1, 2, 3]),
    "axes of UnitNormalization": lambda: L.UnitNormalization(axis=[1, 2, 3]),
    "axes of Softmax": lambda: L.Softmax(axis=[1, 2]),
    "no axis": lambda: L.Normalization(axis=None, mean=120.0, variance=900.0),
    "Normalization": lambda: L.Normalization(mean=[1.0, 2, 3], variance=[4.0, 5, 6]),
    "wrapped": lambda: L.TimeDistributed(L.Dense(3)),
    "regularized": lambda: L.Conv2D(3, 1, kernel_regularizer="l2", kernel_constraint="max_norm"),
    "Activation": lambda: L.Activation("hard_sigmoid"),
    "LeakyReLU": lambda: L.LeakyReLU(0.1),
    "PReLU": lambda: L.PReLU(shared_axes=[1, 2]),
    "BatchNormalization": lambda: L.BatchNormalization(),
    "attention": lambda: L.MultiHeadAttention(2, 3, attention_axes=(1, 2)),
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_open_with_their_settings(name, suffix, tmp_path):
    layer = LAYERS[name]()
    body = (lambda x: layer(x, x)) if name == "attention" else layer
    model = classifier(body)
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    assert_opens_as_saved(model, saved(model, tmp_path, suffix))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_adapted_normalization(suffix, tmp_path):
    layer = L.Normalization()
    layer.adapt(IMAGES)
    model = classifier(layer)
    assert_opens_as_saved(model, saved(model, tmp_path, suffix))


INITIALIZERS = [name for name in dir(keras.initializers) if name.startswith("Random")]


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_random_initializers_are_no_random_layers(name, suffix, tmp_path):
    initializer = getattr(keras.initializers, name)
    first = L.Conv2D(2, 3, kernel_initializer=initializer(), bias_initializer=initializer(seed=3))
    model = classifier(lambda x: L.SeparableConv2D(2, 3, depthwise_initializer=name)(first(x)))
    assert_opens_as_saved(model, saved(model, tmp_path, suffix))


def random_layers(x):
    for layer in (
        L.RandomFlip("horizontal"),
        L.RandomRotation(0.1),
        L.RandomZoom(0.1),
        L.RandomTranslation(0.1, 0.1),
        L.RandomContrast(0.1),
        L.RandomBrightness(0.1),
        L.GaussianNoise(0.1),
    ):
        x = layer(x)
    return x


def test_random_layers_do_nothing_in_prediction(tmp_path):
    model = classifier(random_layers)
    assert_opens_as_saved(model, saved(model, tmp_path, ".keras"))


def application_layers(name):
    from keras.src.applications import convnext, inception_resnet_v2

    return {
        "LayerScale": lambda: convnext.LayerScale(0.3, 3),
        "StochasticDepth": lambda: convnext.StochasticDepth(0.2),
        "CustomScaleLayer": lambda: inception_resnet_v2.CustomScaleLayer(0.2),
    }[name]()


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", ["LayerScale", "StochasticDepth", "CustomScaleLayer"])
def test_layers_of_keras_applications_open(name, suffix, tmp_path):
    layer = application_layers(name)
    body = (lambda x: layer([x, x])) if name == "CustomScaleLayer" else layer
    model = classifier(lambda x: body(x / 255))
    assert_opens_as_saved(model, saved(model, tmp_path, suffix))


# Weights alone, beside the text of to_json().


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Rescaling(1 / 255),
            L.Conv2D(4, 3),
            L.GlobalAveragePooling2D(),
            L.Dense(8, activation="hard_sigmoid"),
            L.Dense(5, activation="softmax", kernel_initializer="random_normal"),
        ]
    )


def nested():
    inner = keras.Input((8, 8, 3))
    backbone = keras.Model(inner, L.Conv2D(3, 3)(inner / 255), name="backbone")
    return classifier(lambda x: backbone(x))


ARCHITECTURES = {
    "functional": lambda: classifier(lambda x: L.Conv2D(2, 3)(x / 255)),
    "sequential": sequential,
    "nested": nested,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_beside_to_json(name, tmp_path):
    model = ARCHITECTURES[name]()
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.json").write_text(model.to_json())
    checkpoint = assert_opens_as_saved(model, tmp_path / "m.weights.h5")
    assert checkpoint.vintage == "Keras 3"
    (tmp_path / "m.json").rename(tmp_path / "other.txt")
    opened = checkpoints.load(tmp_path / "m.weights.h5", architecture=tmp_path / "other.txt")
    assert opened.vintage == "Keras 3"


def test_architecture_among_many_other_json_files(tmp_path):
    model = sequential()
    model.save_weights(tmp_path / "z.weights.h5")
    for index in range(300):
        (tmp_path / f"annotation_{index}.json").write_text('{"boxes": []}')
    (tmp_path / "z.json").write_text(model.to_json())
    assert_opens_as_saved(model, tmp_path / "z.weights.h5")


# True reasons.


def test_failing_layer_and_its_reason_are_named(tmp_path):
    path = saved(sequential(), tmp_path, ".h5")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][2]["config"] |= {"name": "eyes", "strides": [-1, 1]}
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(InputError) as caught:
        checkpoints.load(path)
    assert "'eyes' (Conv2D)" in str(caught.value)
    assert "strides" in str(caught.value)


def test_weights_of_another_shape_name_their_layer(tmp_path):
    sequential().save_weights(tmp_path / "m.weights.h5")
    config = json.loads(sequential().to_json())
    config["config"]["layers"][2]["config"] |= {"name": "eyes", "kernel_size": [2, 2]}
    (tmp_path / "m.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as caught:
        checkpoints.load(tmp_path / "m.weights.h5")
    assert "'eyes' (Conv2D)" in str(caught.value)
    assert "\n" not in str(caught.value)
