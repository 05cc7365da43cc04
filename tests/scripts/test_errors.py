"""Bad input, script by script: one line, exit 2, and nothing half-written."""

import numpy as np
import pytest
from support import fails, run

from models import build_model


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("label,feature\n0,1 2 3 4\n0,1 2 3\n", "bad.csv:3"),
        ("label,feature\n0,1 2 3\n", "bad.csv:2"),
        ("label,feature\n0,1 2 3 256\n", "bad.csv:2"),
        ("label,feature\n0,1 2 3 x\n", "bad.csv:2"),
        ("label,feature\n9,1 2 3 4\n", "bad.csv:2"),
        ("label,feature\n", "no rows"),
        ("", "empty"),
        ("<!DOCTYPE html><html></html>", "HTML"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
    ],
)
def test_train_names_the_line_or_kind_of_a_bad_table(tmp_path, text, fact):
    (tmp_path / "bad.csv").write_text(text)
    assert fact in fails("train.py", "bad.csv", cwd=tmp_path)


def test_scripts_name_the_bad_argument(work, cnn, dnn, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    np.savez(tmp_path / "pickle.npz", train_images=np.array([{}], dtype=object))
    semi = [work / "train.csv", work / "test.csv", dnn, "--validation", "40"]
    build_model("dnn", (24, 24, 1), 7).save(tmp_path / "foreign.h5")
    of_outputs = ["--class-names", "angry,disgust,fear,happy,neutral,sad,surprise"]
    for script, arguments, fact in (
        ("train.py", ["gone.csv"], "gone.csv"),
        ("train.py", ["empty"], "class"),
        ("train.py", ["pickle.npz"], "pickle"),
        ("train.py", [work / "train.csv", "--recipe", "best-of-all"], "fast, best, cnn-report"),
        ("train.py", [work / "train.csv", "--epochs", "0"], "--epochs"),
        ("train.py", [work / "train.csv", "--validation", "PrivateTest"], "PrivateTest"),
        ("train.py", ["gone.csv", "--seed", "x"], "--seed"),
        ("train.py", ["empty", "--image-size", "0"], "--image-size"),
        ("retrain.py", [work / "train.csv", cnn, "-1", "3"], "PREVIOUS_EPOCH"),
        ("retrain.py", [work / "train.csv", cnn, "1", "3"], "2 epochs"),
        ("retrain.py", [work / "train.csv", cnn, "2", "3", "--image-size", "32"], "--image-size"),
        ("csv_to_npz.py", [work / "train.csv", "--out", "packed"], ".npz"),
        ("train.py", [work / "test.csv", "--validation", "9"], "label"),
        ("train.py", [work / "train.csv", "--validation", "9", "--run-dir", "file/run"], "file"),
        ("train.py", [work / "train.csv", "--validation", "9", "--out-dir", "file/x"], "file"),
        ("train.py", [], "DATA"),
        ("test.py", [work / "test.csv", "file/result.csv", cnn], "file"),
        ("test.py", [work / "test.csv", "r.csv", "gone.h5"], "gone.h5"),
        ("test.py", [work / "test.csv", "r.csv", work / "test.csv"], "test.csv"),
        ("test.py", [work / "test.csv", "r.csv", cnn, "--truth", "file"], "file"),
        ("test_by_vote.py", [work / "test.csv", "r.csv", "gone.txt"], "gone.txt"),
        ("csv_to_npz.py", ["gone.csv"], "gone.csv"),
        ("-m ferlab", ["sample", "file"], "file"),
        ("-m ferlab", ["sample", work], "train.csv"),
        ("-m ferlab", ["sample", "s", "--test", "99999999999"], "--test"),
        ("test.py", [work / "test.csv", work / "test.csv", cnn], "test.csv"),
        ("test.py", [work / "test.csv", cnn, cnn], cnn.name),
        ("test_by_vote.py", [work / "test.csv", cnn, "list.txt"], cnn.name),
        ("test.py", [work / "test.csv", "r.csv", cnn, "--truth", ""], "empty"),
        ("train.py", [work / "train.csv", "--run-dir="], "empty"),
        ("-m ferlab", ["check", work / "train.csv", "--out", cnn], ".html"),
        ("-m ferlab", ["dance"], "dance"),
        (
            "train.py",
            [work / "train.csv", "--recipe", "fixmatch"],
            "fast, best",
        ),
        ("train.py", [work / "train.csv", "--labels-removed", "1"], "--labels-removed"),
        (
            "train.py",
            [work / "train.csv", "--teacher-weight", "0.5"],
            "--teacher-weight requires --teacher",
        ),
        ("train.py", [work / "train.csv", "--plain-share", "1"], "--no-aug-fraction"),
        ("semi_train.py", [*semi, "--recipe", "cnn-report"], "semi-report, fixmatch"),
        ("semi_train.py", [*semi, "--mixup", "0.2"], "--mixup"),
        ("semi_train.py", [*semi, "--threshold", "1.5"], "--threshold must be"),
        ("semi_train.py", [*semi, "--class-thresholds", "happy"], "NAME=CONFIDENCE"),
        ("semi_train.py", [*semi, "--class-thresholds", "glad=0.1"], "glad"),
        ("semi_train.py", [*semi, "--threshold", "1"], "threshold"),
        ("semi_train.py", [*semi, "--recipe", "fixmatch", "--rounds", "2"], "self-training"),
        ("semi_train.py", [*semi, "--ramp-epochs", "20"], "20"),
        ("semi_train.py", [*semi, "--truth", "gone.csv"], "gone.csv"),
        ("semi_train.py", [*semi[:2], "gone.h5", *semi[3:]], "gone.h5"),
        ("semi_train.py", [work / "test.csv", *semi[1:]], "label"),
        ("semi_train.py", [*semi, *of_outputs], "--class-names"),
        (  # the names are of the model's outputs; the table has its own
            "semi_train.py",
            [*semi[:2], "foreign.h5", *semi[3:], *of_outputs, "--recipe", "fixmatch"],
            "angry, disgust, fear, happy, sad",
        ),
        ("semi_train.py", [semi[0], *semi[:1], *semi[2:]], "label"),
        ("semi_train.py", [semi[0], "empty", *semi[2:]], "empty"),
        ("semi_retrain.py", [*semi[:3], cnn, "1", "3"], "2 epochs"),
        ("semi_retrain.py", [*semi[:3], cnn, "2", "2"], "epoch"),
    ):
        assert fact in fails(script, *arguments, cwd=tmp_path), (script, arguments)


def test_scripts_fail_in_one_line_after_importing_keras(work, cnn, tmp_path):
    for script, arguments, fact in (
        ("test.py", [work / "test.csv", "r.csv", work / "test.csv"], "test.csv"),
        ("retrain.py", [work / "train.csv", cnn, "1", "3"], "2 epochs"),
    ):
        assert fact in fails(script, *arguments, cwd=tmp_path, by=run), script


def test_train_refuses_ema_on_jax(work, tmp_path):
    options = ("--recipe", "dnn-report", "--ema", "0.9", "--validation", 40)
    arguments = ("train.py", work / "train.csv", *options)
    printed = run(*arguments, cwd=tmp_path, code=2, KERAS_BACKEND="jax")
    assert "--ema" in printed
    assert "tensorflow" in printed
