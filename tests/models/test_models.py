"""Every registered model is in the table, with the parameters its source states."""

import keras
import numpy as np
import pytest

from ferlab.errors import InputError
from models import HEAD, MODELS, build_model
from models.resnet import POOLINGS, resnet

TRAINABLE = {"cnn": 1_703_047, "dnn": 1_838_599, "resnet": 1_580_327}  # 48x48 grey, 7 classes


def test_every_registered_model_is_in_the_table():
    assert set(TRAINABLE) == set(MODELS)


@pytest.mark.parametrize("name", sorted(TRAINABLE))
def test_model_has_the_parameters_that_its_source_states(name):
    model = build_model(name, (48, 48, 1), 7)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == TRAINABLE[name]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_model_takes_raw_pixels_and_gives_probabilities_in_its_head(name):
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)
    model = build_model(name, (40, 56, 3), 4)
    assert model.layers[-1].name == HEAD
    probabilities = np.asarray(model(images))
    assert probabilities.shape == (5, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_cnn_is_the_reports():
    kinds = [type(layer).__name__ for layer in build_model("cnn", (48, 48, 1), 7).layers]
    block = ["Conv2D", "BatchNormalization"] * 3 + ["MaxPooling2D"]
    assert kinds == ["InputLayer", "Rescaling", *block * 3, "Flatten", *["Dense"] * 4]


def test_resnet_with_a_strided_stem_has_no_layer_at_full_size():
    settings = {"stem_filters": 32, "stage_filters": (48, 112, 224), "stage_blocks": (0, 1, 1)}
    model = resnet((48, 48, 1), 7, stem="strided", **settings)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_weights) == 1_421_511
    sides = {layer.output.shape[1] for layer in model.layers if "conv" in layer.name}
    assert sides == {24, 12, 6}
    full = resnet((48, 48, 1), 7)
    assert {layer.output.shape[1] for layer in full.layers if "conv" in layer.name} == {48, *sides}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_resnet_pools_feature_maps(pooling):
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 1))
    model = resnet((16, 16, 1), 3, pooling=pooling)
    before, after = model.get_layer("stage3_block1_relu"), model.get_layer("features")
    maps, pooled = keras.Model(model.input, [before.output, after.output])(images)
    maps, pooled = (keras.ops.convert_to_numpy(value) for value in (maps, pooled))
    flat = maps.reshape(2, -1, maps.shape[-1])
    expected = {"average": flat.mean(axis=1), "max": flat.max(axis=1), "flatten": flat}[pooling]
    np.testing.assert_allclose(pooled, expected.reshape(2, -1), rtol=1e-5)


@pytest.mark.parametrize("setting", ["stem", "pooling"])
def test_resnet_names_the_known_settings(setting):
    with pytest.raises(InputError, match=f"{setting} must be one of .* Received: 'none'"):
        resnet((48, 48, 1), 7, **{setting: "none"})


def test_build_model_names_the_known_models():
    with pytest.raises(InputError, match=r"cnn.* dnn.*no-such-model"):
        build_model("no-such-model", (48, 48, 1), 7)


def test_cnn_refuses_images_that_are_too_small():
    with pytest.raises(InputError, match="8x8"):
        build_model("cnn", (7, 48, 1), 7)
