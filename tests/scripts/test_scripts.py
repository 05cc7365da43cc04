"""The scripts as a user runs them: their arguments and their files."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT, call, faces, fails, run

from ferlab import backend, checkpoints, data
from ferlab.evaluation import held_out

SCRIPTS = sorted(ROOT.glob("*.py"))


def submission(path):
    header, *rows = path.read_text().splitlines()
    assert header == "id,label"
    return [tuple(map(int, row.split(","))) for row in rows]


HELP = """
import contextlib, io, json, runpy, sys
heavy = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        if script == "ferlab":
            runpy.run_module(script, run_name="__main__")
        else:
            runpy.run_path(script, run_name="__main__")
    assert "usage:" in out.getvalue(), script
    imported = [name for name in ("tensorflow", "keras", "jax", "torch") if name in sys.modules]
    heavy |= {script: imported} if imported else {}
print(json.dumps(heavy))
"""


def test_help_does_not_import_keras(tmp_path):
    """Arguments are parsed before what takes seconds to import."""
    command = [sys.executable, "-c", HELP, *map(str, SCRIPTS), "ferlab"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(printed) == {}


def test_train_prints_device_and_forecast_and_names_its_files(work, cnn):
    log = (work / "train.log").read_text()
    assert "device: CPU" in log
    assert re.search(r"epoch .*\d+(\.\d+)? s", log)
    assert log.splitlines()[-1] == cnn.name
    assert re.fullmatch(r"[01]\.\d{6}\.h5", cnn.name)
    (snapshot,) = cnn.with_suffix("").iterdir()
    assert snapshot.name == f"1_{cnn.stem}.h5"
    history = checkpoints.read_record(cnn).history
    assert f"{history['val_accuracy'][-1]:.6f}" == cnn.stem


def test_checkpoint_records_its_rows_and_its_temperature(work, cnn):
    dataset = data.read(work / "train.csv", role="train")
    rows = held_out.tuning_rows(dataset, [cnn], report=print)
    np.testing.assert_array_equal(rows.images, dataset.images[:40])
    assert checkpoints.load(cnn).temperature > 0


def test_test_script_writes_a_submission_and_scores_it(work, cnn):
    printed = run("test.py", "test.csv", "result.csv", cnn, "--truth", "truth.csv", cwd=work)
    rows = submission(work / "result.csv")
    assert [row for row, _ in rows] == list(range(50))
    assert {label for _, label in rows} <= set(range(7))
    truth = dict(submission(work / "truth.csv"))
    accuracy = np.mean([truth[row] == label for row, label in rows])
    assert f"accuracy {accuracy:.2%} (n=50, 95% interval" in printed
    assert re.search(r"^50 images in [\d.]+ s", printed, re.MULTILINE)


def test_dnn_test_writes_a_submission(work, dnn):
    call("dnn_test.py", "test.csv", "dnn_result.csv", dnn, cwd=work)
    assert len(submission(work / "dnn_result.csv")) == 50


def test_predictions_are_equal_for_csv_npz_and_folder(work, cnn):
    from PIL import Image

    printed = call("csv_to_npz.py", "train.csv", "test.csv", cwd=work)
    assert "train: 160 rows" in printed
    (work / "folder").mkdir()
    for row, image in enumerate(faces(50, seed=2, size=24).images):
        Image.fromarray(image[:, :, 0]).save(work / "folder" / f"{row:02d}.png")
    submissions = []
    for source in ("test.csv", "data.npz", "folder"):
        call("test.py", source, "alike.csv", cnn, cwd=work)
        submissions.append(submission(work / "alike.csv"))
    assert submissions[0] == submissions[1] == submissions[2]


def test_retrain_resumes_and_is_named_after_its_model(work, cnn):
    printed = call("retrain.py", "train.csv", cnn, 2, 3, cwd=work)
    path = work / printed.splitlines()[-1]
    assert re.fullmatch(rf"[01]\.\d{{6}}_{re.escape(cnn.stem)}\.h5", path.name)
    record = checkpoints.read_record(path)
    assert len(record.history["loss"]) == 3
    assert record.recipe["validation"] == 40


def test_retrain_refuses_other_validation_rows(work, cnn):
    error = fails("retrain.py", "train.csv", cnn, 2, 3, "--validation", "0.5", cwd=work)
    assert "--validation" in error
    assert "40" in error


@pytest.fixture(scope="module")
def semi(work, dnn):
    options = ("--validation", 0.1, "--epochs", 1, "--batch-size", 16, "--threshold", 0.1)
    printed = call(
        *("semi_train.py", "train.csv", "test.csv", dnn, "--recipe", "fixmatch", *options),
        *("--control", "--truth", "truth.csv"),
        cwd=work,
    )
    (work / "semi.log").write_text(printed)
    return work / printed.splitlines()[-1]


def test_semi_train_reports_its_pseudo_labels_and_the_difference_to_its_control(work, dnn, semi):
    printed = (work / "semi.log").read_text()
    assert re.fullmatch(r"semi_[01]\.\d{6}\.h5", semi.name)
    assert re.search(rf"{dnn} .*\b7\d rows", printed)  # of those whose labels are removed
    (control,) = work.glob("control_*.h5")
    differences = re.findall(rf"{semi.name} - {control.name}: ", printed)
    assert len(differences) == 2  # validation and truth.csv
    assert "(n=16, 95% interval" in printed
    assert "(n=50, 95% interval" in printed
    assert (work / f"{semi.stem}_pseudo.png").exists()
    assert checkpoints.read_record(semi).recipe["model"] == "dnn"


def test_semi_retrain_resumes_and_is_named_after_its_model(work, dnn, semi):
    arguments = ("train.csv", "test.csv", dnn, semi, 1, 2)
    path = work / call("semi_retrain.py", *arguments, cwd=work).splitlines()[-1]
    assert re.fullmatch(rf"[01]\.\d{{6}}_{re.escape(semi.stem)}\.h5", path.name)
    record = checkpoints.read_record(path)
    assert len(record.history["loss"]) == 2
    assert record.recipe | {"epochs": 1} == checkpoints.read_record(semi).recipe
    assert record.resumed_from == semi.name

    record = checkpoints.read_record(dnn)
    settings = {"label_smoothing": 0.1, "mixup": 0.2, "plain_share": 0.2}
    record = record.replace(recipe=record.recipe | settings)
    checkpoints.save(checkpoints.load(dnn, with_optimizer=True).model, work / "mixed.h5", record)
    arguments = (*arguments[:3], "mixed.h5", 2, 3, "--threshold", 0.1)
    path = work / call("semi_retrain.py", *arguments, cwd=work).splitlines()[-1]
    recipe = checkpoints.read_record(path).recipe
    assert (recipe["method"], recipe["labels_removed"]) == ("self-training", 0.0)
    assert "semi_retrain.py" in fails("retrain.py", "train.csv", semi, 1, 2, cwd=work)


def test_test_by_vote_writes_the_same_submission_with_the_cache(work, cnn, dnn):
    (work / "model_list.txt").write_text(f"2 {cnn.name}\n1 {dnn.name}\n")
    options = ("--cache-dir", work / "votes", "--truth", "truth.csv")
    call("test_by_vote.py", "test.csv", "v.csv", "model_list.txt", *options, cwd=work)
    cached = {path.name: path.stat().st_mtime_ns for path in (work / "votes").glob("*.npy")}
    assert len(cached) == 2
    soft = submission(work / "v.csv")
    (work / "model_list.txt").write_text(f"1 {cnn.name}\n0 {dnn.name}\n")
    arguments = ("test_by_vote.py", "test.csv", "v.csv", "model_list.txt", *options)
    call(*arguments, "--voting", "hard", cwd=work)
    after = {path.name: path.stat().st_mtime_ns for path in (work / "votes").glob("*.npy")}
    assert after == cached
    call("test.py", "test.csv", "alone.csv", cnn, cwd=work)
    assert submission(work / "v.csv") == submission(work / "alone.csv")
    assert len(soft) == 50


def test_class_folders_train_and_predict_in_their_own_class_order(work, tmp_path):
    from PIL import Image

    drawn = faces(60, seed=4)
    for row, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        place = tmp_path / "faces" / ("calm" if label == 6 else "moved")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).resize((60, 70)).save(place / f"{row}.png")
    printed = call(
        *("dnn_train.py", "faces", "--epochs", 1, "--validation", 0.2, "--image-size", 32),
        cwd=tmp_path,
    )
    model = tmp_path / printed.splitlines()[-1]
    record = checkpoints.read_record(model)
    assert record.class_names == ("calm", "moved")
    assert record.validation_rows == 12
    assert record.image_shape == (32, 32, 1)
    printed = call("dnn_test.py", "faces", "result.csv", model, cwd=tmp_path)
    assert "accuracy" in printed
    error = fails("test.py", work / "train.csv", "no.csv", model, cwd=tmp_path)
    assert "calm, moved" in error
    (tmp_path / "list.txt").write_text(f"1 {model.name}\n")
    for script, path in (("test.py", model), ("test_by_vote.py", "list.txt")):
        arguments = (script, work / "test.csv", "own.csv", path)
        assert "calm, moved" in fails(*arguments, "--truth", work / "truth.csv", cwd=tmp_path)
        printed = call(*arguments, "--probabilities", cwd=tmp_path)
        header, *rows = (tmp_path / "own.csv").read_text().splitlines()
        assert header == "id,label,calm,moved"
        assert {row.count(",") for row in rows} == {3}
        assert printed.count("0 calm, 1 moved") == 1
        (tmp_path / "own.csv").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_versions_name_the_device_of_every_backend(name, tmp_path):
    pytest.importorskip(name)
    if name == backend.keras.backend.backend():
        device = backend.versions()["device"]
        assert re.fullmatch(rf"(CPU \(\d+ cores?\)|.+), {name} [\d.]+.*", device)
        return
    code = "from ferlab.backend import versions; print(versions()['device'])"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": name},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.fullmatch(rf"(CPU \(\d+ cores?\)|.+), {name} [\d.]+.*\n", printed)


def test_unknown_backend_is_refused_in_one_line(work, tmp_path):
    arguments = (work / "train.csv", "--validation", 9)
    error = run("train.py", *arguments, cwd=tmp_path, code=2, KERAS_BACKEND="abacus")
    assert error.startswith("error: KERAS_BACKEND")
    assert "abacus" in error
    assert error.count("\n") == 1


def test_backend_jax_trains_and_predicts(work):
    pytest.importorskip("jax")
    options = ("--epochs", 1, "--batch-size", 32, "--out-dir", "jax")
    printed = run("dnn_train.py", "train.csv", *options, cwd=work, KERAS_BACKEND="jax")
    assert re.search(r"device: .*jax", printed)
    (model,) = (work / "jax").glob("*.h5")
    run("dnn_test.py", "test.csv", "jax.csv", model, cwd=work, KERAS_BACKEND="jax")
    call("dnn_test.py", "test.csv", "tensorflow.csv", model, cwd=work)
    pairs = zip(submission(work / "jax.csv"), submission(work / "tensorflow.csv"), strict=True)
    assert sum(one == other for one, other in pairs) >= 48  # a near tie may fall either way


def test_train_learns_from_teachers(work, cnn, tmp_path):
    """The teacher is part of a run's configuration: with another one it is another run."""
    (tmp_path / "list.txt").write_text(f"2 {cnn}\n1 {cnn}\n")
    options = ("--recipe", "dnn-report", "--epochs", 1, "--validation", 40)
    objectives = []
    twice = ["--teacher", "list.txt", "--teacher", cnn]
    for number, teacher in enumerate(([], ["--teacher", cnn], twice)):
        run_dir = tmp_path / str(number)
        call("train.py", work / "train.csv", *options, *teacher, "--run-dir", run_dir, cwd=tmp_path)
        objectives.append(json.loads((run_dir / "config.json").read_text())["learned_from"])
    assert objectives[0] == {}
    assert [objective["teachers"] for objective in objectives[1:]] == [
        [cnn.name],
        ["list.txt", cnn.name],
    ]
    assert (
        len(objectives[1]["teacher_probabilities"])
        == len(objectives[2]["teacher_probabilities"])
        == 64
    )
    error = fails("train.py", work / "train.csv", *options, "--teacher", "gone.h5", cwd=tmp_path)
    assert "gone.h5" in error
