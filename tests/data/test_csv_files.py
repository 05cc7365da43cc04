"""CSV files: common variants are read, and damage is reported with file and line."""

import itertools
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from ferlab import data
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS

IMAGES = np.array([[[0, 7], [42, 255]], [[99, 100], [10, 1]], [[200, 249], [250, 9]]], np.uint8)
LABELS = [3, 0, 6]
PIXELS = ["0 7 42 255", "99 100 10 1", "200 249 250 9"]


def table(header, row):
    """Three rows from a template with {i}, {label} and {pixels}."""
    rows = [
        row.format(i=i, label=label, pixels=pixels)
        for i, (label, pixels) in enumerate(zip(LABELS, PIXELS, strict=True))
    ]
    return "\n".join((header, *rows)) + "\n"


def write(tmp_path, content, name="train.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, content, **options):
    return data.read(write(tmp_path, content), role="train", **options)


COURSE = table("label,feature", "{label},{pixels}")
COLUMNS = table("label,pixel0,pixel1,pixel2,pixel3", "{label},{pixels}").replace(" ", ",")
LABELLED = {
    "course": COURSE,
    "kaggle": table("emotion,pixels,Usage", "{label},{pixels},Training"),
    "stray spaces": table(" emotion, Usage, pixels ", " {label} , Training,  {pixels} "),
    "quoted": table('"emotion","pixels"', '"{label}","{pixels}"'),
    "quoted after a space": table('emotion, "pixels"', '{label}, "{pixels}"'),
    "line breaks in quotes": table("label,pixels", '{label},"{pixels}"').replace(" ", "\n"),
    "CRLF": COURSE.replace("\n", "\r\n"),
    "BOM": b"\xef\xbb\xbf" + COURSE.encode(),
    "UTF-16": COURSE.encode("utf-16"),
    "UTF-16 big-endian": b"\xfe\xff" + COURSE.encode("utf-16-be"),
    "no final newline": COURSE.rstrip("\n"),
    "blank lines": "\n \n" + COURSE + "\n\n,\n \r\n",
    "unnamed index": table(",label,feature", "{i},{label},{pixels}"),
    "pandas index": table("Unnamed: 0,emotion,pixels", "5,{label},{pixels}"),
    "index": table("index,emotion,pixels", "5,{label},{pixels}"),
    "unknown column": table("label,note,pixels", "{label},\xe9,{pixels}").encode("cp1252"),
    "upper case": table("EMOTION,PIXELS", "{label},{pixels}"),
    "semicolons": COURSE.replace(",", ";"),
    "tabs": COURSE.replace(",", "\t"),
    "pixel columns": COLUMNS,
    "pixel columns, CRLF": COLUMNS.replace("\n", "\r\n"),
    "pixel columns, spaces": COLUMNS.replace(",", " , "),
    "pixel columns, quoted": COLUMNS.replace(",", '","')
    .replace("\n", '"\n"')
    .strip('"')
    .replace("label", '"label'),
    "pixel columns first": table("p1,p2,p3,p4,emotion", "{pixels},{label}").replace(" ", ","),
    "numbered columns": table("label;0;1;2;3", "{label};{pixels}").replace(" ", ";"),
    "two spaces": COURSE.replace(" ", "  "),
    "tabs between pixels": COURSE.replace(" ", "\t"),
    "leading zeros": COURSE.replace(" 7 ", " 0007 ").replace("99 ", "099 "),
    "a space at the end": COURSE.replace("\n", " \n"),
    "labels of floats": COURSE.replace("\n3,", "\n3.0,").replace("\n0,", "\n0.00,"),
    "decimals": COURSE.replace(" ", ".0 ").replace("255\n", "255.0\n"),
    "points": COURSE.replace(" ", ". "),
    "exponents": COURSE.replace(" 42 ", " 4.2e+01 ").replace(" 100 ", " 1.000000e+02 "),
    "plus signs": COURSE.replace(" 42 ", " +42 "),
    "lists": table("label,feature", '{label},"[{pixels}]"').replace(" ", ", "),
    "lists of rows": COURSE.replace(",0 7 42 255", ',"[[0, 7], [42, 255]]"'),
    "tuples": table("label,feature", '{label},"({pixels})"').replace(" ", ", "),
    "arrays": table("label,feature", "{label},[{pixels}.]").replace(" ", ".  "),
    "NumPy's repr": table("label,feature", '{label},"array([{pixels}], dtype=uint8)"').replace(
        " ", ", "
    ),
    "PyTorch's repr": table("label,feature", '{label},"tensor([[{pixels}]])"').replace(" ", ", "),
    "quoted numbers": table("label,feature", "{label},['{pixels}']").replace(" ", "' '"),
    "commas": table("label,feature", '{label},"{pixels}"').replace(" ", ","),
    "semicolons between pixels": COURSE.replace(" ", ";"),
    "pixel columns of decimals": COLUMNS.replace(",", ".0,").replace(".0,pixel", ",pixel"),
    "labels in capitals": COURSE.replace("\n3,", "\nHAPPY,").replace("\n6,", "\n Neutral ,"),
    "labels of synonyms": COURSE.replace("\n3,", "\nhappiness,").replace("\n0,", "\nAnger,"),
    "labels of numbers and names": COURSE.replace("\n3,", "\n3_happy,"),
    "labels of names": COURSE.replace("\n3,", "\nhappy,").replace("\n6,", "\n neutral ,"),
}
UNLABELLED = {
    "course": table("id,feature", "{i},{pixels}"),
    "pixels alone": table("pixels", "{pixels}"),
    "quoted pixels alone": table('"pixels"', '"{pixels}"'),
    "pixel columns alone": table("0,1,2,3", "{pixels}").replace(" ", ","),
    "empty labels": table("label,feature", ",{pixels}"),
    "labels of -1": table("label,feature", "-1,{pixels}"),
    "labels of -1.0": table("label,feature", "-1.0,{pixels}"),
    "commas alone": table("pixels", "{pixels}").replace(" ", ","),
}


@pytest.mark.parametrize("variant", LABELLED)
def test_csv_chunks_reads_all_labelled_variants(tmp_path, variant):
    dataset = read(tmp_path, LABELLED[variant])
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
    assert dataset.labels.tolist() == LABELS
    assert dataset.class_names == EMOTIONS
    assert dataset.ids.tolist() == ["0", "1", "2"]


@pytest.mark.parametrize("variant", UNLABELLED)
def test_csv_chunks_reads_all_unlabelled_variants(tmp_path, variant):
    dataset = read(tmp_path, UNLABELLED[variant])
    np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
    assert dataset.labels.tolist() == [-1, -1, -1]
    assert dataset.ids.tolist() == ["0", "1", "2"]


def test_csv_chunks_keeps_ids_and_usage(tmp_path):
    dataset = read(tmp_path, table("id,Usage,pixels", "face {i}, PublicTest ,{pixels}"))
    assert dataset.ids.tolist() == ["face 0", "face 1", "face 2"]
    assert dataset.usage.tolist() == ["PublicTest"] * 3
    assert read(tmp_path, COURSE).usage is None


def test_csv_chunks_reads_labels_as_numbers_or_names(tmp_path):
    moods = read(tmp_path, "label,pixels\n1,5\nsad,6\n", class_names=("mad", "sad"))
    assert moods.labels.tolist() == [1, 1]
    assert moods.class_names == ("mad", "sad")
    digits = read(tmp_path, "label,pixels\n1,5\n3,6\n", class_names=("1", "2", "3"))
    assert digits.labels.tolist() == [0, 2]


def test_csv_chunks_requires_the_image_shape(tmp_path):
    assert read(tmp_path, COURSE, image_shape=(2, 2, 1)).image_shape == (2, 2, 1)
    colour = "pixels\n" + " ".join(map(str, range(12))) + "\n"
    assert read(tmp_path, colour, image_shape=(2, 2, 3)).image_shape == (2, 2, 3)
    with pytest.raises(InputError, match=r"train\.csv:2: expected 9 pixels, found 4"):
        read(tmp_path, COURSE, image_shape=(3, 3, 1))


def edit(line, old, new):
    lines = COURSE.split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    return "\n".join(lines)


DAMAGED = {
    "short row": (edit(3, "99 ", ""), ":3: expected 4 pixels, found 3"),
    "long row": (edit(3, "99 ", "99 99 "), ":3: expected 4 pixels, found 5"),
    "one short, one long": (
        edit(3, "99 ", "").replace("200 ", "200 200 "),
        ":3: expected 4 pixels, found 3",
    ),
    "no square": (edit(2, " 255", ""), ":2: expected a square image, found 3 pixels"),
    "no pixels": (edit(3, "99 100 10 1", ""), ":3: expected 4 pixels, found 0"),
    "no pixels at first": (edit(2, "0 7 42 255", ""), ":2: expected a square image, found 0"),
    "256": (edit(4, "249", "256"), ":4: pixel 2 is 256, expected 0 to 255"),
    "300": (edit(4, "249", "300"), ":4: pixel 2 is 300, expected 0 to 255"),
    "999": (edit(4, "249", "999"), ":4: pixel 2 is 999, expected 0 to 255"),
    "1000": (edit(4, "249", "1000"), ":4: pixel 2 is 1000, expected 0 to 255"),
    "5000 digits": (edit(4, "249", "9" * 5000), ":4: pixel 2 is 9{40}..., expected 0 to 255"),
    "negative": (edit(3, "99", "-99"), ":3: pixel 1 is -99, expected 0 to 255"),
    "decimal": (edit(3, "99", "99.5"), ":3: pixel 1 is '99.5', expected a whole number"),
    "exponent": (edit(3, "10 ", "1e-1 "), ":3: pixel 3 is '1e-1', expected a whole number"),
    "shortened list": (edit(3, "10 ", "... "), ":3: pixel 3 is '...', expected a whole number"),
    "shortened list at first": (
        edit(2, "42 ", "... 42 "),
        ":2: pixel 3 is '...', expected a whole",
    ),
    "bytes": (edit(3, "99 100 10 1", "b'99 100 10 1'"), ":3: pixel 1 is 'b', expected a whole"),
    "text": (edit(3, "99", "nan"), ":3: pixel 1 is 'nan', expected a whole number"),
    "other digits": (edit(3, "99", "\u0663"), ":3: pixel 1 is '\u0663', expected a whole"),
    "undecodable": (edit(3, "99", "~").encode().replace(b"~", b"\xff"), ":3: pixel 1 is"),
    "underscore": (edit(3, "100", "1_0"), ":3: pixel 2 is '1_0', expected a whole number"),
    "NUL": (edit(3, "99", "9\0"), ": is binary data, not a CSV file"),
    "NUL far down": (COURSE + 500 * "0,1 2 3 4\n" + "0,1\0 2 3 4\n", ":505: .*NUL"),
    "truncated": (COURSE[:-8], ":4: expected 4 pixels, found 2"),
    "label above": (edit(3, "0,", "7,"), ":3: label is '7', expected 0 to 6 or one of angry"),
    "label below": (edit(3, "0,", "-2,"), ":3: label is '-2', expected 0 to 6"),
    "label between": (edit(3, "0,", "0.5,"), ":3: label is '0.5', expected 0 to 6"),
    "label unknown": (edit(3, "0,", "smug,"), ":3: label is 'smug', expected 0 to 6"),
    "label infinite": (edit(3, "0,", "inf,"), ":3: label is 'inf', expected 0 to 6"),
    "column missing": (edit(3, ",", " "), ":3: expected 2 columns, found 1"),
    "column too many": (edit(3, ",", ",,"), ":3: expected 2 columns, found 3"),
    "open quote": (edit(3, "99", '"99'), ":3: cannot be split into fields"),
    "text after a quote": (edit(3, "99 100", '"99" 100'), ":3: cannot be split into fields"),
    "an empty pixel column": (COLUMNS.replace(",10,", ",,"), ":3: pixel 3 is '', expected"),
    "two numbers in a cell": (COLUMNS.replace(",10,1", ",10 1,"), ":3: pixel 3 is '10 1'"),
    "a wrong number after line breaks": (
        LABELLED["line breaks in quotes"].replace("100", "1000"),
        ":6: pixel 2 is 1000",
    ),
    "empty": (b"", ": is an empty file"),
    "blank": ("\n \n", ": is empty. Known headers"),
    "header only": ("label,feature\n", ": has a header and no rows"),
    "no header": (COURSE.split("\n", 1)[1], ":1: has no header.* Known headers: `label,feature`"),
    "no pixel column": ("label,note\n1,2\n", ":1: .*Known headers.*label, note"),
    "submission": ("id,label\n0,3\n", ":1: .*submission"),
    "two labels": ("label,emotion,pixels\n", ":1: expected one label column. Received: label, em"),
    "label twice": ("label,label,pixels\n", ":1: expected one label column"),
    "pixels twice": ("pixels,feature\n", ":1: expected one pixels column"),
    "pixel columns mixed up": ("p0,p2,p1,p3\n", ":1: the pixel columns"),
    "pixel columns apart": ("p0,p1,label,p2,p3\n", ":1: the pixel columns"),
    "old Mac": (COURSE.replace("\n", "\r"), ": lines must end in LF or CRLF"),
    "half of UTF-16": (COURSE.encode("utf-16")[:-1], ":4: is not UTF-16 text"),
    "HTML": ("<!DOCTYPE html><html>", ": is an HTML page"),
    "LFS pointer": ("version https://git-lfs.github.com/spec/v1\n", ": is a Git LFS pointer"),
    "gzip": (b"\x1f\x8b\x08\0\0", ": cannot be unpacked"),
    "binary": (bytes(range(256)), ": is binary data, not a CSV file"),
    "id undecodable": (b"id,pixels\n\xff,1\n", ":2: id is not UTF-8 text"),
    "id endless": ("id,pixels\n" + "x" * 201 + ",1\n", ":2: id is longer than 200"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_csv_chunks_reports_damage_with_file_and_line(tmp_path, damage):
    content, message = DAMAGED[damage]
    with pytest.raises(InputError, match=rf"train\.csv({message})") as raised:
        read(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_csv_chunks_reports_the_type_of_other_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        data.read(tmp_path / "missing.csv", role="train")
    with pytest.raises(InputError, match="is a folder, not a CSV file"):
        next(data.csv_chunks(tmp_path))
    with zipfile.ZipFile(tmp_path / "train.csv", "w") as archive:
        archive.writestr("train_images.npy", COURSE)
    with pytest.raises(InputError, match="is a zip archive without a CSV file"):
        data.read(tmp_path / "train.csv", role="train")


def test_csv_chunks_refuses_an_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr("ferlab.data.tables.MAX_LINE", 1000)
    with pytest.raises(InputError, match=r":2: is longer than 1,000 bytes"):
        read(tmp_path, "pixels\n" + "1 " * 600)
    with pytest.raises(InputError, match=r":2: cannot be split into fields"):
        read(tmp_path, 'pixels\n"' + "1 1 1 1\n" * 600)


def test_csv_chunks_parses_numbers_of_every_length_anywhere(tmp_path):
    levels = np.random.default_rng(0).permutation(np.repeat(np.arange(256), 36)).astype(np.uint8)
    images = levels.reshape(-1, 6, 6)
    data.write_csv(tmp_path / "tidy.csv", images)
    np.testing.assert_array_equal(
        data.read(tmp_path / "tidy.csv", role="test").images[..., 0], images
    )


@pytest.mark.parametrize("channels", [(), (1,)])
@pytest.mark.parametrize("rows_per_chunk", [1, 2, 1000])
def test_write_csv_reads_back(tmp_path, monkeypatch, channels, rows_per_chunk):
    random_ = np.random.default_rng(rows_per_chunk)
    images = random_.integers(0, 256, (25, 4, 4, *channels), dtype=np.uint8)
    labels = random_.integers(-1, 7, 25)
    ids = [f'a "quoted", id {i}' for i in range(25)]
    monkeypatch.setattr("ferlab.data.csv_files._CHUNK_BYTES", 40 * rows_per_chunk)
    path = tmp_path / "new" / "faces.csv"
    data.write_csv(path, images, labels=labels, ids=ids)
    dataset = data.read(path, role="train")
    np.testing.assert_array_equal(dataset.images, images.reshape(25, 4, 4, 1))
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.ids.tolist() == ids
    assert sum(1 for _ in data.csv_chunks(path)) >= 25 // (2 * rows_per_chunk)


def test_write_csv_uses_the_format_of_the_course(tmp_path):
    data.write_csv(tmp_path / "train.csv", IMAGES, labels=LABELS)
    assert (tmp_path / "train.csv").read_bytes() == COURSE.encode()
    data.write_csv(tmp_path / "test.csv", IMAGES)
    assert (tmp_path / "test.csv").read_bytes() == UNLABELLED["course"].encode()
    data.write_submission(tmp_path / "out.csv", ["7", "5"], np.array([3, 0]))
    assert (tmp_path / "out.csv").read_bytes() == b"id,label\n7,3\n5,0\n"
    with pytest.raises(InputError, match=r"grey images.*Received: 2x2x3"):
        data.write_csv(tmp_path / "colour.csv", np.zeros((1, 2, 2, 3), np.uint8))
    assert not (tmp_path / "colour.csv").exists()


def test_csv_chunks_never_holds_the_whole_text(tmp_path):
    rows = 1500
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48), dtype=np.uint8)
    data.write_csv(tmp_path / "one.csv", image)
    header, row = (tmp_path / "one.csv").read_text().splitlines(keepends=True)
    path = write(tmp_path, header + row * rows)
    tracemalloc.start()
    try:
        assert sum(len(chunk) for chunk in data.csv_chunks(path)) == rows
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 12_000_000
    assert peak < 6_000_000


def test_csv_chunks_raises_nothing_but_input_errors(tmp_path):
    chance = random.Random(0)
    bits = [b'"', b",", b"\n", b"\r", b"\xff", b" ", b"256", b"-1", b".5", b"nan", b";", b"", b"\t"]
    seeds = [
        text if isinstance(text, bytes) else text.encode()
        for text in itertools.chain(LABELLED.values(), UNLABELLED.values())
    ]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        content = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(content) + 1)
            content[start : start + chance.randrange(4)] = chance.choice(bits)
        try:
            read(tmp_path, bytes(content))
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100


def test_csv_chunks_reads_real_files(wild):
    train = data.read(wild / "csv" / "der3318_train100.csv", role="train")
    assert train.images.shape == (99, 48, 48, 1)
    assert np.bincount(train.labels).tolist() == [18, 0, 17, 19, 16, 12, 17]
    test = data.read(wild / "csv" / "der3318_test100.csv", role="test")
    assert (len(test), test.ids[0], test.is_labelled) == (99, "0", False)
    kaggle = data.read(wild / "csv" / "BruceHi_fer2013_sample.csv", role="train")
    assert kaggle.usage.tolist() == ["Training"] * 4
    # Both begin with the first image of FER-2013.
    np.testing.assert_array_equal(kaggle.images[0], train.images[0])


def test_write_csv_without_keeps_quotes_and_blank_lines(tmp_path):
    pixels = " ".join(["7"] * 4)
    text = f'\ufeffid;label;feature\n\n"a\nb";0;"{pixels}"\nc;1;{pixels}\n\n"d";2;{pixels}'
    (tmp_path / "a.csv").write_text(text)
    assert len(data.read(tmp_path / "a.csv", role="train")) == 3
    data.write_csv_without(tmp_path / "b.csv", tmp_path / "a.csv", {0})
    assert (
        tmp_path / "b.csv"
    ).read_text() == f'\nid;label;feature\nc;1;{pixels}\n\n"d";2;{pixels}'[1:]
    data.write_csv_without(tmp_path / "b.csv", tmp_path / "a.csv", {1, 2})
    assert data.read(tmp_path / "b.csv", role="train").ids.tolist() == ["a\nb"]


def test_csv_chunks_bounds_columns_and_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("ferlab.data.tables.MAX_FIELDS", 9)
    monkeypatch.setattr("ferlab.data.tables._LONG", 1)
    monkeypatch.setattr("ferlab.data.csv_files._LONG", 1)
    with pytest.raises(InputError, match=r":1: has more than 9 columns"):
        read(tmp_path, 10 * "a," + "pixels\n")
    with pytest.raises(InputError, match=r":2: has more than 9 columns"):
        read(tmp_path, "pixels\n" + 10 * "a,")
    with pytest.raises(InputError, match=r":3: expected 4 pixels, found more than twice"):
        read(tmp_path, "pixels\n1 2 3 4\n" + 9 * "1 " + "\n")
