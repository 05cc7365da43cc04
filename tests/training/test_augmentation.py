"""Augmentation: every layer acts in training, not in evaluation, and stays within the bounds."""

import keras
import numpy as np
import pytest

from ferlab.errors import InputError
from ferlab.recipes import RECIPES, Recipe, settings
from ferlab.training.augmentation import LAYERS, augmentation_layers

NOTHING = RECIPES["cnn-report"].override(horizontal_flip=False, shift=0.0)
VALUES = {
    "horizontal_flip": True,
    "shift": 0.1,
    "rotation": 12.0,
    "zoom": 0.2,
    "brightness": 0.3,
    "contrast": 0.3,
    "sharpness": 0.8,
    "erasing": 0.1,
}


def only_layer(name, value):
    (layer,) = augmentation_layers(NOTHING.override(**{name: value}))
    return layer


def changed(layer, images):
    return keras.ops.convert_to_numpy(layer(images, training=True))


def test_layers_have_a_setting_each_and_an_example_here():
    assert set(LAYERS) == set(VALUES) <= set(settings(Recipe))
    assert augmentation_layers(NOTHING) == []
    every = augmentation_layers(NOTHING.override(**VALUES))
    assert len(every) == len({layer.name for layer in every}) == len(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_act_in_training_alone_and_keep_grey_levels(name):
    images = np.random.default_rng(0).uniform(0, 255, (8, 48, 48, 1)).astype("float32")
    layer = only_layer(name, VALUES[name])
    np.testing.assert_array_equal(np.asarray(layer(images, training=False)), images)
    found = changed(layer, images)
    assert found.shape == images.shape
    assert not np.allclose(found, images, atol=1)
    assert found.min() >= 0
    assert found.max() <= 255.001


@pytest.mark.parametrize("name", ["rotation", "zoom", "brightness", "contrast", "sharpness"])
def test_settings_of_layers_refuse_bad_values(name):
    for value in (-0.1, float("nan"), 181.0 if name == "rotation" else 1.0):
        with pytest.raises(InputError, match=f"--{name} must be"):
            NOTHING.override(**{name: value})


def test_erasing_is_no_larger_than_its_fraction():
    found = changed(only_layer("erasing", 0.1), np.zeros((64, 48, 48, 1), "float32"))
    areas = (found == 128).mean(axis=(1, 2, 3))
    assert 0.05 < areas.max() < 0.12
    assert set(np.unique(found)) == {0, 128}


def test_shift_stays_within_its_fraction():
    image = np.zeros((1, 48, 48, 1), "float32")
    image[0, 24, 24] = 1
    moved = changed(only_layer("shift", 0.1), np.repeat(image, 200, 0))
    rows, columns = (np.argwhere(moved > 0)[:, axis] for axis in (1, 2))
    reach = max(abs(rows - 24).max(), abs(columns - 24).max())
    assert 4 <= reach <= 5  # a tenth of 48 is 4.8, and a fraction of a pixel touches the next


def test_brightness_changes_by_at_most_its_fraction_of_the_grey_levels():
    found = changed(only_layer("brightness", 0.2), np.full((64, 8, 8, 1), 128, "float32"))
    steps = found[:, 0, 0, 0] - 128
    assert (found == found[:, :1, :1]).all()
    assert -51.1 < steps.min() < -20
    assert 20 < steps.max() < 51.1


def test_sharpness_blurs_as_often_as_it_sharpens():
    image = np.zeros((1, 9, 9, 1), "float32")
    image[0, 4, 4] = 100
    found = changed(only_layer("sharpness", 0.9), np.repeat(image, 64, 0))[:, 4, 4, 0]
    assert found.min() < 90
    assert found.max() > 110
    assert 16 < (found < 100).sum() < 48
