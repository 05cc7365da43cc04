"""Every registered model is in the table, with the parameters its source states."""

import keras
import numpy as np
import pytest

from ferlab.errors import InputError
from models import MODELS, build_model

TRAINABLE = {"cnn": 1_703_047, "dnn": 1_838_599, "resnet": 1_421_511}  # 48x48 grey, 7 classes


def test_table_is_complete():
    assert set(TRAINABLE) == set(MODELS)


@pytest.mark.parametrize("name", sorted(TRAINABLE))
def test_trainable_parameters(name):
    model = build_model(name, (48, 48, 1), 7)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == TRAINABLE[name]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_takes_raw_grey_levels_and_gives_probabilities(name):
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)
    model = build_model(name, (40, 56, 3), 4)
    assert isinstance(model.layers[1], keras.layers.Rescaling)
    probabilities = np.asarray(model(images))
    assert probabilities.shape == (5, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_cnn_is_the_reports():
    kinds = [type(layer).__name__ for layer in build_model("cnn", (48, 48, 1), 7).layers]
    block = ["Conv2D", "BatchNormalization"] * 3 + ["MaxPooling2D"]
    assert kinds == ["InputLayer", "Rescaling", *block * 3, "Flatten", *["Dense"] * 4]


def test_unknown_model_names_the_known_ones():
    with pytest.raises(InputError, match="cnn, dnn"):
        build_model("vgg", (48, 48, 1), 7)


def test_images_too_small_for_three_poolings():
    with pytest.raises(InputError, match="8x8"):
        build_model("cnn", (7, 48, 1), 7)
