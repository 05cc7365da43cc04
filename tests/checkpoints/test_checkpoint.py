"""A checkpoint opens as it was saved, or the user hears what the file is instead."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from ferlab import checkpoints, data, inference
from ferlab.checkpoints import TrainingRecord
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS
from models import build_model

RECORD = TrainingRecord(class_names=EMOTIONS, pixels="raw", history={"loss": [1.5]})


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return build_model("cnn", (48, 48, 1), 7)


@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
def test_save_and_load_keep_the_predictions_on_raw_grey_levels(model, dataset, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    checkpoints.save(model, path, RECORD)
    checkpoint = checkpoints.load(path)
    assert checkpoint.class_names == EMOTIONS
    assert checkpoint.record.history == {"loss": [1.5]}
    few = dataset.take(np.arange(20))
    before = np.asarray(model(few.images))
    np.testing.assert_allclose(inference.predict(checkpoint, few), before, atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_saved_file_loads_in_plain_keras(model, tmp_path):
    for suffix in checkpoints.SUFFIXES:
        checkpoints.save(model, tmp_path / f"m{suffix}", RECORD)
        opened = keras.models.load_model(tmp_path / f"m{suffix}", compile=False)
        assert opened.count_params() == model.count_params()


def test_save_that_fails_leaves_the_old_file(model, tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        checkpoints.save(model, path, RECORD.replace(recipe={"not json": object()}))
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_load_of_a_foreign_file_scales_pixels_by_the_flag(dataset, tmp_path):
    images = keras.Input((48, 48, 1))
    outputs = keras.layers.Dense(7, activation="softmax")(keras.layers.Flatten()(images))
    foreign = keras.Model(images, outputs)
    foreign.save(tmp_path / "foreign.h5")
    few = dataset.take(np.arange(9))
    for pixels, scaled in (
        (None, few.images / 255),
        ("unit", few.images / 255),
        ("raw", few.images),
        ("symmetric", few.images / 127.5 - 1),
    ):
        checkpoint = checkpoints.load(tmp_path / "foreign.h5", pixels=pixels)
        expected = np.asarray(foreign(scaled.astype("float32")))
        np.testing.assert_allclose(inference.predict(checkpoint, few), expected, atol=1e-5)
    assert checkpoint.class_names is None
    assert checkpoints.recorded_recipe(tmp_path / "foreign.h5") is None


@pytest.mark.parametrize(
    ("pixels", "scale"),
    [
        (
            "standardized",
            lambda x: (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True),
        ),
        ("caffe", lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68])),
    ],
)
def test_pixel_scales_of_colour_images(tmp_path, pixels, scale):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3)).astype("uint8")
    colour = Dataset(
        images=images,
        labels=np.full(6, -1),
        ids=np.arange(6).astype(str),
        class_names=EMOTIONS,
    )
    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 9, 3)), *layers])
    model.set_weights([weights / 100 for weights in model.get_weights()])
    model.save(tmp_path / "colour.h5")
    checkpoint = checkpoints.load(tmp_path / "colour.h5", pixels=pixels)
    expected = np.asarray(model(scale(images.astype("float64")).astype("float32")))
    np.testing.assert_allclose(inference.predict(checkpoint, colour), expected, atol=1e-5)
    with pytest.raises(InputError, match=r"grey\.h5.*caffe.*3 channels"):
        checkpoints.pixels.require_scale("grey.h5", "caffe", (48, 48, 1))


def test_load_refuses_flags_that_contradict_the_file(model, tmp_path):
    path = tmp_path / "model.h5"
    checkpoints.save(model, path, RECORD)
    with pytest.raises(InputError, match=r"--pixels.*raw"):
        checkpoints.load(path, pixels="unit")
    with pytest.raises(InputError, match="--class-names"):
        checkpoints.load(path, class_names=tuple(sorted(EMOTIONS)))


def test_predict_refuses_data_in_another_class_order(model, dataset, tmp_path):
    path = tmp_path / "model.h5"
    checkpoints.save(model, path, RECORD.replace(class_names=tuple(sorted(EMOTIONS))))
    with pytest.raises(InputError, match="same order"):
        inference.predict(checkpoints.load(path), dataset)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("model.h5", b"", "an empty file"),
        ("model.h5", b"404: Not Found", "text"),
        ("model.h5", b"<!DOCTYPE html><html>", "an HTML page"),
        ("model.keras", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "a damaged HDF5 file"),
        ("model.h5", b"\x89HDF\n\x1a\n" + bytes(50), "mangled as text"),
        ("model.h5", b"\xef\xbf\xbdHDF\r\n\x1a\n" + bytes(50), "mangled as text"),
        ("model.keras", b"PK\x03\x04" + bytes(50), "a damaged or truncated zip archive"),
        ("model.pkl", b"\x80\x04", "a Python pickle"),
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(50), "a TensorFlow Lite model"),
    ],
)
def test_load_names_the_kind_of_other_files(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=kind) as caught:
        checkpoints.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_load_of_a_missing_file_or_a_folder(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    for name, kind in (
        ("gone.h5", "no such file"),
        ("folder.h5", "folder"),
        ("saved", "a TensorFlow SavedModel"),
    ):
        with pytest.raises(InputError, match=kind):
            checkpoints.load(tmp_path / name)


def test_load_refuses_code(tmp_path):
    marker = tmp_path / "executed"
    images = keras.Input((48, 48, 1))
    code = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    outputs = keras.layers.Dense(7)(keras.layers.Flatten()(keras.layers.Lambda(code)(images)))
    hostile = keras.Model(images, outputs)
    marker.unlink(missing_ok=True)
    for suffix in checkpoints.SUFFIXES:
        hostile.save(tmp_path / f"hostile{suffix}")
        with pytest.raises(InputError, match="'lambda' is a Lambda"):
            checkpoints.load(tmp_path / f"hostile{suffix}")
    assert not marker.exists()


def test_load_of_a_damaged_record_is_one_line(model, tmp_path):
    checkpoints.save(model, tmp_path / "a.h5", RECORD)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs[checkpoints.METADATA_ATTRIBUTE] = "{"
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        archive.writestr(checkpoints.METADATA_MEMBER, json.dumps([1]))
    for name in ("a.h5", "b.keras"):
        with pytest.raises(InputError, match=name):
            checkpoints.load(tmp_path / name)


def test_load_refuses_models_that_do_not_classify_images(tmp_path):
    for shape, layer in (((10,), keras.layers.Dense(7)), ((8, 8, 1), keras.layers.Conv2D(2, 3))):
        model = keras.Sequential([keras.Input(shape), layer])
        model.save(tmp_path / "other.keras")
        with pytest.raises(InputError, match="must"):
            checkpoints.load(tmp_path / "other.keras")


def test_load_refuses_a_single_output(tmp_path):
    layers = [keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    keras.Sequential([keras.Input((8, 8, 1)), *layers]).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="2 or more classes"):
        checkpoints.load(tmp_path / "m.keras")


def test_predict_resizes_and_converts_images_for_the_model(dataset, tmp_path):
    """Another size, three channels, or any size."""
    for shape, taken in (((None, None, 3), (48, 48, 3)), ((64, 32, 1), (64, 32, 1))):
        layers = keras.layers
        pooled = [layers.GlobalAveragePooling2D(), layers.Dense(7, activation="softmax")]
        keras.Sequential([keras.Input(shape), *pooled]).save(tmp_path / "m.keras")
        checkpoint = checkpoints.load(tmp_path / "m.keras")
        assert checkpoint.image_shape == taken
        few = dataset.take(np.arange(5))
        fitted = data.fit_images(few, taken)
        assert fitted.image_shape == taken
        expected = np.asarray(checkpoint.model(fitted.images / np.float32(255)))
        np.testing.assert_allclose(inference.predict(checkpoint, few), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "as_probabilities", "note"),
    [
        (None, lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), "softmax"),
        ("sigmoid", lambda z: z / z.sum(axis=1, keepdims=True), "divided by their sum"),
    ],
)
def test_predict_turns_scores_into_probabilities(
    dataset, tmp_path, activation, as_probabilities, note
):
    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation=activation)]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(tmp_path / "scores.keras")
    checkpoint, few = checkpoints.load(tmp_path / "scores.keras"), dataset.take(np.arange(9))
    scores = np.asarray(checkpoint.model(few.images / np.float32(255)))
    lines = []
    probabilities = inference.predict(checkpoint, few, report=lines.append)
    np.testing.assert_allclose(probabilities, as_probabilities(scores), atol=1e-5)
    assert note in lines[-1]


def test_predict_refuses_nan(dataset, tmp_path):
    model = keras.Sequential(
        [keras.Input((48, 48, 1)), keras.layers.Flatten(), keras.layers.Dense(7)]
    )
    model.set_weights([np.full((2304, 7), np.nan), np.zeros(7)])
    model.save(tmp_path / "nan.keras")
    with pytest.raises(InputError, match="nan"):
        inference.predict(checkpoints.load(tmp_path / "nan.keras"), dataset)


def test_predict_reorders_outputs_by_given_class_names(dataset, tmp_path):
    alphabetical = tuple(sorted(EMOTIONS))
    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(tmp_path / "m.keras")
    few = dataset.take(np.arange(9))
    as_is = inference.predict(checkpoints.load(tmp_path / "m.keras"), few)
    checkpoint = checkpoints.load(tmp_path / "m.keras", class_names=alphabetical)
    probabilities = inference.predict(checkpoint, few)
    for column, name in enumerate(EMOTIONS):
        np.testing.assert_array_equal(probabilities[:, column], as_is[:, alphabetical.index(name)])


def test_predict_refuses_another_number_of_classes(dataset, tmp_path):
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(tmp_path / "two.keras")
    with pytest.raises(InputError, match=r"2\b.*\b7 classes"):
        inference.predict(checkpoints.load(tmp_path / "two.keras"), dataset)


def test_predict_reports_assumed_class_names(dataset, tmp_path):
    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(tmp_path / "m.keras")
    lines = []
    inference.predict(checkpoints.load(tmp_path / "m.keras"), dataset, report=lines.append)
    assert "angry, disgust" in lines[0]


def test_load_refuses_real_broken_files(wild):
    for path in sorted((wild / "broken").iterdir()):
        with pytest.raises(InputError, match=path.name):
            checkpoints.load(path)


@pytest.mark.parametrize(
    ("name", "vintage", "image_shape", "num_classes"),
    [
        ("ntu_WaitingLin_model_best.h5", "Keras 2.0.9, tensorflow backend", (48, 48, 1), 7),
        ("ntu_der3318_v3_weights.h5", "Keras 2.0.3, tensorflow backend", (48, 48, 1), 7),
        ("yashsharan_fer2013.hdf5", "Keras 2.2.4, tensorflow backend", (48, 48, 1), 7),
        (
            "oarriaga_gender_mini_XCEPTION_2out.hdf5",
            "Keras 2.0.5, tensorflow backend",
            (64, 64, 1),
            2,
        ),
    ],
)
def test_load_of_real_checkpoints_that_recognize_faces(
    wild, name, vintage, image_shape, num_classes
):
    checkpoint = checkpoints.load(wild / "models" / name)
    assert checkpoint.vintage == vintage
    assert (checkpoint.image_shape, checkpoint.num_classes) == (image_shape, num_classes)
    faces = data.read(wild / "csv" / "der3318_train100.csv", role="train")
    if num_classes == 2:
        with pytest.raises(InputError, match=r"2\b.*\b7 classes"):
            inference.predict(checkpoint, faces)
        return
    predicted = inference.predict(checkpoint, faces).argmax(axis=1)
    assert (predicted == faces.labels).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
def test_frozen_layers_learn_once_they_are_unfrozen(suffix, tmp_path):
    layers = [keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    layers[0].trainable = False
    checkpoints.save(model, tmp_path / f"m{suffix}", TrainingRecord(pixels="raw"))
    opened = checkpoints.load(tmp_path / f"m{suffix}").model
    assert not opened.layers[0].trainable
    opened.layers[0].trainable = True
    before = np.asarray(opened.layers[0].kernel)
    opened.compile("sgd", "sparse_categorical_crossentropy")
    opened.fit(np.ones((4, 8, 8, 1)), np.arange(4) % 3, verbose=0)
    assert not np.array_equal(before, opened.layers[0].kernel)
