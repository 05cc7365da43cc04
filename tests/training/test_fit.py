"""Training: it learns, it is reproducible, and it resumes as if it was never interrupted."""

import csv
import dataclasses
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from support import ROOT, faces, small_networks  # noqa: F401, the process to be killed uses faces

from ferlab import backend, checkpoints, files, optimizers, training
from ferlab.checkpoints import Checkpoint, TrainingRecord
from ferlab.data.batches import Batches, feed
from ferlab.errors import InputError
from ferlab.recipes import RECIPES, Phase
from ferlab.training.acceleration import FusedBatchNormalization, accelerate
from ferlab.training.callbacks import StopOnNonFinite
from ferlab.training.objectives import Supervised
from models import BACKBONE, HEAD, MODELS, build_model

pytestmark = pytest.mark.usefixtures("few_weights")

RECIPE = RECIPES["cnn-report"].override(batch_size=64, validation=60)


def train(dataset, run_dir, *, seed=0, recipe=RECIPE, build=None, **options):
    part, validation = dataset.split(recipe.validation)
    training.set_seed(seed)
    build = build or functools.partial(build_model, recipe.model)
    model = build(part.image_shape, part.num_classes)
    part = part.without_labels(recipe.labels_removed, seed).labelled()
    objective = Supervised(part, recipe, seed=seed)
    return training.fit(model, objective, validation, run_dir=run_dir, **options)


def train_further(dataset, run_dir, path, recipe, epoch, **options):
    """As retrain.py does: continue a checkpoint after `epoch` epochs."""
    checkpoint = checkpoints.load(path, with_optimizer=True)
    part, validation = dataset.split(recipe.validation)
    return training.fit(
        checkpoint.raw_pixel_model(),
        Supervised(part, recipe),
        validation,
        start=training.Start(resume_from=checkpoint, epoch=epoch),
        run_dir=run_dir,
        **options,
    )


def weights_of(model):
    return [np.asarray(weight) for weight in model.get_weights()]


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def test_training_with_the_same_seed_is_bit_for_bit_equal(dataset, tmp_path):
    recipe = RECIPE.override(epochs=1, validation=20)
    few = dataset.take(np.arange(150))

    def weights(name, seed, recipe):
        return weights_of(train(few, tmp_path / name, seed=seed, recipe=recipe).model)

    assert same(weights("a", 1, recipe), weights("b", 1, recipe))
    dnn = recipe.override(model="dnn")
    assert not same(weights("c", 1, dnn), weights("d", 2, dnn))


FOUR_EPOCHS = RECIPE.override(model="dnn", epochs=4)


@pytest.fixture(scope="module")
def straight(dataset, tmp_path_factory):
    """A training that nothing stops."""
    return train(dataset, tmp_path_factory.mktemp("straight"), recipe=FOUR_EPOCHS, keep_epochs=3)


@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
def test_training_a_checkpoint_further_equals_an_uninterrupted_training(
    straight, dataset, tmp_path, suffix, capsys
):
    half = train(dataset, tmp_path / "half", recipe=FOUR_EPOCHS.override(epochs=1))
    path = tmp_path / f"half{suffix}"
    checkpoints.save(half.model, path, half.record)

    resumed = train_further(dataset, tmp_path / "resumed", path, FOUR_EPOCHS, 1)
    assert same(weights_of(straight.model), weights_of(resumed.model))
    assert straight.history["val_accuracy"] == resumed.history["val_accuracy"]
    assert "no optimizer state" not in capsys.readouterr().out


def stopped(monkeypatch, unsaved, work):
    """Stop when the third epoch's checkpoint of that name is about to be written."""
    save = checkpoints.save

    def save_or_stop(model, path, record, **options):
        if path.name.startswith(unsaved) and len(record.history["loss"]) == 3:
            raise KeyboardInterrupt
        save(model, path, record, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_or_stop)
        with pytest.raises(KeyboardInterrupt):
            work()


def timeless(record):
    """The record without what differs between two runs of the same training."""
    history = {name: values for name, values in record.history.items() if name != "seconds"}
    # Keras numbers the optimizers of a process.
    return record.replace(history=history, created=None, versions={}, optimizer=None)


def require_equal(first, second):
    assert same(weights_of(first.model), weights_of(second.model))
    states = [[np.asarray(v) for v in one.model.optimizer.variables] for one in (first, second)]
    assert same(*states)
    assert timeless(first.record) == timeless(second.record)
    assert [path.name for path in first.snapshots] == [path.name for path in second.snapshots]
    for one, other in zip(first.snapshots, second.snapshots, strict=True):
        assert same(*(weights_of(checkpoints.load(path).model) for path in (one, other)))
        assert timeless(checkpoints.read_record(one)) == timeless(checkpoints.read_record(other))


