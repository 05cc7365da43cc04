"""Bad input, script by script: one line, exit 2, and nothing half-written."""

import numpy as np
import pytest
from support import fails, run

from models import build_model


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
    assert rule in fails("train.py", "bad.csv", cwd=tmp_path, by=run)


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
        ("train.py", [work / "train.csv", "--recipe", "best-of-all"], "fast, best, cnn-report"),
        ("train.py", [work / "train.csv", "--epochs", "0"], "--epochs"),
        ("train.py", [work / "train.csv", "--validation", "PrivateTest"], "final score"),
        ("train.py", ["gone.csv", "--seed", "x"], "--seed: expected a whole number"),
        ("train.py", ["empty", "--image-size", "0"], "--image-size"),
        ("retrain.py", [work / "train.csv", cnn, "-1", "3"], "PREVIOUS_EPOCH"),
        ("retrain.py", [work / "train.csv", cnn, "1", "3"], "has had 2 epochs"),
        ("retrain.py", [work / "train.csv", cnn, "2", "3", "--image-size", "32"], "--image-size"),
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
        ("-m ferlab", ["sample", "s", "--test", "99999999999"], "--test: expected a whole number"),
        ("test.py", [work / "test.csv", work / "test.csv", cnn], "is read here"),
        ("test.py", [work / "test.csv", cnn, cnn], "is a model's name"),
        ("test_by_vote.py", [work / "test.csv", cnn, "list.txt"], "is a model's name"),
        ("test.py", [work / "test.csv", "r.csv", cnn, "--truth", ""], "an argument is empty"),
        ("train.py", [work / "train.csv", "--run-dir="], "an argument is empty"),
        ("-m ferlab", ["check", work / "train.csv", "--out", cnn], "--out must end in .html"),
        ("-m ferlab", ["dance"], "dance"),
        (
            "train.py",
            [work / "train.csv", "--recipe", "fixmatch"],
            "recipe must be one of fast, be",
        ),
        ("train.py", [work / "train.csv", "--labels-removed", "1"], "--labels-removed must be"),
        (
            "train.py",
            [work / "train.csv", "--teacher-weight", "0.5"],
            "--teacher-weight requires --teacher",
        ),
        ("train.py", [work / "train.csv", "--plain-share", "1"], "--no-aug-fraction must be"),
        ("semi_train.py", [*semi, "--recipe", "cnn-report"], "one of semi-report, fixmatch."),
        ("semi_train.py", [*semi, "--mixup", "0.2"], "unrecognized arguments: --mixup"),
        ("semi_train.py", [*semi, "--threshold", "1.5"], "--threshold must be"),
        ("semi_train.py", [*semi, "--class-thresholds", "happy"], "expected NAME=CONFIDENCE"),
        ("semi_train.py", [*semi, "--class-thresholds", "glad=0.1"], "must name classes of angry"),
        ("semi_train.py", [*semi, "--threshold", "1"], "no row reaches its threshold"),
        ("semi_train.py", [*semi, "--recipe", "fixmatch", "--rounds", "2"], "for self-training"),
        ("semi_train.py", [*semi, "--ramp-epochs", "20"], "--ramp-epochs must be below the 20"),
        ("semi_train.py", [*semi, "--truth", "gone.csv"], "gone.csv"),
        ("semi_train.py", [*semi[:2], "gone.h5", *semi[3:]], "gone.h5"),
        ("semi_train.py", [work / "test.csv", *semi[1:]], "no row has a label"),
        ("semi_train.py", [*semi, *of_outputs], "--class-names"),
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


def test_one_line_is_all_that_a_process_says_once_it_has_keras(work, cnn, tmp_path):
    for script, arguments, rule in (
        ("test.py", [work / "test.csv", "r.csv", work / "test.csv"], "is an HDF5 file or"),
        ("retrain.py", [work / "train.csv", cnn, "1", "3"], "has had 2 epochs"),
    ):
        assert rule in fails(script, *arguments, cwd=tmp_path, by=run), script


def test_the_mean_of_the_weights_is_refused_on_a_backend_that_fails_at_it(work, tmp_path):
    options = ("--recipe", "dnn-report", "--ema", "0.9", "--validation", 40)
    arguments = ("train.py", work / "train.csv", *options)
    printed = run(*arguments, cwd=tmp_path, code=2, KERAS_BACKEND="jax")
    assert "--ema needs the backend tensorflow or torch" in printed
