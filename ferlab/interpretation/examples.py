"""The images to explain: those named by a user, or one of each class."""

from collections.abc import Sequence

import numpy as np

from ferlab.data import Dataset
from ferlab.errors import InputError


def rows_by_name(dataset: Dataset, names: Sequence[str]) -> list[int]:
    """The rows with these ids; a number that is not an id is the row itself, counted from 0.

    Raises InputError for a name that is neither.
    """
    by_id = {name: row for row, name in enumerate(dataset.ids.tolist())}
    rows = []
    for name in names:
        row = by_id.get(name)
        if row is None and name.isdecimal() and int(name) < len(dataset):
            row = int(name)
        if row is None:
            raise InputError(
                f"{dataset.source}: images must be ids or rows from 0 to {len(dataset) - 1:,}. "
                f"Received: {name!r}"
            )
        rows.append(row)
    return rows


def one_per_class(labels: np.ndarray, predicted: np.ndarray) -> list[int]:
    """The first correctly predicted row of each class, else its first row. Both are int (n,)."""
    rows = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        correct = of_class[predicted[of_class] == label]
        rows.append(int(correct[0] if len(correct) else of_class[0]))
    return rows
