"""What a usage is for: in any spelling, and closed by default."""

import numpy as np
import pytest

from ferlab.data import Dataset, usages
from ferlab.errors import InputError
from ferlab.evaluation import held_out
from ferlab.labels import EMOTIONS

TRAINING = ("Training", "train", " TRAIN ", "train_set", "trainset", "training-data", "Train 1")
PUBLIC = ("PublicTest", "public test", "PUBLIC_TEST", "val", "Validation", "valid_set", "dev")
SCORING = (
    *("PrivateTest", "Private Test", "private_test", "PRIVATE-TEST", "private.test", "Private"),
    *("final", "Final Test", "holdout", "hold-out", "Held Out", "test_set", "testset", "Testing"),
    *("Test2", "FER2013 test", "Private\u200bTest", "\uff34\uff25\uff33\uff34", "test split"),
    *("Private\xa0Test", "private_final", "hidden", "blind test", "unseen", "test-data"),
)
UNKNOWN = ("", " ", "extra", "Privattest", "Prvate", "eval", "leaderboard", "fold3", "other", "t")


def dataset(usage):
    count = len(usage)
    return Dataset(
        images=np.arange(4 * count, dtype=np.uint8).reshape(count, 2, 2, 1),
        labels=np.arange(count) % 7,
        ids=np.arange(count).astype(str),
        class_names=EMOTIONS,
        usage=np.array(usage),
    )


@pytest.mark.parametrize(
    ("kind", "names"),
    [("training", TRAINING), ("public", PUBLIC), ("scoring", SCORING), ("unknown", UNKNOWN)],
)
def test_kind_of_a_usage_in_every_spelling(kind, names):
    assert {name: usages.kind(name) for name in names} == dict.fromkeys(names, kind)


@pytest.mark.parametrize("usage", [*SCORING, *UNKNOWN])
def test_rows_of_other_usages_are_neither_trained_on_nor_decided_by(usage):
    rows = dataset(["Training"] * 4 + ["PublicTest"] * 2 + [usage] * 8)
    notes = []
    assert [len(part) for part in rows.split(0.5, report=notes.append)] == [2, 2]
    assert [len(part) for part in rows.split("PublicTest", report=notes.append)] == [4, 2]
    assert len(held_out.tuning_rows(rows, [], report=notes.append)) == 2
    assert len(held_out.scoring_rows(rows, [], report=notes.append)[0]) == 2
    closed = dataset([usage] * 8)
    with pytest.raises(InputError, match="training rows"):
        closed.split(2)
    for rows_of in (held_out.tuning_rows, held_out.scoring_rows):
        with pytest.raises(InputError):
            rows_of(closed, [], report=notes.append)


@pytest.mark.parametrize("usage", SCORING)
def test_rows_for_the_final_score_are_never_decided_by(usage):
    rows = dataset(["Training"] * 4 + [usage] * 4)
    with pytest.raises(InputError, match="final score"):
        rows.split(usage)
    with pytest.raises(InputError, match="final score"):
        held_out.tuning_rows(rows, [], usage=usage, report=print)
    assert len(held_out.scoring_rows(rows, [], usage=usage, report=print)[0]) == 4


@pytest.mark.parametrize("usage", ["extra", "eval", "fold3"])
def test_rows_of_an_unknown_usage_are_decided_by_where_it_is_named(usage):
    rows = dataset(["Training"] * 4 + [usage] * 3)
    assert [len(part) for part in rows.split(usage.upper(), report=lambda note: None)] == [4, 3]
    assert len(held_out.tuning_rows(rows, [], usage=usage, report=print)) == 3


@pytest.mark.parametrize("usage", ["Private Test", "private_test", "PRIVATETEST"])
def test_of_usage_matches_any_spelling(usage):
    assert len(dataset(["PrivateTest", "Training", "private test"]).of_usage(usage)) == 2


PARTS = [  # folders beside each other, and their kinds: t(raining), p(ublic), s(coring)
    (("train", "val", "Test"), "tps"),
    (("training_set", "test_set"), "ts"),
    (("train_data", "val_data", "test_data"), "tps"),
    (("train_images", "test_images"), "ts"),
    (("fer_train", "fer_test"), "ts"),
    (("fer2013_train", "fer2013_valid"), "tp"),
    (("onepiece_train", "onepiece_test"), "ts"),
    (("TrainSet", "TestSet"), "ts"),
    (("public_test", "private_test", "training"), "pst"),
    (("train", "holdout", "extra"), "ts-"),
    (("happy", "sad", "test"), "--s"),
    (("happy", "sad", "train_set"), "--t"),
    (("happy", "sad", "hidden"), "---"),
    (("test pilot", "bus driver"), "--"),
    (("train_driver", "bus_driver"), "--"),
    (("luffy", "nami"), "--"),
    (("contest", "protest"), "--"),
]


@pytest.mark.parametrize(("folders", "kinds"), PARTS)
def test_parts_of_a_data_set_are_recognized_by_their_names(folders, kinds):
    parts = usages.parts(folders)
    assert "".join(parts.get(folder, "-")[0] for folder in folders) == kinds


def test_words_of_usages_can_be_read_in_one_way():
    """Else a long name of them would be tried in every way, which takes for ever."""
    words = {*usages._KINDS, *usages._FILLERS}
    for word in words:
        for place in range(1, len(word)):
            assert not {word[:place], word[place:]} <= words, word
    assert usages.kind("dataset" * 30 + "!x") == "unknown"
