import dataclasses

import numpy as np
import pytest
from planted import copies_in, write_folder
from support import faces

from ferlab import data
from ferlab.audit import checks
from ferlab.audit.rows import read_rows
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS


def test_read_rows_matches_the_class_orders_of_a_folder_and_a_csv(tmp_path):
    rows = faces(40, seed=42)
    write_folder(tmp_path / "faces", rows)
    data.write_csv(tmp_path / "more.csv", rows.images, labels=rows.labels)
    read = read_rows([str(tmp_path / "faces"), str(tmp_path / "more.csv")])
    assert read.dataset.class_names == tuple(sorted(EMOTIONS))
    names = [read.dataset.class_names[label] for label in read.dataset.labels[40:]]
    assert names == [EMOTIONS[label] for label in rows.labels]
    groups = copies_in(read.dataset).groups(80)
    assert not checks.conflicts(read, groups)
    assert [part.is_training for part in read.parts] == [True, False]


def test_read_rows_forms_a_part_of_each_usage(tmp_path):
    dataset = faces(6, seed=43)
    usage = np.array(["Training", "PublicTest", "Training", "PrivateTest", "Training", "Training"])
    labels = dataset.labels.copy()
    labels[5] = -1
    dataset = dataclasses.replace(dataset, usage=usage, labels=labels)
    data.write_npz(tmp_path / "a.npz", train=dataset)
    rows = read_rows([str(tmp_path / "a.npz")])
    assert [part.name for part in rows.parts] == [f"a.npz {name}" for name in dict.fromkeys(usage)]
    assert [part.file_rows.tolist() for part in rows.parts] == [[0, 2, 4, 5], [1], [3]]
    assert rows.part_numbers().tolist() == [0, 1, 0, 2, 0, 0]
    assert rows.training().tolist() == [True, False, True, False, True, False]
    assert rows.not_training().tolist() == [False, True, False, True, False, False]
    assert rows.not_scoring().tolist() == [True, True, True, False, True, False]


def test_read_rows_refuses_sources_that_do_not_match(tmp_path):
    dataset = faces(12, seed=44)
    two = dataclasses.replace(dataset, class_names=("x", "y"), labels=dataset.labels % 2)
    small = dataclasses.replace(dataset, images=dataset.images[:, ::2, ::2])
    for name, part in {"a": dataset, "two": two, "small": small}.items():
        data.write_npz(tmp_path / f"{name}.npz", train=part)
    for names in (("a", "a"), ("a", "two"), ("a", "small")):
        with pytest.raises(InputError, match=f"{names[1]}.npz"):
            read_rows([str(tmp_path / f"{name}.npz") for name in names])
