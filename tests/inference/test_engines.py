"""Inference engines: the same probabilities as Keras, or an error of one line."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from support import call, faces, fails, run

from ferlab import checkpoints, data, inference
from ferlab.checkpoints import Checkpoint, TrainingRecord
from ferlab.errors import InputError
from ferlab.inference import engines, matching
from ferlab.labels import EMOTIONS
from models import MODELS, build_model

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def opened(model, *, pixels="raw", class_names=EMOTIONS):
    """A checkpoint of a model whose weights and running means are all random."""
    generator = np.random.default_rng(0)
    for variable in model.weights:
        if "seed" in variable.path:
            continue
        positive = variable.path.endswith(("variance", "gamma"))
        low, high = (0.5, 1.5) if positive else (-0.1, 0.1)
        variable.assign(generator.uniform(low, high, variable.shape))
    return Checkpoint(Path("m.h5"), model, class_names, pixels)


def both(checkpoint, engine="openvino", **options):
    dataset = faces(21)
    return [
        inference.predict(checkpoint, dataset, batch_size=8, engine=name, **options)
        for name in ("keras", engine)
    ]


@needs_openvino
@pytest.mark.parametrize("name", MODELS)
def test_openvino_gives_the_same_probabilities_as_keras(name):
    expected, predicted = both(opened(build_model(name, (48, 48, 1), 7)))
    assert expected.std(axis=0).max() > 1e-3  # not the same for every image
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@needs_openvino
def test_openvino_bfloat16_is_close_to_keras_or_refused_by_processors_without_it():
    import openvino

    checkpoint = opened(build_model("cnn", (48, 48, 1), 7))
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        expected, predicted = both(checkpoint, "openvino-bfloat16")
        np.testing.assert_allclose(predicted, expected, atol=0.05)
        assert not np.allclose(predicted, expected, atol=1e-6)
    else:
        with pytest.raises(InputError, match="no bfloat16"):
            both(checkpoint, "openvino-bfloat16")


@needs_openvino
def test_openvino_reorders_outputs_to_the_classes_of_the_data():
    model = build_model("dnn", (48, 48, 1), 7)
    plain, _ = both(opened(model))
    columns = matching.columns(matching.Outputs("m.h5", stated=tuple(sorted(EMOTIONS))), faces(21))
    expected, predicted = both(opened(model), columns=columns)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    assert not np.allclose(predicted, plain)


@needs_openvino
def test_openvino_runs_a_nested_model_with_logits_and_pixel_scaling():
    import keras

    layers = keras.layers
    features = keras.Sequential(
        [keras.Input((48, 48, 1)), layers.Conv2D(4, 3, strides=3), layers.BatchNormalization()]
    )
    images = keras.Input((48, 48, 1))
    x = layers.Flatten()(features(layers.RandomFlip()(images)))
    checkpoint = opened(keras.Model(images, layers.Dense(7)(layers.Dropout(0.5)(x))), pixels="unit")
    expected, predicted = both(checkpoint)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@needs_openvino
def test_openvino_runs_a_model_of_variable_image_size():
    import keras

    layers = keras.layers
    images = keras.Input((None, None, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(images))
    expected, predicted = both(
        opened(keras.Model(images, layers.Dense(7, activation="softmax")(x)))
    )
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@needs_openvino
def test_openvino_refuses_an_unsupported_layer_in_one_line():
    import keras

    layers = keras.layers
    images = keras.Input((48, 48, 1))
    x = layers.SimpleRNN(4)(layers.Reshape((48, 48))(images))
    checkpoint = opened(keras.Model(images, layers.Dense(7, activation="softmax")(x)))
    with pytest.raises(InputError, match=r"^m\.h5: engine openvino cannot run this model .*keras"):
        inference.predict(checkpoint, faces(3), engine="openvino")


@needs_openvino
def test_openvino_is_refused_if_its_predictions_differ_from_keras(monkeypatch):
    exported = engines._exported

    def of_another_model(core, model, image_shape):
        return exported(core, build_model("dnn", (48, 48, 1), 7), image_shape)

    monkeypatch.setattr(engines, "_exported", of_another_model)
    checkpoint = opened(build_model("dnn", (48, 48, 1), 7))
    with pytest.raises(InputError, match=r"engine openvino.* Keras by "):
        inference.predict(checkpoint, faces(3), engine="openvino")


def test_openvino_that_is_not_installed_is_an_input_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    checkpoint = opened(build_model("dnn", (48, 48, 1), 7))
    for engine in ("openvino", "openvino-bfloat16"):
        with pytest.raises(InputError, match="pip install openvino"):
            inference.predict(checkpoint, faces(3), engine=engine)


def test_require_engine_lists_the_engines_on_an_unknown_one(tmp_path):
    with pytest.raises(InputError, match=r"keras, openvino, .* Received: 'vroom'"):
        engines.require_engine("vroom")
    error = fails("test.py", "t.csv", "r.csv", "m.h5", "--engine", "vroom", cwd=tmp_path)
    assert "openvino" in error


@needs_openvino
def test_dnn_test_writes_the_same_submission_with_openvino(tmp_path):
    record = TrainingRecord(class_names=EMOTIONS, pixels="raw", image_shape=(48, 48, 1))
    checkpoints.save(opened(build_model("dnn", (48, 48, 1), 7)).model, tmp_path / "m.h5", record)
    images = faces(20)
    data.write_csv(tmp_path / "test.csv", images.images, ids=images.ids)
    arguments = ("dnn_test.py", "test.csv", "result.csv", "m.h5")
    run(*arguments, cwd=tmp_path)
    expected = (tmp_path / "result.csv").read_text()
    (tmp_path / "result.csv").unlink()
    printed = call(*arguments, "--engine", "openvino", cwd=tmp_path)
    assert (tmp_path / "result.csv").read_text() == expected
    assert [line.split()[0] for line in printed.splitlines()] == ["20", "result.csv"]
