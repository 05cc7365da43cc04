"""Muon against its definition: orthogonal steps for kernels, AdamW for the rest."""

import numpy as np
import pytest

from ferlab import checkpoints
from ferlab.backend import keras
from ferlab.checkpoints import TrainingRecord, trust
from ferlab.errors import InputError
from ferlab.optimizers import Muon

RATE = 0.01


def network():
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, name="dense")(x)
    outputs = keras.layers.Dense(4, activation="softmax", name="probabilities")(x)
    return keras.Model(images, outputs)


def array(value):
    return np.asarray(keras.ops.convert_to_numpy(value), "float64")


def one_step(**settings):
    """The change of every variable by one step on the same random gradients, by its path."""
    model = network()
    optimizer = Muon(RATE, exclude_layers=["probabilities"], **settings)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(1)
    gradients = [generator.normal(size=v.shape) for v in model.trainable_variables]
    before = {v.path: array(v) for v in model.trainable_variables}
    optimizer.apply_gradients(
        [
            (keras.ops.convert_to_tensor(gradient, "float32"), variable)
            for gradient, variable in zip(gradients, model.trainable_variables, strict=True)
        ]
    )
    changes = {v.path: array(v) - before[v.path] for v in model.trainable_variables}
    return changes, dict(zip(before, gradients, strict=True)), before


def test_muon_orthogonalizes_kernel_updates_and_descends():
    changes, gradients, _ = one_step(weight_decay=None, adam_weight_decay=None)
    for path in ("conv/kernel", "dense/kernel"):
        change = changes[path].reshape(-1, changes[path].shape[-1])
        scale = RATE * 0.2 * max(change.shape) ** 0.5
        sizes = np.linalg.svd(change, compute_uv=False) / scale
        assert 0.6 < sizes.min() <= sizes.max() < 1.3  # what five iterations come to
        gradient = gradients[path].reshape(change.shape)
        left, _, right = np.linalg.svd(gradient, full_matrices=False)
        exact = -scale * left @ right
        cosine = (change * exact).sum() / np.linalg.norm(change) / np.linalg.norm(exact)
        assert cosine > 0.97


def test_muon_updates_biases_and_the_last_layer_by_adam():
    changes, gradients, _ = one_step(weight_decay=None, adam_weight_decay=None)
    for path in ("conv/bias", "dense/bias", "probabilities/kernel", "probabilities/bias"):
        np.testing.assert_allclose(changes[path], -RATE * np.sign(gradients[path]), rtol=1e-3)


def test_muon_weight_decay_is_scaled_by_the_learning_rate():
    plain, _, before = one_step(weight_decay=None, adam_weight_decay=None)
    decayed, _, _ = one_step(weight_decay=0.5, adam_weight_decay=0.5)
    for path, change in decayed.items():
        share = RATE * 0.5 if path.endswith("kernel") else 0
        np.testing.assert_allclose(change - plain[path], -share * before[path], atol=1e-6)


@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")  # Keras's own loader
def test_muon_is_restored_from_a_checkpoint_that_plain_keras_loads(tmp_path):
    model = network()
    model.optimizer = Muon(RATE, exclude_layers=["probabilities"])
    model.compile(model.optimizer, "sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((2, 6, 6, 3)), np.array([0, 1]))
    record = TrainingRecord(class_names=tuple("abcd"), image_shape=(6, 6, 3), pixels="raw")
    for suffix in (".h5", ".keras"):
        path = tmp_path / f"model{suffix}"
        checkpoints.save(model, path, record)
        restored = checkpoints.load(path, with_optimizer=True).model.optimizer
        assert type(restored) is Muon
        for expected, value in zip(model.optimizer.variables, restored.variables, strict=True):
            np.testing.assert_array_equal(array(expected), array(value))
        plain = keras.models.load_model(path)
        np.testing.assert_array_equal(array(plain.weights[0]), array(model.weights[0]))


def test_muon_of_keras_itself_is_restored(tmp_path):
    model = network()
    model.compile(keras.optimizers.Muon(RATE), "sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((2, 6, 6, 3)), np.array([0, 1]))
    record = TrainingRecord(class_names=tuple("abcd"), image_shape=(6, 6, 3), pixels="raw")
    checkpoints.save(model, tmp_path / "model.h5", record)
    restored = checkpoints.load(tmp_path / "model.h5", with_optimizer=True).model.optimizer
    assert type(restored) is keras.optimizers.Muon


def test_require_no_code_allows_only_muon_of_the_module():
    config = {"module": "ferlab.optimizers", "class_name": "Muon", "config": {"name": "muon"}}
    trust.require_no_code("here", config)
    for kind in ("keras", "backend", "ops"):
        with pytest.raises(InputError, match="custom code of the module"):
            trust.require_no_code("here", {**config, "class_name": kind})