def csv_rows(run_dir):
    with (run_dir / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("unsaved", ["2_", "last"])
def test_resumed_training_equals_an_uninterrupted_one(
    straight, dataset, tmp_path, monkeypatch, unsaved
):
    def work(**options):
        return train(dataset, tmp_path, recipe=FOUR_EPOCHS, keep_epochs=3, **options)

    stopped(monkeypatch, unsaved, work)
    assert len(checkpoints.read_record(tmp_path / "last.h5").history["loss"]) == 2
    resumed = work()
    require_equal(straight, resumed)
    rows = csv_rows(tmp_path)
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert [float(row["val_loss"]) for row in rows] == straight.history["val_loss"]


def test_resumed_cnn_equals_an_uninterrupted_one(dataset, tmp_path, monkeypatch):
    few, recipe = dataset.take(np.arange(100)), RECIPE.override(epochs=4, validation=20)

    def work(name, **options):
        return train(few, tmp_path / name, recipe=recipe, **options)

    stopped(monkeypatch, "last", lambda: work("stopped"))
    require_equal(work("straight"), work("stopped"))


def test_training_a_checkpoint_further_is_resumed(straight, dataset, tmp_path, monkeypatch):
    half = train(dataset, tmp_path / "half", recipe=FOUR_EPOCHS.override(epochs=1))
    path = training.publish(half, tmp_path)

    def retrain():
        return train_further(dataset, tmp_path / "run", path, FOUR_EPOCHS, 1)

    stopped(monkeypatch, "last", retrain)
    resumed = retrain()
    assert same(weights_of(straight.model), weights_of(resumed.model))
    assert resumed.record.resumed_from == path.name
    assert resumed.record.phases == ((0, FOUR_EPOCHS.name), (1, FOUR_EPOCHS.name))
    assert straight.record.phases == ((0, FOUR_EPOCHS.name),)
    assert resumed.history["val_loss"] == straight.history["val_loss"]
    assert [int(row["epoch"]) for row in csv_rows(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("optimizer", "decay"), [("muon", 0.0), ("adamw", 0.0), ("adam", 0.3), ("adam", 0.0)]
)
def test_training_a_checkpoint_further_can_change_optimizer_and_decay(
    dataset, tmp_path, capsys, optimizer, decay
):
    few = dataset.take(np.arange(60 + 64))
    recipe = RECIPE.override(model="dnn", epochs=1)
    path = training.publish(train(few, tmp_path / "run", recipe=recipe), tmp_path)
    other = recipe.override(epochs=2, optimizer=optimizer, weight_decay=decay)
    result = train_further(few, tmp_path / "other", path, other, 1)
    used = result.model.optimizer
    assert (type(used).__name__.lower(), used.weight_decay or 0.0) == (optimizer, decay)
    is_new = optimizer != recipe.optimizer
    assert int(used.iterations) == (1 if is_new else 2)
    assert ("adam, so a new optimizer" in capsys.readouterr().out) == is_new


def test_killed_training_is_resumed(dataset, tmp_path):
    code = (
        "import sys; from pathlib import Path; from test_fit import *;"
        "small_networks(pytest.MonkeyPatch());"
        "train(faces(300), Path(sys.argv[1]), recipe=RECIPE.override(model='dnn', epochs=12),"
        "      keep_epochs=8)"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "training")])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    while not (tmp_path / "killed" / "last.h5").exists():
        assert process.poll() is None
        time.sleep(0.01)
    moment = random.Random(0).uniform(0, 2)  # of about 3 seconds; bench/kills.py tries many
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()

    options = {"recipe": RECIPE.override(model="dnn", epochs=12), "keep_epochs": 8}
    resumed = train(dataset, tmp_path / "killed", **options)
    print(f"killed {moment} s after the first epoch")
    require_equal(train(dataset, tmp_path / "straight", **options), resumed)
    assert [int(row["epoch"]) for row in csv_rows(tmp_path / "killed")] == list(range(12))


def test_finished_training_is_not_repeated(straight, dataset, tmp_path, monkeypatch):
    options = {"recipe": FOUR_EPOCHS, "keep_epochs": 3}
    first = train(dataset, tmp_path / "run", **options)
    (tmp_path / "run" / "history.csv").write_text("epoch,loss\n0,1\n0,1\n")

    def no_epoch(self, epoch):
        raise AssertionError("it trains")

    monkeypatch.setattr(Batches, "shuffle", no_epoch)
    again = train(dataset, tmp_path / "run", **options)
    require_equal(straight, again)
    assert again.record == first.record
    assert len(csv_rows(tmp_path / "run")) == 4
    path = training.publish(again, tmp_path)
    published = train(dataset, tmp_path / "run", **options)
    assert published.snapshots == ()
    assert training.publish(published, tmp_path) == path


