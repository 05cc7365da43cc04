"""Every script as a user runs it: its arguments, its files, its one line for bad input."""

import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from support import ROOT, faces, fails, run

from ferlab import checkpoints, data, held_out
from models import build_model

SLACK = 3  # a machine that runs other things too
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, and a CNN and a DNN trained on it by the scripts."""
    folder = tmp_path_factory.mktemp("work")
    train, test = faces(160, seed=1), faces(50, seed=2)
    data.write_csv(folder / "train.csv", train.images, labels=train.labels)
    data.write_csv(folder / "test.csv", test.images, ids=test.ids)
    truth = "id,label\n" + "".join(f"{row},{label}\n" for row, label in enumerate(test.labels))
    (folder / "truth.csv").write_text(truth)
    short = ("--epochs", 2, "--batch-size", 32)
    printed = run(
        "train.py", "train.csv", *short, "--validation", 40, "--keep-epochs", 1, cwd=folder
    )
    (folder / "train.log").write_text(printed)
    run("dnn_train.py", "train.csv", *short, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def cnn(work):
    (path,) = work.glob("[01].??????.h5")
    return path


@pytest.fixture(scope="module")
def dnn(work):
    (path,) = work.glob("dnn_*.h5")
    return path


def submission(path):
    header, *rows = path.read_text().splitlines()
    assert header == "id,label"
    return [tuple(map(int, row.split(","))) for row in rows]


@pytest.mark.parametrize("script", [*SCRIPTS, "-m ferlab"])
def test_help_answers_at_once(script, tmp_path):
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        assert "usage:" in run(script, "--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3 * SLACK, "something heavy is imported before arguments are read"


def test_train_says_device_and_forecast_and_writes_the_reports_names(work, cnn):
    log = (work / "train.log").read_text()
    assert "device: CPU" in log
    assert "an epoch will take about" in log
    assert log.splitlines()[-1] == cnn.name
    assert re.fullmatch(r"[01]\.\d{6}\.h5", cnn.name)
    (kept,) = cnn.with_suffix("").iterdir()
    assert kept.name == f"1_{cnn.stem}.h5"
    history = checkpoints.read_metadata(cnn)["history"]
    assert f"{history['val_accuracy'][-1]:.6f}" == cnn.stem


def test_a_checkpoint_knows_its_rows_and_its_temperature(work, cnn):
    dataset = data.read(work / "train.csv", role="train")
    left = held_out.rows(dataset, [cnn], report=print)
    np.testing.assert_array_equal(left.images, dataset.images[:40])
    assert checkpoints.load(cnn).temperature > 0


def test_test_writes_a_submission_and_scores_it(work, cnn):
    printed = run("test.py", "test.csv", "result.csv", cnn, "--truth", "truth.csv", cwd=work)
    rows = submission(work / "result.csv")
    assert [row for row, _ in rows] == list(range(50))
    assert {label for _, label in rows} <= set(range(7))
    truth = dict(submission(work / "truth.csv"))
    share = np.mean([truth[row] == label for row, label in rows])
    assert f"accuracy {share:.2%} (n=50, 95% interval" in printed
    assert re.search(r"^50 images in [\d.]+ s", printed, re.MULTILINE)


def test_dnn_test(work, dnn):
    run("dnn_test.py", "test.csv", "dnn_result.csv", dnn, cwd=work)
    assert len(submission(work / "dnn_result.csv")) == 50


def test_csv_npz_and_folder_are_read_alike(work, cnn):
    from PIL import Image

    printed = run("csv_to_npz.py", "train.csv", "test.csv", cwd=work)
    assert "train: 160 rows" in printed
    (work / "folder").mkdir()
    for row, image in enumerate(faces(50, seed=2).images):
        Image.fromarray(image[:, :, 0]).save(work / "folder" / f"{row:02d}.png")
    answers = []
    for source in ("test.csv", "data.npz", "folder"):
        run("test.py", source, "alike.csv", cnn, cwd=work)
        answers.append(submission(work / "alike.csv"))
    assert answers[0] == answers[1] == answers[2]


def test_retrain_goes_on_and_is_named_after_its_model(work, cnn):
    printed = run("retrain.py", "train.csv", cnn, 2, 3, cwd=work)
    path = work / printed.splitlines()[-1]
    assert re.fullmatch(rf"[01]\.\d{{6}}_{re.escape(cnn.stem)}\.h5", path.name)
    metadata = checkpoints.read_metadata(path)
    assert len(metadata["history"]["loss"]) == 3
    assert metadata["recipe"]["validation"] == 40


def test_retrain_keeps_the_validation_rows_apart(work, cnn):
    error = fails("retrain.py", "train.csv", cnn, 2, 3, "--validation", "0.5", cwd=work)
    assert "--validation must stay 40" in error


@pytest.fixture(scope="module")
def semi(work, dnn):
    options = ("--validation", 0.1, "--epochs", 1, "--batch-size", 16, "--threshold", 0.1)
    printed = run(
        *("semi_train.py", "train.csv", "test.csv", dnn, "--recipe", "fixmatch", *options),
        *("--control", "--truth", "truth.csv"),
        cwd=work,
    )
    (work / "semi.log").write_text(printed)
    return work / printed.splitlines()[-1]


def test_semi_train_tells_its_pseudo_labels_and_the_difference_to_its_control(work, dnn, semi):
    printed = (work / "semi.log").read_text()
    assert re.fullmatch(r"semi_[01]\.\d{6}\.h5", semi.name)
    assert re.search(rf"note: {dnn} was trained on 7\d rows whose labels are removed", printed)
    assert printed.count("right where the truth is known") == 2
    (control,) = work.glob("control_*.h5")
    assert printed.count(f"{semi.name} less {control.name}: ") == 2  # validation and truth.csv
    assert "(n=16, 95% interval" in printed
    assert "(n=50, 95% interval" in printed
    assert (work / f"{semi.stem}_pseudo.png").exists()
    assert checkpoints.read_metadata(semi)["recipe"]["model"] == "dnn"


def test_semi_retrain_goes_on_and_is_named_after_its_model(work, dnn, semi):
    arguments = ("train.csv", "test.csv", dnn, semi, 1, 2)
    path = work / run("semi_retrain.py", *arguments, cwd=work).splitlines()[-1]
    assert re.fullmatch(rf"[01]\.\d{{6}}_{re.escape(semi.stem)}\.h5", path.name)
    metadata = checkpoints.read_metadata(path)
    assert len(metadata["history"]["loss"]) == 2
    assert metadata["recipe"] | {"epochs": 1} == checkpoints.read_metadata(semi)["recipe"]
    assert metadata["previous"] == semi.name

    arguments = (*arguments[:3], dnn, 2, 3, "--threshold", 0.1)
    path = work / run("semi_retrain.py", *arguments, cwd=work).splitlines()[-1]
    recipe = checkpoints.read_metadata(path)["recipe"]
    assert (recipe["method"], recipe["labels_removed"]) == ("self-training", 0.0)
    assert "semi_retrain.py goes on with it" in fails(
        "retrain.py", "train.csv", semi, 1, 2, cwd=work
    )


def test_vote_with_and_without_the_cache(work, cnn, dnn):
    (work / "model_list.txt").write_text(f"2 {cnn.name}\n1 {dnn.name}\n")
    options = ("--cache-dir", work / "votes", "--truth", "truth.csv")
    first = run("test_by_vote.py", "test.csv", "v.csv", "model_list.txt", *options, cwd=work)
    assert first.count("predicts") == 2
    soft = submission(work / "v.csv")
    (work / "model_list.txt").write_text(f"1 {cnn.name}\n0 {dnn.name}\n")
    second = run(
        *("test_by_vote.py", "test.csv", "v.csv", "model_list.txt", *options),
        *("--voting", "hard"),
        cwd=work,
    )
    assert second.count("from the cache") == 2
    run("test.py", "test.csv", "alone.csv", cnn, cwd=work)
    assert submission(work / "v.csv") == submission(work / "alone.csv")
    assert len(soft) == 50


def pictures(folder):
    from PIL import Image

    sizes = {}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 300, path
            assert len(set(picture.convert("L").tobytes())) > 10, "nothing is drawn"
            sizes[path.name] = picture.size
    return sizes


def test_plot_model_writes_the_reports_four_pictures(work, cnn):
    printed = run("plot_model.py", "train.csv", cnn, "--out-dir", "pictures", cwd=work)
    assert "taken for" in printed
    assert "saliency by perturbation: " in printed
    assert "saliency by layercam at block3_norm3: " in printed
    expected = {f"{cnn.stem}_{kind}.png" for kind in ("struct", "cm", "his", "sm")}
    assert set(pictures(work / "pictures")) == expected


def test_plot_model_draws_what_it_is_asked_for(work, cnn, dnn):
    options = ("--what", "sm", "--images", "7,0,7", "--saliency", "gradient", "--out-dir", "some")
    run("plot_model.py", "train.csv", cnn, *options, cwd=work)
    (size,) = pictures(work / "some").values()
    run("plot_model.py", "train.csv", dnn, "--what", "struct,his", "--out-dir", "dnn", cwd=work)
    assert set(pictures(work / "dnn")) == {f"{dnn.stem}_struct.png", f"{dnn.stem}_his.png"}
    options = ("--what", "sm", "--images", "7", "--saliency", "gradient", "--out-dir", "less")
    run("plot_model.py", "test.csv", cnn, *options, cwd=work)  # without labels
    (smaller,) = pictures(work / "less").values()
    assert smaller[0] == size[0]
    assert smaller[1] < 0.6 * size[1]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--what", "sm,nothing"), "expected some of struct, cm, his, sm. Received: 'nothing'"),
        (("--images", "7,160"), "--images must be ids or rows from 0 to 159. Received: '160'"),
        (("--images", ""), "--images must be ids or rows"),
        (("--saliency", "occlusion"), "Received: 'occlusion'"),
        (("--saliency", ""), "Received: ''"),
        (("--layer", "block9"), "no layer is called 'block9'"),
        (("--out-dir", "/dev/null"), "cannot be written"),
    ],
)
def test_plot_model_on_bad_input(work, cnn, options, rule):
    assert rule in fails("plot_model.py", "train.csv", cnn, *options, cwd=work)


def test_gradient_ascent_draws_filters_and_classes(work, cnn):
    run("gradient_ascent.py", cnn, "--steps", 3, "--out-dir", "filters", cwd=work)
    assert set(pictures(work / "filters")) == {f"{cnn.stem}_block1_conv1.png"}
    more = (("--layer", "dense3"), ("--output", "happy"), ("--output", "all"))
    for options in more:
        run("gradient_ascent.py", cnn, "--steps", 2, "--out-dir", "more", *options, cwd=work)
    expected = {f"{cnn.stem}_{name}.png" for name in ("dense3", "happy", "all")}
    assert set(pictures(work / "more")) == expected


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--layer", "block9"), "no layer is called 'block9'; it has rescale, block1_conv1"),
        (("--output", ""), "--output must be all or one of angry, disgust"),
        (("--output", "joy"), "--output must be all or one of angry, disgust"),
        (("--layer", "dense1", "--output", "happy"), "not allowed with argument"),
        (("--steps", "0"), "expected a whole number from 1"),
        (("--out-dir", "/dev/null"), "cannot be written"),
    ],
)
def test_gradient_ascent_on_bad_input(work, cnn, options, rule):
    assert rule in fails("gradient_ascent.py", cnn, *options, cwd=work)


def test_pictures_on_another_backend(work, cnn):
    options = ("--what", "sm", "--images", "1,2", "--saliency", "gradient,smoothgrad,layercam")
    jax = {"cwd": work, "KERAS_BACKEND": "jax"}
    run("plot_model.py", "train.csv", cnn, *options, "--out-dir", "jax", **jax)
    run("gradient_ascent.py", cnn, "--steps", 2, "--out-dir", "jax", **jax)
    assert set(pictures(work / "jax")) == {f"{cnn.stem}_sm.png", f"{cnn.stem}_block1_conv1.png"}


def test_a_folder_of_classes_trains_and_answers_in_its_own_order(work, tmp_path):
    from PIL import Image

    drawn = faces(60, seed=4)
    for row, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        place = tmp_path / "faces" / ("calm" if label == 6 else "moved")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).resize((60, 70)).save(place / f"{row}.png")
    printed = run(
        *("dnn_train.py", "faces", "--epochs", 1, "--validation", 0.2, "--image-size", 32),
        cwd=tmp_path,
    )
    model = tmp_path / printed.splitlines()[-1]
    metadata = checkpoints.read_metadata(model)
    assert metadata["class_names"] == ["calm", "moved"]
    assert metadata["image_shape"] == [32, 32, 1]
    printed = run("dnn_test.py", "faces", "result.csv", model, cwd=tmp_path)
    assert "accuracy" in printed
    error = fails("test.py", work / "train.csv", "no.csv", model, cwd=tmp_path)
    assert "must have the same classes: calm, moved" in error


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("label,feature\n0,1 2 3 4\n0,1 2 3\n", "bad.csv:3: expected 4 pixels, found 3"),
        ("label,feature\n0,1 2 3\n", "bad.csv:2: expected a square image"),
        ("label,feature\n0,1 2 3 256\n", "bad.csv:2"),
        ("label,feature\n0,1 2 3 x\n", "bad.csv:2"),
        ("label,feature\n9,1 2 3 4\n", "bad.csv:2"),
        ("label,feature\n", "no rows"),
        ("", "empty"),
        ("<!DOCTYPE html><html></html>", "HTML"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
    ],
)
def test_bad_tables(tmp_path, text, rule):
    (tmp_path / "bad.csv").write_text(text)
    assert rule in fails("train.py", "bad.csv", cwd=tmp_path)


def test_bad_arguments(work, cnn, dnn, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    np.savez(tmp_path / "pickle.npz", train_images=np.array([{}], dtype=object))
    semi = [work / "train.csv", work / "test.csv", dnn, "--validation", "40"]
    build_model("dnn", (48, 48, 1), 7).save(tmp_path / "foreign.h5")
    of_outputs = ["--class-names", "angry,disgust,fear,happy,neutral,sad,surprise"]
    for script, arguments, rule in (
        ("train.py", ["gone.csv"], "gone.csv"),
        ("train.py", ["empty"], "class"),
        ("train.py", ["pickle.npz"], "pickle"),
        ("train.py", [work / "train.csv", "--recipe", "best-of-all"], "cnn-report, dnn-report"),
        ("train.py", [work / "train.csv", "--epochs", "0"], "--epochs"),
        ("train.py", [work / "train.csv", "--validation", "PrivateTest"], "final score"),
        ("train.py", ["gone.csv", "--seed", "x"], "--seed: expected a whole number"),
        ("train.py", ["empty", "--image-size", "0"], "--image-size"),
        ("retrain.py", [work / "train.csv", cnn, "-1", "3"], "PREVIOUS_EPOCH"),
        ("retrain.py", [work / "train.csv", cnn, "1", "3"], "has had 2 epochs"),
        ("csv_to_npz.py", [work / "train.csv", "--out", "packed"], ".npz"),
        ("train.py", [work / "test.csv", "--validation", "9"], "label"),
        ("train.py", [work / "train.csv", "--validation", "9", "--run-dir", "file/run"], "file"),
        ("train.py", [work / "train.csv", "--validation", "9", "--out-dir", "file/x"], "file"),
        ("train.py", [], "DATA"),
        ("test.py", [work / "test.csv", "file/result.csv", cnn], "file"),
        ("test.py", [work / "test.csv", "r.csv", "gone.h5"], "gone.h5"),
        ("test.py", [work / "test.csv", "r.csv", work / "test.csv"], "is an HDF5 file or"),
        ("test.py", [work / "test.csv", "r.csv", cnn, "--truth", "file"], "file"),
        ("test_by_vote.py", [work / "test.csv", "r.csv", "gone.txt"], "gone.txt"),
        ("csv_to_npz.py", ["gone.csv"], "gone.csv"),
        ("-m ferlab", ["sample", "file"], "file"),
        ("-m ferlab", ["sample", work], "train.csv: exists already"),
        ("-m ferlab", ["sample", "s", "--test", "99999999999"], "--test must be from 1"),
        ("test.py", [work / "test.csv", work / "test.csv", cnn], "is read here"),
        ("test.py", [work / "test.csv", cnn, cnn], "is read here"),
        ("-m ferlab", ["dance"], "dance"),
        ("train.py", [work / "train.csv", "--recipe", "fixmatch"], "recipe must be one of cnn-rep"),
        ("train.py", [work / "train.csv", "--labels-removed", "1"], "--labels-removed must be"),
        ("semi_train.py", [*semi, "--recipe", "cnn-report"], "one of semi-report, fixmatch."),
        ("semi_train.py", [*semi, "--threshold", "1.5"], "threshold must be a probability"),
        ("semi_train.py", [*semi, "--class-thresholds", "happy"], "expected NAME=CONFIDENCE"),
        ("semi_train.py", [*semi, "--class-thresholds", "glad=0.1"], "must name classes of angry"),
        ("semi_train.py", [*semi, "--threshold", "1"], "no row reaches its threshold"),
        ("semi_train.py", [*semi, "--recipe", "fixmatch", "--rounds", "2"], "for self-training"),
        ("semi_train.py", [*semi, "--ramp-epochs", "20"], "--ramp-epochs must be below the 20"),
        ("semi_train.py", [*semi, "--truth", "gone.csv"], "gone.csv"),
        ("semi_train.py", [*semi[:2], "gone.h5", *semi[3:]], "gone.h5"),
        ("semi_train.py", [work / "test.csv", *semi[1:]], "no row has a label"),
        ("semi_train.py", [*semi, *of_outputs], "--class-names must be what it was trained with"),
        (  # the names tell the model's outputs, and the table keeps its own
            "semi_train.py",
            [*semi[:2], "foreign.h5", *semi[3:], *of_outputs, "--recipe", "fixmatch"],
            "fixmatch begins with a model of the classes angry, disgust, fear, happy, sad",
        ),
        ("semi_train.py", [semi[0], *semi[:1], *semi[2:]], "no labelled row is left"),
        ("semi_train.py", [semi[0], "empty", *semi[2:]], "empty"),
        ("semi_retrain.py", [*semi[:3], cnn, "1", "3"], "has had 2 epochs"),
        ("semi_retrain.py", [*semi[:3], cnn, "2", "2"], "last epoch must be above"),
    ):
        assert rule in fails(script, *arguments, cwd=tmp_path), (script, arguments)


@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_every_backend_tells_its_device(name, tmp_path):
    pytest.importorskip(name)
    code = "from ferlab.backend import versions; print(versions()['device'])"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": name},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.fullmatch(rf"(CPU \(\d+ cores\)|.+), {name} [\d.]+.*\n", printed)


def test_an_unknown_backend_is_one_line(work, tmp_path):
    arguments = (work / "train.csv", "--validation", 9)
    error = run("train.py", *arguments, cwd=tmp_path, code=2, KERAS_BACKEND="abacus")
    assert error.startswith("error: KERAS_BACKEND must be tensorflow, jax or torch")
    assert error.count("\n") == 1


def test_another_backend_trains_and_predicts(work):
    pytest.importorskip("jax")
    options = ("--epochs", 1, "--batch-size", 32, "--out-dir", "jax")
    printed = run("dnn_train.py", "train.csv", *options, cwd=work, KERAS_BACKEND="jax")
    assert re.search(r"device: .*jax", printed)
    (model,) = (work / "jax").glob("*.h5")
    run("dnn_test.py", "test.csv", "jax.csv", model, cwd=work, KERAS_BACKEND="jax")
    run("dnn_test.py", "test.csv", "tensorflow.csv", model, cwd=work)
    pairs = zip(submission(work / "jax.csv"), submission(work / "tensorflow.csv"), strict=True)
    assert sum(one == other for one, other in pairs) >= 48  # a near tie may fall either way
