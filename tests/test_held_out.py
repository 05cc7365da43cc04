"""Rows that decide about trained models: none of the final score, none that was trained on."""

import dataclasses

import numpy as np
import pytest
from support import faces

from ferlab import checkpoints, held_out
from ferlab.errors import InputError
from models import build_model


@pytest.fixture
def rows():
    usage = np.repeat(["Training", "PublicTest", "PrivateTest"], [10, 6, 4])
    return dataclasses.replace(faces(20, seed=3), usage=usage)


def saved(path, training_rows=None):
    model = build_model("dnn", (48, 48, 1), 7)
    checkpoints.save(model, path, {"pixels": "raw"}, training_rows=training_rows)
    return path


@pytest.mark.parametrize("usage", ["PrivateTest", "privatetest ", "test"])
def test_rows_of_the_final_score_decide_nothing(rows, usage):
    with pytest.raises(InputError, match="kept for the final score"):
        held_out.rows(rows, [], usage=usage, report=print)


def test_a_file_of_the_final_score_alone_is_refused(rows):
    with pytest.raises(InputError, match="kept for the final score"):
        held_out.rows(rows.take(rows.usage == "PrivateTest"), [], report=print)


def test_without_a_usage_the_rows_for_neither_are_taken(rows):
    assert set(held_out.rows(rows, [], report=print).usage) == {"PublicTest"}
    training = rows.take(rows.usage != "PublicTest")
    assert set(held_out.rows(training, [], report=print).usage) == {"Training"}


@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
def test_rows_that_a_model_was_trained_on_are_left_out(tmp_path, suffix):
    data, lines = faces(20, seed=3), []
    first = saved(tmp_path / f"a{suffix}", data.take(range(12)).row_digests())
    second = saved(tmp_path / f"b{suffix}", data.take(range(10, 15)).row_digests())
    left = held_out.rows(data, [first, second], report=lines.append)
    np.testing.assert_array_equal(left.images, data.images[15:])
    assert lines == ["15 of 20 rows left out: a model was trained on them"]


def test_when_all_were_trained_on_it_says_so(tmp_path):
    data = faces(8, seed=3)
    model = saved(tmp_path / "m.h5", data.row_digests())
    with pytest.raises(InputError, match="8 of them trained on"):
        held_out.rows(data, [model], report=print)


def test_a_model_that_does_not_tell_is_named(tmp_path):
    lines = []
    model = saved(tmp_path / "m.h5")
    assert len(held_out.rows(faces(8), [model], report=lines.append)) == 8
    assert "m.h5 does not tell what it was trained on" in lines[0]


def test_rows_without_labels_are_left_out():
    data = faces(8)
    labels = np.where(np.arange(8) < 3, -1, data.labels)
    assert len(held_out.rows(held_out.with_labels(data, labels), [], report=print)) == 5


def test_digests_tell_images_apart_and_know_copies():
    data = faces(30)
    digests = data.row_digests()
    assert digests.dtype == np.uint64
    assert len(set(digests.tolist())) == 30
    np.testing.assert_array_equal(data.take([4, 4, 9]).row_digests(), digests[[4, 4, 9]])
    reshaped = dataclasses.replace(data, images=data.images.reshape(30, 24, 96, 1))
    assert not np.isin(reshaped.row_digests(), digests).any()
