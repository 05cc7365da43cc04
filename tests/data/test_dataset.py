"""`Dataset`: validation, splits, immutability."""

import dataclasses

import numpy as np
import pytest

from ferlab.data import Dataset, concatenate
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS


def dataset(labels, *, usage=None, side=2, class_names=EMOTIONS):
    """All pixels of image i have grey level i."""
    levels = np.arange(len(labels), dtype=np.uint8)
    return Dataset(
        images=np.broadcast_to(levels[:, None, None, None], (len(labels), side, side, 1)),
        labels=np.array(labels, dtype=np.int64),
        ids=np.array([f"row{i}" for i in range(len(labels))], dtype=np.str_),
        class_names=class_names,
        usage=None if usage is None else np.array(usage),
        source="faces.csv",
    )


def rows(part):
    return part.images[:, 0, 0, 0].tolist()


MIXED = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_dataset_is_immutable():
    labels = np.zeros(3, dtype=np.int64)
    data = dataclasses.replace(dataset([0, 1, 2]), labels=labels)
    for array in (data.images, data.labels, data.ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.labels = labels
    labels[0] = 1  # the caller's array stays writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((3, 2, 2, 1))}, "images must be uint8"),
        ({"images": np.zeros((3, 2, 2), np.uint8)}, "images must be .n, height"),
        ({"images": np.zeros((3, 0, 2, 1), np.uint8)}, "images must be .n, height"),
        ({"labels": np.zeros(3, np.int32)}, "labels must be int64"),
        ({"labels": np.zeros(2, np.int64)}, "labels must be 3"),
        ({"labels": np.array([0, 7, 0])}, "labels must be 0 to 6, or -1 for none. Received: 7"),
        ({"labels": np.array([0, -2, 0])}, "labels must be 0 to 6, or -1 for none. Received: -2"),
        ({"ids": np.arange(3)}, "ids must be text"),
        ({"ids": np.array(["a"])}, "ids must be 3"),
        ({"usage": np.array(["Training"])}, "usage must be 3"),
        ({"class_names": ()}, "class names"),
        ({"class_names": ("a",) * 7}, "class names"),
    ],
)
def test_dataset_refuses_inconsistent_arrays(change, message):
    with pytest.raises(InputError, match=rf"faces\.csv: {message}"):
        dataclasses.replace(dataset([0, 1, 2]), **change)


def test_take_keeps_rows_together():
    data = dataset([0, 1, -1], usage=["Training", "PublicTest", "Training"])
    part = data.take([2, 0])
    assert rows(part) == [2, 0]
    assert part.labels.tolist() == [-1, 0]
    assert part.ids.tolist() == ["row2", "row0"]
    assert part.usage.tolist() == ["Training", "Training"]
    assert rows(data.take(data.labels >= 0)) == [0, 1]
    assert len(data.take([])) == 0
    assert not data.is_labelled
    assert data.take(data.labels >= 0).is_labelled


def test_split_takes_a_number_from_the_start_and_a_fraction_from_the_end():
    data = dataset(MIXED)
    for validation, train, held_out in (
        (3, [3, 4, 5, 6, 7, 8, 9], [0, 1, 2]),
        (5, [5, 6, 7, 8, 9], [0, 1, 2, 3, 4]),
        (0.25, [0, 1, 2, 3, 4, 5, 6], [7, 8, 9]),  # Keras rounds the training rows down
        (0.99, [0], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ):
        parts = data.split(validation)
        assert [rows(part) for part in parts] == [train, held_out]


def test_split_by_usage_leaves_out_scoring_rows():
    usage = ["PublicTest", "Training", "PrivateTest", "Training", " training", "PublicTest", ""]
    data = dataset(MIXED[:7], usage=usage)
    train, validation = data.split("publictest")
    assert (rows(train), rows(validation)) == ([1, 3, 4], [0, 5])
    train, validation = data.split(1)
    assert (rows(train), rows(validation)) == ([3, 4], [1])
    train, validation = data.split(0.3)
    assert (rows(train), rows(validation)) == ([1, 3], [4])


@pytest.mark.parametrize("usage", ["PrivateTest", "privatetest", "test", " Test "])
def test_split_never_validates_on_rows_for_the_final_score(usage):
    data = dataset([0, 1, 2], usage=["Training", "PrivateTest", "test"])
    with pytest.raises(InputError, match="final score"):
        data.split(usage)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (6, "6 .* more than half of the 10 .*--validation 0.1"),
        (0, "positive"),
        (-1, "positive"),
        (0.0, "between 0 and 1"),
        (1.0, "between 0 and 1"),
        (float("nan"), "between 0 and 1"),
        ("PublicTest", "has no usage"),
    ],
)
def test_split_refuses_impossible_values(validation, message):
    with pytest.raises(InputError, match=message):
        dataset(MIXED).split(validation)


