"""`python -m ferlab vote-train`: members, their list, and resuming after an interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import support
from support import ROOT, call, faces, run

from ferlab import checkpoints, data
from ferlab.inference import model_list
from ferlab.training import runs

VOTE = ("--recipes", "dnn-report", "--members", 3, "--snapshots", 2)
SHORT = ("--epochs", 8, "--batch-size", 32, "--validation", 40)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*arguments):
    return [sys.executable, "-m", "ferlab", "vote-train", *map(str, arguments)]


def vote_train(*arguments, cwd):
    return call("-m ferlab", "vote-train", *arguments, cwd=cwd)


def fails(*arguments, cwd, by=call):
    """Bad input: exit 2, one line, and every file as it was."""
    before = contents(cwd)
    error = support.fails("-m ferlab", "vote-train", *arguments, cwd=cwd, by=by)
    assert contents(cwd) == before
    return error


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def member_lines(folder):
    lines = (folder / "model_list.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def weights_of(folder):
    members = model_list.read(folder / "model_list.txt")
    return [checkpoints.load(member.path).model.get_weights() for member in members]


def write_faces(folder):
    drawn = faces(120, seed=1, size=24)
    data.write_csv(folder / "train.csv", drawn.images, labels=drawn.labels)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, and a vote trained on it without an interruption."""
    folder = tmp_path_factory.mktemp("work")
    write_faces(folder)
    printed = vote_train("train.csv", *VOTE, *SHORT, cwd=folder)
    (folder / "train.log").write_text(printed)
    return folder


