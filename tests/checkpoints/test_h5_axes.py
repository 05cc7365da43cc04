"""Axes that Keras loses when it opens `.h5` are taken from the configuration."""

import keras
import numpy as np
import pytest

from ferlab import checkpoints

L = keras.layers
SHAPE = (6, 6, 3)


def adapted(axis):
    layer = L.Normalization(axis=axis)
    rng = np.random.default_rng(1)
    layer.adapt(rng.normal(3, rng.uniform(1, 9, SHAPE), (40, *SHAPE)).astype("float32"))
    return layer


OVER_AXES = {
    "LayerNormalization": lambda: L.LayerNormalization(axis=[1, 2, 3]),
    "without weights": lambda: L.LayerNormalization(axis=[1, 2], center=False, scale=False),
    "UnitNormalization": lambda: L.UnitNormalization(axis=[1, 2, 3]),
    "Softmax": lambda: L.Softmax(axis=[1, 2]),
    "Normalization over two axes": lambda: adapted((1, 3)),
    "Normalization of all": lambda: adapted(None),
    "one axis": lambda: L.LayerNormalization(axis=[2]),
}


def sequential(layer):
    return [keras.Sequential([keras.Input(SHAPE), layer, L.Conv2D(2, 3), L.Flatten()])]


def functional(layer):
    images = keras.Input(SHAPE)
    return [keras.Model(images, L.Conv2D(2, 3)(layer(L.Conv2D(3, 1)(images)))), L.Flatten()]


def nested(layer):
    return [keras.Sequential(functional(layer)), L.Dense(4)]


@pytest.mark.parametrize("build", [sequential, functional, nested])
@pytest.mark.parametrize("name", OVER_AXES)
def test_layer_over_several_axes_in_h5_answers_as_it_was_saved(name, build, tmp_path):
    keras.utils.set_random_seed(2)
    layers = build(OVER_AXES[name]())
    model = keras.Sequential([keras.Input(SHAPE), *layers, L.Dense(3, activation="softmax")])
    model.save(tmp_path / "theirs.h5")
    images = np.random.default_rng(0).uniform(0, 9, (5, *SHAPE)).astype("float32")
    opened = checkpoints.load(tmp_path / "theirs.h5", pixels="raw").model
    np.testing.assert_allclose(opened(images), model(images), atol=1e-6)
