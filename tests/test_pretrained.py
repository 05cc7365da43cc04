"""Shipped models: found by name, checked, used everywhere, never changed."""

import json
import os
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest
from support import ROOT, faces, fails

from ferlab import checkpoints, data, files, inference, pretrained, training
from ferlab.checkpoints import TrainingRecord
from ferlab.errors import InputError
from ferlab.inference import model_list
from ferlab.labels import EMOTIONS
from models import build_model

pytestmark = pytest.mark.usefixtures("few_weights")

RECORD = TrainingRecord(class_names=EMOTIONS, image_shape=(48, 48, 1), pixels="raw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with data, and in `shipped/` an untrained model called tiny."""
    path = tmp_path_factory.mktemp("pretrained")
    rows = faces(70, seed=4)
    data.write_csv(path / "rows.csv", rows.images, labels=rows.labels)
    others = faces(40, seed=5)
    data.write_csv(path / "test.csv", others.images, ids=others.ids)
    shipped = path / "shipped"
    shipped.mkdir()
    training.set_seed(0)
    model = build_model("dnn", (48, 48, 1), 7)
    checkpoints.save(model, shipped / "tiny.h5", RECORD, half=True)
    facts = {"file": "tiny.h5", "sha256": files.sha256(shipped / "tiny.h5")}
    (shipped / "tiny.json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def shipped(folder, monkeypatch):
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(folder / "shipped"))
    monkeypatch.chdir(folder)
    return folder / "shipped"


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_save_half_opens_as_the_same_model(tmp_path, name):
    training.set_seed(1)
    model = build_model(name, (48, 48, 1), 7)
    model.compile(optimizer="adam")
    model.optimizer.build(model.trainable_variables)
    rows = faces(30)
    digests = rows.row_digests()
    for file, half in (("whole.h5", False), ("half.h5", True)):
        path = tmp_path / file
        checkpoints.save(model, path, RECORD, training_rows=digests, half=half)
    parameters = model.count_params()
    assert 2 * parameters < (tmp_path / "half.h5").stat().st_size < 2 * parameters + 200_000
    opened = checkpoints.load(tmp_path / "half.h5", with_optimizer=True)
    assert getattr(opened.model, "optimizer", None) is None
    assert opened.class_names == EMOTIONS
    np.testing.assert_array_equal(checkpoints.read_training_rows(tmp_path / "half.h5"), digests)
    for old, new in zip(model.weights, opened.model.weights, strict=True):
        assert new.dtype == "float32"
        old, new = (keras.ops.convert_to_numpy(weight) for weight in (old, new))
        expected = old.astype("float16").astype("float32") if old.ndim > 1 else old
        np.testing.assert_array_equal(new, expected)
    before = inference.predict(checkpoints.load(tmp_path / "whole.h5"), rows)
    np.testing.assert_allclose(inference.predict(opened, rows), before, atol=2e-2)


def test_save_half_refuses_weights_that_float16_cannot_represent(tmp_path):
    model = build_model("dnn", (48, 48, 1), 7)
    model.weights[0].assign(model.weights[0] + 1e6)
    with pytest.raises(InputError, match="float16"):
        checkpoints.save(model, tmp_path / "large.h5", RECORD, half=True)
    with pytest.raises(InputError, match=r"half\.keras: .*\.h5"):
        checkpoints.save(model, tmp_path / "half.keras", RECORD, half=True)
    assert not list(tmp_path.iterdir())


def test_resolve_gives_the_file_of_a_name(shipped):
    assert pretrained.resolve("pretrained:tiny").samefile(shipped / "tiny.h5")
    assert str(pretrained.resolve("pretrained:tiny")) == "shipped/tiny.h5"
    assert str(pretrained.resolve("model.h5")) == "model.h5"
    assert pretrained.reference(shipped / "tiny.h5") == "pretrained:tiny"
    assert pretrained.reference(shipped / "tiny.json") is None
    assert pretrained.reference(shipped.parent / "tiny.h5") is None


def test_resolve_accepts_the_models_of_the_repository(monkeypatch):
    monkeypatch.delenv(pretrained.FOLDER_VARIABLE, raising=False)
    for name in pretrained.names():
        checkpoints.read_record(pretrained.resolve(f"pretrained:{name}"))


@pytest.mark.parametrize(
    ("name", "facts", "rule"),
    [
        ("gone", None, "pretrained:gone: .*tiny"),
        ("../tiny", None, "pretrained:../tiny: "),
        ("", None, "pretrained:: "),
        ("tiny", {"file": "tiny.h5", "sha256": "0" * 64}, "SHA-256 .* tiny.json"),
        ("tiny", {"file": "../rows.csv", "sha256": ""}, r"tiny\.json: .*tiny\.h5"),
        ("tiny", {"file": "tiny.h5"}, r"tiny\.json: .*sha256"),
    ],
)
def test_resolve_on_bad_input(shipped, name, facts, rule):
    path = shipped / "tiny.json"
    before = path.read_text()
    try:
        if facts:
            path.write_text(json.dumps(facts))
        with pytest.raises(InputError, match=rule):
            pretrained.resolve(f"pretrained:{name}")
    finally:
        path.write_text(before)


def test_resolve_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"none in .*nothing"):
        pretrained.resolve("pretrained:best")


