"""The training record: written and read back, also as ferlab 0.1 wrote it, or refused."""

import json
import subprocess

import pytest

from ferlab.checkpoints import LearnedFrom, TrainingRecord, git_commit, record
from ferlab.errors import InputError

FULL = TrainingRecord(
    class_names=("a", "b"),
    image_shape=(8, 8, 1),
    pixels="raw",
    recipe={"name": "fast", "epochs": 3},
    seed=0,
    history={"loss": [2.0, 1.5], "val_accuracy": [0.25, 0.5]},
    phases=((0, "fast"), (1, "best")),
    data={"source": "train.csv", "fingerprint": "f"},
    validation_rows=0,
    learned_from=LearnedFrom(teachers=("pretrained:fast",), teacher_probabilities="p", steps=4),
    resumed_from="before.h5",
    initialized_from="start.h5",
    has_unknown_rows=True,
    versions={"keras": "3"},
    git_commit="abc",
    created="2026-01-01T00:00:00+00:00",
    temperature=1.5,
    optimizer={"class_name": "Adam"},
)


def test_record_is_read_back_as_it_was_written():
    for written in (FULL, TrainingRecord()):
        entries = json.loads(json.dumps(written.as_json()))
        assert TrainingRecord.from_json(entries, "a.h5") == written
    assert TrainingRecord().as_json() == {}
    assert TrainingRecord().is_empty
    assert not FULL.is_empty


def test_record_of_version_01_is_read():
    former = {
        "class_names": ["a", "b"],
        "pixels": "raw",
        "objective": {"teacher": "p", "taught_by": ["pretrained:fast"], "steps": 4, "new": 1},
        "previous": "before.h5",
        "origin": None,
        "previous_rows_unknown": True,
        "validation_rows": 7,
        "an entry": "of a later version",
    }
    assert TrainingRecord.from_json(former, "a.h5") == TrainingRecord(
        class_names=("a", "b"),
        pixels="raw",
        learned_from=FULL.learned_from,
        resumed_from="before.h5",
        has_unknown_rows=True,
        validation_rows=7,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", ["a", 1]),
        ("class_names", ["a", "\ud800"]),
        ("image_shape", [8, 8]),
        ("image_shape", [8, 0, 1]),
        ("pixels", 5),
        ("recipe", []),
        ("seed", -1),
        ("history", {"loss": 1.0}),
        ("phases", [[0, 1]]),
        ("data", {"source": "a.csv"}),
        ("validation_rows", 0.1),
        ("learned_from", {"teachers": "a"}),
        ("objective", {"taught_by": [5]}),
        ("learned_from", {"unlabelled": 5}),
        ("has_unknown_rows", "yes"),
        ("versions", []),
        ("temperature", 0),
        ("temperature", float("nan")),
        ("optimizer", 5),
    ],
)
def test_record_with_a_damaged_entry_is_refused_by_its_name(name, value):
    with pytest.raises(InputError, match=rf"^a\.h5: .*{name}"):
        TrainingRecord.from_json({name: value}, "a.h5")


def test_record_with_one_more_epoch_leaves_the_first_as_it_is():
    later = FULL.with_epoch({"loss": 1.0, "val_accuracy": 0.75})
    assert later.history == {"loss": [2.0, 1.5, 1.0], "val_accuracy": [0.25, 0.5, 0.75]}
    assert (FULL.epochs, later.epochs) == (2, 3)


def test_git_commit_says_whether_files_were_modified(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert git_commit() is None

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    git("init")
    assert git_commit() is None  # nothing is committed yet
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-m", "first")
    commit = git_commit()
    assert len(commit) == 40
    (tmp_path / "a.py").write_text("2")
    assert git_commit() == f"{commit} (modified)"
