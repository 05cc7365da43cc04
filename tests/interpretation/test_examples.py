"""The choice of images to explain."""

import dataclasses

import numpy as np
import pytest
from support import faces

from ferlab import interpretation
from ferlab.errors import InputError


def test_one_per_class_prefers_a_correctly_predicted_row():
    labels = np.array([0, 1, 0, 2, 1])
    predicted = np.array([1, 1, 0, 0, 1])
    assert interpretation.one_per_class(labels, predicted) == [2, 1, 3]


def test_rows_by_name_are_ids_or_else_row_numbers():
    dataset = dataclasses.replace(faces(4), ids=np.array(["10", "3", "x", "y"]))
    assert interpretation.rows_by_name(dataset, ["3", "x", "10", "0"]) == [1, 2, 0, 0]
    for name in ("4", "z", "-1"):
        with pytest.raises(InputError, match=f"'{name}'"):
            interpretation.rows_by_name(dataset, [name])
