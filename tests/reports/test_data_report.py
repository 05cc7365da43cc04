"""Sentences of the page of `check`."""

import numpy as np
import pytest
from planted import write_folder
from support import faces

from ferlab import data
from ferlab.audit.rows import read_rows
from ferlab.reports import data_report


@pytest.mark.parametrize(
    ("counts", "facts"),
    [
        ([120, 120, 120], ("all classes have 120 images", "33.3%")),
        ([120, 60, 60], ("the most frequent class is a (120 images; 2.0 times as many as b",)),
        ([3, 0, 0], ("the most frequent class is a (3 images)", "without images: b, c")),
    ],
)
def test_imbalance_says_how_frequent_the_classes_are(counts, facts):
    text = data_report._imbalance(np.array(counts), ("a", "b", "c"))
    assert all(fact in text for fact in facts)


def test_location_names_a_row_of_a_table_and_a_file_of_a_folder(tmp_path):
    rows = faces(8, seed=71)
    data.write_csv(tmp_path / "a.csv", rows.images, labels=rows.labels)
    write_folder(tmp_path / "faces", rows)
    read = read_rows([str(tmp_path / "a.csv"), str(tmp_path / "faces")])
    assert data_report._location(read, 3) == "1:4"
    assert data_report._location(read, 10) == f"2:{read.dataset.ids[10]}"
    assert (tmp_path / "faces" / f"{read.dataset.ids[10]}.png").is_file()
