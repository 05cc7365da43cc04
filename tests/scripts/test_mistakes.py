"""Mistakes that arguments and the heads of files show: refused before Keras is imported."""

import json
import os
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image
from support import ROOT

from ferlab.files import RUNS_DIR

pytestmark = pytest.mark.slow
LEFT = ".ferlab-0123abcd-89ab4567.csv"  # by a killed writer
CASES = [  # script, arguments, facts of the message
    ("test.py", "m.h5 r.csv t.csv", "t.csv DATA RESULT MODEL"),
    ("test.py", "m.keras r.csv t.csv", "t.csv DATA RESULT MODEL"),
    ("test.py", "m.h5 r.csv m.h5", "m.h5 DATA RESULT MODEL"),
    ("test.py", "t.csv r.csv t.csv", "t.csv checkpoint text"),
    ("test.py", "t.csv r.csv list.txt", "list.txt test_by_vote.py"),
    ("test.py", "t.csv r.csv photo.png", "photo.png PNG"),
    ("test.py", "photo.png r.csv m.h5", "photo.png PNG"),
    ("test.py", "gone.csv r.csv m.h5", "gone.csv"),
    ("test.py", "t.csv r.csv gone.h5", "gone.h5"),
    ("test.py", "t.csv r.csv faces", "faces folder"),
    ("test.py", "t.csv r.csv m.h5 --truth m.h5", "--truth m.h5 HDF5"),
    ("test.py", "t.csv r.csv m.h5 --truth gone.csv", "--truth gone.csv"),
    ("test.py", "t.csv r.csv m.h5 --architecture m.h5", "--architecture HDF5"),
    ("test.py", "pipe r.csv m.h5", "pipe is a"),
    ("test.py", "list.txt r.csv m.h5", "list.txt header"),
    ("test.py", "truth.csv r.csv m.h5", "truth.csv submission"),
    ("test.py", "empty.csv r.csv m.h5", "empty.csv empty"),
    ("test.py", "not.npz r.csv m.h5", "not.npz text .npz"),
    ("retrain.py", "truth.csv m.h5 1 2", "truth.csv submission"),
    ("-m ferlab", "compare t.csv m.h5", "t.csv checkpoint"),
    ("-m ferlab", "compare m.h5 --data m.h5", "m.h5 model"),
    ("test.py", "t.csv r.csv pipe", "pipe is a"),
    ("test.py", "t.csv pipe m.h5", "pipe regular"),
    ("test.py", "t.csv r.csv m.h5 --truth pipe", "--truth pipe is a"),
    ("test.py", "t.csv r.csv m.h5 --architecture pipe", "--architecture pipe is a"),
    ("test.py", "/dev/zero r.csv m.h5", "/dev/zero device"),
    ("test_by_vote.py", "t.csv r.csv pipe", "MODEL_LIST pipe is a"),
    ("train.py", "pictures", "1.png pipe"),
    ("test.py", "t.csv r.csv m.h5 --class-names happy", "class names two"),
    ("test.py", "t.csv r.csv m.h5 --tta filp", "--tta filp none, flip mean flip?"),
    ("test.py", "t.csv r.csv m.h5 --enginee keras", "--enginee mean --engine?"),
    ("test.py", "t.csv r.csv pretrained:gone", "pretrained:gone"),
    ("test_by_vote.py", "t.csv r.csv m.h5", "MODEL_LIST m.h5 weight"),
    ("test_by_vote.py", "m.h5 r.csv list.txt", "m.h5 DATA RESULT MODEL_LIST"),
    ("train.py", "m.h5", "m.h5 model"),
    ("train.py", "gone", "gone"),
    ("train.py", "t.csv --recipe bset", "bset mean best?"),
    ("train.py", "t.csv --recipe cnn", "cnn mean cnn-report?"),
    ("train.py", "t.csv --optimizer adma", "adma mean adam?"),
    ("train.py", "t.csv --epocs 3", "--epocs mean --epochs?"),
    ("train.py", "t.csv --lerning-rate=3", "mean --learning-rate?"),
    ("train.py", "t.csv --teacher t.csv", "t.csv checkpoint"),
    ("train.py", "t.csv --validation 0.5 --out-dir t.csv/x", "t.csv/x"),
    ("retrain.py", "m.h5 t.csv 1 2", "t.csv DATA MODEL"),
    ("retrain.py", "t.csv m.h5 5 2", "epoch 5 2"),
    ("retrain.py", "t.csv two.h5 1 4", "two.h5 2 epochs 1"),
    ("semi_train.py", "t.csv t.csv t.csv", "t.csv checkpoint"),
    ("semi_train.py", "t.csv m.h5 m.h5", "m.h5 model"),
    ("semi_retrain.py", "t.csv t.csv m.h5 t.csv 1 2", "t.csv checkpoint"),
    ("plot_model.py", "m.h5 t.csv", "t.csv DATA MODEL"),
    ("plot_model.py", "t.csv m.h5 --what strct", "strct mean struct?"),
    ("gradient_ascent.py", "t.csv", "t.csv checkpoint"),
    ("csv_to_npz.py", "m.h5", "m.h5 model"),
    ("-m ferlab", "inspect t.csv", "t.csv checkpoint"),
    ("-m ferlab", "inspect list.txt", "list.txt"),
    ("-m ferlab", "report t.csv m.h5", "t.csv MODEL DATA"),
    ("-m ferlab", "calibrate m.h5 t.csv", "t.csv VALIDATION MODEL"),
    ("-m ferlab", "check t.csv m.h5", "m.h5 model"),
    ("-m ferlab", "check t.csv --model t.csv", "t.csv checkpoint"),
    ("-m ferlab", "vote-fit m.h5 t.csv", "t.csv VALIDATION MODEL"),
    ("-m ferlab", "inpsect m.h5", "inpsect mean inspect?"),
    ("-m ferlab", "inspect m.h5 --rwos 9", "--rwos mean --rows?"),
]
CALL = """
import contextlib, io, json, runpy, sys
known = set()
for script, *arguments in json.load(sys.stdin):
    error = io.StringIO()
    sys.argv = [script, *arguments]
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            if script == "ferlab":
                runpy.run_module("ferlab", run_name="__main__")
            else:
                runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
    heavy = {"keras", "tensorflow"} & set(sys.modules) - known
    known |= heavy
    print(json.dumps([code, error.getvalue(), sorted(heavy)]))
"""


