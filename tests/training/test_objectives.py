"""Objectives: their batches, their weights, and FixMatch's loss by its definition."""

import keras
import numpy as np
import pytest
from support import faces

from ferlab.data.batches import Batches, feed
from ferlab.recipes import RECIPES
from ferlab.training import objectives
from ferlab.training.objectives import FixMatch, PseudoLabelled, Supervised, Teacher
from models import build_model

NONE = np.zeros(0, "uint64")
SELF_TRAINING = RECIPES["semi-report"].override(model="dnn", batch_size=32)
FIXMATCH = RECIPES["fixmatch"].override(
    model="dnn", batch_size=8, unlabelled_ratio=2, shift=0.0, horizontal_flip=False
)


def small_model():
    images = keras.Input((48, 48, 1))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Flatten()(x)
    return keras.Model(images, keras.layers.Dense(7, activation="softmax")(x))


def pseudo_labelled(recipe):
    dataset = faces(60)
    targets = np.full((20, 7), 1 / 7, "float32")
    return PseudoLabelled(
        dataset.take(np.arange(40)),
        recipe,
        seed=0,
        images=dataset.images[40:],
        targets=targets,
        known=NONE,
        labelled_by="predictor.h5",
    )


def test_pseudo_labelled_batches_hold_unchanged_labels_and_pseudo_labels():
    objective = pseudo_labelled(SELF_TRAINING)
    batches = objective.batches()
    for epoch in (0, 1):
        batches.shuffle(epoch)
        drawn = [batches[index] for index in range(len(batches))]
        assert sum(len(batch[0]) for batch in drawn) == 60
        labels_of = {
            image.tobytes(): label
            for image, label in zip(objective.train.images, objective.train.labels, strict=True)
        }
        labelled = 0
        for images, targets, *_ in drawn:
            for image, target in zip(images, targets, strict=True):
                if image.tobytes() in labels_of:
                    labelled += 1
                    assert target[labels_of[image.tobytes()]] == 1
                    assert target.sum() == 1
                else:
                    np.testing.assert_allclose(target, 1 / 7)
        assert labelled == 40


def test_pseudo_label_weights_ramp_up_and_label_weights_stay():
    recipe = SELF_TRAINING.override(ramp_epochs=4, unlabelled_weight=0.5)
    batches = pseudo_labelled(recipe).batches()
    for epoch, weight in ((0, 0), (1, 0.125), (3, 0.375), (4, 0.5), (9, 0.5)):
        batches.shuffle(epoch)
        weights = np.concatenate([batches[index][2] for index in range(len(batches))])
        soft = np.concatenate([batches[index][1] for index in range(len(batches))]).max(1) < 1
        np.testing.assert_allclose(weights[soft], weight)
        np.testing.assert_allclose(weights[~soft], 1)


def test_pseudo_label_weights_ramp_up_from_the_initial_epoch():
    objective = pseudo_labelled(SELF_TRAINING.override(ramp_epochs=4))
    objective.initial_epoch = 10
    for epoch, weight in ((10, 0), (12, 0.5), (14, 1), (19, 1)):
        assert objective.weights(epoch)[-1] == weight


def fixmatch(threshold, weight=0.7):
    dataset = faces(40)
    recipe = FIXMATCH.override(threshold=threshold, unlabelled_weight=weight)
    return FixMatch(
        dataset.take(np.arange(8)),
        recipe,
        seed=1,
        unlabelled=dataset.images[8:],
        thresholds=np.full(7, threshold),
        known=NONE,
    )


def cross_entropy(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels])


def test_fixmatch_loss_equals_its_definition(monkeypatch):
    """Sohn et al. 2020, equations 3 and 4, with a strong view that turns an image upside down."""
    monkeypatch.setattr(
        objectives,
        "strong_augmentation_layers",
        lambda: [keras.layers.Lambda(lambda images: keras.ops.flip(images, 1))],
    )
    keras.utils.set_random_seed(0)
    model = small_model()
    everything = faces(40).images.astype("float32")
    confidences = np.sort(keras.ops.convert_to_numpy(model(everything[8:24])).max(axis=1))
    threshold = float(confidences[8:10].mean())  # half of them reach it
    objective = fixmatch(threshold)
    trained = objective.training_model(model)
    trained.compile(optimizer=keras.optimizers.SGD(0.0), loss=objective.loss)
    images, labels = everything[:8], faces(40).labels[:8]
    loss = trained.train_on_batch((images, everything[8:24]), labels)

    guesses = keras.ops.convert_to_numpy(model(everything[8:24]))
    strong = keras.ops.convert_to_numpy(model(everything[8:24][:, ::-1]))
    mask = guesses.max(axis=1) >= threshold
    assert 0 < mask.sum() < 16
    unlabelled = (mask * cross_entropy(strong, guesses.argmax(axis=1))).mean()
    labelled = cross_entropy(keras.ops.convert_to_numpy(model(images)), labels).mean()
    assert loss == pytest.approx(labelled + 0.7 * unlabelled, rel=1e-4)


