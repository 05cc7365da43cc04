"""The lanes of the tests, and fixtures that several of them use.

`slow` marks what trains by scripts or takes more than half a second; `make quick` leaves it out.
`product` marks a test with every combination of many values: by default only some of them run,
chosen by a seed so that every value occurs; with CI=true or --all-cases, all.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest
from support import SHARED, call, covering_sample, faces, run, small_networks

from ferlab import data

TRAINED_BY_SCRIPTS = {"work", "cnn", "dnn"}  # fixtures
SLOW_FILES = {  # most of their tests train, predict or draw for more than half a second
    "test_activation_maximization.py",
    "test_attribution.py",
    "test_check.py",
    "test_checkpoint.py",
    "test_commands.py",
    "test_compare.py",
    "test_current.py",
    "test_distribution_shift.py",
    "test_engines.py",
    "test_fit.py",
    "test_legacy.py",
    "test_objectives.py",
    "test_optimizers.py",
    "test_others_models.py",
    "test_pack.py",
    "test_pretrained.py",
    "test_report.py",
    "test_runs.py",
    "test_semi_supervised.py",
    "test_vote_train.py",
    "test_voting.py",
}


def pytest_addoption(parser):
    parser.addoption(
        "--all-cases", action="store_true", help="run every combination of a test marked `product`"
    )


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config, items):
    if config.getoption("all_cases") or os.environ.get("CI") == "true":
        return
    products = defaultdict(list)
    for item in items:
        if item.get_closest_marker("product"):
            products[item.path, item.originalname].append(item)
    left_out = set()
    for (_, name), cases in products.items():
        parameters = [case.callspec.params for case in cases]
        sampled = covering_sample(parameters, seed=name)
        left_out.update(case for row, case in enumerate(cases) if row not in sampled)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_itemcollected(item):
    fixtures = set(getattr(item, "fixturenames", ()))
    if item.path.name in SLOW_FILES or fixtures & TRAINED_BY_SCRIPTS:
        item.add_marker("slow")


@pytest.fixture(scope="session")
def dataset():
    return faces(300)


@pytest.fixture(scope="module")
def few_weights():
    """For a module's tests the registered architectures have few weights."""
    with pytest.MonkeyPatch.context() as patch:
        small_networks(patch)
        yield


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
    train, test = faces(160, seed=1, size=24), faces(50, seed=2, size=24)
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
