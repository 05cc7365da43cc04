"""Fixtures that several tests use."""

from pathlib import Path

import pytest
from support import SHARED, call, faces, run

from ferlab import data


@pytest.fixture(scope="session")
def dataset():
    return faces(300)


@pytest.fixture
def wild() -> Path:
    """Real files of other people; they are no part of the repository."""
    folder = SHARED / "data" / "wild"
    if not folder.is_dir():
        pytest.skip("real files of other people are not here")
    return folder


@pytest.fixture
def command(monkeypatch):
    """Call `python -m ferlab ...` in this process; give what it prints."""

    def called(*arguments, cwd, code=0):
        monkeypatch.chdir(cwd)  # for good, as what it prints may be a path
        return call("-m ferlab", *arguments, cwd=cwd, code=code)

    return called


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A folder with data, and a CNN and a DNN trained on it by the scripts."""
    folder = tmp_path_factory.mktemp("work")
    train, test = faces(160, seed=1), faces(50, seed=2)
    data.write_csv(folder / "train.csv", train.images, labels=train.labels)
    data.write_csv(folder / "test.csv", test.images, ids=test.ids)
    truth = "id,label\n" + "".join(f"{row},{label}\n" for row, label in enumerate(test.labels))
    (folder / "truth.csv").write_text(truth)
    short = ("--epochs", 2, "--batch-size", 32)
    options = (*short, "--recipe", "cnn-report", "--validation", 40, "--keep-epochs", 1)
    printed = run("train.py", "train.csv", *options, cwd=folder)
    (folder / "train.log").write_text(printed)
    call("dnn_train.py", "train.csv", *short, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def cnn(work):
    (path,) = work.glob("[01].??????.h5")
    return path


@pytest.fixture(scope="session")
def dnn(work):
    (path,) = work.glob("dnn_*.h5")
    return path
