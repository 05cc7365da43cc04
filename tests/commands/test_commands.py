"""The commands about trained checkpoints, as a user runs them."""

import dataclasses
import re

import keras
import numpy as np
import pytest
from support import call, faces, fails, run

from ferlab import checkpoints, data, inference
from ferlab.checkpoints import TrainingRecord
from ferlab.evaluation import calibration
from ferlab.inference import model_list
from ferlab.labels import EMOTIONS

ALPHABETICAL = tuple(sorted(EMOTIONS))


def stripe_model(path, class_names, pixels, record=None, *, noise=0.0, sureness=4.0):
    """A model that reads the label off the first row of an image, in this order and scale.

    The row holds the label as grey level 30 x label; a convolution finds the nearest.
    """
    scale, offset = {"unit": (255.0, 0.0), "raw": (1.0, 0.0), "symmetric": (127.5, 127.5)}[pixels]
    images = keras.Input((48, 48, 1))
    corner = keras.layers.Cropping2D(((0, 47), (0, 47)))(images)
    grey = keras.layers.Flatten()(corner)
    dense = keras.layers.Dense(7, activation="softmax")
    model = keras.Model(images, dense(grey))
    # -(level - 30 k)^2 is 60 k level - 900 k^2, up to what all classes share.
    labels = np.array([EMOTIONS.index(name) for name in class_names])
    slope = sureness * 60.0 * labels / 450
    bias = -sureness * 900.0 * labels**2 / 450 + slope * offset
    rng = np.random.default_rng(len(str(path)))
    dense.set_weights([(slope * scale)[None], bias + noise * rng.normal(size=7)])
    if record is None:
        model.save(path)
    else:
        checkpoints.save(model, path, TrainingRecord.from_json(record, "test"))
    return path


def striped(count, seed, wrong=0.0):
    """Faces whose first row encodes their label, for the fraction `wrong` the next label."""
    drawn = faces(count, seed=seed)
    rng = np.random.default_rng(seed)
    other = np.where(drawn.labels < 6, drawn.labels + 1, 5)
    encoded = np.where(rng.random(count) < wrong, other, drawn.labels)
    images = drawn.images.copy()
    images[:, 0] = (30 * encoded)[:, None, None]
    return dataclasses.replace(drawn, images=images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands")
    rows = striped(120, seed=5, wrong=0.1)
    data.write_csv(path / "validation.csv", rows.images, labels=rows.labels)
    data.write_csv(path / "test.csv", rows.images, ids=rows.ids)
    data.write_submission(path / "truth.csv", rows.ids, rows.labels)
    return path


def accuracy_on_fitted_rows(printed):
    return re.search(r"([\d.]+)% .*, on the rows they were fitted on", printed)[1]


@pytest.mark.parametrize(
    ("pixels", "order", "name"),
    [
        ("unit", EMOTIONS, "FER-2013"),
        ("raw", ALPHABETICAL, "alphabetical"),
        ("symmetric", EMOTIONS[::-1], "best match"),
    ],
)
def test_inspect_finds_scale_and_order(folder, command, pixels, order, name):
    model = stripe_model(folder / f"{pixels}.h5", order, pixels)
    printed = command("inspect", model, "--data", "validation.csv", cwd=folder)
    assert f"--pixels {pixels} --class-names {','.join(order)}" in printed
    assert re.search(rf"most likely +pixels {pixels}, .*{name}", printed)
    assert re.search(r"written by +Keras 3", printed)
    assert re.search(r"parameters +14", printed)
    # With these flags, test.py measures the same accuracy.
    scored = call(
        *("test.py", "test.csv", "result.csv", model, "--truth", "truth.csv"),
        *("--pixels", pixels, "--class-names", ",".join(order)),
        cwd=folder,
    )
    accuracy = float(re.search(r"accuracy ([\d.]+)%", scored)[1])
    assert accuracy == float(re.search(r"most likely .*: ([\d.]+)%", printed)[1])
    assert accuracy > 80


def test_inspect_reports_models_that_cannot_be_scored_or_always_predict_one_class(folder, command):
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(folder / "two.keras")
    constant = keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax", kernel_initializer="zeros"),
        ]
    )
    constant.save(folder / "guess.h5")
    printed = command(
        *("inspect", "two.keras", "guess.h5", "--data", "test.csv", "--truth", "truth.csv"),
        cwd=folder,
    )
    assert "2 outputs" in printed
    assert "most frequent class" in printed


