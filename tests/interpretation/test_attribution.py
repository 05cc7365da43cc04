"""Saliency methods compared with their definitions."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from support import faces

from ferlab import interpretation
from ferlab.checkpoints import Checkpoint, TrainingRecord
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation import costs
from ferlab.interpretation import METHODS, attribution
from ferlab.interpretation.network import first_convolution, last_map

SIDE = 12


def small_model(last="softmax", side=SIDE, channels=1, seed=0):
    """A smooth convolutional network, so that differences come close to derivatives."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((side, side, channels))
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(6, 3, activation="tanh", name="conv")(x)
    x = layers.Flatten()(x)
    return keras.Model(images, layers.Dense(3, activation=last, name="scores")(x))


def opened(model, class_names=("a", "b", "c"), record=None):
    return Checkpoint(Path("model.h5"), model, class_names, "raw", record or TrainingRecord())


def pictures(count=2, side=SIDE, channels=1, labels=None, class_names=("a", "b", "c")):
    generator = np.random.default_rng(3)
    return Dataset(
        images=generator.integers(0, 256, (count, side, side, channels), dtype=np.uint8),
        labels=np.arange(count) % 3 if labels is None else np.array(labels, dtype=np.int64),
        ids=np.arange(count).astype(str),
        class_names=class_names,
    )


def losses(model, images, labels):
    probabilities = keras.ops.convert_to_numpy(model(images)).astype("float64")
    return -np.log(probabilities[np.arange(len(labels)), labels])


def test_perturbation_is_the_squared_change_of_the_loss_pixel_by_pixel():
    model, data = small_model(), pictures()
    computed = interpretation.saliency(opened(model), data, ["perturbation"])["perturbation"]
    expected = np.empty_like(computed)
    for index, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        base = image.astype("float32")
        before = losses(model, base[None], [label])[0]
        for row, column in np.ndindex(SIDE, SIDE):
            changed = base.copy()
            changed[row, column] += 1
            expected[index, row, column] = (losses(model, changed[None], [label])[0] - before) ** 2
    np.testing.assert_allclose(computed, expected, atol=2e-3 * expected.max())


def test_saliency_does_not_depend_on_the_batch_size(monkeypatch):
    checkpoint, data = opened(small_model()), pictures()
    whole = interpretation.saliency(checkpoint, data, list(METHODS))
    monkeypatch.setattr(attribution, "BATCH_PIXELS", 31 * SIDE * SIDE)
    parts = interpretation.saliency(checkpoint, data, list(METHODS))
    for method, maps in whole.items():
        np.testing.assert_allclose(parts[method], maps, atol=2e-3 * maps.max())


def test_gradient_agrees_with_perturbation_and_with_differences():
    model, data = small_model(), pictures()
    maps = interpretation.saliency(opened(model), data, ["perturbation", "gradient"])
    top = maps["gradient"].max()
    np.testing.assert_allclose(maps["gradient"], maps["perturbation"], atol=0.05 * top)
    row, column = np.unravel_index(maps["gradient"][0].argmax(), (SIDE, SIDE))
    ends = np.repeat(data.images[:1].astype("float32"), 2, axis=0)
    ends[:, row, column, 0] += (-4, 4)
    low, high = losses(model, ends, [0, 0])
    assert maps["gradient"][0, row, column] == pytest.approx(((high - low) / 8) ** 2, rel=0.02)


@pytest.mark.parametrize("method", ["perturbation", "gradient"])
def test_saliency_changes_grey_levels_in_all_channels_together(method):
    grey, colour = small_model(), small_model(channels=3)
    kernel, bias = grey.get_layer("conv").get_weights()
    # Of three equal channels each counts a third.
    colour.get_layer("conv").set_weights([np.repeat(kernel, 3, axis=2) / 3, bias])
    colour.get_layer("scores").set_weights(grey.get_layer("scores").get_weights())
    data = pictures()
    tinted = dataclasses.replace(data, images=np.repeat(data.images, 3, axis=-1))
    expected = interpretation.saliency(opened(grey), data, [method])[method]
    computed = interpretation.saliency(opened(colour), tinted, [method])[method]
    np.testing.assert_allclose(computed, expected, atol=2e-3 * expected.max())


