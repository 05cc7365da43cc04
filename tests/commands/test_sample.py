import csv
from pathlib import Path

import pytest
from PIL import Image
from support import fails

from ferlab.data.drawn_faces import drawn_faces

FILES = ["train.csv", "test.csv", "test_truth.csv", "faces.png"]


def test_sample_writes_four_files(tmp_path, command):
    counts = ("--train", 30, "--test", 20, "--seed", 3)
    printed = command("sample", "new", *counts, cwd=tmp_path)
    assert [Path(line.split(":")[0]).name for line in printed.splitlines()] == FILES
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(FILES)

    tables = {}
    for name in FILES[:3]:
        content = (tmp_path / "new" / name).read_bytes().decode()
        assert "\r" not in content
        tables[name] = list(csv.reader(content.splitlines()))
    images, labels = drawn_faces(30, seed=6)
    test_images, truth = drawn_faces(20, seed=7, label_noise=0)
    assert tables["train.csv"][0] == ["label", "feature"]
    assert [int(label) for label, _ in tables["train.csv"][1:]] == labels.tolist()
    assert [int(x) for x in tables["train.csv"][1][1].split(" ")] == images[0].ravel().tolist()
    assert tables["test.csv"][0] == ["id", "feature"]
    last = [int(x) for x in tables["test.csv"][20][1].split(" ")]
    assert last == test_images[19].ravel().tolist()
    expected = [[str(row), str(label)] for row, label in enumerate(truth)]
    assert tables["test_truth.csv"] == [["id", "label"], *expected]
    with Image.open(tmp_path / "new" / "faces.png") as picture:
        assert picture.width > picture.height > 7 * 48
    assert (tmp_path / "new" / "faces.png").stat().st_size < 200_000


@pytest.mark.parametrize("arguments", [("--train", 0), ("--test", 10**9), ("--seed", -1)])
def test_sample_refuses_numbers_out_of_range(tmp_path, arguments):
    assert arguments[0] in fails("-m ferlab", "sample", "new", *arguments, cwd=tmp_path)


@pytest.mark.parametrize("name", ["file", "folder"])
def test_sample_replaces_nothing(tmp_path, name):
    (tmp_path / "file").write_text("unchanged")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "test.csv").write_text("unchanged")
    counts = ("--train", 5, "--test", 5)
    assert name in fails("-m ferlab", "sample", name, *counts, cwd=tmp_path)
    assert (tmp_path / "file").read_text() == "unchanged"
    assert (tmp_path / "folder" / "test.csv").read_text() == "unchanged"
