"""Names and validation accuracies in a comparison of models."""

import dataclasses
from pathlib import Path

from ferlab.checkpoints import TrainingRecord
from ferlab.evaluation import metrics
from ferlab.reports import comparison


def test_distinct_names_are_as_short_as_possible():
    places = [Path("x/one/m.h5"), Path("y/one/m.h5"), Path("y/two/m.h5"), Path("a.h5")]
    expected = ["x/one/m.h5", "y/one/m.h5", "two/m.h5", "a.h5"]
    assert comparison.distinct_names(places) == expected


def test_val_accuracy_has_an_interval_if_the_number_of_rows_is_known():
    checkpoint = dataclasses.make_dataclass("Checkpoint", ["record"])

    def val_accuracy(**entries):
        record = TrainingRecord(history={"val_accuracy": [0.25, 0.5]}, **entries)
        return comparison.Candidate("a", checkpoint(record), 1).val_accuracy

    assert val_accuracy(recipe={"validation": 100}) == metrics.proportion(50, 100)
    for validation in (0.1, "PublicTest"):
        assert val_accuracy(recipe={"validation": validation}) == 0.5
        known = val_accuracy(recipe={"validation": validation}, validation_rows=50)
        assert known == metrics.proportion(25, 50)
    assert comparison.Candidate("a", checkpoint(TrainingRecord()), 1).val_accuracy is None
