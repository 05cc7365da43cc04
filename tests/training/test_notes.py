"""Notes before a training, and on a run that goes on elsewhere."""

import pytest

from ferlab import backend
from ferlab.training import notes
from ferlab.training.fit import _versions_of_both

BEGUN = {"keras": "3.15", "threads": "2", "device": "CPU (2 cores)", "python": "3.11"}


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({}, None),
        ({"python": "3.12"}, None),  # it changes no sum
        ({"threads": "4"}, ["threads 2, now 4"]),
        ({"keras": "3.16", "threads": "1"}, ["keras 3.15, now 3.16", "threads 2, now 1"]),
        ({"device": "a GPU"}, ["device CPU (2 cores), now a GPU"]),
        ({"more": "1"}, None),  # which an earlier version did not record
    ],
)
def test_other_machine_names_what_a_result_depends_on(changes, facts):
    note = notes.other_machine(BEGUN, {**BEGUN, **changes})
    assert (note is None) == (facts is None)
    assert all(fact in note for fact in facts or ())


def test_versions_of_both_keeps_each_value_once():
    once = _versions_of_both({"threads": "2", "gone": "x"}, {"threads": "1", "new": "y"})
    assert once == {"threads": "2, later 1", "gone": "x", "new": "y"}
    assert _versions_of_both(once, {"threads": "1"}) == once
    assert _versions_of_both(once, {"threads": "2"})["threads"] == "2, later 1, later 2"


def test_threads_are_those_that_the_environment_sets(monkeypatch):
    monkeypatch.setattr(backend.keras.backend, "backend", lambda: "tensorflow")
    for value, expected in (("3", 3), ("", backend._cores()), ("x", backend._cores())):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", value)
        assert backend.threads() == expected
    assert backend.versions()["threads"] == str(backend._cores())