def test_training_killed_after_its_result_is_published_is_not_repeated(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = RECIPE.override(model="dnn", epochs=1, batch_size=32, validation=20)
    few = dataset.take(np.arange(80))
    said = []

    def killed(line):
        said.append(line)
        raise KeyboardInterrupt  # as near as a test gets to a kill before the run is finished

    result = train(few, None, recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        training.publish(result, tmp_path, report=killed)
    result.run.release()
    before = sorted(tmp_path.rglob("*.h5"))
    assert not list(tmp_path.rglob("result.json"))

    def no_epoch(self, epoch):
        raise AssertionError("it trains")

    monkeypatch.setattr(Batches, "shuffle", no_epoch)
    again = training.publish(train(few, None, recipe=recipe), tmp_path, report=said.append)
    assert said == [str(again), str(again)]
    assert sorted(tmp_path.rglob("*.h5")) == before
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_resumed_training_says_and_records_that_the_threads_changed(
    dataset, tmp_path, monkeypatch, capsys
):
    recipe = RECIPE.override(model="dnn", epochs=1, batch_size=32, validation=20)
    few = dataset.take(np.arange(80))
    for threads, note, recorded in (
        (2, None, "2"),
        (2, None, "2"),
        (1, "threads 2, now 1", "2, later 1"),
        (1, "threads 2, now 1", "2, later 1"),
    ):
        monkeypatch.setattr(backend, "threads", lambda threads=threads: threads)
        result = train(few, tmp_path / "run", recipe=recipe)
        result.run.release()
        printed = capsys.readouterr().out
        assert note is None or note in printed
        assert ("last digits" in printed) == (note is not None)
        assert result.record.versions["threads"] == recorded
        environment = json.loads((tmp_path / "run" / "environment.json").read_text())
        assert environment["threads"] == recorded


def test_fit_refuses_to_resume_with_other_settings(straight, dataset, tmp_path):
    options = {"recipe": FOUR_EPOCHS, "keep_epochs": 1}
    train(dataset, tmp_path, **options).run.release()
    checkpoints.save(straight.model, tmp_path / "a.h5", TrainingRecord())
    start = training.Start(resume_from=Checkpoint(tmp_path / "a.h5", straight.model, None, "raw"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    rows = np.arange(299)
    for other, rule in (
        ({"recipe": FOUR_EPOCHS.override(epochs=5)}, "recipe's epochs 4. Received: 5"),
        ({"recipe": FOUR_EPOCHS.override(shift=0.2)}, "recipe's shift 0.1. Received: 0.2"),
        ({"seed": 3}, "seed 0. Received: 3"),
        ({"keep_epochs": 2}, "keep_epochs 1. Received: 2"),
        ({"dataset": dataset.take(rows)}, "data's fingerprint"),
        ({"start": start}, "resume_from None"),
    ):
        with pytest.raises(InputError, match=rule):
            train(**{"dataset": dataset, "run_dir": tmp_path, **options, **other})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_training_killed_in_its_first_epoch_starts_over(straight, dataset, tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 7}')
    (tmp_path / "history.csv").write_text("epoch,loss\n0,1\n")
    resumed = train(dataset, tmp_path, recipe=FOUR_EPOCHS, keep_epochs=3)
    require_equal(straight, resumed)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
    assert len(csv_rows(tmp_path)) == 4


def test_training_learns(dataset, tmp_path):
    recipe = RECIPE.override(
        model="dnn", epochs=12, learning_rate=0.005, shift=0.0, horizontal_flip=False
    )
    history = train(dataset, tmp_path, recipe=recipe).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_fused_batch_normalization_equals_keras():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the fused kernel is TensorFlow's")
    import tensorflow as tf

    images = np.random.default_rng(0).normal(3, 2, (16, 6, 5, 8)).astype("float32")
    plain, shared = (keras.layers.BatchNormalization(momentum=0.9) for _ in range(2))
    fused = FusedBatchNormalization(shared)
    for layer in (plain, shared):
        layer.build(images.shape)
    results = []
    for layer, variables in ((plain, plain), (fused, shared)):
        x = tf.constant(images)
        variables.gamma.assign(np.linspace(0.5, 2, 8))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * y * y)
        gradients = tape.gradient(loss, [x, variables.gamma.value, variables.beta.value])
        results.append([y, *gradients, variables.moving_mean, variables.moving_variance])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-3, atol=1e-3)


def test_accelerated_model_shares_every_variable_in_order():
    model = build_model("cnn", (16, 16, 1), 7)
    fast = accelerate(model)
    for kind in ("trainable_variables", "non_trainable_variables"):
        pairs = zip(getattr(model, kind), getattr(fast, kind), strict=True)
        assert all(one is other for one, other in pairs)


def test_bfloat16_is_close_in_training_and_off_in_evaluation():
    training.set_seed(0)
    model = build_model("resnet", (16, 16, 1), 7)
    fast = accelerate(model, bfloat16=True)
    assert all(one is other for one, other in zip(model.variables, fast.variables, strict=True))
    images = np.random.default_rng(0).uniform(0, 255, (32, 16, 16, 1)).astype("float32")
    exact, reduced = (
        keras.ops.convert_to_numpy(one(images, training=True)) for one in (model, fast)
    )
    assert 1e-6 < abs(exact - reduced).max() < 0.05
    assert reduced.dtype == np.float32
    exact, reduced = (
        keras.ops.convert_to_numpy(one(images, training=False)) for one in (model, fast)
    )
    np.testing.assert_allclose(exact, reduced, atol=1e-6)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


def test_accelerated_model_for_smaller_images_shares_every_variable():
    model = build_model("resnet", (48, 48, 1), 7)
    small = accelerate(model, image_shape=(32, 32, 1))
    assert small.input_shape == (None, 32, 32, 1)
    assert all(one is other for one, other in zip(model.variables, small.variables, strict=True))


SMALL_FIRST = RECIPES["best"].override(
    epochs=4,
    batch_size=64,
    validation=60,
    progressive_scale=1 / 3,
    progressive_fraction=0.5,
    no_aug_fraction=0.25,
    ema=0.9,
    optimizer="adamw",
)


def test_ema_mixup_resizing_and_schedule_resume_as_if_uninterrupted(dataset, tmp_path, monkeypatch):
    def work(name):
        return train(dataset.take(np.arange(200)), tmp_path / name, recipe=SMALL_FIRST)

    stopped(monkeypatch, "last.h5", lambda: work("again"))  # before the first on whole images
    assert len(csv_rows(tmp_path / "again")) in (2, 3)
    require_equal(work("straight"), work("again"))


def test_ema_saves_and_scores_the_mean_of_the_weights(dataset, tmp_path):
    """Compared with a manual calculation, for epochs of one step."""
    recipe = RECIPE.override(model="dnn", epochs=2, batch_size=64, ema=0.75, optimizer="sgd")
    few = dataset.take(np.arange(60 + 64))
    plain = train(few, tmp_path / "plain", recipe=recipe.override(ema=0.0), keep_epochs=2)
    averaged = train(few, tmp_path / "averaged", recipe=recipe, keep_epochs=2)
    steps = [weights_of(checkpoints.load(path).model) for path in plain.snapshots]
    saved = [weights_of(checkpoints.load(path).model) for path in averaged.snapshots]
    mean = steps[0]  # Keras begins with the weights after the first step
    for raw, averages in zip(steps, saved, strict=True):
        mean = [0.75 * old + 0.25 * new for old, new in zip(mean, raw, strict=True)]
        for expected, average in zip(mean, averages, strict=True):
            np.testing.assert_allclose(expected, average, atol=1e-5)


def test_ema_continues_across_phases_and_trainings(dataset, tmp_path, capsys):
    """Without augmentation to switch off, the last epochs equal those of one phase."""
    recipe = RECIPE.override(model="dnn", epochs=4, batch_size=60, ema=0.9)
    few = dataset.take(np.arange(180))
    straight = train(few, tmp_path / "straight", recipe=recipe)
    in_stages = train(few, tmp_path / "stages", recipe=recipe.override(no_aug_fraction=0.5))
    assert same(weights_of(straight.model), weights_of(in_stages.model))
    assert "--no-aug-fraction has no effect" in capsys.readouterr().out
    half = train(few, tmp_path / "half", recipe=recipe.override(epochs=2))
    path = training.publish(half, tmp_path)
    with pytest.raises(InputError, match="--ema must be above 0"):
        train_further(few, tmp_path / "without", path, recipe.override(ema=0.0), 2)
    assert not (tmp_path / "without").exists()
    resumed = train_further(few, tmp_path / "on", path, recipe, 2)
    assert same(weights_of(straight.model), weights_of(resumed.model))


def test_cosine_schedule_warms_up_and_decays_to_zero(dataset, tmp_path):
    recipe = SMALL_FIRST.override(epochs=8, warmup=0.25, learning_rate=0.02, no_aug_fraction=0.5)
    recipe = recipe.override(model="dnn", progressive_scale=0.0, progressive_fraction=0.0)
    few = dataset.take(np.arange(60 + 64))
    rates = train(few, tmp_path, recipe=recipe).history["learning_rate"]
    cosine = 0.01 * (1 + np.cos(np.pi * np.arange(7) / 6))
    np.testing.assert_allclose(rates, [0.01, *cosine], atol=1e-6)


def test_weight_decay_applies_to_kernels_alone(dataset, tmp_path):
    recipe = RECIPES["fast"].override(
        epochs=1, batch_size=64, validation=60, weight_decay=0.9, learning_rate=1e-9
    )
    result = train(dataset.take(np.arange(124)), tmp_path, recipe=recipe)
    optimizer = result.model.optimizer
    decayed = [v.name for v in result.model.trainable_variables if optimizer._use_weight_decay(v)]
    assert set(decayed) == {"kernel"}
    assert len(decayed) == sum(v.name == "kernel" for v in result.model.trainable_variables)


def test_no_aug_fraction_below_half_an_epoch_is_noted(dataset, tmp_path, capsys):
    recipe = RECIPE.override(model="dnn", epochs=1, mixup=0.2, no_aug_fraction=0.2)
    train(dataset.take(np.arange(60 + 64)), tmp_path, recipe=recipe)
    assert "--no-aug-fraction 0.2 of 1 epochs" in capsys.readouterr().out


def test_last_epochs_are_without_augmentation(dataset, tmp_path, monkeypatch):
    """With everything else switched off too, they hold unchanged images and labels."""
    recipe = (
        RECIPES["best"]
        .override(
            model="dnn",
            epochs=4,
            batch_size=60,
            shift=0.0,
            horizontal_flip=False,
            no_aug_fraction=0.5,
        )
        .override(
            progressive_scale=0.0, progressive_fraction=0.0, bfloat16=False, label_smoothing=0.0
        )
    )
    part = dataset.take(np.arange(60))
    known = {image.tobytes(): label for image, label in zip(part.images, part.labels, strict=True)}
    objective, unchanged = Supervised(part, recipe), []
    for phase in recipe.phases():
        batches = objective.batches(phase)
        batches.shuffle(0)
        images, targets = batches[0]
        own = [
            known.get(image.astype("uint8").tobytes()) == target.argmax() and target.max() == 1
            for image, target in zip(images, targets, strict=True)
        ]
        network = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Rescaling(1.0)])
        changed = objective.training_model(network, phase)(part.images, training=True)
        unchanged.append((all(own), np.array_equal(np.asarray(changed), part.images)))
    assert unchanged == [(False, False), (True, True)]


