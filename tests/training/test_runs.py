"""Run folders: resumed by the same settings until they are finished, by one process at a time.

Also the scripts as a user runs them: killed, started twice, and stopped by a file size limit.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from support import ROOT, faces

from ferlab import checkpoints, data, files  # noqa: F401, `in_another_process` uses files
from ferlab.errors import InputError
from ferlab.training import runs

SETTINGS = {"recipe": {"name": "a", "epochs": 2}, "seed": 0, "data": {"source": "x.csv"}}
FOLDERS = (ROOT, ROOT / "tests", ROOT / "tests" / "training")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS))}
ENVIRONMENT.pop("TF_CPP_MIN_LOG_LEVEL", None)  # importing JAX sets it


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def open_run(run_dir=None, settings=SETTINGS, resume_file="last.h5"):
    return runs.open_run(settings, run_dir, name="a", resume_file=resume_file)


@contextlib.contextmanager
def in_another_process(code):
    """Run code in another process, which lives until the block ends. Gives the line it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from test_runs import *\n{code}\ninput()"],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_open_run_resumes_the_unfinished_folder_of_the_same_settings(tmp_path):
    first = open_run()
    assert re.fullmatch(r"runs/\d{8}-\d{6}-\d{6}-a", str(first.path))
    assert not first.is_resumed
    first.release()
    assert not (first.path / ".lock").exists()
    renamed = {**SETTINGS, "data": {"source": "y.csv"}}
    again = open_run(settings=renamed)
    assert (again.path, again.is_resumed) == (first.path, True)
    again.release()
    for other in ({**SETTINGS, "seed": 1}, {**SETTINGS, "more": 1}, {"seed": 0}):
        run = open_run(settings=other)
        assert run.path != first.path
        run.finish(tmp_path / "model.h5")


def test_open_run_resumes_the_newest_unfinished_folder():
    older, newer = (runs._new(SETTINGS, "a") for _ in range(2))
    older.release()
    newer.release()
    run = open_run()
    assert run.path == newer.path
    run.finish(run.path / "model.h5")
    assert json.loads((newer.path / "result.json").read_text())["checkpoint"].endswith("model.h5")
    run = open_run()
    assert run.path == older.path
    run.finish(run.path / "model.h5")
    assert open_run().path not in (older.path, newer.path)


def test_open_run_resumes_a_given_folder_with_its_own_settings_only(tmp_path):
    place = tmp_path / "my" / "run"
    with open_run(place) as run:
        assert not run.is_resumed
        (place / "last.h5").touch()
    with open_run(place) as run:
        assert run.is_resumed
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    for other, rule in (
        ({**SETTINGS, "recipe": {"name": "a", "epochs": 3}}, "recipe's epochs 2. Received: 3"),
        ({**SETTINGS, "more": 1}, "more None. Received: 1"),
        ({"recipe": SETTINGS["recipe"]}, "seed 0. Received: None"),
    ):
        with pytest.raises(InputError, match=re.escape(rule)):
            open_run(place, other)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    (place / "last.h5").unlink()  # then there is nothing to lose
    with open_run(place, {**SETTINGS, "seed": 1}) as run:
        assert not run.is_resumed
    assert json.loads((place / "config.json").read_text())["seed"] == 1


def test_open_run_refuses_a_folder_with_a_training_of_another_kind(tmp_path):
    with open_run(tmp_path / "run") as run:
        (run.path / "last.h5").touch()
    with pytest.raises(InputError, match="can be resumed only with its own settings"):
        open_run(tmp_path / "run", {**SETTINGS, "seed": 1}, resume_file="round-1")


def test_open_run_removes_a_new_folder_after_bad_input(tmp_path):
    with pytest.raises(InputError), open_run(tmp_path / "run"):
        raise InputError("no")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run" / "round-1").mkdir(parents=True)
    with pytest.raises(InputError), open_run(tmp_path / "run"):
        raise InputError("no")
    assert (tmp_path / "run" / "config.json").exists()


def test_open_run_resumes_a_given_folder_that_is_finished(tmp_path):
    open_run(tmp_path / "run").finish(tmp_path / "model.h5")
    run = open_run(tmp_path / "run")
    assert run.is_resumed
    assert (run.path / "result.json").exists()


def test_open_run_locks_the_folder_while_its_process_lives(tmp_path):
    with in_another_process("run = open_run(); print(run.path)") as taken:
        place = tmp_path / taken
        before = {path: path.stat() for path in [place, *place.iterdir()]}
        with pytest.raises(InputError, match="in use by another process"):
            open_run(place)
        with pytest.raises(InputError, match="another process"):
            runs.hold(place)
        assert {path: path.stat() for path in [place, *place.iterdir()]} == before
        own = open_run()
        assert str(own.path) != taken
        own.finish(tmp_path / "model.h5")
    assert (place / ".lock").exists()  # left by the kill, and held by nobody
    run = open_run()
    assert (str(run.path), run.is_resumed) == (taken, True)