def test_vote_train_help_does_not_import_keras():
    code = (
        "import runpy, sys; sys.argv = ['ferlab', 'vote-train', '--help']\n"
        "try: runpy.run_module('ferlab', run_name='__main__')\n"
        "except SystemExit: print('keras' in sys.modules)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], env=ENVIRONMENT, text=True)
    assert "--snapshots K" in printed
    assert printed.endswith("False\n")


def test_vote_train_prints_a_forecast_and_the_accuracy_of_each_member(work):
    log = (work / "train.log").read_text()
    assert "3 members, from the last epochs (--snapshots) of 2 trainings\n" in log
    assert "validation rows of every training: 40, by --validation (40 of 120)" in log
    assert re.search(r"1 of 2 trainings are finished; all take about \d+ s, of which \d+ s", log)
    assert len(re.findall(r"member \d of 3: .*accuracy [\d.]+% \(n=40, 95% interval", log)) == 3
    assert log.endswith("vote/model_list.txt\n")


def test_vote_train_writes_a_model_list_of_the_last_epochs(work):
    header = (work / "vote" / "model_list.txt").read_text().splitlines()[0]
    assert re.match(r"# \d{4}-\d\d-\d\d \d\d:\d\d  python -m ferlab vote-train train.csv", header)
    lines = member_lines(work / "vote")
    accuracies = []
    for line, epoch in zip(lines, (6, 7, 7), strict=True):
        _, accuracy = re.fullmatch(
            rf"1 dnn_[\d.]+/({epoch}_[01]\.\d{{6}})\.h5  # validation accuracy ([\d.]+)% \(n=40.*",
            line,
        ).groups()
        accuracies.append(float(accuracy))
    members = model_list.read(work / "vote" / "model_list.txt")
    histories = [checkpoints.read_record(member.path).history for member in members]
    measured = [100 * history["val_accuracy"][-1] for history in histories]
    assert accuracies == pytest.approx(measured, abs=0.01)
    assert [checkpoints.read_record(member.path).seed for member in members] == [0, 0, 1]

    arguments = ("train.csv", "vote.csv", "vote/model_list.txt", "--cache-dir", "votes")
    call("test_by_vote.py", *arguments, cwd=work)
    assert len((work / "vote.csv").read_text().splitlines()) == 121


def test_vote_train_run_again_trains_nothing_and_keeps_fitted_weights(work):
    path = work / "vote" / "model_list.txt"
    written = path.read_text()
    path.write_text(written.replace("\n1 ", "\n0.5 "))
    before = contents(work / "vote")
    printed = vote_train("train.csv", *VOTE, *SHORT, cwd=work)
    assert "all 2 trainings are finished" in printed
    assert "Epoch" not in printed
    assert contents(work / "vote") == before
    path.write_text(written)


def test_vote_train_resumes_after_a_kill(work, tmp_path):
    write_faces(tmp_path)
    process = subprocess.Popen(
        command("train.csv", *VOTE, *SHORT),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob("vote/runs/02-dnn-report-seed1/last.h5")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [line.split("#")[0] for line in member_lines(tmp_path / "vote")] == [
        line.split("#")[0] for line in member_lines(work / "vote")[:2]
    ]

    printed = vote_train("train.csv", *VOTE, *SHORT, cwd=tmp_path)
    assert "training 1 of 2" not in printed
    assert re.search(r"(at epoch \d of|after all) 8", printed)
    require_same_vote(work / "vote", tmp_path / "vote")


def require_same_vote(first, second):
    assert member_lines(first) == member_lines(second)
    for one, other in zip(weights_of(first), weights_of(second), strict=True):
        assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_vote_train_does_not_repeat_a_finished_training_that_it_has_not_recorded(work, tmp_path):
    copy = tmp_path / "vote"
    shutil.copytree(work / "vote", copy)
    shutil.copyfile(work / "train.csv", tmp_path / "train.csv")
    vote = json.loads((copy / "vote.json").read_text())
    recorded = vote["trainings"].pop()
    (copy / "vote.json").write_text(json.dumps(vote))
    list_before = (copy / "model_list.txt").read_text()
    (copy / "model_list.txt").unlink()
    # as if one of its two checkpoints was still to be moved to its place
    unmoved = copy / recorded["files"][0]["path"]
    (copy / recorded["run"] / "epochs").mkdir()
    unmoved.rename(copy / recorded["run"] / "epochs" / unmoved.name)

    printed = vote_train("train.csv", *VOTE, *SHORT, cwd=tmp_path)
    assert "after all 8" in printed
    assert "Epoch" not in printed
    assert member_lines(copy) == member_lines(work / "vote")
    assert (copy / "model_list.txt").read_text().splitlines()[1:] == list_before.splitlines()[1:]
    assert json.loads((copy / "vote.json").read_text())["trainings"][1] == recorded
    assert len(list(copy.glob("*.h5"))) == 2


def test_vote_train_adds_members(work, tmp_path):
    copy = tmp_path / "vote"
    shutil.copytree(work / "vote", copy)
    shutil.copyfile(work / "train.csv", tmp_path / "train.csv")
    four = vote_train("train.csv", *VOTE, "--members", 4, *SHORT, cwd=tmp_path)
    assert "Epoch" not in four
    assert [line.split("/")[1][0] for line in member_lines(copy)] == ["6", "7", "6", "7"]
    five = vote_train("train.csv", *VOTE, "--members", 5, *SHORT, cwd=tmp_path)
    assert "training 3 of 3" in five
    assert len(model_list.read(copy / "model_list.txt")) == 5
    assert "--members must be 5 or more" in fails("train.csv", *VOTE, *SHORT, cwd=tmp_path)


def test_vote_train_refuses_other_settings_in_the_same_folder(work):
    drawn = faces(120, seed=2, size=24)
    data.write_csv(work / "other.csv", drawn.images, labels=drawn.labels)
    for arguments, rule in (
        (("train.csv", *VOTE, *SHORT, "--epochs", 9), "dnn-report's epochs 8. Received: 9"),
        (("train.csv", *VOTE, *SHORT, "--recipes", "cnn-report"), "--recipes dnn-report"),
        (("train.csv", *VOTE, *SHORT, "--seed", 1), "--seed 0. Received: 1"),
        (("other.csv", *VOTE, *SHORT), "training rows"),
    ):
        assert rule in fails(*arguments, cwd=work), arguments


def test_vote_train_refuses_a_folder_in_use(tmp_path):
    write_faces(tmp_path)
    with runs.hold(tmp_path / "vote"):
        error = fails("train.csv", *VOTE, *SHORT, cwd=tmp_path, by=run)
    assert "vote: is in use by another process" in error
    assert not (tmp_path / "vote").exists()


def test_vote_train_alternates_recipes_on_the_same_validation_rows(tmp_path):
    write_faces(tmp_path)
    recipes = ("--recipes", "dnn-report,cnn-report", "--members", 2, "--out-dir", "two")
    printed = vote_train("train.csv", *recipes, "--epochs", 1, "--batch-size", 32, cwd=tmp_path)
    assert "validation rows of every training: 0.1, by dnn-report (12 of 120)" in printed
    lines = member_lines(tmp_path / "two")
    assert re.fullmatch(r"1 dnn_[\d.]+\.h5  #.*", lines[0])
    assert re.fullmatch(r"1 [01]\.\d{6}\.h5  #.*", lines[1])
    runs = sorted(path.name for path in (tmp_path / "two" / "runs").iterdir())
    assert runs == ["01-dnn-report-seed0", "02-cnn-report-seed1"]


def test_vote_train_on_bad_input(work, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "model_list.txt").write_text("1 a.h5\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "vote.json").write_text('{"members": 3}')
    (tmp_path / "file").write_text("")
    train = work / "train.csv"
    for arguments, rule in (
        ((train,), "--members"),
        ((train, "--members", 0), "--members: expected a whole number from 1"),
        (
            (train, *VOTE, "--recipes", "dnn-report,worst"),
            "Received: 'worst'",
        ),
        ((train, *VOTE, "--epochs", 1), "--snapshots must be at most the 1 epochs"),
        (("gone.csv", *VOTE), "gone.csv"),
        ((train, "--members", 2), "2,400 validation rows are more than half"),
        ((train, *VOTE, *SHORT, "--out-dir", "foreign"), "choose another --out-dir"),
        ((train, *VOTE, *SHORT, "--out-dir", "broken"), "broken/vote.json: "),
        ((train, *VOTE, *SHORT, "--out-dir", "file"), "file"),
    ):
        assert rule in fails(*arguments, cwd=tmp_path), arguments