def test_model_list_names_a_shipped_model(shipped, tmp_path):
    (tmp_path / "list.txt").write_text("2 pretrained:tiny pixels=raw\n")
    (member,) = model_list.read(tmp_path / "list.txt")
    assert (member.weight, member.path.name, member.pixels) == (2, "tiny.h5", "raw")
    model_list.write(tmp_path / "again.txt", [member], [])
    assert (tmp_path / "again.txt").read_text() == "2 pretrained:tiny pixels=raw\n"
    (tmp_path / "list.txt").write_text("1 pretrained:gone\n")
    with pytest.raises(InputError, match=r"list\.txt:1: pretrained:gone: "):
        model_list.read(tmp_path / "list.txt")


@pytest.fixture
def script(folder, monkeypatch, capsys):
    """Run a script of the root in this process, which has Keras already; give what it prints."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_scripts_accept_names_of_shipped_models_without_changing_them(shipped, folder, script):
    before = {path: path.read_bytes() for path in shipped.iterdir()}
    arguments = ("test.csv", "result.csv", "pretrained:tiny")
    script("test.py", *arguments)
    by_name = (folder / "result.csv").read_text()
    script("dnn_test.py", *arguments[:2], shipped / "tiny.h5")
    assert (folder / "result.csv").read_text() == by_name
    (folder / "list.txt").write_text("1 pretrained:tiny\n")
    script("test_by_vote.py", *arguments[:2], "list.txt", "--cache-dir", "votes")
    assert (folder / "result.csv").read_text() == by_name
    script("plot_model.py", "rows.csv", "pretrained:tiny", "--what", "cm")
    assert (folder / "tiny_cm.png").exists()
    script("gradient_ascent.py", "pretrained:tiny", "--output", "happy", "--steps", 2)
    assert (folder / "tiny_happy.png").exists()
    short = ("--validation", 20, "--batch-size", 25)
    printed = script("retrain.py", "rows.csv", "pretrained:tiny", 0, 1, *short)
    assert printed.splitlines()[-1].endswith("_tiny.h5")
    rows = ("rows.csv", "test.csv", "pretrained:tiny")
    short = (*short, "--threshold", 0)
    path = script("semi_train.py", *rows, "--epochs", 1, *short).splitlines()[-1]
    printed = script("semi_retrain.py", *rows, path, 1, 2, *short[2:])
    assert (folder / printed.splitlines()[-1]).exists()
    assert {path: path.read_bytes() for path in shipped.iterdir()} == before


def test_commands_accept_names_of_shipped_models(shipped, folder, command):
    assert "74,407" in command("inspect", "pretrained:tiny", cwd=folder)
    command("report", "pretrained:tiny", "rows.csv", cwd=folder)
    assert (folder / "tiny_report.html").exists()
    other = folder / "other.h5"
    training.set_seed(5)
    checkpoints.save(build_model("dnn", (48, 48, 1), 7), other, RECORD)
    command("compare", "pretrained:tiny", "other.h5", "--data", "rows.csv", cwd=folder)
    command("check", "rows.csv", "--model", "pretrained:tiny", cwd=folder)
    fitted = ("--cache-dir", "votes", "--out", "fitted.txt", "--rounds", 1)
    (folder / "some.txt").write_text("1 pretrained:tiny\n")
    command("vote-fit", "rows.csv", "pretrained:tiny", "some.txt", *fitted, cwd=folder)
    assert "pretrained:tiny" in (folder / "fitted.txt").read_text()


@pytest.mark.parametrize("model", ["pretrained:tiny", "shipped/tiny.h5"])
def test_calibrate_refuses_a_shipped_model(shipped, folder, command, model):
    before = (shipped / "tiny.h5").read_bytes()
    error = command("calibrate", "rows.csv", model, cwd=folder, code=2)
    assert error == "error: shipped/tiny.h5: is a shipped model; copy it and calibrate the copy\n"
    assert (shipped / "tiny.h5").read_bytes() == before


def test_script_refuses_an_unknown_name_in_one_line(shipped, folder):
    rule = "pretrained:gone: "
    assert rule in fails("test.py", "test.csv", "r.csv", "pretrained:gone", cwd=folder)
    assert rule in fails("-m ferlab", "inspect", "pretrained:gone", cwd=folder)


def test_add_writes_all_files_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path / "shipped"))
    (tmp_path / "model.h5").write_bytes(b"weights")
    with pytest.raises(TypeError):
        pretrained.add("new", tmp_path / "model.h5", {"never": object()}, "card")
    monkeypatch.setattr(pretrained.files, "whole_file", fails_at("new.json"))
    with pytest.raises(InputError, match="full"):
        pretrained.add("new", tmp_path / "model.h5", {}, "card")
    assert not list(tmp_path.rglob("new*"))


def fails_at(name):
    whole_file = files.whole_file

    def write(path):
        if path.name == name:
            raise InputError("full")
        return whole_file(path)

    return write


FACTS = {"file": "new.h5", "sha256": "0" * 64}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path / "shipped"))
    (tmp_path / "new.h5").write_bytes(b"weights")
    return tmp_path / "shipped"


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_add_writes_three_files_and_nothing_else(empty):
    written = pretrained.add("new", empty.parent / "new.h5", FACTS, "card")
    assert [path.name for path in written] == ["new.h5", "new.md", "new.json"]
    assert entries(empty) == ["new.h5", "new.json", "new.md"]
    assert pretrained.names() == ["new"]


@pytest.mark.parametrize("finished", range(5))
def test_add_that_is_killed_anywhere_leaves_all_three_files_or_none(empty, monkeypatch, finished):
    """Killed after so many writes; then the next script begins, and the name is free or taken."""
    code = f"""
import os, pathlib, signal
from ferlab import files, pretrained
written, whole_file = [], files.whole_file
def counted(path):
    if len(written) == {finished}:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path)
    return whole_file(path)
files.whole_file = counted
pretrained.add("new", pathlib.Path("new.h5"), {FACTS!r}, "card")
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=empty.parent, env=environment, check=False)
    pretrained.remove_unfinished()
    left = set(entries(empty)) - {pretrained.LOCK_NAME}
    assert left == ({"new.h5", "new.json", "new.md"} if finished == 4 else set())
    assert pretrained.names() == (["new"] if finished == 4 else [])
    if finished < 4:
        pretrained.add("new", empty.parent / "new.h5", FACTS, "card")
        assert entries(empty) == ["new.h5", "new.json", "new.md"]


def test_remove_unfinished_leaves_other_files_alone(empty):
    empty.mkdir()
    (empty / "new.h5").write_bytes(b"of the user")
    (empty / ".ferlab-pack-new.json").write_text(json.dumps({".h5": "0" * 64}))
    (empty / ".ferlab-pack-...json").write_text("{}")
    pretrained.remove_unfinished()
    assert entries(empty) == [".ferlab-pack-...json", "new.h5"]