@pytest.mark.parametrize(
    ("usage", "validation", "message"),
    [
        (["Training", "PublicTest"], "Training", "PublicTest, Training. Received: Training"),
        (["Training", "PublicTest"], "val", "PublicTest, Training. Received: val"),
        (["PublicTest", "PublicTest"], "PublicTest", "training rows"),
        (["PublicTest", "PublicTest"], 1, "training rows"),
        (["Training", "PrivateTest"], 1, "training rows"),
    ],
)
def test_split_refuses_an_empty_side(usage, validation, message):
    with pytest.raises(InputError, match=message):
        dataset([0, 1], usage=usage).split(validation)


@pytest.mark.parametrize("validation", [10, 0.25])
def test_split_samples_every_class_where_rows_are_sorted_by_class(validation):
    data = dataset([0] * 20 + [1] * 12 + [2] * 8)
    assert data.is_grouped
    train, held_out = data.split(validation, seed=3)
    assert np.bincount(held_out.labels).tolist() == [5, 3, 2]
    assert sorted(rows(train) + rows(held_out)) == list(range(40))
    assert rows(held_out) == rows(data.split(validation, seed=3)[1])
    assert rows(held_out) != rows(data.split(validation, seed=4)[1])


def test_is_grouped_refers_to_training_rows_only():
    assert not dataset(MIXED).is_grouped
    assert not dataset([1, 1, 1]).is_grouped
    assert not dataset([]).is_grouped
    assert dataset([0, 0, 2, 2, 0, 1], usage=4 * ["train"] + 2 * ["val"]).is_grouped
    train, validation = dataset([0, 1, 2]).split(1)  # too few to stratify
    assert (len(train), len(validation)) == (2, 1)


def test_split_refuses_rows_without_a_label():
    data = dataset([0, 1, -1, 0, -1, 1, 0, 1])
    with pytest.raises(InputError, match=r"2 of 8 rows .*row 3 .id row2"):
        data.split(2)
    usage = ["train", "train", "test", "train", "other", "val", "val", "val"]
    dataclasses.replace(data, usage=np.array(usage)).split("val")  # the other rows are not used


def test_fingerprint_depends_on_the_content_only():
    data = dataset(MIXED)
    assert data.fingerprint() == dataclasses.replace(data, source="elsewhere").fingerprint()
    images = data.images.copy()
    images[3, 1, 1, 0] += 1
    for change in (
        {"images": images},
        {"images": data.images.reshape(len(data), 1, 4, 1)},
        {"labels": data.labels[::-1]},
        {"class_names": EMOTIONS[::-1]},
    ):
        assert dataclasses.replace(data, **change).fingerprint() != data.fingerprint()


def test_concatenate_refuses_mismatched_datasets():
    data = dataset(MIXED, usage=["Training"] * 10)
    joined = concatenate([data.take([0, 1]), data.take([5])])
    assert rows(joined) == [0, 1, 5]
    assert joined.usage.tolist() == ["Training"] * 3
    with pytest.raises(InputError, match="the same order"):
        concatenate([data, dataset(MIXED, class_names=EMOTIONS[::-1])])
    with pytest.raises(InputError, match=r"images must be 2x2x1\. Received: 3x3x1"):
        concatenate([data, dataset(MIXED, side=3)])


