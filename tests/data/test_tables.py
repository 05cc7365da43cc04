"""Tables in archives, columns by their names, and tables without a header."""

import bz2
import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest

from ferlab import data
from ferlab.data import tables
from ferlab.errors import InputError

TABLE = "id,emotion,pixels\na,3,0 7 42 255\nb,0,99 100 10 1\n"


def zipped(content, *names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


PACKED = {
    "train.csv.gz": gzip.compress(TABLE.encode()),
    "train.csv.zip": zipped(TABLE, "train.csv"),
    "train.zip": zipped(TABLE, "train.csv", "README.md"),
    "train.csv": gzip.compress(TABLE.encode()),  # by content, whatever the name
    "fer.csv": zipped(TABLE, "fer/train.csv"),
    "mac.zip": zipped(TABLE, "train.csv", "__MACOSX/._train.csv", "x/.b.csv"),
    "utf16.csv.gz": gzip.compress(TABLE.encode("utf-16")),
    "two members.csv.gz": gzip.compress(TABLE[:30].encode()) + gzip.compress(TABLE[30:].encode()),
    "text.csv.gz": TABLE.encode(),  # not packed at all
    "tabs.zip": zipped(TABLE.replace(",", "\t"), "train.tsv"),
}


@pytest.mark.parametrize("name", PACKED)
def test_read_unpacks_a_table(tmp_path, name):
    (tmp_path / name).write_bytes(PACKED[name])
    dataset = data.read(tmp_path / name, role="train")
    assert dataset.labels.tolist() == [3, 0]
    assert dataset.ids.tolist() == ["a", "b"]
    assert dataset.images.ravel().tolist() == [0, 7, 42, 255, 99, 100, 10, 1]


@pytest.mark.parametrize("name", ["train.csv.gz", "train.csv.zip", "train.zip"])
def test_write_csv_without_copies_a_packed_table_as_text(tmp_path, name):
    (tmp_path / name).write_bytes(PACKED[name])
    data.write_csv_without(tmp_path / "copy.csv", tmp_path / name, {0})
    assert (tmp_path / "copy.csv").read_text() == "id,emotion,pixels\nb,0,99 100 10 1\n"
    assert tables.unpacked_name(name) == "train.csv"


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("fer2013.csv")
        member.size = len(TABLE)
        archive.addfile(member, io.BytesIO(TABLE.encode()))
    return file.getvalue()


def locked():
    content = bytearray(zipped(TABLE, "train.csv"))
    content[6] |= 1  # says that it is encrypted
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


REFUSED = {
    "two tables": (zipped(TABLE, "train.csv", "test.csv"), "2 tables.*train.csv"),
    "no table": (zipped("image", "happy/1.png"), "without a CSV file.*happy/1.png"),
    "empty archive": (zipped(""), "without a CSV file"),
    "tar": (tar(), "tar archive"),
    "packed twice": (gzip.compress(gzip.compress(TABLE.encode())), "gzip archive of a gzip"),
    "empty": (gzip.compress(b""), "an empty file"),
    "truncated gzip": (gzip.compress(TABLE.encode() * 99)[:-9], "cannot be unpacked"),
    "truncated zip": (zipped(TABLE, "train.csv")[:-9], "cannot be unpacked"),
    "damaged gzip": (gzip.compress(TABLE.encode())[:20] + bytes(40), "cannot be unpacked"),
    "encrypted": (locked(), "cannot be unpacked.*(encrypted|password)"),
    "bzip2": (bz2.compress(TABLE.encode()), "bzip2 archive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_read_refuses_archives_that_do_not_hold_one_table(tmp_path, case):
    content, message = REFUSED[case]
    (tmp_path / "train.csv.zip").write_bytes(content)
    with pytest.raises(InputError, match=rf"train\.csv\.zip: .*({message})"):
        data.read(tmp_path / "train.csv.zip", role="train")


@pytest.mark.parametrize("pack", [gzip.compress, lambda text: zipped(text, "train.csv")])
def test_read_bounds_what_it_unpacks(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(tables, "_ALWAYS_UNPACKED", 1 << 16)
    (tmp_path / "bomb.csv.gz").write_bytes(pack(b"pixels\n" + b"0 0 0 0\n" * 200_000))
    with pytest.raises(InputError, match="unpacks to more than"):
        data.read(tmp_path / "bomb.csv.gz", role="train")
    noise = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)
    data.write_csv(tmp_path / "noise.csv", noise)
    (tmp_path / "noise.csv.gz").write_bytes(pack((tmp_path / "noise.csv").read_bytes()))
    assert len(data.read(tmp_path / "noise.csv.gz", role="train")) == 400


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ImageId",
            "image_id",
            "IMAGE ID",
            "img_id",
            "imageid",
            "row_id",
            "Id",
            "idx",
            "id_image",
        ),
        *("filename", "file_name", "File Name", "image", "img", "image_name", "Image name"),
        *("path", "image_path", "filepath", "file", "img_file", "uid", "picture", "photo_name"),
    ],
)
def test_ids_are_read_from_a_column_of_any_usual_name(tmp_path, name):
    (tmp_path / "test.csv").write_text(f"{name},pixels\n1001,1 2 3 4\n caf\xe9 .png,5 6 7 8\n")
    dataset = data.read(tmp_path / "test.csv", role="test")
    assert dataset.ids.tolist() == ["1001", "caf\xe9 .png"]