def test_frozen_batch_normalization_keeps_its_moving_statistics():
    layer = keras.layers.BatchNormalization(trainable=False)
    images = np.full((4, 3, 3, 2), 9.0, "float32")
    fused = FusedBatchNormalization(layer)
    fused(images, training=True)
    assert np.all(np.asarray(layer.moving_mean) == 0)


def test_evaluation_counts_the_smaller_last_batch(dataset, tmp_path):
    result = train(dataset, tmp_path, recipe=RECIPE.override(model="dnn", epochs=1, validation=61))
    _, validation = dataset.split(61)
    predicted = result.model.predict(feed(Batches(validation.images, None, 7)), verbose=0)
    share = (predicted.argmax(1) == validation.labels).mean()
    assert result.val_accuracy == pytest.approx(share, abs=1e-6)


def test_publish_names_the_files_by_validation_accuracy(dataset, tmp_path):
    recipe = RECIPE.override(model="dnn", epochs=3)
    result = train(dataset, tmp_path / "run", recipe=recipe, keep_epochs=2)
    path = training.publish(result, tmp_path / "out")

    assert path.name == f"dnn_{result.val_accuracy:.6f}.h5"
    accuracies = result.history["val_accuracy"]
    snapshots = sorted(file.name for file in path.with_suffix("").iterdir())
    assert snapshots == [f"{epoch}_{accuracies[epoch]:.6f}.h5" for epoch in (1, 2)]
    last = checkpoints.load(path.with_suffix("") / snapshots[-1])
    assert same(weights_of(last.model), weights_of(result.model))

    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["epochs"] == 3
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["keras"]
    assert "device: CPU" in (tmp_path / "run" / "log.txt").read_text()
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_accuracy"]) for row in rows] == accuracies
    with pytest.raises(InputError, match=r"recipe's epochs 3\. Received: 4"):
        train(dataset, tmp_path / "run", recipe=recipe.override(epochs=4), keep_epochs=2)


