"""`.npz` archives of ferlab and of others, and the errors for anything else."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from support import faces

from ferlab import data
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
LABELS = np.array([0, 6, 3, 3, 1])


@pytest.fixture
def train_csv(tmp_path):
    path = tmp_path / "train.csv"
    data.write_csv(path, IMAGES, labels=LABELS)
    return path


@pytest.fixture
def test_csv(tmp_path):
    path = tmp_path / "test.csv"
    data.write_csv(path, IMAGES[:2], ids=["a", "b"])
    return path


def read(tmp_path, role="train", /, **arrays):
    path = tmp_path / "faces.npz"
    np.savez(path, **arrays)
    return data.read(path, role=role)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.class_names == expected.class_names
    assert found.fingerprint() == expected.fingerprint()


def test_write_npz_packs_csv_files(tmp_path, train_csv, test_csv):
    packed = tmp_path / "data.npz"
    assert data.write_npz(packed, train=train_csv, test=test_csv) == {"train": 5, "test": 2}
    for role, table in (("train", train_csv), ("test", test_csv)):
        assert_same(data.read(packed, role=role), data.read(table, role=role))

    again = tmp_path / "again.npz"
    data.write_npz(again, train=packed)
    assert_same(data.read(again, role="train"), data.read(packed, role="train"))
    assert_same(data.read(again, role="test"), data.read(packed, role="train"))  # its only part

    twice = tmp_path / "twice.npz"
    data.write_npz(twice, train=train_csv, test=test_csv)
    assert twice.read_bytes() == packed.read_bytes()


def test_write_npz_stores_usage_and_class_names(tmp_path):
    table = tmp_path / "moods.csv"
    table.write_text("emotion,pixels,Usage\n1,5,Training\nsad,6,PublicTest\n")
    data.write_npz(tmp_path / "moods.npz", train=table, class_names=("mad", "sad"))
    dataset = data.read(tmp_path / "moods.npz", role="train")
    assert dataset.usage.tolist() == ["Training", "PublicTest"]
    assert dataset.class_names == ("mad", "sad")
    data.read(tmp_path / "moods.npz", role="train", class_names=("mad", "sad"))
    for names in (("sad", "mad"), EMOTIONS):
        with pytest.raises(InputError, match=r"moods\.npz: data and model must have the same"):
            data.read(tmp_path / "moods.npz", role="train", class_names=names)


def test_write_npz_requires_parts_with_the_same_classes_and_shape(tmp_path, train_csv):
    small = tmp_path / "small.csv"
    data.write_csv(small, IMAGES[:, :2, :2])
    with pytest.raises(InputError, match=r"small\.csv:2: expected 16 pixels, found 4"):
        data.write_npz(tmp_path / "data.npz", train=train_csv, test=small)
    with pytest.raises(InputError, match=r"images must be 4x4x1\. Received: 2x2x1"):
        data.write_npz(tmp_path / "data.npz", train=train_csv, test=data.read(small, role="test"))
    assert not (tmp_path / "data.npz").exists()


LAYOUTS = {
    "x_train": {"x_train": IMAGES, "y_train": LABELS},
    "upper case": {"X_train": IMAGES, "Y_train": LABELS},
    "images": {"images": IMAGES, "labels": LABELS},
    "x": {"X": IMAGES, "y": LABELS},
    "without channels": {"x": IMAGES[..., 0], "y": LABELS},
    "flat": {"x": IMAGES.reshape(5, 16), "y": LABELS},
    "whole floats": {"x": IMAGES.astype(np.float32), "y": LABELS.astype(np.float64)},
    "wide integers": {"x": IMAGES.astype(np.int64), "y": LABELS.astype(np.uint8)},
    "one-hot": {"x": IMAGES, "y": np.eye(7)[LABELS]},
    "labels in a column": {"train_images": IMAGES, "train_labels": LABELS[:, None]},
    "Fortran order": {"x": np.asfortranarray(IMAGES), "y": LABELS},
    "big-endian": {"x": IMAGES.astype(">i4"), "y": LABELS.astype(">i8")},
    "both parts": {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:1], "y_test": [0]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_read_npz_reads_common_layouts(tmp_path, layout):
    dataset = read(tmp_path, **LAYOUTS[layout])
    np.testing.assert_array_equal(dataset.images, IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.ids.tolist() == list("01234")
    assert dataset.class_names == EMOTIONS


def test_read_npz_selects_the_part_by_role(tmp_path):
    both = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:2]}
    assert len(read(tmp_path, "train", **both)) == 5
    test = read(tmp_path, "test", **both)
    assert (len(test), test.is_labelled) == (2, False)
    with pytest.raises(InputError, match=r"no train images.* Received: x_test, y_test"):
        read(tmp_path, "train", x_test=IMAGES, y_test=LABELS)


REFUSED = {
    "unit floats": ({"x": IMAGES / 255}, "raw grey levels"),
    "binary floats": ({"x": (IMAGES > 99).astype(float)}, "raw grey levels"),
    "NaN": ({"x": np.full((2, 4, 4), np.nan)}, "raw grey levels"),
    "infinite": ({"x": np.full((2, 4, 4), np.inf)}, "raw grey levels"),
    "256": ({"x": np.full((2, 4, 4), 256)}, "raw grey levels.* from 256 to 256"),
    "negative": ({"x": np.full((2, 4, 4), -1)}, "raw grey levels"),
    "text": ({"x": np.array(["a"])}, "images must be grey levels"),
    "complex": ({"x": IMAGES * 1j}, "images must be grey levels"),
    "channels first": ({"x": IMAGES.transpose(0, 3, 1, 2)}, "images must be .n, height, width"),
    "not square": ({"x": np.zeros((2, 15), np.uint8)}, "images must be .n, height, width"),
    "one number": ({"x": np.uint8(3)}, "images must be .n, height, width"),
    "five dimensions": ({"x": np.zeros((1, 1, 1, 1, 1), np.uint8)}, "images must be"),
    "no rows": ({"x": IMAGES[:0]}, "no images"),
    "no columns": ({"x": np.zeros((3, 0), np.uint8)}, "no images"),
    "fewer labels": ({"x": IMAGES, "y": LABELS[:3]}, "labels must be 5"),
    "label outside": ({"x": IMAGES, "y": LABELS + 1}, "labels must be 0 to 6"),
    "huge label": ({"x": IMAGES, "y": LABELS.astype(np.uint64) - 1}, "labels must be integers"),
    "label between": ({"x": IMAGES, "y": LABELS + 0.5}, "labels must be integers"),
    "label NaN": ({"x": IMAGES, "y": LABELS * np.nan}, "labels must be integers"),
    "label text": ({"x": IMAGES, "y": ["smug"] * 5}, "labels must name angry"),
    "one-hot of fewer": ({"x": IMAGES, "y": np.eye(8)[LABELS]}, "must be one-hot over 7 classes"),
    "not one-hot": ({"x": IMAGES, "y": np.ones((5, 7))}, "must be one-hot over 7 classes"),
    "soft labels": ({"x": IMAGES, "y": np.full((5, 7), 1 / 7)}, "must be integers"),
    "class numbers": ({"x": IMAGES, "class_names": np.zeros(7)}, "class_names must be a list"),
    "ids in a table": ({"x": IMAGES, "ids": [["a"]]}, "ids must be a list"),
    "fewer ids": ({"x": IMAGES, "ids": ["a"]}, "ids must be 5"),
    "other keys": ({"pictures": IMAGES}, "no train images.* Received: pictures"),
    "no keys": ({}, "no train images.* Received: no arrays|empty"),
    "objects": ({"x": np.array([{}, 1])}, "x .*pickle"),
    "object labels": ({"x": IMAGES, "y": np.array([None] * 5)}, "y .*pickle"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_read_npz_refuses_other_arrays(tmp_path, what):
    arrays, message = REFUSED[what]
    with pytest.raises(InputError, match=rf"faces\.npz: .*({message})"):
        read(tmp_path, **arrays)


def npz_of(member, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, content)
    return file.getvalue()


def header_of(shape, dtype="|u1"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def npz_with(**members):
    """The images, and other members as raw bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as member:
            np.save(member, IMAGES)
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def sound():
    file = io.BytesIO()
    np.savez_compressed(file, x=IMAGES, y=LABELS)
    return file.getvalue()