def test_perturbation_of_a_large_image_changes_patches():
    model, data = small_model(side=96), pictures(1, side=96)
    computed = interpretation.saliency(opened(model), data, ["perturbation"])["perturbation"][0]
    assert attribution.perturbation_passes((96, 96, 1)) == 48 * 48 + 1
    patches = computed.reshape(48, 2, 48, 2)
    assert (patches == patches[:, :1, :, :1]).all()
    base = data.images.astype("float32")
    changed = base.copy()
    changed[0, 10:12, 20:22] += 1
    expected = (losses(model, changed, [0]) - losses(model, base, [0])) ** 2
    assert computed[10, 20] == pytest.approx(
        expected[0], rel=0.05, abs=2e-3 * float(computed.max())
    )


def flicker_model():
    """Logit of class 1: pixel (0, 0), and a saw of pixel (0, 1) that goes up and down by 8."""
    images = keras.Input((2, 2, 1))
    flat = layers.Flatten()(images)
    steady, saw = flat[:, :1], flat[:, 1:2]
    bends = [keras.ops.relu(saw - place) for place in range(0, 256, 8)]
    zigzag = saw + sum(2 * (-1) ** (1 + number) * bend for number, bend in enumerate(bends))
    logits = layers.Concatenate()([0 * steady, (steady + zigzag) / 100])
    return keras.Model(images, layers.Softmax()(logits))


def test_smoothgrad_averages_out_fluctuations():
    checkpoint = opened(flicker_model(), ("a", "b"))
    image = np.array([100, 101, 0, 255], np.uint8).reshape(1, 2, 2, 1)
    data = dataclasses.replace(
        pictures(1), images=image, labels=np.array([1]), class_names=("a", "b")
    )
    maps = interpretation.saliency(checkpoint, data, ["gradient", "smoothgrad"], samples=200)
    gradient, smooth = maps["gradient"][0], maps["smoothgrad"][0]
    assert gradient[0, 1] == pytest.approx(gradient[0, 0], rel=1e-4)
    assert smooth[0, 0] == pytest.approx(gradient[0, 0], rel=0.3)
    assert smooth[0, 1] < 0.1 * smooth[0, 0]
    assert (smooth[1] == 0).all()


def test_smoothgrad_without_noise_is_the_gradient(monkeypatch):
    monkeypatch.setattr(attribution, "NOISE", 0.0)
    maps = interpretation.saliency(opened(small_model()), pictures(), ["gradient", "smoothgrad"])
    np.testing.assert_allclose(maps["smoothgrad"], maps["gradient"], rtol=1e-3)


PATTERN = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], np.float32)  # a small chequerboard


def pattern_model(nested=False):
    """Class 1 wherever a chequerboard is: its filter, another filter, their means, two logits."""
    body_input = keras.Input((24, 24, 1))
    maps = layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")(body_input)
    images = keras.Input((24, 24, 1))
    if nested:
        inner = keras.Model(body_input, maps, name="inner")
        again = keras.Input((24, 24, 1))
        maps = keras.Model(again, inner(again), name="outer")(images)
    else:
        images = body_input
    logits = layers.Dense(2, name="dense")(layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(images, layers.Activation("softmax")(logits))
    conv = next(layer.layer for layer in costs.layer_costs(model) if layer.kind == "Conv2D")
    conv.set_weights(
        [np.stack([PATTERN, np.ones((3, 3))], -1)[:, :, None] / 255, np.array([-2, 0])]
    )
    model.get_layer("dense").set_weights([np.array([[-1.0, 3.0], [0.5, -0.25]]), np.zeros(2)])
    return model


def planted(row=14, column=5):
    images = np.full((1, 24, 24, 1), 90, np.uint8)
    images[0, row : row + 3, column : column + 3, 0] = np.where(PATTERN > 0, 255, 0)
    return dataclasses.replace(
        pictures(1), images=images, labels=np.array([1]), class_names=("no", "yes")
    )


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_class_activation_maps_locate_a_pattern_and_agree_with_the_papers(method, nested):
    model, data = pattern_model(nested), planted()
    computed = interpretation.saliency(opened(model, ("no", "yes")), data, [method])[method][0]
    assert np.unravel_index(computed.argmax(), computed.shape) == (15, 6)
    # Behind a global mean the gradient of a logit is the dense layer's weight by the cells.
    flat = pattern_model()
    maps = keras.Model(flat.inputs, flat.get_layer("conv").output).predict(data.images, verbose=0)
    weights = np.array([3.0, -0.25]) if method == "gradcam" else np.array([3.0, 0.0])
    expected = np.maximum((maps[0] * weights).sum(axis=-1), 0) / 24**2
    np.testing.assert_allclose(computed, expected, atol=1e-6)


def test_class_activation_maps_are_enlarged_in_place():
    model, data = pattern_model(), planted(row=2, column=18)
    small = keras.Input((24, 24, 1))
    pooled = layers.AveragePooling2D(4)(model.get_layer("conv")(small))
    last = layers.Conv2D(2, 1, name="last")(pooled)
    logits = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(last))
    coarse = keras.Model(small, logits)
    coarse.get_layer("last").set_weights([np.eye(2)[None, None], np.zeros(2)])
    coarse.layers[-1].set_weights([np.array([[-1.0, 3.0], [0.0, 0.0]]), np.zeros(2)])
    cam = interpretation.saliency(opened(coarse, ("no", "yes")), data, ["gradcam"])["gradcam"][0]
    row, column = np.unravel_index(cam.argmax(), cam.shape)
    assert cam.shape == (24, 24)
    assert 0 <= row < 8
    assert 16 <= column < 24