def test_publish_does_not_overwrite_another_training(dataset, tmp_path):
    result = train(dataset, tmp_path / "run", recipe=RECIPE.override(model="dnn", epochs=1))
    first = training.publish(result, tmp_path)
    assert training.publish(result, tmp_path) == first
    other = dataclasses.replace(result, record=result.record.replace(seed=5))
    assert training.publish(other, tmp_path).name == f"{first.stem}-2.h5"


def test_fit_stopped_by_ctrl_c_keeps_the_finished_epochs(dataset, tmp_path, monkeypatch):
    shuffle = Batches.shuffle

    def stop_at_epoch_two(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        shuffle(self, epoch)

    monkeypatch.setattr(Batches, "shuffle", stop_at_epoch_two)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path, recipe=RECIPE.override(model="dnn", epochs=4))
    assert len(checkpoints.read_record(tmp_path / "last.h5").history["loss"]) == 2
    log = (tmp_path / "log.txt").read_text()
    assert "2 finished epochs" in log
    assert "the same command resumes" in log


def test_fit_refuses_images_and_classes_of_another_model(dataset, tmp_path):
    part, validation = dataset.split(60)
    model = build_model("dnn", (32, 32, 1), 7)
    with pytest.raises(InputError, match="takes images of"):
        training.fit(model, Supervised(part, RECIPE), validation, run_dir=tmp_path)
    model = build_model("dnn", (48, 48, 1), 6)
    with pytest.raises(InputError, match="6 classes"):
        training.fit(model, Supervised(part, RECIPE), validation, run_dir=tmp_path)