def test_of_usage():
    whole = dataset([0, 1, 2, 3], usage=["Training", "PublicTest", "Training", ""])
    assert rows(whole.of_usage(None)) == [0, 2]
    assert rows(whole.of_usage("publictest")) == [1]
    assert len(dataset([0, 1]).of_usage(None)) == 2
    with pytest.raises(InputError, match=r"PublicTest, Training\. Received: PrivateTest"):
        whole.of_usage("PrivateTest")
    with pytest.raises(InputError, match="has no usage"):
        dataset([0, 1]).of_usage("PublicTest")


def test_in_order_of_keeps_the_class_of_each_row():
    names = tuple(sorted(EMOTIONS))
    data = dataset([-1, -1, -1, *(label % 7 for label in range(27))])
    other = data.in_order_of(names)
    assert (other.labels[:3] == -1).all()
    expected = [EMOTIONS[label] for label in data.labels[3:]]
    assert expected == [other.class_names[label] for label in other.labels[3:]]


def shuffled(labels, seed=0):
    return np.random.default_rng(seed).permutation(labels).tolist()


def sorted_but_for_a_few(labels):
    labels = sorted(labels)
    other = len(labels) // 2 + 2
    labels[2], labels[other] = labels[other], labels[2]
    return labels


BALANCED = [0, 1, 2] * 40
UNLIKE = {  # labels whose first and last rows are not like the others
    "sorted but for a few": sorted_but_for_a_few(BALANCED),
    "two sorted tables": sorted(BALANCED) + sorted(BALANCED),
    "two sorted tables of two classes": [0] * 10 + [1] * 10 + [0] * 10 + [1] * 10,
    "few rows": sorted_but_for_a_few([0, 1] * 14),
    "few of one class": [1] * 12 + shuffled([0] * 14 + [1] * 4) + [1] * 12,
    "sorted, then shuffled": sorted(BALANCED[:60]) + shuffled(BALANCED[:60]) + [2] * 20,
    "sorted in blocks": [label for label in (0, 1, 2, 0, 1, 2) for _ in range(30)],
}


@pytest.mark.parametrize("case", UNLIKE)
def test_split_samples_where_class_shares_differ_by_more_than_chance(case):
    labels, notes = UNLIKE[case], []
    data = dataset(labels, class_names=("a", "b", "c")[: max(labels) + 1])
    assert not data.is_grouped
    train, validation = data.split(0.2, report=notes.append)
    assert len(notes) == 1
    shares = [np.bincount(part.labels) / len(part) for part in (train, validation)]
    np.testing.assert_allclose(*shares, atol=0.1)
    assert sorted(rows(train) + rows(validation)) == list(range(len(data)))
    again = data.split(0.2, report=notes.append)
    assert rows(again[1]) == rows(validation)


def test_split_keeps_the_order_of_rows_shuffled_by_chance():
    noted = 0
    for seed in range(40):
        labels, notes = shuffled([0] * 60 + [1] * 10 + [2] * 50, seed), []
        data = dataset(labels, class_names=("a", "b", "c"))
        _, first = data.split(30, report=notes.append)
        _, last = data.split(0.25, report=notes.append)
        is_in_order = (rows(first), rows(last)) == (list(range(30)), list(range(90, 120)))
        assert is_in_order == (not notes)
        noted += len(notes)
    assert noted <= 3  # of 80


def test_split_notes_a_class_without_a_training_row():
    notes = []
    dataset(MIXED, class_names=("a", "b", "c", "d")).split(3, report=notes.append)
    assert notes == ["note: faces.csv: no training row has the label d"]
    usage = ["Training"] * 6 + ["PublicTest"] * 3
    data = dataset([0, 1] * 3 + [0, 1, 2], usage=usage, class_names=("a", "b", "c"))
    data.split("PublicTest", report=notes.append)
    assert notes[1:] == ["note: faces.csv: no training row has the label c"]


def test_split_notes_validation_rows_of_one_class():
    notes = []
    usage = ["Training"] * 6 + ["PublicTest"] * 3
    data = dataset([0, 1] * 3 + [1] * 3, usage=usage, class_names=("a", "b"))
    data.split("PublicTest", report=notes.append)
    assert notes == ["note: faces.csv: all validation rows have the label b"]