BROKEN = {
    "empty": (b"", "is an empty file, not an .npz archive"),
    "text": (b"label,feature\n", "is text, not an .npz archive"),
    "HTML": (b"<html>", "is an HTML page"),
    "pickle": (b"\x80\x04\x95", "is a Python pickle, not an .npz archive"),
    "npy": (b"\x93NUMPY\x01\x00", "is a NumPy .npy file, not an .npz archive"),
    "truncated": (sound()[:-40], "archive is damaged"),
    "only the start": (sound()[:10], "archive is damaged"),
    "flipped byte": (sound()[:120] + b"\xff" + sound()[121:], "is damaged"),
    "not an array": (npz_of("x", b"hello"), "x is not a NumPy array"),
    "array cut short": (npz_of("x.npy", header_of((5, 4, 4)) + b"123"), "x is damaged"),
    "more than memory": (npz_of("x.npy", header_of((10**15,))), "x is damaged: it claims"),
    "endless shape": (npz_of("x.npy", header_of((10**30, 48))), "x "),
    "negative shape": (npz_of("x.npy", header_of((-1, 4, 4)) + bytes(99)), "x is damaged"),
    "a bomb": (npz_with(y=header_of((2**25,)) + bytes(2**25)), "y is damaged: it unpacks to"),
    "ids of no bytes": (npz_with(ids=header_of((3 * 10**9,), "<U0")), "ids is damaged"),
    "claimed ids": (npz_with(ids=header_of((3 * 10**9,), "<U9") + b"1"), "ids is damaged"),
    "claimed text": (npz_with(ids=header_of((5,), "<U999999999") + b"1"), "ids is damaged"),
    "claimed labels": (npz_with(y=header_of((10**12, 7), "<i8")), "y is damaged"),
    "claimed usage": (npz_with(usage=header_of((10**10,), "<U1")), "usage is damaged"),
    "names of no bytes": (npz_with(class_names=header_of((10**9,), "<U0")), "class_names is"),
    "many ids": (npz_with(ids=header_of((10**6,), "<U1") + bytes(4 * 10**6)), "ids must be 5"),
    "many labels": (npz_with(y=header_of((10**6,)) + bytes(10**6)), "labels must be 5"),
    "no character": (npz_with(ids=header_of((5,), "<U1") + b"\xff" * 20), "ids must be text"),
    "half characters": (
        npz_with(ids=header_of((5,), "<U1") + b"\0\xd8\0\0" * 5),
        "ids must be text. Received: .*0xd800",
    ),
    "half a name": (
        npz_with(class_names=header_of((2,), ">U1") + b"\0\0\xdf\0\0\0\0a"),
        "class_names must be text",
    ),
    "bad header": (npz_of("x.npy", b"\x93NUMPY\x01\x00\x05\x00{'a':"), "x is damaged"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_read_npz_refuses_a_damaged_archive(tmp_path, what):
    content, message = BROKEN[what]
    (tmp_path / "faces.npz").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"faces\.npz: .*({message})"):
            data.read(tmp_path / "faces.npz", role="train")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_read_npz_reads_an_archive_of_zeros_and_names_that_are_not_utf8(tmp_path):
    """Arrays that are compressed a lot, and ids as of files in a folder."""
    ids = np.array([f"{row}/\udcff" for row in range(3000)])
    np.savez_compressed(
        tmp_path / "zeros.npz", x=np.zeros((3000, 48, 48), np.uint8), ids=ids, usage=ids
    )
    dataset = data.read(tmp_path / "zeros.npz", role="train")
    np.testing.assert_array_equal(dataset.ids, ids)


def test_write_npz_holds_the_pixels_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 48, 48), dtype=np.uint8)
    data.write_csv(tmp_path / "one.csv", pixels)
    header, row = (tmp_path / "one.csv").read_text().splitlines(keepends=True)
    (tmp_path / "many.csv").write_text(header + row * 3000)
    tracemalloc.start()
    try:
        data.write_npz(
            tmp_path / "data.npz", train=tmp_path / "many.csv", test=tmp_path / "many.csv"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3000 * pixels.size + 5_000_000


def test_write_npz_keeps_the_meaning_of_numbers_beside_a_folder(tmp_path):
    """The classes of a folder come in alphabetical order, numbers of a table in FER-2013's."""
    rows = faces(14)
    for label, name in enumerate(EMOTIONS):
        (tmp_path / "faces" / name).mkdir(parents=True)
        image = Image.fromarray(rows.images[label, :, :, 0])
        image.save(tmp_path / "faces" / name / "1.png")
        (tmp_path / "numbers" / str(label)).mkdir(parents=True)
        image.save(tmp_path / "numbers" / str(label) / "1.png")
    data.write_csv(tmp_path / "test.csv", rows.images, labels=rows.labels)
    for test in ("test.csv", "numbers"):
        data.write_npz(tmp_path / "a.npz", train=tmp_path / "faces", test=tmp_path / test)
        packed = data.read(tmp_path / "a.npz", role="test")
        names = [packed.class_names[label] for label in packed.labels]
        expected = rows.labels if test == "test.csv" else range(7)
        assert names == [EMOTIONS[label] for label in expected]


def test_read_npz_reads_labels_of_names(tmp_path):
    words = np.array(["angry", "Neutral", "HAPPINESS", "", "1"])
    np.savez(tmp_path / "a.npz", x=IMAGES, y=words)
    assert data.read(tmp_path / "a.npz", role="train").labels.tolist() == [0, 6, 3, -1, 1]
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array(["angry", "smug", "happy", "sad", "sad"]))
    with pytest.raises(InputError, match=r"a\.npz: labels must name angry.*Received: smug"):
        data.read(tmp_path / "a.npz", role="train")
