"""What others built is trained on the right loss, and saved in a format that holds it."""

import keras
import numpy as np
import pytest

from ferlab import checkpoints, inference, training
from ferlab.checkpoints import TrainingRecord
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.recipes import RECIPES, SemiRecipe, get_recipe
from ferlab.training.callbacks import last_checkpoint
from ferlab.training.objectives import FixMatch, PseudoLabelled, Supervised

L, ops = keras.layers, keras.ops
SHAPE, NAMES = (8, 8, 1), ("dark", "grey", "light")
RECIPE = RECIPES["cnn-report"].override(
    epochs=1, batch_size=16, rotation=0.0, shift=0.0, zoom=0.0, horizontal_flip=False
)


def shades(count=48, seed=0):
    """Images of three shades of grey, which a model learns within an epoch."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 60, (count, *SHAPE)) + 90 * labels[:, None, None, None]
    return Dataset(
        images=images.astype("uint8"),
        labels=labels,
        ids=np.arange(count).astype(str),
        class_names=NAMES,
        source="shades.csv",
    )


def classifier(body, activation="softmax", policy=None):
    """A model of 8x8 grey images with three classes; body: what precedes its last layers."""
    keras.utils.set_random_seed(1)
    if policy:
        keras.config.set_dtype_policy(policy)
    try:
        images = keras.Input(SHAPE)
        x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(body(images)))
        return keras.Model(images, L.Dense(3, activation=activation)(x))
    finally:
        keras.config.set_dtype_policy("float32")


def adapted(x):
    layer = L.Normalization(axis=None)
    layer.adapt(shades().images.astype("float32"))
    return layer(x)


def branch(name):
    images = keras.Input(SHAPE)
    x = L.Conv2D(2, 3, name="conv")(images)
    return keras.Model(images, x, name=name)


OF_OTHERS = {
    "operations": lambda: classifier(lambda x: x / 255.0),
    "preprocess_input": lambda: classifier(
        lambda x: keras.applications.mobilenet_v2.preprocess_input(L.Concatenate()([x, x, x]))
    ),
    "mean over channels": lambda: classifier(
        lambda x: L.Multiply()([x, ops.mean(L.Conv2D(2, 1)(x), axis=-1, keepdims=True)]) / 255
    ),
    "relu operation": lambda: classifier(lambda x: ops.relu(L.Conv2D(2, 3)(x / 255))),
    "Normalization over all axes": lambda: classifier(adapted),
    "LayerNormalization over images": lambda: classifier(L.LayerNormalization(axis=[1, 2, 3])),
    "without weights": lambda: classifier(
        L.LayerNormalization(axis=[1, 2, 3], center=False, scale=False)
    ),
    "UnitNormalization over images": lambda: classifier(L.UnitNormalization(axis=[1, 2])),
    "bfloat16": lambda: classifier(L.Rescaling(1 / 255), policy="bfloat16"),
    "mixed_bfloat16": lambda: classifier(L.Rescaling(1 / 255), policy="mixed_bfloat16"),
    "nested models of equal layers": lambda: classifier(
        lambda x: L.Add()([branch("a")(x / 255), branch("b")(x / 255)])
    ),
    "random layers": lambda: classifier(
        lambda x: L.Rescaling(1 / 255)(L.RandomBrightness(0.1)(L.RandomContrast(0.1)(x)))
    ),
    "a shared layer": lambda: (
        lambda layer: classifier(
            lambda x: L.Rescaling(1 / 255)(L.Add()([layer(x), layer(layer(x))]))
        )
    )(L.Conv2D(1, 3, padding="same")),
    "Sequential": lambda: keras.Sequential(
        [
            keras.Input(SHAPE),
            L.Rescaling(1 / 255),
            L.UnitNormalization(axis=[1, 2, 3]),
            L.Flatten(),
            L.Dense(3, activation="softmax"),
        ]
    ),
    "plain": lambda: classifier(L.Rescaling(1 / 255)),
}
IN_H5 = ("a shared layer", "plain")
EITHER = ("mixed_bfloat16", "random layers")


def train_further(checkpoint, run_dir, objective=None, recipe=RECIPE):
    return training.fit(
        checkpoint.raw_pixel_model(),
        objective or Supervised(shades(), recipe),
        shades(24, seed=1),
        start=training.Start(resume_from=checkpoint),
        run_dir=run_dir,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_OTHERS)
def test_format_holds_a_model_of_others_with_its_optimizer(name, tmp_path):
    model = OF_OTHERS[name]()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    record = TrainingRecord(pixels="raw")
    images = shades().images
    suffix, problem = checkpoints.suffix_for(model, record, images)
    if name not in EITHER:
        assert suffix == (".h5" if name in IN_H5 else ".keras")
    assert (problem is None) == (suffix == ".h5")
    checkpoints.save(model, tmp_path / f"m{suffix}", record, examples=images)
    opened = checkpoints.load(tmp_path / f"m{suffix}", with_optimizer=True).model
    before, after = (
        np.asarray(each(images, training=False)).astype("float32") for each in (model, opened)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert len(opened.optimizer.variables) == len(model.optimizer.variables)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["operations", "bfloat16", "plain"])
def test_model_of_others_is_published_as_the_model_that_was_scored(name, tmp_path, capsys):
    OF_OTHERS[name]().save(tmp_path / "theirs.keras")
    theirs = checkpoints.load(tmp_path / "theirs.keras")
    result = train_further(theirs, tmp_path / "run")
    path = training.publish(result, tmp_path, suffix="_theirs")
    assert path.suffix == (".h5" if name == "plain" else ".keras")
    assert ("saving as .keras" in capsys.readouterr().out) == (path.suffix == ".keras")
    assert training.checkpoint_of(tmp_path / "run") == path
    assert last_checkpoint(tmp_path / "run").suffix == path.suffix
    again = checkpoints.load(path, with_optimizer=True)
    validation = shades(24, seed=1)
    predicted = inference.predict(again, validation)
    accuracy = (predicted.argmax(axis=1) == validation.labels).mean()
    assert accuracy == pytest.approx(result.val_accuracy, abs=1e-6)
    assert int(again.model.optimizer.iterations) == 3


@pytest.mark.slow
def test_model_in_keras_format_resumes(tmp_path):
    recipe = RECIPE.override(epochs=2)
    OF_OTHERS["operations"]().save(tmp_path / "theirs.keras")
    whole = train_further(
        checkpoints.load(tmp_path / "theirs.keras"), tmp_path / "a", recipe=recipe
    )

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    theirs = checkpoints.load(tmp_path / "theirs.keras")
    arguments = (Supervised(shades(), recipe), shades(24, seed=1))
    settings = {"start": training.Start(resume_from=theirs), "run_dir": tmp_path / "b"}
    with pytest.raises(KeyboardInterrupt):
        training.fit(theirs.raw_pixel_model(), *arguments, **settings, callbacks=[Stop()])
    assert [path.name for path in (tmp_path / "b").glob("last.*")] == ["last.keras"]
    theirs = checkpoints.load(tmp_path / "theirs.keras")
    resumed = training.fit(theirs.raw_pixel_model(), *arguments, **settings)
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_training_on_standardized_images_writes_h5_that_plain_keras_opens_right(tmp_path):
    classifier(L.Identity()).save(tmp_path / "theirs.keras")
    theirs = checkpoints.load(tmp_path / "theirs.keras", pixels="standardized")
    result = train_further(theirs, tmp_path / "run")
    path = training.publish(result, tmp_path, suffix="_theirs")
    assert path.suffix == ".h5"
    images = shades().images[:8].astype("float32")
    plain = keras.models.load_model(path, compile=False)
    np.testing.assert_allclose(plain(images), result.model(images), atol=1e-5)


@pytest.mark.slow
def test_publish_refuses_a_file_that_is_another_model(tmp_path, monkeypatch):
    classifier(L.Rescaling(1 / 255)).save(tmp_path / "theirs.keras")
    result = train_further(checkpoints.load(tmp_path / "theirs.keras"), tmp_path / "run")
    real = checkpoints.saving.load

    def loads_another(path, **settings):
        opened = real(path, **settings)
        opened.model.set_weights([0 * weights for weights in opened.model.get_weights()])
        return opened

    monkeypatch.setattr(checkpoints.saving, "load", loads_another)
    with pytest.raises(InputError, match="differ by"):
        training.publish(result, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_model_that_no_format_holds_is_refused_before_the_first_epoch(tmp_path, monkeypatch):
    classifier(L.Rescaling(1 / 255)).save(tmp_path / "theirs.keras")
    theirs = checkpoints.load(tmp_path / "theirs.keras")
    monkeypatch.setattr(checkpoints.saving, "_problem", lambda *arguments: "it is too strange")
    with pytest.raises(InputError, match=r"neither.*too strange.*\.keras.*too strange"):
        train_further(theirs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_frozen_model_is_refused_before_the_first_epoch(tmp_path):
    model = classifier(L.Rescaling(1 / 255))
    model.trainable = False
    model.save(tmp_path / "theirs.keras")
    with pytest.raises(InputError, match=r"theirs\.keras: has no weights to train"):
        train_further(checkpoints.load(tmp_path / "theirs.keras"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_failure_of_keras_with_a_model_of_others_is_an_error_of_its_file(tmp_path, monkeypatch):
    classifier(L.Rescaling(1 / 255)).save(tmp_path / "theirs.keras")
    theirs = checkpoints.load(tmp_path / "theirs.keras")

    def fails(*arguments, **settings):
        raise ValueError("no gradient")

    monkeypatch.setattr(keras.Model, "fit", fails)
    with pytest.raises(InputError, match=r"theirs\.keras.*no gradient"):
        train_further(theirs, tmp_path / "run")


@pytest.mark.slow
def test_logits_are_trained_as_the_same_network_with_a_softmax(tmp_path):
    histories, paths = [], []
    for kind, activation in (("logits", None), ("softmax", "softmax")):
        classifier(L.Rescaling(1 / 255), activation).save(tmp_path / f"{kind}.keras")
        theirs = checkpoints.load(tmp_path / f"{kind}.keras")
        result = train_further(theirs, tmp_path / kind)
        histories.append(result.history)
        paths.append(training.publish(result, tmp_path / "out", suffix=f"_{kind}"))
    for metric in ("loss", "val_loss", "val_accuracy"):
        assert histories[0][metric] == pytest.approx(histories[1][metric], abs=1e-5)
    images = shades().images[:8]
    one, other = (np.asarray(checkpoints.load(path).model(images)) for path in paths)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_trained_softmax_of_logits_is_trained_further_as_it_is(tmp_path):
    classifier(L.Rescaling(1 / 255), None).save(tmp_path / "logits.keras")
    result = train_further(checkpoints.load(tmp_path / "logits.keras"), tmp_path / "run")
    path = training.publish(result, tmp_path)
    again = checkpoints.load(path, with_optimizer=True)
    further = training.fit(
        again.raw_pixel_model(),
        Supervised(shades(), RECIPE.override(epochs=2)),
        shades(24, seed=1),
        start=training.Start(resume_from=again, epoch=1),
        run_dir=tmp_path / "further",
    )
    assert len(further.model.layers) == len(again.model.layers)
    assert int(further.model.optimizer.iterations) == 6


@pytest.mark.slow
def test_independent_outputs_are_trained_by_binary_cross_entropy(tmp_path):
    model = classifier(L.Rescaling(1 / 255), "sigmoid")
    model.save(tmp_path / "theirs.keras")
    validation = shades(24, seed=1)
    recipe = RECIPE.override(learning_rate=1e-9)
    theirs = checkpoints.load(tmp_path / "theirs.keras")
    result = train_further(theirs, tmp_path / "run", recipe=recipe)
    predicted = np.asarray(model(validation.images.astype("float32")), dtype="float64")
    truth = np.eye(3)[validation.labels]
    expected = -(truth * np.log(predicted) + (1 - truth) * np.log(1 - predicted)).mean()
    assert result.history["val_loss"][-1] == pytest.approx(expected, abs=1e-4)
    hits = (predicted.argmax(axis=1) == validation.labels).mean()
    assert result.val_accuracy == pytest.approx(hits, abs=1e-6)


SEMI = get_recipe("semi-report", SemiRecipe).override(
    epochs=1, batch_size=16, rotation=0.0, shift=0.0, zoom=0.0, horizontal_flip=False, ramp_epochs=0
)


def pseudo_labelled(recipe=SEMI):
    other = shades(12, seed=2)
    return PseudoLabelled(
        shades(),
        recipe,
        seed=0,
        images=other.images,
        targets=np.eye(3, dtype="float32")[other.labels],
        known=np.zeros(0, np.uint64),
        labelled_by="theirs.keras",
    )


def fixmatch(recipe=SEMI):
    return FixMatch(
        shades(),
        recipe.override(method="fixmatch"),
        seed=0,
        unlabelled=shades(12, seed=2).images,
        thresholds=np.full(3, 0.5),
        known=np.zeros(0, np.uint64),
    )


@pytest.mark.slow
def test_fixmatch_of_logits_learns_their_softmax(tmp_path):
    losses = []
    for kind, activation in (("logits", None), ("softmax", "softmax")):
        classifier(L.Rescaling(1 / 255), activation).save(tmp_path / f"{kind}.keras")
        theirs = checkpoints.load(tmp_path / f"{kind}.keras")
        losses.append(train_further(theirs, tmp_path / kind, fixmatch()).history["loss"][-1])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_independent_outputs_suit_pseudo_labels_but_not_fixmatch():
    objective = pseudo_labelled()
    objective.set_outputs("independent")
    assert objective.loss == "binary_crossentropy"
    with pytest.raises(InputError, match="fixmatch requires"):
        fixmatch().set_outputs("independent")