def write_files(folder):
    (folder / "t.csv").write_text("label,feature\n" + "0,1 2 3 4\n1,4 3 2 1\n" * 4)
    with h5py.File(folder / "m.h5", "w") as file:
        file["weights"] = np.zeros(3)
    with h5py.File(folder / "two.h5", "w") as file:
        history = {"loss": [2, 1], "val_loss": [2, 1], "val_accuracy": [0.1, 0.2]}
        file.attrs["ferlab"] = json.dumps({"history": history})
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    (folder / "list.txt").write_text("1 m.h5\n")
    Image.new("L", (8, 8)).save(folder / "photo.png")
    (folder / "faces").mkdir()
    (folder / "truth.csv").write_text("id,label\n1,2\n")
    (folder / "empty.csv").touch()
    (folder / "not.npz").write_text("no archive")
    os.mkfifo(folder / "pipe")
    for name in ("happy", "sad"):
        (folder / "pictures" / name).mkdir(parents=True)
        os.mkfifo(folder / "pictures" / name / "1.png")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """(exit code, what is on stderr, heavy modules) of every case, and the folder they ran in."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_files(folder)
    (folder / LEFT).touch()
    before = {path for path in folder.rglob("*") if path.name != LEFT}
    calls = [
        ["ferlab" if script == "-m ferlab" else str(ROOT / script), *arguments.split()]
        for script, arguments, _ in CASES
    ]
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        input=json.dumps(calls),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert set(folder.rglob("*")) == before  # nothing is written, and what was left is removed
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_scripts_refuse_mistakes_before_keras_is_imported(answers, case):
    code, error, heavy = answers[case]
    assert code == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(fact in error for fact in case[2].split(" "))
    assert heavy == []


def test_scripts_remove_what_a_killed_writer_left_where_they_work(tmp_path):
    write_files(tmp_path)
    (tmp_path / "models").mkdir()
    run = tmp_path / RUNS_DIR / "a"
    (run / "epochs").mkdir(parents=True)
    left = [folder / LEFT for folder in (tmp_path, tmp_path / "models", run, run / "epochs")]
    for path in left:
        path.touch()
    calls = [[str(ROOT / "train.py"), "gone.csv", "--out-dir", "models"]]
    subprocess.run(
        [sys.executable, "-c", CALL],
        input=json.dumps(calls),
        cwd=tmp_path,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert not [path for path in left if path.exists()]