def test_inspect_reports_a_record_that_contradicts_the_predictions(folder, command):
    record = {"class_names": list(EMOTIONS), "pixels": "raw", "image_shape": [48, 48, 1]}
    model = stripe_model(folder / "liar.h5", ALPHABETICAL, "raw", record)
    printed = command("inspect", model, "--data", "validation.csv", cwd=folder)
    assert re.search(r"most likely .*alphabetical[\s\S]*\bfile\b", printed)


def test_vote_fit_weights_members_and_writes_a_list(folder, command):
    good = stripe_model(folder / "good.h5", EMOTIONS, "unit")
    other = stripe_model(folder / "other.h5", ALPHABETICAL, "raw")
    poor = stripe_model(folder / "poor.h5", EMOTIONS[::-1], "unit")
    lines = f"1 {other.name} pixels=raw classes={','.join(ALPHABETICAL)}\n5 {poor.name}\n"
    (folder / "some.txt").write_text(lines)
    arguments = ("validation.csv", good, "some.txt", "--cache-dir", folder / "votes")
    printed = command("vote-fit", *arguments, "--out", "fitted.txt", cwd=folder)
    accuracies = dict(re.findall(r"^(\w+ \w+) +([\d.]+)%.*$", printed, re.MULTILINE))
    assert float(accuracies["fitted weights"]) >= float(accuracies["equal weights"])
    assert printed.count("95% interval") == 4
    members = model_list.read(folder / "fitted.txt")
    weights = {member.path.name: member.weight for member in members}
    assert weights.get(poor.name, 0) < weights.get(good.name, 0) + weights.get(other.name, 0)
    assert all(weight == int(weight) for weight in weights.values())
    scored = call(
        *("test_by_vote.py", "test.csv", "vote.csv", "fitted.txt", "--truth", "truth.csv"),
        *("--cache-dir", folder / "votes", "--probabilities"),
        cwd=folder,
    )
    assert f"accuracy {accuracy_on_fitted_rows(printed)}%" in scored
    header, first, *_ = (folder / "vote.csv").read_text().splitlines()
    assert header == "id,label," + ",".join(EMOTIONS)
    assert abs(sum(map(float, first.split(",")[2:])) - 1) < 1e-5


def test_vote_fit_writes_the_flags_into_the_list(folder, command):
    for name in ("left.h5", "right one.h5"):
        stripe_model(folder / name, ALPHABETICAL, "symmetric")
    flags = ("--pixels", "symmetric", "--class-names", ",".join(ALPHABETICAL))
    arguments = ("validation.csv", "left.h5", "right one.h5", "--cache-dir", folder / "votes")
    command("vote-fit", *arguments, *flags, "--out", "flags.txt", cwd=folder)
    for member in model_list.read(folder / "flags.txt"):
        assert member.pixels == "symmetric"
        assert member.class_names == ALPHABETICAL


def test_calibrate_stores_a_temperature_that_test_uses(folder, command):
    model = stripe_model(folder / "sure.h5", EMOTIONS, "unit", {"pixels": "unit"})
    before = call(
        *("test.py", "test.csv", "raw.csv", model, "--truth", "truth.csv", "--probabilities"),
        cwd=folder,
    )
    assert "python -m ferlab calibrate" in before
    printed = command("calibrate", "validation.csv", model, cwd=folder)
    temperature = checkpoints.read_record(model).temperature
    assert temperature > 1.2  # 10% of its predictions are wrong, all are confident
    assert f"{temperature:.3f}" in printed
    after = call(
        *("test.py", "test.csv", "scaled.csv", model, "--truth", "truth.csv", "--probabilities"),
        cwd=folder,
    )
    raw, scaled = (
        np.loadtxt(folder / name, delimiter=",", skiprows=1) for name in ("raw.csv", "scaled.csv")
    )
    np.testing.assert_array_equal(raw[:, :2], scaled[:, :2])
    probabilities = inference.predict(checkpoints.load(model), striped(120, seed=5, wrong=0.1))
    np.testing.assert_allclose(raw[:, 2:], probabilities, atol=1e-6)
    expected = calibration.with_temperature(probabilities, temperature)
    np.testing.assert_allclose(scaled[:, 2:], expected, atol=1e-6)
    errors = re.search(r"calibration error ([\d.]+) \(n=120, 15 bins\), ([\d.]+) at", after)
    assert float(errors[2]) < float(errors[1])


