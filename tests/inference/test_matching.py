"""Matching data with models: class names, class order and image size."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support import faces

from ferlab import data, inference
from ferlab.checkpoints import Checkpoint, TrainingRecord
from ferlab.errors import InputError
from ferlab.inference import matching
from ferlab.labels import EMOTIONS, indices_in

ALPHABETICAL = tuple(sorted(EMOTIONS))
MOODS = ("calm", "grim", "wild")
COUNT = 21


def checkpoint(names=None, *, recorded=False, count=7, shape=(48, 48, 1)):
    """A model whose last layer gives a distinct probability for each of its outputs."""
    images = keras.Input(shape)
    scores = keras.layers.Dense(count, kernel_initializer="zeros")
    model = keras.Model(images, keras.layers.Softmax()(scores(keras.layers.Flatten()(images))))
    scores.set_weights([scores.kernel.numpy(), np.arange(count, dtype="float32")])
    record = TrainingRecord(class_names=names if recorded else None)
    return Checkpoint(Path("m.h5"), model, names, "raw", record)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same faces as a table, as class folders and as an archive, with and without labels."""
    folder = tmp_path_factory.mktemp("data")
    rows = faces(COUNT, seed=3)
    data.write_csv(folder / "labelled.csv", rows.images, labels=rows.labels)
    data.write_csv(folder / "unlabelled.csv", rows.images, ids=rows.ids)
    data.write_npz(folder / "labelled.npz", train=rows)
    unlabelled = dataclasses.replace(rows, labels=np.full(COUNT, -1))
    data.write_npz(folder / "unlabelled.npz", train=unlabelled)
    for row, (image, label) in enumerate(zip(rows.images, rows.labels, strict=True)):
        for path in (
            folder / "labelled" / EMOTIONS[label] / f"{row:02}.png",
            folder / "unlabelled" / f"{row:02}.png",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(path)
    return folder


def read(folder, name, models, **options):
    role = "test" if name == "unlabelled" else "train"
    return matching.read(str(folder / name), models, role=role, **options)


RECORDED = {"recorded": True}
REORDERED = [ALPHABETICAL.index(name) for name in EMOTIONS]
SAME = list(range(7))
# data, names of the model, who gives them (the file or the user) -> classes, columns; or the error
TABLE = [
    ("labelled.csv", None, None, EMOTIONS, SAME),
    ("labelled.csv", EMOTIONS, "file", EMOTIONS, SAME),
    ("labelled.csv", EMOTIONS, "user", EMOTIONS, SAME),
    ("labelled.csv", ALPHABETICAL, "file", "the same order", None),
    ("labelled.csv", ALPHABETICAL, "user", EMOTIONS, REORDERED),
    ("labelled.csv", MOODS, "file", "the same classes", None),
    ("labelled.csv", MOODS, "user", "label", None),
    ("unlabelled.csv", None, None, EMOTIONS, SAME),
    ("unlabelled.csv", EMOTIONS, "file", EMOTIONS, SAME),
    ("unlabelled.csv", ALPHABETICAL, "file", "the same order", None),
    ("unlabelled.csv", ALPHABETICAL, "user", EMOTIONS, REORDERED),
    ("unlabelled.csv", MOODS, "file", MOODS, [0, 1, 2]),
    ("unlabelled.csv", MOODS, "user", MOODS, [0, 1, 2]),
    ("labelled.npz", None, None, EMOTIONS, SAME),
    ("labelled.npz", EMOTIONS, "file", EMOTIONS, SAME),
    ("labelled.npz", ALPHABETICAL, "file", "the same order", None),
    ("labelled.npz", ALPHABETICAL, "user", EMOTIONS, REORDERED),
    ("labelled.npz", MOODS, "file", "the same classes", None),
    ("labelled.npz", MOODS, "user", "the same classes", None),
    ("unlabelled.npz", ALPHABETICAL, "file", "the same order", None),
    ("unlabelled.npz", ALPHABETICAL, "user", EMOTIONS, REORDERED),
    ("unlabelled.npz", MOODS, "file", MOODS, [0, 1, 2]),
    ("labelled", None, None, ALPHABETICAL, SAME),
    ("labelled", EMOTIONS, "file", EMOTIONS, SAME),
    ("labelled", EMOTIONS, "user", EMOTIONS, SAME),
    ("labelled", ALPHABETICAL, "file", ALPHABETICAL, SAME),
    ("labelled", ALPHABETICAL, "user", ALPHABETICAL, SAME),
    ("labelled", MOODS, "file", "calm, grim, wild", None),
    ("labelled", MOODS, "user", "calm, grim, wild", None),
    ("unlabelled", None, None, EMOTIONS, SAME),
    ("unlabelled", ALPHABETICAL, "file", ALPHABETICAL, SAME),
    ("unlabelled", ALPHABETICAL, "user", ALPHABETICAL, SAME),
    ("unlabelled", MOODS, "file", MOODS, [0, 1, 2]),
    ("unlabelled", MOODS, "user", MOODS, [0, 1, 2]),
]


@pytest.mark.parametrize(("name", "names", "by", "expected", "columns"), TABLE)
def test_read_matches_the_classes_of_data_and_model(folder, name, names, by, expected, columns):
    model = checkpoint(names, recorded=by == "file", count=len(names or EMOTIONS))
    stated = names if by == "user" else None
    if columns is None:
        with pytest.raises(InputError, match=expected):
            read(folder, name, [model], class_names=stated)
        return
    dataset = read(folder, name, [model], class_names=stated).dataset
    assert dataset.class_names == expected
    assert matching.columns(model, dataset).tolist() == columns
    biases = np.exp(np.arange(len(columns)))
    probabilities = inference.predict(model, dataset)
    np.testing.assert_allclose(probabilities[0], (biases / biases.sum())[columns], rtol=1e-5)


def test_read_gives_every_row_its_class_in_any_class_order(folder):
    expected = [EMOTIONS[label] for label in faces(COUNT, seed=3).labels]
    for name in ("labelled.csv", "labelled.npz", "labelled"):
        for names in (None, ALPHABETICAL):
            model = checkpoint(names)
            dataset = read(folder, name, [model], class_names=names).dataset
            row_names = [dataset.class_names[label] for label in dataset.labels]
            assert sorted(row_names) == sorted(expected)


def test_read_requires_as_many_outputs_as_classes(folder):
    with pytest.raises(InputError, match=r"3 outputs.* 7 classes.*--class-names"):
        read(folder, "labelled.csv", [checkpoint(count=3)])


def test_in_order_of_gives_the_class_order_and_image_size_of_a_model(folder):
    model = checkpoint(ALPHABETICAL, shape=(24, 24, 3))
    match = read(folder, "labelled.csv", [model], class_names=ALPHABETICAL)
    dataset = match.in_order_of(model)
    assert (dataset.class_names, dataset.image_shape) == (ALPHABETICAL, (24, 24, 3))
    names = [ALPHABETICAL[label] for label in dataset.labels]
    assert names == [EMOTIONS[label] for label in match.dataset.labels]


def test_read_decodes_a_folder_at_the_image_size_of_each_model(folder):
    small, large = (checkpoint(EMOTIONS, recorded=True, shape=(side, side, 1)) for side in (12, 24))
    match = read(folder, "labelled", [small, large])
    assert match.dataset.image_shape == (24, 24, 1)
    decoded = data.read(
        folder / "labelled", role="train", class_names=EMOTIONS, image_shape=(12, 12, 1)
    )
    np.testing.assert_array_equal(match.at((12, 12, 1)).images, decoded.images)
    np.testing.assert_array_equal(match.at((12, 12, 1)).labels, match.dataset.labels)


def test_read_error_names_the_model_that_does_not_match(folder):
    good, other = checkpoint(EMOTIONS, recorded=True), checkpoint(ALPHABETICAL, recorded=True)
    other = dataclasses.replace(other, path=Path("other.h5"))
    with pytest.raises(InputError, match=r"other\.h5.*the same order"):
        read(folder, "labelled.csv", [good, other])


def test_read_takes_labels_from_a_truth_file(folder, tmp_path):
    (tmp_path / "truth.csv").write_text("id,label\n0,3\n5,6\n")
    model = checkpoint(EMOTIONS, recorded=True)
    dataset = read(folder, "unlabelled.csv", [model], truth=tmp_path / "truth.csv").dataset
    assert dataset.labels[[0, 5]].tolist() == [3, 6]
    assert (dataset.labels >= 0).sum() == 2
    moods = checkpoint(MOODS, recorded=True, count=3)
    with pytest.raises(InputError, match="label is '3', expected 0 to 2 or one of calm"):
        read(folder, "unlabelled.csv", [moods], truth=tmp_path / "truth.csv")
    (tmp_path / "moods.csv").write_text("id,label\n0,Wild\n5,0\n")
    dataset = read(folder, "unlabelled.csv", [moods], truth=tmp_path / "moods.csv").dataset
    assert dataset.labels[[0, 5]].tolist() == [2, 0]


def test_names_to_read_depend_on_the_class_names_that_a_model_records(folder):
    table, unnamed = str(folder / "labelled.csv"), checkpoint()
    assert matching.names_to_read(table, [unnamed], ALPHABETICAL) is None
    assert matching.names_to_read(table, [unnamed], MOODS) == MOODS
    named = checkpoint(ALPHABETICAL, recorded=True)
    assert matching.names_to_read(table, [named], ALPHABETICAL) == ALPHABETICAL
    assert matching.names_to_read(str(folder), [unnamed], ALPHABETICAL) == ALPHABETICAL


def test_output_indices_follow_the_class_order_of_the_model(folder):
    model = checkpoint(ALPHABETICAL)
    dataset = read(folder, "labelled.csv", [model], class_names=ALPHABETICAL).dataset
    indices = inference.output_indices(model, dataset)
    expected = [EMOTIONS[label] for label in dataset.labels]
    assert [ALPHABETICAL[index] for index in indices] == expected
    unlabelled = dataclasses.replace(dataset, labels=np.full(COUNT, -1))
    assert set(inference.output_indices(model, unlabelled)) == {6}  # the largest bias


WORDS = ("Anger", "disgusted", "Fear", "HAPPINESS", "Sadness", "surprised", "Neutral")
BY_WORDS = tuple(sorted(WORDS))
WORD_ORDER = [BY_WORDS.index(word) for word in WORDS]


@pytest.fixture(scope="module")
def in_words(folder):
    """The faces of `folder` in other words and numbers: class folders, an archive, tables."""
    rows = faces(COUNT, seed=3)
    data.write_npz(folder / "words.npz", train=dataclasses.replace(rows, class_names=WORDS))
    pixels = [" ".join(map(str, image.ravel())) for image in rows.images]
    for name, words in (("words", WORDS), ("numbers", tuple("0123456"))):
        lines = [f"{words[label]},{text}" for label, text in zip(rows.labels, pixels, strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(("emotion,pixels", *lines)))
        for row, (image, label) in enumerate(zip(rows.images, rows.labels, strict=True)):
            path = folder / name / words[label] / f"{row:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(path)
    return folder


# data, names of the model, who gives them -> columns by emotion; or the error
IN_WORDS = [
    ("words", EMOTIONS, "file", SAME),
    ("words", EMOTIONS, "user", SAME),
    ("words", ALPHABETICAL, "file", REORDERED),
    ("words", ALPHABETICAL, "user", REORDERED),
    ("words", WORDS, "file", SAME),
    ("words", BY_WORDS, "file", WORD_ORDER),
    ("words.npz", EMOTIONS, "file", SAME),
    ("words.npz", EMOTIONS, "user", SAME),
    ("words.npz", ALPHABETICAL, "file", "the same order"),
    ("words.csv", EMOTIONS, "file", SAME),
    ("words.csv", WORDS, "file", SAME),
    ("words.csv", ALPHABETICAL, "user", REORDERED),
    ("labelled", WORDS, "file", SAME),
    ("labelled", BY_WORDS, "file", WORD_ORDER),
    ("labelled.csv", WORDS, "file", SAME),
    ("labelled.csv", BY_WORDS, "file", "the same order"),
    ("labelled.csv", BY_WORDS, "user", WORD_ORDER),
    ("labelled.npz", WORDS, "file", SAME),
    ("labelled.npz", tuple("0123456"), "file", SAME),
    ("numbers", EMOTIONS, "file", SAME),
    ("numbers", ALPHABETICAL, "file", "the same order"),
    ("numbers", ALPHABETICAL, "user", REORDERED),
    ("numbers", tuple("0123456"), "file", SAME),
    ("numbers.csv", tuple("0123456"), "file", SAME),
    ("words", MOODS, "file", "calm, grim, wild"),
    ("words.npz", MOODS, "file", "the same classes"),
]


@pytest.mark.parametrize(("name", "names", "by", "columns"), IN_WORDS)
def test_read_matches_classes_in_any_words(in_words, name, names, by, columns):
    model = checkpoint(names, recorded=by == "file", count=len(names))
    stated = names if by == "user" else None
    if isinstance(columns, str):
        with pytest.raises(InputError, match=columns):
            read(in_words, name, [model], class_names=stated)
        return
    dataset = read(in_words, name, [model], class_names=stated).dataset
    biases = np.exp(np.arange(len(names)))
    probabilities = inference.predict(model, dataset)[0]
    expected = faces(COUNT, seed=3).labels  # rows of a folder come class by class
    order = np.array([indices_in(dataset.class_names, EMOTIONS).index(k) for k in range(7)])
    np.testing.assert_allclose(probabilities[order], (biases / biases.sum())[columns], rtol=1e-5)
    emotions = np.array(indices_in(dataset.class_names, EMOTIONS))[dataset.labels]
    assert np.bincount(emotions).tolist() == np.bincount(expected).tolist()
    trained = read(in_words, name, [model], class_names=stated).in_order_of(model)
    assert by == "user" or trained.class_names == names


@pytest.mark.parametrize("by", ["file", "user", None])
@pytest.mark.parametrize("count", [7, 3])
def test_read_gives_no_labels_to_images_in_folders_that_are_no_classes(tmp_path, by, count):
    for place in ("ann/1.png", "bob/b/2.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 99).save(tmp_path / place)
    names = {7: EMOTIONS, 3: MOODS}[count] if by else None
    model = checkpoint(names, recorded=by == "file", count=count)
    stated = names if by == "user" else None
    dataset = matching.read(str(tmp_path), [model], role="test", class_names=stated).dataset
    assert dataset.ids.tolist() == ["ann/1", "bob/b/2"]
    assert dataset.labels.tolist() == [-1, -1]
    assert inference.predict(model, dataset).shape == (2, count)


@pytest.mark.parametrize("labels", [("3", "6"), ("happy", "NEUTRAL"), ("3.0", "neutral")])
@pytest.mark.parametrize(
    ("name", "by"), [("unlabelled", "file"), ("unlabelled", "user"), ("unlabelled.csv", "user")]
)
def test_read_keeps_the_meaning_of_numbers_in_a_truth_file(folder, tmp_path, name, by, labels):
    ids = ("00", "05") if name == "unlabelled" else ("0", "5")
    lines = [f"{row},{label}" for row, label in zip(ids, labels, strict=True)]
    (tmp_path / "truth.csv").write_text("\n".join(("id,label", *lines)))
    model = checkpoint(ALPHABETICAL, recorded=by == "file")
    names = ALPHABETICAL if by == "user" else None
    dataset = read(folder, name, [model], class_names=names, truth=tmp_path / "truth.csv").dataset
    words = [dataset.class_names[label] for label in dataset.labels[[0, 5]]]
    assert words == ["happy", "neutral"]
