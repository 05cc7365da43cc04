import gzip
import zipfile

import pytest
from support import faces

from ferlab import data
from ferlab.audit import cleaning
from ferlab.audit.rows import read_rows
from ferlab.errors import InputError


def test_write_leaves_nothing_after_a_failure(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError

    dataset = faces(12, seed=61)
    data.write_csv(tmp_path / "train.csv", dataset.images, labels=dataset.labels)
    rows = read_rows([str(tmp_path / "train.csv")])
    monkeypatch.setattr(cleaning, "_write_removed", fail)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError):
        cleaning.write(tmp_path / "deep" / "clean", rows, [], [str(tmp_path / "train.csv")])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["train.csv.gz", "train.csv.zip"])
def test_write_copies_a_packed_table_as_text(tmp_path, name):
    dataset = faces(12, seed=62)
    data.write_csv(tmp_path / "train.csv", dataset.images, labels=dataset.labels)
    text = (tmp_path / "train.csv").read_bytes()
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(text))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("train.csv", text)
    rows = read_rows([str(tmp_path / name)])
    removed = [cleaning.Removal(3, "blank")]
    cleaning.write(tmp_path / "clean", rows, removed, [str(tmp_path / name)])
    lines = text.splitlines(keepends=True)
    assert (tmp_path / "clean" / "train.csv").read_bytes() == b"".join(lines[:4] + lines[5:])
    with pytest.raises(InputError, match="unique name"):
        cleaning.require_room(
            tmp_path / "other", [str(tmp_path / name), str(tmp_path / "train.csv")]
        )