def test_open_run_shares_the_lock_within_a_process(tmp_path):
    first, second = open_run(tmp_path / "run"), open_run(tmp_path / "run")
    code = "try: open_run(Path('run')); print('in')\nexcept InputError: print('out')"
    code = f"from pathlib import Path\n{code}"
    first.release()
    with in_another_process(code) as printed:
        assert printed == "out"
    second.release()
    with in_another_process(code) as printed:
        assert printed == "in"


def test_open_run_removes_temporary_files_of_a_killed_process(tmp_path):
    with in_another_process(
        "run = open_run(); context = files.whole_file(run.path / 'last.h5')\n"
        "context.__enter__().write_text('half'); print(run.path)"
    ) as taken:
        (temporary,) = (tmp_path / taken).glob(".ferlab-*.h5")
        open_run().finish(tmp_path / "model.h5")
        assert temporary.exists()  # of a living process
    open_run()
    assert not temporary.exists()
    assert not (tmp_path / taken / "last.h5").exists()


def test_open_run_uses_a_folder_without_settings_but_no_foreign_one(tmp_path):
    without_settings = tmp_path / "runs" / "20200101-000000-000000-a"
    foreign = tmp_path / "runs" / "20300101-000000-000000-a"
    old = tmp_path / "runs" / "20310101-000000-000000-a"
    for place in (without_settings, foreign, old, tmp_path / "runs" / "list"):
        place.mkdir(parents=True)
    (without_settings / ".lock").touch()
    (foreign / "events.out").touch()
    (old / "config.json").write_text('{"recipe": {"name": "a"}, "seed": 0, "data": []}')
    (tmp_path / "runs" / "list" / "config.json").write_text("[]")
    (tmp_path / "runs" / "file").touch()
    run = open_run()
    assert run.path.resolve() == without_settings
    assert not run.is_resumed


def test_hold_removes_an_empty_folder_on_release(tmp_path):
    runs.hold(tmp_path / "a" / "b").release()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"run: cannot be written: Not a directory"):
        runs.hold(tmp_path / "file" / "run")


def test_publishing_into_a_folder_waits_for_another_process(tmp_path):
    out = tmp_path / "out"
    code = (
        "from pathlib import Path\n"
        "with runs.publishing_into(Path('out')):\n"
        "    print('in', flush=True); time.sleep(0.5); (Path('out') / 'name.h5').touch()"
    )
    with in_another_process(code) as printed:
        assert printed == "in"
        with runs.publishing_into(out):
            assert (out / "name.h5").exists()
    assert [path.name for path in out.iterdir()] == ["name.h5"]


def test_publishing_into_locks_beside_the_files_and_nowhere_else(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with runs.publishing_into(tmp_path / "out"):
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".ferlab.lock"]
        assert list((tmp_path / "temporary").iterdir()) == []


def test_locks_refuse_links_and_leave_their_targets_alone(tmp_path):
    victim = tmp_path / "0.7.h5"
    for name, use in (
        (runs.PUBLISHING_LOCK_NAME, lambda folder: runs.publishing_into(folder).__enter__()),
        (runs.LOCK_NAME, runs.hold),
        (runs.LOCK_NAME, open_run),
    ):
        victim.write_text("weights")
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / name).symlink_to(victim)
        with pytest.raises(InputError, match="a lock must be an ordinary file"):
            use(folder)
        assert victim.read_text() == "weights"
        shutil.rmtree(folder)


