"""Held-out rows: none reserved for the final score, none that a model was trained on."""

import dataclasses

import numpy as np
import pytest
from support import faces

from ferlab import checkpoints
from ferlab.checkpoints import TrainingRecord
from ferlab.data import fit_images
from ferlab.errors import InputError
from ferlab.evaluation import held_out
from models import build_model


@pytest.fixture
def rows():
    usage = np.repeat(["Training", "PublicTest", "PrivateTest"], [10, 6, 4])
    return dataclasses.replace(faces(20, seed=3), usage=usage)


def saved(path, training_rows=None):
    model = build_model("dnn", (48, 48, 1), 7)
    checkpoints.save(model, path, TrainingRecord(pixels="raw"), training_rows=training_rows)
    return path


@pytest.mark.parametrize("usage", ["PrivateTest", "privatetest ", "test"])
def test_tuning_rows_refuse_the_usage_of_the_final_score(rows, usage):
    with pytest.raises(InputError, match="final score"):
        held_out.tuning_rows(rows, [], usage=usage, report=print)


def test_tuning_rows_refuse_a_file_reserved_for_the_final_score(rows):
    with pytest.raises(InputError, match="final score"):
        held_out.tuning_rows(rows.take(rows.usage == "PrivateTest"), [], report=print)


def test_tuning_rows_prefer_public_test_to_training_rows(rows):
    assert set(held_out.tuning_rows(rows, [], report=print).usage) == {"PublicTest"}
    training = rows.take(rows.usage != "PublicTest")
    assert set(held_out.tuning_rows(training, [], report=print).usage) == {"Training"}


@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
def test_tuning_rows_leave_out_training_rows(tmp_path, suffix):
    data, lines = faces(20, seed=3), []
    first = saved(tmp_path / f"a{suffix}", data.take(range(12)).row_digests())
    second = saved(tmp_path / f"b{suffix}", data.take(range(10, 15)).row_digests())
    remaining = held_out.tuning_rows(data, [first, second], report=lines.append)
    np.testing.assert_array_equal(remaining.images, data.images[15:])
    assert lines == ["15 of 20 rows left out: a model was trained on them"]


def test_tuning_rows_refuse_data_with_training_rows_alone(tmp_path):
    data = faces(8, seed=3)
    model = saved(tmp_path / "m.h5", data.row_digests())
    with pytest.raises(InputError, match="8 of them"):
        held_out.tuning_rows(data, [model], report=print)


def test_tuning_rows_note_a_model_of_unknown_training_rows(tmp_path):
    lines = []
    model = saved(tmp_path / "m.h5")
    assert len(held_out.tuning_rows(faces(8), [model], report=lines.append)) == 8
    assert lines[0].startswith("note:")
    assert "optimistic" in lines[0]
    assert "m.h5" in lines[0]


def test_tuning_rows_leave_out_known_training_rows_of_a_model_with_unknown_ones(tmp_path):
    data, lines = faces(20, seed=3), []
    model = build_model("dnn", (48, 48, 1), 7)
    record = TrainingRecord(pixels="raw", has_unknown_rows=True)
    digests = data.take(range(6)).row_digests()
    checkpoints.save(model, tmp_path / "m.h5", record, training_rows=digests)
    assert len(held_out.tuning_rows(data, [tmp_path / "m.h5"], report=lines.append)) == 14
    assert len(lines) == 2


def test_tuning_rows_match_training_rows_at_the_image_size_of_the_model(tmp_path):
    data = faces(20, seed=3)
    small = fit_images(data, (24, 24, 1))
    model = build_model("dnn", (24, 24, 1), 7)
    record = TrainingRecord(pixels="raw", image_shape=(24, 24, 1))
    digests = small.take(range(9)).row_digests()
    checkpoints.save(model, tmp_path / "m.h5", record, training_rows=digests)
    for images_at in (None, lambda shape: fit_images(data, shape)):
        remaining = held_out.tuning_rows(
            data, [tmp_path / "m.h5"], images_at=images_at, report=print
        )
        np.testing.assert_array_equal(remaining.images, data.images[9:])


def test_tuning_rows_refuse_data_without_labels():
    data = faces(4)
    with pytest.raises(InputError, match="--truth"):
        held_out.tuning_rows(dataclasses.replace(data, labels=np.full(4, -1)), [], report=print)


def test_tuning_rows_leave_out_rows_without_a_label():
    data = faces(8)
    labels = np.where(np.arange(8) < 3, -1, data.labels)
    assert (
        len(held_out.tuning_rows(dataclasses.replace(data, labels=labels), [], report=print)) == 5
    )


def test_row_digests_are_equal_for_copies_only():
    data = faces(30)
    digests = data.row_digests()
    assert digests.dtype == np.uint64
    assert len(set(digests.tolist())) == 30
    np.testing.assert_array_equal(data.take([4, 4, 9]).row_digests(), digests[[4, 4, 9]])
    reshaped = dataclasses.replace(data, images=data.images.reshape(30, 24, 96, 1))
    assert not np.isin(reshaped.row_digests(), digests).any()


def test_scoring_rows_include_the_final_score_only_on_request(rows):
    taken, is_trained_on = held_out.scoring_rows(rows, [], report=print)
    assert set(rows.usage[taken]) == {"PublicTest"}
    assert not is_trained_on
    taken, _ = held_out.scoring_rows(rows, [], usage="privatetest", report=print)
    np.testing.assert_array_equal(taken, range(16, 20))
    final = rows.take(rows.usage == "PrivateTest")
    with pytest.raises(InputError, match=r"final score.*--usage"):
        held_out.scoring_rows(final, [], report=print)


def test_scoring_rows_leave_out_training_rows_unless_there_are_no_others(tmp_path):
    data, lines = faces(20, seed=3), []
    model = saved(tmp_path / "m.h5", data.take(range(12)).row_digests())
    taken, is_trained_on = held_out.scoring_rows(data, [model], report=lines.append)
    np.testing.assert_array_equal(taken, range(12, 20))
    assert not is_trained_on
    assert lines == ["12 of 20 rows left out: a model was trained on them"]
    taken, is_trained_on = held_out.scoring_rows(data.take(range(12)), [model], report=lines.append)
    np.testing.assert_array_equal(taken, range(12))
    assert is_trained_on
    labels = np.where(np.arange(20) % 2, data.labels, -1)
    taken, _ = held_out.scoring_rows(
        dataclasses.replace(data, labels=labels), [model], report=lines.append
    )
    np.testing.assert_array_equal(taken, [13, 15, 17, 19])