def test_fixmatch_ignores_images_below_the_threshold():
    weights = []
    for unlabelled in (faces(40).images[8:], np.zeros((32, 48, 48, 1), np.uint8)):
        keras.utils.set_random_seed(0)
        model, objective = small_model(), fixmatch(threshold=1.0)
        trained = objective.training_model(model)
        trained.compile(optimizer=keras.optimizers.SGD(0.1), loss=objective.loss)
        train = objective.train
        trained.train_on_batch((train.images, unlabelled[:16]), train.labels)
        weights.append([np.asarray(weight) for weight in model.get_weights()])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fixmatch_pairs_every_labelled_row_with_unlabelled_ones():
    objective = fixmatch(threshold=0.9)
    batches = objective.batches()
    batches.shuffle(0)
    ((images, unlabelled), labels) = batches[0]
    assert len(batches) == 1
    assert sorted(labels) == sorted(objective.train.labels)
    assert (len(images), len(unlabelled)) == (8, 16)
    rows = {image.tobytes() for image in objective.unlabelled}
    assert {image.tobytes() for image in unlabelled} <= rows
    batches.shuffle(1)
    assert not np.array_equal(batches[0][0][1], unlabelled)


def test_fixmatch_validates_on_the_model_itself():
    objective, validation = fixmatch(threshold=0.9), faces(50, seed=9)
    model = build_model("dnn", (48, 48, 1), 7)
    trained = objective.training_model(model)
    for one in (trained, model):  # as training.fit does
        one.compile(optimizer="adam", loss=objective.loss, metrics=["accuracy"])
    measured = trained.evaluate(
        feed(objective.validation_batches(validation, 16)), verbose=0, return_dict=True
    )
    predicted = model.predict(feed(Batches(validation.images, None, 16)), verbose=0)
    labels = validation.labels
    assert measured["accuracy"] == pytest.approx((predicted.argmax(1) == labels).mean())
    assert measured["loss"] == pytest.approx(cross_entropy(predicted, labels).mean(), rel=1e-4)


@pytest.mark.parametrize("objective", [fixmatch(0.9), pseudo_labelled(SELF_TRAINING)])
def test_training_model_shares_the_variables_in_order(objective):
    model = build_model("cnn", (48, 48, 1), 7)
    trained = objective.training_model(model)
    pairs = zip(trained.trainable_variables, model.trainable_variables, strict=True)
    assert all(one is other for one, other in pairs)


def test_training_rows_include_known_unlabelled_rows():
    dataset = faces(30)
    known = dataset.take(np.arange(20, 30)).row_digests()
    objective = FixMatch(
        dataset.take(np.arange(20)),
        FIXMATCH,
        seed=0,
        unlabelled=dataset.images[20:],
        thresholds=np.ones(7),
        known=known,
    )
    np.testing.assert_array_equal(
        np.sort(objective.training_rows()), np.sort(dataset.row_digests())
    )
    supervised = Supervised(dataset, SELF_TRAINING)
    np.testing.assert_array_equal(supervised.training_rows(), dataset.row_digests())
    others = [
        FixMatch(
            objective.train,
            FIXMATCH,
            seed=0,
            unlabelled=dataset.images[20:25],
            thresholds=np.ones(7),
            known=known,
        ),
        objective,
    ]
    assert others[0].learned_from() != others[1].learned_from()


def test_supervised_targets_blend_smoothed_labels_and_teacher_probabilities():
    recipe = RECIPES["fast"].override(label_smoothing=0.14, teacher_weight=0.5)
    train = faces(6)
    probabilities = np.tile(np.array([1, 0, 0, 0, 0, 0, 0], "float32"), (6, 1))
    teacher = Teacher(("a.h5",), probabilities, rows=np.array([5], "uint64"))
    objective = Supervised(train, recipe, teacher=teacher)
    assert objective.loss == "categorical_crossentropy"
    _, targets = objective.batches()[0]
    expected = 0.86 * (0.5 * probabilities + 0.5 * np.eye(7)[train.labels]) + 0.02
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    np.testing.assert_array_equal(
        objective.validation_batches(train, 6)[0][1], np.eye(7)[train.labels]
    )
    assert objective.learned_from() != Supervised(train, recipe).learned_from()
    assert objective.learned_from().teachers == ("a.h5",)
    assert sorted(objective.training_rows()) == sorted([5, *train.row_digests()])


@pytest.mark.parametrize("make", [fixmatch, lambda _: pseudo_labelled(SELF_TRAINING)])
def test_steps_per_epoch_is_the_number_of_batches(make):
    for objective in (make(0.9), Supervised(faces(65), SELF_TRAINING)):
        assert objective.steps_per_epoch == len(objective.batches())
    assert Supervised(faces(5), SELF_TRAINING, steps=9).steps_per_epoch == 9
