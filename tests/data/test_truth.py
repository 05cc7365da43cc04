"""A truth file is read as any table is, and matched by ids that are unique."""

import dataclasses
import gzip

import numpy as np
import pytest
from support import faces

from ferlab import data
from ferlab.errors import InputError
from ferlab.evaluation import held_out


def with_ids(*ids):
    rows = faces(len(ids))
    unlabelled = np.full(len(ids), -1)
    return dataclasses.replace(rows, ids=np.array(ids), labels=unlabelled)


def test_read_truth_matches_labels_by_id(tmp_path):
    (tmp_path / "truth.csv").write_text("\ufeffid, Label\r\n2,6\r\n0,1\r\n77,3\r\n")
    labels = data.read_truth(tmp_path / "truth.csv", faces(4))
    assert labels.tolist() == [1, -1, 6, -1]


PLAIN = "id,label\n2,6\n0,1\n"
SPELLINGS = {
    "names": "id,label\n2,neutral\n0,disgust\n",
    "capitals and synonyms": "id,label\n2,NEUTRAL\n0,Disgusted\n",
    "decimals": "id,label\n2,6.0\n0,1.0\n",
    "decimal ids": "id,label\n2.0,6\n0.0,1\n",
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "UTF-16": PLAIN.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + PLAIN.encode(),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "emotion": PLAIN.replace("label", "emotion"),
    "Id and Target": PLAIN.replace("id,label", "Id,Target"),
    "ImageId": PLAIN.replace("id", "ImageId"),
    "two columns of which one is known": PLAIN.replace("label", "expression"),
    "quotes": 'id,"label"\n"2","6"\n"0","1"\n',
    "spaces": "id , label\n 2 , 6\n0 ,1 \n",
    "files": "id,label\n2.png,6\n0.PNG,1\n",
    "file names": "filename,label\n2.jpg,6\n0.jpeg,1\n",
    "files in a folder": "image,label\ntest/2.png,6\n./test/0.png,1\n",
    "Windows": "image,label\ntest\\2.png,6\ntest\\0.png,1\n",
    "more columns": "id,pixels,label,Usage\n2,1 2,6,Public\n0,3 4,1,Private\n",
    "blank lines": "\nid,label\n\n2,6\n\n0,1\n,\n",
    "gzip": gzip.compress(PLAIN.encode()),
}


@pytest.mark.parametrize("name", ["truth.csv", "truth.csv.gz", "truth.txt"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_read_truth_reads_every_table(tmp_path, spelling, name):
    text = SPELLINGS[spelling]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert data.read_truth(tmp_path / name, faces(4)).tolist() == [1, -1, 6, -1]


@pytest.mark.parametrize("ids", [("0", "2"), ("test/0", "test/2"), ("0.png", "2.png")])
@pytest.mark.parametrize("names", [("0", "2"), ("0.png", "2.png"), ("a/0.png", "a/2.png")])
def test_read_truth_matches_files_with_and_without_folder_and_suffix(tmp_path, ids, names):
    (tmp_path / "truth.csv").write_text(f"id,label\n{names[1]},6\n{names[0]},1\n")
    assert data.read_truth(tmp_path / "truth.csv", with_ids(*ids)).tolist() == [1, 6]


def test_read_truth_keeps_suffixes_that_tell_files_apart(tmp_path):
    (tmp_path / "truth.csv").write_text("id,label\n1.png,6\n1.jpg,1\n")
    assert data.read_truth(tmp_path / "truth.csv", with_ids("1.jpg", "1.png")).tolist() == [1, 6]
    with pytest.raises(InputError, match="the id '1' twice"):
        data.read_truth(tmp_path / "truth.csv", with_ids("1", "2"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty file"),
        ("id,feature\n0,1 2\n", "columns id and label"),
        ("0,3\n1,2\n", "has no header"),
        ("id,label\n", "no rows"),
        ("id,label\n0,7\n", ":2: label is '7', expected 0 to 6"),
        ("id,label\n0,1\n1,\n", ":3: label"),
        ("id,label\n0,1\n1,smug\n", ":3: label is 'smug'"),
        ("id,label\n0,1\n1,2.5\n", ":3: label is '2.5'"),
        ("id,label\n0,1\n0,2\n", "the id '0' twice"),
        ("id,label\n0,1\n0,1\n", "the id '0' twice"),
        ("id,label\n0,3\n0 ,1\n", "the id '0' twice"),
        ("id,label\n0,3\n0.0,1\n", "the id '0' twice"),
        ("id,label\n0,3\n0.png,1\n", "the id '0' twice"),
        ("id,label\n0,1,3\n", ":2: expected 2 columns, found 3"),
        ("id,label\n0\n", ":2: expected 2 columns, found 1"),
        ("id,label,Label\n0,3,3\n", "one label column"),
        ("id,ID,label\n0,3,3\n", "one id column"),
        ("id,label\n900,1\n", "none of the data's ids, such as '0'"),
        ('id,label\n"0,1\n', "cannot be split"),
        ("<html>", "HTML"),
    ],
)
def test_read_truth_refuses_bad_files(tmp_path, text, rule):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(InputError, match=rule):
        data.read_truth(tmp_path / "truth.csv", faces(4))


@pytest.mark.parametrize("ids", [("0", "0", "1"), ("0", "0.0", "1"), ("a/0", "b/0", "1")])
def test_read_truth_refuses_data_whose_ids_repeat(tmp_path, ids):
    (tmp_path / "truth.csv").write_text("id,label\n0,3\n")
    with pytest.raises(InputError, match=r"faces\.csv: contains the id '0' twice"):
        data.read_truth(tmp_path / "truth.csv", with_ids(*ids))


def test_with_truth_gives_rows_the_usage_of_the_table(tmp_path):
    (tmp_path / "solution.csv").write_text("id,label,Usage\n0,1,Private\n1,2,Public\n3,4,Public\n")
    rows = data.with_truth(with_ids("0", "1", "2", "3"), tmp_path / "solution.csv")
    assert rows.usage.tolist() == ["Private", "Public", "", "Public"]
    assert held_out.tuning_rows(rows, [], report=print).ids.tolist() == ["1", "3"]
    with pytest.raises(InputError, match="final score"):
        held_out.tuning_rows(rows, [], usage="private", report=print)
    known = dataclasses.replace(rows, usage=np.array(["Training"] * 4))
    assert data.with_truth(known, tmp_path / "solution.csv").usage.tolist() == ["Training"] * 4


def test_with_truth_keeps_given_labels_and_fills_in_the_missing_ones(tmp_path):
    rows = dataclasses.replace(with_ids("a", "b", "c", "d"), labels=np.array([3, -1, -1, 0]))
    (tmp_path / "truth.csv").write_text("id,label\na,happy\nb,6\n")
    labelled = data.with_truth(rows, tmp_path / "truth.csv")
    assert labelled.labels.tolist() == [3, 6, -1, 0]
    (tmp_path / "truth.csv").write_text("id,label\nb,6\na,happy\nd,sad\n")
    with pytest.raises(InputError, match=r"truth\.csv: .* 1 of 2 differ.* id d: sad.* angry in"):
        data.with_truth(rows, tmp_path / "truth.csv")
