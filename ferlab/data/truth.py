"""Labels of a test set in a separate `id,label` file, such as the truth of a leaderboard."""

import dataclasses
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.errors import InputError
from ferlab.labels import UNLABELLED


def read_truth(path: str | Path, dataset: Dataset) -> np.ndarray:
    """int64 (n,): the label of each row of the dataset by its id, -1 for ids not in the file.

    Raises InputError for a file without these columns, a label that is not the number of a class,
    a repeated id, and a file without any of the dataset's ids.
    """
    import pandas as pd

    if kind := files.sniff(path):
        raise InputError(f"{path}: is {kind}, not a CSV file")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas's own parser errors are ValueErrors
        raise InputError(f"{path}: cannot be read as `id,label`: {error}") from error
    table.columns = table.columns.str.strip().str.lower()
    if not {"id", "label"} <= set(table.columns):
        raise InputError(f"{path}: expected the columns id and label")
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise InputError(f"{path}: contains the id {repeated.iloc[0]!r} twice")
    known = {str(label): label for label in range(dataset.num_classes)}
    invalid = ~table["label"].str.strip().isin(known)
    if invalid.any():
        line = int(np.flatnonzero(invalid)[0]) + 2
        raise InputError(
            f"{path}:{line}: a label must be 0 to {dataset.num_classes - 1}. "
            f"Received: {table['label'][invalid].iloc[0]!r}"
        )
    truth = dict(zip(table["id"].str.strip(), table["label"].str.strip().map(known), strict=True))
    labels = np.array([truth.get(row, UNLABELLED) for row in dataset.ids.tolist()], dtype=np.int64)
    if (labels == UNLABELLED).all():
        raise InputError(f"{path}: contains none of the data's ids, such as {dataset.ids[0]!r}")
    return labels


def with_truth(dataset: Dataset, path: str | Path | None) -> Dataset:
    """The dataset with the labels of `read_truth`; the same dataset if no file is given."""
    if path is None:
        return dataset
    return dataclasses.replace(dataset, labels=read_truth(path, dataset))