def test_saliency_of_a_nested_resnet():
    size = 32
    keras.utils.set_random_seed(0)
    backbone = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(size, size, 3)
    )
    images = keras.Input((size, size, 3))
    pooled = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, layers.Dense(3, activation="softmax")(pooled))
    checkpoint, data = opened(model), pictures(1, size, 3)
    # The last block's maps are of one pixel.
    assert last_map(checkpoint).name == "resnet50/conv4_block6_out"
    middle = "conv3_block4_out"
    maps = interpretation.saliency(
        checkpoint, data, ["gradient", "smoothgrad", "gradcam", "layercam"], layer=middle, samples=2
    )
    for saliency_map in maps.values():
        assert saliency_map.shape == (1, size, size)
        assert np.isfinite(saliency_map).all()
        assert saliency_map.max() > 0


def test_gradient_is_not_0_at_a_probability_of_1():
    model = small_model()
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([kernel, bias + np.array([200, 0, 0])])
    data = pictures(labels=[0, 0])
    assert (model.predict(data.images.astype("float32"), verbose=0)[:, 0] == 1).all()
    saliency = interpretation.saliency(opened(model), data, ["gradcam", "layercam"])
    assert all(maps.max() > 0 for maps in saliency.values())
    wrong = dataclasses.replace(data, labels=np.array([1, 1]))
    saliency = interpretation.saliency(opened(model), wrong, ["perturbation", "gradient"])
    assert all(maps.max() > 0 for maps in saliency.values())


def test_saliency_without_a_softmax():
    """Scores count as logits, as in prediction; sigmoids are divided by their sum."""
    data = pictures()
    methods = ["gradient", "layercam"]
    softmax = interpretation.saliency(opened(small_model()), data, methods)
    scores = interpretation.saliency(opened(small_model("linear")), data, methods)
    for method in methods:
        np.testing.assert_allclose(scores[method], softmax[method], rtol=1e-4)
    model = small_model("sigmoid")
    saliency = interpretation.saliency(opened(model), data, ["perturbation"])["perturbation"]
    changed = np.repeat(data.images[:1].astype("float32"), 2, axis=0)
    changed[1, 5, 5] += 1
    outputs = model.predict(changed, verbose=0).astype("float64")
    before, after = -np.log(outputs[:, 0] / outputs.sum(axis=1))
    assert saliency[0, 5, 5] == pytest.approx(
        (after - before) ** 2, rel=0.1, abs=2e-3 * float(saliency.max())
    )


def test_saliency_with_outputs_in_another_order():
    model, data = small_model(), pictures(3, labels=[0, 1, 2])
    recorded = TrainingRecord(class_names=("c", "a", "b"))
    straight = interpretation.saliency(opened(model), data, ["gradient"])["gradient"]
    order = np.array([1, 2, 0])  # the outputs of a, b and c
    names = ("c", "a", "b")
    computed = interpretation.saliency(opened(model, names), data, ["gradient"])["gradient"]
    reordered = dataclasses.replace(data, labels=order)
    expected = interpretation.saliency(opened(model), reordered, ["gradient"])["gradient"]
    np.testing.assert_allclose(computed, expected, rtol=1e-5)
    assert not np.allclose(computed, straight)
    with pytest.raises(InputError, match="the same order"):
        interpretation.saliency(opened(model, names, recorded), data, ["gradient"])


