import pytest
from support import faces

from ferlab import data
from ferlab.audit import cleaning
from ferlab.audit.rows import read_rows


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