def test_fit_stops_without_a_checkpoint_at_a_loss_that_is_not_finite(dataset, tmp_path):
    recipe = RECIPE.override(model="dnn", epochs=3, learning_rate=1e30)
    rule = (
        r"^epoch 1, step [2-4]: the loss is (nan|inf) at learning rate 1e\+30; a smaller .*nothing"
    )
    with pytest.raises(InputError, match=rule):
        train(dataset, tmp_path, recipe=recipe)
    assert not (tmp_path / "last.h5").exists()


def spoil_at_the_end_of_epoch_two(monkeypatch, spoil):
    begin = StopOnNonFinite.on_epoch_end

    def spoilt(self, epoch, logs=None):
        begin(self, epoch, spoil(self, logs) if epoch == 1 else logs)

    monkeypatch.setattr(StopOnNonFinite, "on_epoch_end", spoilt)


def spoil_a_weight(self, logs):
    weight = self.saved_model.weights[0]
    weight.assign(np.full(weight.shape, np.inf))
    return logs


def spoil_the_optimiser(self, logs):
    variable = self.saved_model.optimizer.variables[-1]
    variable.assign(np.full(variable.shape, np.nan))
    return logs


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda self, logs: {**logs, "val_loss": np.nan}, "the val_loss is nan"),
        (spoil_a_weight, r"\S+kernel is not finite"),
        (spoil_the_optimiser, r"\S+ is not finite"),
    ],
)
def test_fit_saves_no_values_that_are_not_finite(dataset, tmp_path, monkeypatch, spoil, rule):
    spoil_at_the_end_of_epoch_two(monkeypatch, spoil)
    recipe = RECIPE.override(model="dnn", epochs=3)
    hint = re.escape(f"the finished epoch is in {tmp_path / 'last.h5'}")
    with pytest.raises(InputError, match=f"^epoch 2: {rule} at learning rate 0.001; .*; {hint}$"):
        train(dataset, tmp_path, recipe=recipe, keep_epochs=3)
    last = checkpoints.load(tmp_path / "last.h5", with_optimizer=True)
    assert len(last.record.history["loss"]) == len(csv_rows(tmp_path)) == 1
    for variable in (*last.model.variables, *last.model.optimizer.variables):
        assert np.isfinite(np.asarray(variable)).all()
    assert [path.name[0] for path in (tmp_path / "epochs").iterdir()] == ["0"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and what sets its size in bytes."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(size, *options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", place],
            check=False,
            capture_output=True,
        ).returncode

    if not shutil.which("mount") or resize(4096):
        pytest.skip("this user may mount no file system")
    yield place, lambda size: resize(size, "remount")
    subprocess.run(["umount", place], check=True)  # refused while a file is left open