def test_saliency_of_an_unlabelled_row_is_for_the_predicted_class():
    model, data = small_model(), pictures()
    predicted = model.predict(data.images.astype("float32"), verbose=0).argmax(axis=1)
    labelled = dataclasses.replace(data, labels=predicted.astype(np.int64))
    unlabelled = dataclasses.replace(data, labels=np.array([-1, predicted[1]]))
    checkpoint = opened(model)
    np.testing.assert_array_equal(
        interpretation.saliency(checkpoint, unlabelled, ["gradient"])["gradient"],
        interpretation.saliency(checkpoint, labelled, ["gradient"])["gradient"],
    )


def test_saliency_and_maximize_leave_the_model_unchanged():
    model, data = small_model(), pictures()
    images = data.images.astype("float32")
    before, config = model.predict(images, verbose=0), model.to_json()
    interpretation.saliency(opened(model), data, list(METHODS))
    layer = first_convolution(opened(model))
    interpretation.maximize(opened(model), layer, np.arange(6), steps=2)
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)
    assert model.to_json() == config
    assert model.layers[-1].activation is keras.activations.softmax


def test_suitable_methods():
    assert interpretation.suitable_methods(opened(small_model()), 7) == (tuple(METHODS), [])
    images = keras.Input((SIDE, SIDE, 1))
    dense = opened(keras.Model(images, layers.Dense(3)(layers.Flatten()(images))))
    methods, notes = interpretation.suitable_methods(dense, 7)
    assert methods == ("perturbation", "gradient", "smoothgrad")
    assert [note.split()[0] for note in notes] == ["gradcam", "layercam"]
    methods, notes = interpretation.suitable_methods(opened(small_model()), 10**9)
    assert "perturbation" not in methods
    assert [note.split()[0] for note in notes] == ["perturbation"]


def test_select_methods_reports_what_is_left_out_unless_methods_are_requested():
    checkpoint, notes = opened(small_model()), []
    selected = interpretation.select_methods(checkpoint, 10**9, None, report=notes.append)
    assert set(METHODS) - set(selected) == {"perturbation"}
    assert len(notes) == 1
    requested = ["perturbation", "gradient", "gradient"]
    selected = interpretation.select_methods(checkpoint, 10**9, requested, report=notes.append)
    assert selected == ("perturbation", "gradient")
    assert len(notes) == 1
    with pytest.raises(InputError, match="'block9'"):
        interpretation.select_methods(
            checkpoint, 1, ["gradcam"], layer="block9", report=notes.append
        )


def test_methods_have_titles_and_help_of_their_own():
    for kind in ("title", "help"):
        assert len({getattr(method, kind) for method in METHODS.values()} - {""}) == len(METHODS)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"methods": ["occlusion"]}, "perturbation, gradient.* Received: 'occlusion'"),
        ({"methods": ["gradcam"], "layer": "none"}, "'none'.*conv"),
        ({"methods": ["gradcam"], "layer": "scores"}, "gradcam requires .* Received: scores"),
    ],
)
def test_saliency_on_bad_input(options, rule):
    with pytest.raises(InputError, match=rule):
        interpretation.saliency(opened(small_model()), pictures(), **options)


def test_saliency_refuses_a_layer_called_twice():
    images = keras.Input((SIDE, SIDE, 1))
    twice = layers.Conv2D(1, 3, padding="same", name="twice")
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(twice(twice(images))))
    with pytest.raises(InputError, match=r"twice .*Received: 2"):
        interpretation.saliency(opened(keras.Model(images, outputs)), pictures(), ["gradcam"])


def test_saliency_of_the_bundled_cnn():
    from models import build_model

    data = faces(2)
    checkpoint = opened(build_model("cnn", (48, 48, 1), 7), data.class_names)
    maps = interpretation.saliency(checkpoint, data, list(METHODS)[1:])
    assert {saliency_map.shape for saliency_map in maps.values()} == {(2, 48, 48)}
