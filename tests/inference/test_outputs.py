"""The kind of a model's outputs, by its last activation or by what it outputs."""

from pathlib import Path

import keras
import numpy as np
import pytest

from ferlab import inference
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset

L, ops = keras.layers, keras.ops
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, *SHAPE)).astype("uint8")


def network(last, policy=None):
    """A model of 8x8 grey images; last: from the images, scaled, to three outputs."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy or "float32")
    try:
        images = keras.Input(SHAPE)
        return keras.Model(images, last(L.Rescaling(1 / 255)(images)))
    finally:
        keras.config.set_dtype_policy("float32")


def dense(activation=None, **settings):
    return lambda x: L.Dense(3, activation=activation, **settings)(L.Flatten()(x))


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (dense("softmax"), "probabilities"),
        (dense("sigmoid"), "independent"),
        (dense("hard_sigmoid"), "independent"),
        (dense(), "scores"),
        (dense("tanh"), "scores"),
        (dense("relu", bias_initializer="ones"), "scores"),
        (lambda x: L.Softmax()(dense()(x)), "probabilities"),
        (lambda x: ops.softmax(dense()(x)), "probabilities"),
        (lambda x: ops.sigmoid(dense()(x)), "independent"),
        (lambda x: L.Dropout(0.5)(L.Activation("softmax")(dense()(x))), "probabilities"),
        (lambda x: L.Flatten()(L.Reshape((3, 1))(dense()(x))), "scores"),
        (lambda x: L.Average()([dense("softmax")(x), dense("softmax")(x)]), "probabilities"),
        (lambda x: L.GlobalAveragePooling2D()(L.Softmax()(L.Conv2D(3, 3)(x))), "probabilities"),
        (lambda x: L.Activation("linear")(dense()(x)), "scores"),
        (dense("log_softmax"), "scores"),
        (lambda x: network(dense("softmax"))(x), "probabilities"),
        (lambda x: L.Dropout(0.1)(keras.Sequential([network(dense())])(x)), "scores"),
    ],
)
def test_kind_of_outputs_by_the_last_activation_or_by_examples(last, expected):
    assert inference.kind_of(network(last), IMAGES) == expected


def test_outputs_in_bfloat16_are_probabilities_though_their_sums_are_not_exactly_1():
    model = network(dense("softmax"), policy="bfloat16")
    images = model.inputs[0]
    mean = L.Average(dtype="bfloat16")([model(images), model(images)])
    assert inference.kind_of(keras.Model(images, mean), IMAGES) == "probabilities"
    probabilities = inference.predict(Checkpoint(Path("m"), model, None, "raw"), rows())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def rows(count=24):
    return Dataset(
        images=IMAGES[:count],
        labels=np.full(count, -1),
        ids=np.arange(count).astype(str),
        class_names=("dark", "grey", "light"),
    )


def test_few_scores_between_0_and_1_are_still_scores():
    model = network(lambda x: L.Dense(3, kernel_initializer="zeros")(L.Flatten()(x)))
    scores = np.float32([0.1, 0.5, 0.9])
    model.layers[-1].bias.assign(scores)
    probabilities = inference.predict(Checkpoint(Path("m"), model, None, "raw"), rows(1))
    np.testing.assert_allclose(probabilities[0], np.exp(scores) / np.exp(scores).sum(), atol=1e-6)


def test_sigmoids_that_are_all_0_are_no_probabilities_to_divide():
    assert inference.output_kind(np.zeros((2, 3)), network(dense("sigmoid"))) == "scores"
