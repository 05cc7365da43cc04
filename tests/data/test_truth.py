import pytest
from support import faces

from ferlab import data
from ferlab.errors import InputError


def test_read_truth_matches_labels_by_id(tmp_path):
    (tmp_path / "truth.csv").write_text("\ufeffid, Label\r\n2,6\r\n0,1\r\n77,3\r\n")
    labels = data.read_truth(tmp_path / "truth.csv", faces(4))
    assert labels.tolist() == [1, -1, 6, -1]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty file"),
        ("id,feature\n0,1 2\n", "columns id and label"),
        ("id,label\n0,7\n", ":2: a label must be 0 to 6"),
        ("id,label\n0,1\n1,\n", ":3: a label"),
        ("id,label\n0,1\n0,2\n", "the id '0' twice"),
        ("id,label\n900,1\n", "none of the data's ids"),
        ('id,label\n"0,1\n', "cannot be read"),
        ("<html>", "HTML"),
    ],
)
def test_read_truth_refuses_bad_files(tmp_path, text, rule):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(InputError, match=rule):
        data.read_truth(tmp_path / "truth.csv", faces(4))