def test_retrain_keeps_the_class_order_of_a_foreign_model(folder):
    model = stripe_model(folder / "order.h5", ALPHABETICAL, "unit")
    printed = call(
        *("retrain.py", "validation.csv", model, 0, 1, "--class-names", ",".join(ALPHABETICAL)),
        *("--learning-rate", 1e-9, "--validation", 40, "--shift", 0, "--no-horizontal-flip"),
        cwd=folder,
    )
    path = folder / printed.splitlines()[-1]
    record = checkpoints.read_record(path)
    assert record.history["val_accuracy"][-1] > 0.8
    assert record.history["accuracy"][-1] > 0.8
    assert record.class_names == ALPHABETICAL
    assert record.has_unknown_rows
    assert len(checkpoints.read_training_rows(path)) == 80


def test_update_record_keeps_the_rest_of_the_file(folder):
    import shutil

    model = stripe_model(folder / "c.h5", EMOTIONS, "unit", {"pixels": "unit", "seed": 3})
    digests = striped(4, seed=1).row_digests()
    network = checkpoints.load(model).model
    for suffix in (".h5", ".keras"):
        path = folder / f"copy{suffix}"
        checkpoints.save(
            network, path, TrainingRecord(pixels="unit", seed=3), training_rows=digests
        )
        checkpoints.update_record(path, temperature=2.0)
        record = checkpoints.read_record(path)
        assert (record.seed, record.temperature) == (3, 2.0)
        np.testing.assert_array_equal(checkpoints.read_training_rows(path), digests)
        for old, new in zip(
            network.get_weights(), checkpoints.load(path).model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(old, new)
    foreign = stripe_model(folder / "foreign.h5", EMOTIONS, "unit")
    shutil.copy(foreign, folder / "before.h5")
    checkpoints.update_record(foreign, temperature=2.0)
    assert checkpoints.load(foreign).temperature == 2.0
    keras.models.load_model(foreign, compile=False)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("inspect", "gone.h5"), "gone.h5"),
        (("inspect", "truth.csv"), "truth.csv"),
        (("inspect", "good.h5", "--data", "test.csv"), "labels"),
        (("inspect", "good.h5", "poor.h5", "--architecture", "a.json"), "--architecture"),
        (("vote-fit", "validation.csv", "good.h5"), "model"),
        (("vote-fit", "validation.csv", "good.h5", "gone.h5"), "gone.h5"),
        (("vote-fit", "validation.csv", "good.h5", "poor.h5", "--out", "x.h5"), r"\.txt"),
        (("vote-fit", "private.csv", "good.h5", "poor.h5"), "PrivateTest|private"),
        (("calibrate", "private.csv", "good.h5"), "PrivateTest|private"),
        (("calibrate", "test.csv", "good.h5"), "labels"),
        (("inspect", "good.h5", "--data", "private.csv"), "PrivateTest|private"),
        (("inspect", "good.h5", "--truth", "truth.csv"), "--data"),
        (("vote-fit", "validation.csv", "good.h5", "other.txt"), "other.txt:1: good.h5: .*classes"),
        (("calibrate", "validation.csv", "gone.h5"), "gone.h5"),
        (("calibrate", "validation.csv", "good.h5", "--usage", "x"), "usage"),
    ],
)
def test_commands_on_bad_input(folder, command, arguments, fact):
    stripe_model(folder / "good.h5", EMOTIONS, "unit")
    stripe_model(folder / "poor.h5", EMOTIONS[::-1], "unit")
    rows = striped(10, seed=8)
    lines = [",".join(("emotion", "pixels", "Usage"))]
    for image, label in zip(rows.images, rows.labels, strict=True):
        lines.append(f"{label},{' '.join(map(str, image.ravel()))},PrivateTest")
    (folder / "other.txt").write_text("1 good.h5 classes=a,b,c,d,e,f,g\n")
    (folder / "private.csv").write_text("\n".join(lines))
    before = sorted(folder.rglob("*"))
    error = command(*arguments, cwd=folder, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(fact, error)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_commands_run_in_a_separate_process(folder):
    stripe_model(folder / "good.h5", EMOTIONS, "unit")
    printed = run("-m ferlab", "inspect", "good.h5", cwd=folder)
    assert "unit (x / 255)" in printed
    assert "gone.h5" in fails("-m ferlab", "inspect", "gone.h5", cwd=folder, by=run)