def test_publishing_into_a_folder_that_is_never_released_is_refused(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(runs, "PUBLISHING_TIMEOUT", 0.1)
    with (tmp_path / runs.PUBLISHING_LOCK_NAME).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process would
        with pytest.raises(InputError, match="held by another process"):
            runs.publishing_into(tmp_path).__enter__()


def write_faces(folder):
    drawn = faces(120, seed=1, size=24)
    data.write_csv(folder / "train.csv", drawn.images, labels=drawn.labels)


SHORT = ("train.csv", "--epochs", "6", "--batch-size", "16")


def start(*options, cwd):
    return subprocess.Popen(
        [sys.executable, ROOT / "dnn_train.py", *SHORT, *map(str, options)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    printed, error = process.communicate(timeout=300)
    assert process.returncode == code, printed + error
    return printed if code == 0 else error


def wait_for(folder, pattern, process):
    while not list(folder.glob(pattern)):
        assert process.poll() is None
        time.sleep(0.002)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("straight")
    write_faces(folder)
    finish(start("--keep-epochs", 2, cwd=folder))
    return folder


def require_equal(straight, folder):
    paths = [sorted(place.rglob("*[0-9].h5")) for place in (straight, folder)]
    names = [
        [path.relative_to(place) for path in published]
        for place, published in zip((straight, folder), paths, strict=True)
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 3
    for one, other in zip(*paths, strict=True):
        opened = [checkpoints.load(path, with_optimizer=True) for path in (one, other)]
        for variables in (
            [checkpoint.model.variables for checkpoint in opened],
            [checkpoint.model.optimizer.variables for checkpoint in opened],
        ):
            for pair in zip(*variables, strict=True):
                assert np.array_equal(*map(np.asarray, pair))
        histories = [checkpoint.record.history for checkpoint in opened]
        assert histories[0]["val_loss"] == histories[1]["val_loss"]
    assert not list(folder.rglob(".ferlab-*"))


def test_script_resumes_after_a_kill(straight, tmp_path):
    write_faces(tmp_path)
    process = start("--keep-epochs", 2, cwd=tmp_path)
    wait_for(tmp_path, "runs/*/last.h5", process)
    process.send_signal(signal.SIGSTOP)  # it is alive, and no quicker than the next command
    (taken,) = (tmp_path / "runs").iterdir()
    before = {path: path.read_bytes() for path in taken.iterdir() if path.is_file()}
    second = start("--keep-epochs", 2, "--run-dir", taken, cwd=tmp_path)
    assert finish(second, code=2) == (
        f"error: {taken}: is in use by another process; choose another folder\n"
    )
    assert {path: path.read_bytes() for path in taken.iterdir() if path.is_file()} == before
    process.send_signal(signal.SIGKILL)
    process.communicate()

    printed = finish(start("--keep-epochs", 2, cwd=tmp_path))
    ((folder, epoch),) = re.findall(r"resuming (\S+) at epoch (\d) of 6", printed)
    assert folder == f"runs/{taken.name}"
    assert int(epoch) > 1
    assert (taken / "result.json").exists()
    require_equal(straight, tmp_path)


def test_script_resumes_after_a_file_size_limit_stopped_it(straight, tmp_path):
    resource = pytest.importorskip("resource")
    write_faces(tmp_path)
    options = [sys.executable, ROOT / "dnn_train.py", *SHORT, "--keep-epochs", "2"]
    limited = subprocess.run(
        options,
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**7, 10**7)),
    )
    assert limited.returncode == 2, limited.stderr
    assert re.fullmatch(
        r"error: runs/\S+/last.h5: cannot be written: File too large\n", limited.stderr
    )
    assert "resuming runs/" in finish(start("--keep-epochs", 2, cwd=tmp_path))
    require_equal(straight, tmp_path)


def test_require_same_settings_accepts_former_names_in_a_recipe(tmp_path):
    recorded = {"recipe": {"name": "best", "small_scale": 0.5, "plain_share": 0.2}}
    current = {"recipe": {"name": "best", "progressive_scale": 0.5, "no_aug_fraction": 0.2}}
    current["recipe"] |= {"cutmix": 0.0, "explicit_phases": []}  # a later version's, and off
    runs.require_same_settings(tmp_path, recorded, current)
    current["recipe"]["no_aug_fraction"] = 0.3
    with pytest.raises(InputError, match=r"no_aug_fraction 0\.2.*0\.3"):
        runs.require_same_settings(tmp_path, recorded, current)


def test_require_same_settings_accepts_names_of_version_01(tmp_path):
    former = {
        "objective": {"teacher": "f", "taught_by": ["a.h5"]},
        "previous": "b.h5",
        "previous_sha256": "d",
        "origin": None,
        "existing": "b.h5",
    }
    current = {
        "learned_from": {"teacher_probabilities": "f", "teachers": ["a.h5"]},
        "resume_from": "b.h5",
        "resume_from_sha256": "d",
        "initialized_from": None,
    }
    runs.require_same_settings(tmp_path, former, current)
    with pytest.raises(InputError, match=r"resume_from b\.h5\. Received: c\.h5"):
        runs.require_same_settings(tmp_path, former, {**current, "resume_from": "c.h5"})


def test_open_run_passes_over_settings_that_are_not_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "runs" / "20200101-000000-000000-a"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"objective": null, "seed": 0}')
    with open_run() as run:
        assert run.path.parent.name == "runs"
        assert run.path.name != other.name