def test_fit_on_a_full_disk_fails_in_one_line_and_resumes(dataset, tmp_path, small_disk):
    disk, resize = small_disk
    few = dataset.take(np.arange(80))
    few = dataclasses.replace(few, images=few.images[:, ::6, ::6])
    recipe = RECIPE.override(model="dnn", epochs=3, batch_size=32, validation=20)

    def work(place):
        result = train(few, place / "run", recipe=recipe, keep_epochs=2)
        return result, training.publish(result, place / "out")

    straight, path = work(tmp_path)
    one = path.stat().st_size
    full_paths = []
    # no room for the folder's small files; for the first epoch's, the second's, the third's; ...
    for size in (4096, 12288, one // 2, one + 40960, 2 * one + 50000, 4 * one):
        assert resize(size) == 0
        with pytest.raises(InputError, match="cannot be written: No space left on device") as error:
            work(disk)
        full_paths.append(str(error.value).split(":")[0].removeprefix(f"{disk}/"))
        for checkpoint in disk.rglob("*.h5"):
            checkpoints.load(checkpoint, with_optimizer=True)
        assert not list(disk.rglob(".ferlab-*"))
    assert len(set(full_paths)) > 3, full_paths
    assert resize(8 * one) == 0
    resumed, again = work(disk)
    assert again.name == path.name
    assert same(weights_of(straight.model), weights_of(resumed.model))
    names = [sorted(file.name for file in out.rglob("*.h5")) for out in (path.parent, disk / "out")]
    assert names[0] == names[1]


def test_publish_moves_across_file_systems_and_removes_temporary_files(
    dataset, tmp_path, small_disk
):
    disk, resize = small_disk
    assert resize(400 * 2**20) == 0
    recipe = RECIPE.override(model="dnn", epochs=2)
    result = train(dataset, tmp_path / "run", recipe=recipe, keep_epochs=2)
    snapshots = {path.name: path.read_bytes() for path in result.snapshots}
    name = f"dnn_{result.val_accuracy:.6f}"
    left = [f"{files._temporary_prefix(snapshot)}01234567.h5" for snapshot in snapshots]
    stale = [disk / left[0], *(disk / name / each for each in left)]
    (disk / name).mkdir()
    for path in stale:
        path.touch()
    path = training.publish(result, disk)
    assert {file.name: file.read_bytes() for file in (disk / name).iterdir()} == snapshots
    assert sorted(disk.iterdir()) == sorted([path, disk / name])
    assert not (tmp_path / "run" / "epochs").exists()


def test_fit_requires_an_epoch_to_train(dataset, tmp_path):
    part, validation = dataset.split(60)
    model = build_model("dnn", (48, 48, 1), 7)
    with pytest.raises(InputError, match="above"):
        training.fit(model, Supervised(part, RECIPE), validation, start=training.Start(epoch=20))


def test_foreign_model_trains_behind_a_rescaling_layer(dataset, tmp_path, capsys):
    images = keras.Input((48, 48, 1))
    flat = keras.layers.Flatten()(images)
    model = keras.Model(images, keras.layers.Dense(7, activation="softmax")(flat))
    model.save(tmp_path / "foreign.h5")
    foreign = Checkpoint(tmp_path / "foreign.h5", model, None, "unit")
    part, validation = dataset.split(60)
    result = training.fit(
        foreign.raw_pixel_model(),
        Supervised(part, RECIPE.override(epochs=1)),
        validation,
        start=training.Start(resume_from=foreign),
        run_dir=tmp_path,
    )
    assert "foreign.h5 has no optimizer state" in (capsys.readouterr().out)
    raw = np.asarray(result.model(part.images[:3]))
    scaled = np.asarray(model(part.images[:3].astype("float32") / 255))
    np.testing.assert_allclose(raw, scaled, atol=1e-5)


def test_model_for_one_image_size_refuses_progressive_resizing(dataset, tmp_path):
    recipe = RECIPE.override(progressive_scale=0.5, progressive_fraction=0.5, epochs=2)
    with pytest.raises(InputError, match="cnn cannot take images of 24x24; --progressive-scale 0"):
        train(dataset, tmp_path, recipe=recipe)


TWO_PHASES = RECIPES["fast"].override(
    batch_size=60,
    validation=60,
    epochs=4,
    progressive_scale=0.0,
    progressive_fraction=0.0,
    explicit_phases=(
        Phase(range(2), trainable="head", learning_rate=0.02),
        Phase(range(2, 4), learning_rate=0.01),
    ),
)


def test_fit_trains_the_head_and_then_all_layers_each_with_its_own_schedule(dataset, tmp_path):
    few = dataset.take(np.arange(180))
    training.set_seed(0)
    start = build_model("resnet", few.image_shape, 7)
    result = train(few, tmp_path, recipe=TWO_PHASES, keep_epochs=4)
    head = [weight.path.startswith(HEAD) for weight in start.weights]
    first, last = (checkpoints.load(result.snapshots[epoch]).model for epoch in (1, 3))
    for is_head, before, middle, after in zip(
        head, *map(weights_of, (start, first, last)), strict=True
    ):
        assert np.array_equal(before, middle) != is_head
        assert not np.array_equal(middle, after)
    rates = result.history["learning_rate"]
    assert rates[1] < 1e-6 < rates[0] < 0.02  # a cosine of its own ends at 0
    assert rates[3] < 1e-6 < rates[2] < 0.01
    assert int(result.model.optimizer.iterations) == 4  # two epochs of two steps
    assert all(layer.trainable for layer in result.model.layers)


@pytest.fixture(scope="module")
def both_phases(dataset, tmp_path_factory):
    """A training in two phases that nothing stops."""
    few = dataset.take(np.arange(180))
    return train(few, tmp_path_factory.mktemp("phases"), recipe=TWO_PHASES)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_fit_resumes_in_either_phase(both_phases, dataset, tmp_path, monkeypatch, epoch):
    def work():
        return train(dataset.take(np.arange(180)), tmp_path, recipe=TWO_PHASES)

    shuffle = Batches.shuffle

    def stop(self, number):
        if number == epoch:
            raise KeyboardInterrupt
        shuffle(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "shuffle", stop)
        with pytest.raises(KeyboardInterrupt):
            work()
    require_equal(both_phases, work())


def test_fit_freezes_the_backbone_of_a_model_that_has_one(dataset, tmp_path):
    few = dataset.take(np.arange(180))

    def build(image_shape, num_classes):
        images = keras.Input(image_shape)
        inputs = keras.Input(image_shape)
        features = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(inputs))
        body = keras.Model(inputs, features, name=BACKBONE)
        x = keras.layers.Dense(8, name="between")(body(images))
        return keras.Model(images, keras.layers.Dense(num_classes, "softmax", name=HEAD)(x))

    recipe = TWO_PHASES.override(epochs=1)
    training.set_seed(0)
    before = build(few.image_shape, 7)
    after = train(few, tmp_path, recipe=recipe, build=build).model
    unchanged = [
        np.array_equal(one, other)
        for one, other in zip(weights_of(before), weights_of(after), strict=True)
    ]
    assert unchanged == [True, True, False, False, False, False]


