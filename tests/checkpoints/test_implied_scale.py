"""The pixel scale follows from what a graph does to images, however it is written."""

import keras
import numpy as np
import pytest

from ferlab import checkpoints
from ferlab.checkpoints.implied_scale import implied_scale

L, ops = keras.layers, keras.ops
MEANS, DEVIATIONS = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def network(prepare, channels=1, *, first=None, dtype="float32", side=12):
    """A classifier on what `prepare` makes of its images."""
    images = keras.Input((side, side, channels), dtype=dtype)
    x = prepare(images)
    x = (first or L.Conv2D(2, 3))(x)
    return keras.Model(images, L.Dense(3, activation="softmax")(L.Flatten()(x)))


def scale_of(model):
    return implied_scale(
        model, (*[side or 12 for side in model.input_shape[1:3]], model.input_shape[-1])
    )


def nested(*layers, channels=1):
    images = keras.Input((12, 12, channels))
    x = images
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x)


def adapted(mean, variance, **settings):
    layer = L.Normalization(**settings)
    layer.build((None, 12, 12, 1))
    layer.adapt_mean.assign(np.broadcast_to(np.float32(mean), layer.adapt_mean.shape))
    layer.adapt_variance.assign(np.broadcast_to(np.float32(variance), layer.adapt_variance.shape))
    layer.finalize_state()
    return layer


def concatenated(x):
    return L.Concatenate()([x, x, x])


