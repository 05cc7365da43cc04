"""Gradient ascent towards filters and classes whose maximum is known."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from ferlab import interpretation
from ferlab.checkpoints import Checkpoint
from ferlab.errors import InputError
from ferlab.interpretation import activation_maximization
from ferlab.interpretation.network import Network, first_convolution

SIDE = 12


def filter_model():
    """Filters: vertical edges, brightness above a threshold, an always inactive one, brightness."""
    images = keras.Input((SIDE, SIDE, 1))
    scaled = layers.Rescaling(1 / 255)(images)
    maps = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(scaled)
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(images, outputs)
    edge = np.array([[-1.0, 0, 1.0]] * 3)
    kernels = np.stack([edge, np.full((3, 3), 1 / 3), np.ones((3, 3)), np.ones((3, 3))], -1)
    model.get_layer("conv").set_weights([kernels[:, :, None], np.array([0, -2.6, -100, 0])])
    model.layers[-1].set_weights(
        [np.array([[0, 0], [0, 0], [0, 0], [2.0, -2.0]]), np.array([-3, 3])]
    )
    return Checkpoint(Path("model.h5"), model, ("bright", "dark"), "raw")


def test_maximize_finds_the_pattern_of_each_filter():
    checkpoint = filter_model()
    layer = first_convolution(checkpoint)
    assert layer.name == "conv"
    done = []
    ascent = interpretation.maximize(
        checkpoint, layer, np.arange(4), progress=lambda *step: done.append(step)
    )
    assert ascent.images.shape == (4, SIDE, SIDE, 1)
    assert ascent.images.min() >= 0
    assert ascent.images.max() <= 255
    assert done[0] == (1, 128)
    assert done[-1] == (128, 128)
    assert ascent.dead.tolist() == [False, False, True, False]
    assert ascent.images[1].mean() > 220  # noise around mid-grey never reaches its threshold
    edge = ascent.images[0, 2:-2, 2:-2, 0]
    assert np.abs(np.diff(edge, axis=1)).mean() > 3 * np.abs(np.diff(edge, axis=0)).mean()
    network = Network(checkpoint, ascent.images)
    activations, _ = network.unit_gradient(layer, ascent.images, np.arange(4))
    np.testing.assert_allclose(activations, ascent.activations, rtol=1e-5)
    noise = np.random.default_rng(0).normal(127, 80, ascent.images.shape).clip(0, 255)
    before, _ = network.unit_gradient(layer, noise.astype("float32"), np.arange(4))
    assert ascent.activations[0] > 2 * before[0]


def test_maximize_for_a_class_gives_an_image_predicted_as_it():
    checkpoint = filter_model()
    ascent = interpretation.maximize(checkpoint, None, np.arange(2))
    probabilities = checkpoint.model.predict(ascent.images, verbose=0)
    assert (np.diag(probabilities) > 0.9).all()
    assert ascent.images[0].mean() > 200 > 50 > ascent.images[1].mean()


def test_maximize_depends_on_the_seed_and_not_on_the_batch(monkeypatch):
    checkpoint = filter_model()
    layer = first_convolution(checkpoint)
    first = interpretation.maximize(checkpoint, layer, np.arange(4), steps=8, seed=1)
    again = interpretation.maximize(checkpoint, layer, np.arange(4), steps=8, seed=1)
    other = interpretation.maximize(checkpoint, layer, np.arange(4), steps=8, seed=2)
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    monkeypatch.setattr(activation_maximization, "BATCH_PIXELS", 3 * SIDE * SIDE)
    parts = interpretation.maximize(checkpoint, layer, np.arange(4))
    assert parts.dead.tolist() == [False, False, True, False]


def test_select_target_by_layer_and_by_class(monkeypatch):
    checkpoint, notes = filter_model(), []
    first = interpretation.select_target(checkpoint, report=notes.append)
    assert (first.layer.name, first.name) == ("conv", "conv")
    assert first.units.tolist() == [0, 1, 2, 3]
    dark = interpretation.select_target(checkpoint, output="dark", report=notes.append)
    assert (dark.layer, dark.units.tolist(), dark.names) == (None, [1], ("dark",))
    both = interpretation.select_target(checkpoint, output="all", report=notes.append)
    assert (both.units.tolist(), both.names) == ([0, 1], ("bright", "dark"))
    assert not notes
    monkeypatch.setattr(activation_maximization, "MAX_UNITS", 3)
    limited = interpretation.select_target(checkpoint, layer="conv", report=notes.append)
    assert limited.names == ("0", "1", "2")
    assert len(notes) == 1


@pytest.mark.parametrize("wrong", [{"layer": "block9"}, {"output": "joy"}])
def test_select_target_on_bad_input(wrong):
    (name,) = wrong.values()
    with pytest.raises(InputError, match=name):
        interpretation.select_target(filter_model(), **wrong, report=print)