def test_a_column_named_id_comes_before_others(tmp_path):
    (tmp_path / "a.csv").write_text("image,filename,id,pixels\nx,y,7,1 2 3 4\n")
    assert data.read(tmp_path / "a.csv", role="test").ids.tolist() == ["7"]
    (tmp_path / "b.csv").write_text("path,filename,pixels\nx,y,1 2 3 4\n")
    assert data.read(tmp_path / "b.csv", role="test").ids.tolist() == ["y"]


@pytest.mark.parametrize("name", ["index", "name", "", "Unnamed: 0", "note", "person", "valid"])
def test_other_columns_are_no_ids(tmp_path, name):
    (tmp_path / "test.csv").write_text(f"{name},pixels\n1001,1 2 3 4\n1002,5 6 7 8\n")
    assert data.read(tmp_path / "test.csv", role="test").ids.tolist() == ["0", "1"]


HEADLESS = {
    "label and pixels": "3,0 7 42 255\n0,99 100 10 1\n",
    "name and pixels": "happy,0 7 42 255\nsad,99 100 10 1\n",
    "pixels": "0 7 42 255\n99 100 10 1\n",
    "pixel columns": "3,0,7,42,255\n0,99,100,10,1\n",
    "decimals": "3,0.0,7.0,42.0,255.0\n",
    "exponents": "3.0e+00,0.0e+00,7.0e+00,4.2e+01\n",
    "file and votes": 'fer0.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0\n',
    "file and label": "faces/1.jpg,3\nfaces/2.jpg,1\n",
    "with usage": "3,0 7 42 255,Training\n",
    "semicolons": "3;0 7 42 255\n",
    "list": '3,"[0, 7, 42, 255]"\n',
}


@pytest.mark.parametrize("case", HEADLESS)
def test_a_table_without_a_header_is_told_so(tmp_path, case):
    (tmp_path / "rows.csv").write_text(HEADLESS[case])
    with pytest.raises(InputError, match=r"rows\.csv:1: has no header"):
        data.read(tmp_path / "rows.csv", role="train")


@pytest.mark.parametrize("name", ["set", "Partition", "subset", "data_split", "phase", "Usage"])
@pytest.mark.parametrize("first", ["train", "Training", "test"])
def test_usages_are_read_from_a_column_of_any_usual_name(tmp_path, name, first):
    (tmp_path / "a.csv").write_text(
        f"{name},emotion,pixels\n{first},1,1 2 3 4\nprivate_test,2,5 6 7 8\n"
    )
    assert data.read(tmp_path / "a.csv", role="train").usage.tolist() == [first, "private_test"]


@pytest.mark.parametrize(("name", "value"), [("set", "CK+"), ("type", "jpg"), ("partition", "0")])
def test_columns_of_other_values_are_no_usages(tmp_path, name, value):
    (tmp_path / "a.csv").write_text(f"{name},emotion,pixels\n{value},1,1 2 3 4\n")
    dataset = data.read(tmp_path / "a.csv", role="train")
    assert (dataset.usage, dataset.labels.tolist()) == (None, [1])


@pytest.mark.parametrize("name", ["index", "name", "key", "No.", "person", "code"])
def test_columns_that_may_be_ids_are_said_to_be_ignored(tmp_path, name):
    (tmp_path / "test.csv").write_text(f"Unnamed: 0,{name},pixels\n5,1001,1 2 3 4\n")
    notes = []
    dataset = data.read(tmp_path / "test.csv", role="test", report=notes.append)
    assert dataset.ids.tolist() == ["0"]
    (note,) = notes
    assert f"ignored columns: {name}" in note
    data.read(tmp_path / "test.csv", role="train", report=notes.append)
    (tmp_path / "test.csv").write_text(f"id,{name},pixels\n5,1001,1 2 3 4\n")
    data.read(tmp_path / "test.csv", role="test", report=notes.append)
    assert len(notes) == 1