RAW = {
    "x / 255": (lambda x: x / 255.0, 1),
    "x * (1 / 255)": (lambda x: ops.multiply(x, 1 / 255), 1),
    "x / 127.5 - 1": (lambda x: x / 127.5 - 1, 1),
    "x / 255 - 0.5": (lambda x: x / 255 - 0.5, 3),
    "x - 127.5": (lambda x: x - 127.5, 1),
    "1 - x / 255": (lambda x: 1 - x / 255, 1),
    "255 - x": (lambda x: 255.0 - x, 1),
    "a layer": (L.Rescaling(1 / 255), 1),
    "a layer with an offset": (L.Rescaling(1 / 127.5, -1), 3),
    "an odd factor": (L.Rescaling(1 / 2550), 1),
    "caffe": (keras.applications.resnet50.preprocess_input, 3),
    "tf": (keras.applications.mobilenet_v2.preprocess_input, 3),
    "torch": (keras.applications.densenet.preprocess_input, 3),
    "torch, padded": (
        lambda x: L.ZeroPadding2D(3)(keras.applications.densenet.preprocess_input(x)),
        3,
    ),
    "by lists": (lambda x: (x / 255 - np.float32(MEANS)) / np.float32(DEVIATIONS), 3),
    "cast": (lambda x: ops.cast(x, "float32") / 255, 1),
    "grey levels": (lambda x: ops.cast(ops.cast(x, "uint8"), "float32"), 1),
    "grey to colour": (lambda x: concatenated(x) / 255, 1),
    "colour to grey": (lambda x: ops.image.rgb_to_grayscale(x) / 255, 3),
    "repeated": (lambda x: ops.repeat(x / 255, 3, axis=-1), 1),
    "resized": (lambda x: ops.image.resize(x, (9, 9)) / 255, 1),
    "flipped channels": (lambda x: ops.flip(x, axis=-1) / 255, 3),
    "behind a concatenation": (lambda x: L.Rescaling(1 / 255)(concatenated(x)), 1),
    "behind dropout": (lambda x: L.Rescaling(1 / 255)(L.Dropout(0.5)(x)), 1),
    "behind noise": (lambda x: L.Rescaling(1 / 255)(L.GaussianNoise(0.5)(x)), 1),
    "behind identity": (lambda x: L.Identity()(x) / 255, 1),
    "behind random layers": (
        lambda x: L.RandomContrast(0.2)(L.RandomBrightness(0.5)(L.RandomRotation(0.2)(x))) / 255,
        1,
    ),
    "behind padding": (lambda x: L.Cropping2D(1)(L.ZeroPadding2D(1)(x)) / 255, 1),
    "behind an activation": (lambda x: L.Activation("relu")(x) / 255, 1),
    "behind pooling": (lambda x: L.AveragePooling2D(2)(x) / 255, 1),
    "by a nested model": (nested(L.RandomFlip(), L.Rescaling(1 / 255)), 1),
    "in a model in a model": (nested(nested(L.Identity(), L.Rescaling(1 / 255))), 1),
    "in a Sequential": (
        keras.Sequential([keras.Input((12, 12, 1)), L.Dropout(0.1), L.Rescaling(1 / 255)]),
        1,
    ),
    "before a nested model": (lambda x: nested(L.Conv2D(2, 3))(x / 255), 1),
    "in one of two branches": (
        lambda x: L.Add()([L.Conv2D(2, 3)(x / 255), L.Conv2D(2, 3)(L.Rescaling(1 / 127.5, -1)(x))]),
        1,
    ),
    "standardized for each image": (lambda x: L.LayerNormalization(axis=[1, 2, 3])(x), 1),
    "standardized by operations": (
        lambda x: (x - ops.mean(x, (1, 2, 3), True)) / (ops.std(x, (1, 2, 3), True) + 1e-5),
        1,
    ),
    "divided by the largest": (lambda x: x / (ops.max(x, (1, 2, 3), True) + 1e-5), 1),
    "adapted": (adapted(127, 4000), 1),
    "adapted to dark images": (adapted(40, 900), 1),
    "adapted, one mean": (adapted(127, 4000, axis=None), 1),
    "clipped": (lambda x: ops.clip(x, 0, 255) / 255, 1),
}
OTHERS = {
    "x * 2 - 1": (lambda x: x * 2 - 1, 1, "unit"),
    "x - 0.5": (L.Rescaling(1.0, -0.5), 1, "unit"),
    "x * 255": (L.Rescaling(255.0), 1, "unit"),
    "x * 255, then caffe": (
        lambda x: keras.applications.resnet50.preprocess_input(x * 255.0),
        3,
        "unit",
    ),
    "means and deviations": (lambda x: (x - np.float32(MEANS)) / np.float32(DEVIATIONS), 3, "unit"),
    "1 - x": (lambda x: 1.0 - x, 1, "unit"),
    "clipped to 1": (lambda x: ops.clip(x, 0, 1), 1, "unit"),
    "adapted to x / 255": (adapted(0.5, 0.06), 1, "unit"),
    "(x + 1) / 2": (lambda x: (x + 1) / 2, 1, "symmetric"),
    "(x + 1) * 127.5": (lambda x: (x + 1) * 127.5, 1, "symmetric"),
    "adapted to x / 127.5 - 1": (adapted(0.0, 0.25), 1, "symmetric"),
    "adapted to standardized images": (adapted(0.0, 1.1), 1, "standardized"),
    "nothing": (lambda x: x, 1, None),
    "nothing but geometry": (lambda x: L.Resizing(9, 9)(L.RandomFlip()(x)), 1, None),
    "nothing but channels": (concatenated, 1, None),
    "not adapted": (L.Normalization(), 1, None),
    "different things": (
        lambda x: L.Add()([L.Conv2D(2, 3)(x / 255), L.Conv2D(2, 3)(x * 2 - 1)]),
        1,
        None,
    ),
    "an attention": (
        lambda x: L.Multiply()(
            [x, L.Dense(1, activation="sigmoid")(L.GlobalAveragePooling2D()(x))]
        ),
        1,
        None,
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_scale_of_a_model_that_scales_grey_levels_itself(name):
    prepare, channels = RAW[name]
    assert scale_of(network(prepare, channels)) == "raw"


@pytest.mark.parametrize("name", OTHERS)
def test_scale_of_a_model_that_expects_another_one_or_does_not_tell(name):
    prepare, channels, expected = OTHERS[name]
    assert scale_of(network(prepare, channels)) == expected


def test_scale_of_a_model_of_integers():
    assert scale_of(network(lambda x: ops.cast(x, "float32"), dtype="uint8")) == "raw"


@pytest.mark.parametrize(
    ("mean", "variance", "channels", "expected"),
    [
        (0.51, 0.065, 1, "unit"),
        (129, 4200, 1, "raw"),
        (60, 1500, 3, "raw"),
        (0.02, 0.26, 1, "symmetric"),
        (0.2, 0.05, 1, "unit"),
        (0.01, 0.98, 1, None),  # standardized images, or few steps of any
        (0.3, 0.4, 1, None),  # a hundred steps of x / 255
        ([-5, 10, 3], [4300, 3900, 4000], 3, "caffe"),
        (0, 1, 1, None),  # not trained
    ],
)
def test_scale_by_the_statistics_of_a_batch_normalization(mean, variance, channels, expected):
    normalization = L.BatchNormalization()
    model = network(lambda x: normalization(L.Dropout(0.1)(x)), channels)
    normalization.moving_mean.assign(np.broadcast_to(np.float32(mean), (channels,)))
    normalization.moving_variance.assign(np.broadcast_to(np.float32(variance), (channels,)))
    assert scale_of(model) == expected


@pytest.mark.parametrize(("grey", "expected"), [(1, None), (2, None), (255, "raw")])
def test_scale_by_the_statistics_behind_a_convolution(grey, expected):
    rng = np.random.default_rng(0)
    convolution, normalization = L.Conv2D(8, 3, activation="relu"), L.BatchNormalization()
    model = network(lambda x: normalization(convolution(x)))
    smooth = rng.uniform(size=(40, 4, 4, 1)).repeat(3, 1).repeat(3, 2).astype("float32")
    activations = np.asarray(convolution(grey * smooth))
    normalization.moving_mean.assign(activations.mean((0, 1, 2)))
    normalization.moving_variance.assign(activations.var((0, 1, 2)) + 1e-6)
    assert scale_of(model) == expected


def test_scale_of_a_graph_that_cannot_be_run_by_parts():
    def fails(x):
        raise RuntimeError

    model = network(L.Rescaling(1 / 255))
    model.layers[1].call = fails
    assert scale_of(model) is None


def test_load_uses_the_implied_scale_and_says_when_there_is_none(tmp_path):
    network(lambda x: x / 255.0).save(tmp_path / "implied.keras")
    network(lambda x: x).save(tmp_path / "unknown.keras")
    implied = checkpoints.load(tmp_path / "implied.keras")
    assert (implied.pixels, implied.pixels_note) == ("raw", None)
    unknown = checkpoints.load(tmp_path / "unknown.keras")
    assert unknown.pixels == "unit"
    assert f"inspect {tmp_path / 'unknown.keras'} --data" in unknown.pixels_note
    assert checkpoints.load(tmp_path / "unknown.keras", pixels="symmetric").pixels_note is None