def test_fit_refuses_to_train_the_head_of_a_model_without_one(dataset, tmp_path):
    def build(image_shape, num_classes):
        images = keras.Input(image_shape)
        x = keras.layers.Flatten()(images)
        return keras.Model(images, keras.layers.Dense(num_classes, "softmax", name="other")(x))

    with pytest.raises(InputError, match=f"no layer {HEAD}"):
        train(dataset, tmp_path / "run", recipe=TWO_PHASES, build=build)
    assert not (tmp_path / "run").exists()


def test_fit_calls_the_callbacks_it_is_given(dataset, tmp_path):
    recipe = RECIPE.override(model="dnn", epochs=4, no_aug_fraction=0.5, rotation=5.0)
    epochs = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append((epoch, sorted(logs)))
    )
    train(dataset, tmp_path, recipe=recipe, callbacks=[callback])
    metrics = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert epochs == [(epoch, metrics) for epoch in range(4)]


def test_train_builds_seeds_and_fits_by_the_recipe(straight, dataset, tmp_path):
    part, validation = dataset.split(FOUR_EPOCHS.validation)
    result = training.train(part, validation, FOUR_EPOCHS, run_dir=tmp_path)
    assert same(weights_of(straight.model), weights_of(result.model))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_muon_leaves_the_head_of_every_model_to_adamw(name):
    model = build_model(name, (16, 16, 1), 3)
    optimizer = optimizers.build(RECIPES["fast"], 0.01, without_muon=[HEAD])
    head = model.get_layer(HEAD).kernel
    assert optimizer._should_use_adamw(head)
    others = [v for v in model.trainable_variables if len(v.shape) > 1 and v is not head]
    assert not any(map(optimizer._should_use_adamw, others))


def test_ema_of_a_model_without_optimizer_state_starts_at_its_weights(dataset, tmp_path):
    build_model("dnn", (48, 48, 1), 7).save(tmp_path / "foreign.keras")
    foreign = checkpoints.load(tmp_path / "foreign.keras", with_optimizer=True)
    before = weights_of(foreign.model)
    part, validation = dataset.split(60)
    recipe = RECIPE.override(epochs=1, ema=0.9, learning_rate=1e-9)
    result = training.fit(
        foreign.raw_pixel_model(),
        Supervised(part, recipe),
        validation,
        start=training.Start(resume_from=foreign),
        run_dir=tmp_path / "run",
    )
    for one, other in zip(before, weights_of(result.model), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_training_further_without_phases_unfreezes_what_a_phase_froze(dataset, tmp_path, capsys):
    few = dataset.take(np.arange(180))
    head_alone = TWO_PHASES.override(epochs=1)
    path = training.publish(train(few, tmp_path / "head", recipe=head_alone), tmp_path)
    recipe = head_alone.override(epochs=2, explicit_phases=())
    model = train_further(few, tmp_path / "all", path, recipe, 1).model
    assert all(layer.trainable for layer in model.layers)
    assert "has an optimizer for other layers" in capsys.readouterr().out


def test_publish_recognizes_a_checkpoint_of_version_01(dataset, tmp_path):
    recipe = RECIPE.override(model="dnn", epochs=1)
    result = train(dataset, tmp_path / "run", recipe=recipe)
    path = training.publish(result, tmp_path)
    former = {
        name: value
        for name, value in result.record.recipe.items()
        if name not in ("explicit_phases", "brightness", "cutmix", "no_aug_fraction")
    }
    former["plain_share"] = 0.0
    record = result.record.replace(recipe=former)
    checkpoints.save(result.model, path, record, training_rows=result.training_rows)
    assert training.publish(result, tmp_path) == path
    other = dataclasses.replace(result, record=record.replace(recipe={**former, "shift": 0.2}))
    assert training.publish(other, tmp_path) != path
