"""Damaged tables of images and of true labels: a result or one line, in little time and memory."""

import numpy as np
from fuzz import bounds, tables
from hypothesis import given
from hypothesis import strategies as st

from ferlab import data
from ferlab.audit import rows
from ferlab.data import Dataset, csv_files
from ferlab.data import tables as text_tables
from ferlab.labels import EMOTIONS, UNLABELLED

NAMES = ("t.csv", "t.CSV", "t.tsv", "t.csv.gz", "t.csv.zip", "t", "t.txt", "t.npz")
CLASS_NAMES = (None, EMOTIONS, ("sad", "happy"), tuple(map(str, range(7))))


def dataset_of(count: int, ids: list[str] | None = None) -> Dataset:
    return Dataset(
        images=np.zeros((count, 2, 2, 1), np.uint8),
        labels=np.full(count, UNLABELLED),
        ids=np.array(ids if ids is not None else np.arange(count).astype(str), dtype=np.str_),
        class_names=EMOTIONS,
    )


def require_sound(dataset: Dataset) -> None:
    """A dataset's own checks, and that its texts can be written."""
    assert len(dataset) == len(dataset.labels) == len(dataset.ids)
    assert dataset.images.dtype == np.uint8
    assert set(dataset.labels.tolist()) <= {UNLABELLED, *range(dataset.num_classes)}
    for text in dataset.ids.tolist():
        text.encode("utf-8", "surrogateescape")


@bounds.cases("tables")
@given(
    content=tables.damaged_tables(("pixels",), ("label", "id", "usage", "other")),
    name=st.sampled_from(NAMES),
    class_names=st.sampled_from(CLASS_NAMES),
    image_shape=st.sampled_from((None, None, (2, 2, 1))),
)
def test_damaged_tables_of_images(content, name, class_names, image_shape):
    with bounds.folder() as folder:
        path = folder / name
        path.write_bytes(content)
        dataset = bounds.ending(
            lambda: data.read(path, role="train", class_names=class_names, image_shape=image_shape)
        )
        if dataset is None:
            return
        require_sound(dataset)
        bounds.ending(lambda: rows.read_rows([str(path)]))
        if name != "t.npz":
            copy = folder / "copy.csv"
            bounds.ending(lambda: csv_files.write_csv_without(copy, path, {0}))
            assert copy.exists()
            if len(dataset) > 1 and list(text_tables.lines(path)):
                again = data.read(copy, role="train", class_names=class_names)
                np.testing.assert_array_equal(again.images, dataset.images[1:])


@bounds.cases("truth")
@given(
    content=tables.damaged_tables(("id", "label"), ("usage", "other")),
    ids=st.sampled_from((["0", "1", "2"], ["0.png", "1.png"], ["a/0.png", "b/0.png"], ["0", "0 "])),
    class_names=st.sampled_from((None, EMOTIONS, EMOTIONS[::-1], ("sad", "happy"))),
)
def test_damaged_tables_of_true_labels(content, ids, class_names):
    dataset = dataset_of(len(ids), ids)
    with bounds.folder() as folder:
        path = folder / "truth.csv"
        path.write_bytes(content)
        labels = bounds.ending(lambda: data.read_truth(path, dataset, class_names))
        if labels is not None:
            assert labels.shape == (len(ids),)
            assert set(labels.tolist()) <= {UNLABELLED, *range(len(EMOTIONS))}


@st.composite
def spellings(draw) -> tuple[bytes, bytes]:
    """One table, plainly and in another of the ways that programs write it."""
    kinds = draw(st.permutations(["pixels", "label", "id", "usage", "other"]))
    table = tables.table_of(kinds, draw)
    plain = table.content()
    table.delimiter = draw(st.sampled_from(tables.DELIMITERS))
    table.encoding = draw(st.sampled_from(tables.ENCODINGS))
    table.line_end = draw(st.sampled_from(("\n", "\r\n")))
    table.quoted = draw(st.sampled_from(("all", "where needed")))
    table.extra_lines = draw(st.lists(st.sampled_from(("", ",,,,", " ")), max_size=2))
    separator = draw(st.sampled_from((" ", "  ", ", ", ",", ".0 ")))
    place = kinds.index("pixels")
    for line in table.rows:
        line[place] = separator.join(line[place].split())
        if separator != " ":
            line[place] = f"[{line[place]}]"
    content = table.content()
    wrap = draw(
        st.sampled_from((bytes, tables.gzipped, lambda text: tables.zipped([("a.csv", text)])))
    )
    return plain, wrap(content)


@bounds.cases("spellings")
@given(spellings())
def test_spellings_of_one_table_read_alike(pair):
    with bounds.folder() as folder:
        datasets = []
        for content in pair:
            path = folder / "t.csv"
            path.write_bytes(content)
            datasets.append(data.read(path, role="train"))
        plain, other = datasets
        for name in ("images", "labels", "ids", "usage"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))
