"""The benchmarks' own arithmetic, and what they say to bad input."""

import argparse
import csv
import importlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT

from ferlab.errors import InputError

BENCHMARKS = sorted(ROOT.glob("bench/*.py"))
STUDIES = sorted(ROOT.glob("studies/*.py"))


@pytest.fixture
def bench(monkeypatch):
    """Imports a file of `bench/` or `studies/` as a module."""
    for folder in ("studies", "bench"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return importlib.import_module


def test_record_writes_the_ratio_of_medians_and_the_spread_of_rounds(
    bench, tmp_path, monkeypatch, capsys
):
    measure = bench("measure")
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results.csv")
    seconds = {"ours": [1.0, 2.0, 3.0], "peer": [4.0, 6.0, 3.0]}
    for _ in range(2):
        measure.record("a bench", seconds, "ours", "peer")
    with (tmp_path / "results.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first == second
    assert [first[name] for name in ("ratio", "low", "high", "n")] == [
        "2.000",
        "1.000",
        "4.000",
        "3",
    ]
    printed = capsys.readouterr().out
    assert all(number in printed for number in ("2.00", "1.00", "4.00", "n=3"))


def test_in_turn_alternates_between_contenders(bench):
    calls = []
    contenders = {name: lambda name=name: calls.append(name) or 1.0 for name in "ab"}
    assert bench("measure").in_turn(contenders, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert calls == ["a", "b", "a", "b"]


def test_printed_by_reports_the_last_line_of_a_failing_program(bench, tmp_path):
    program = tmp_path / "peer.py"
    program.write_text(
        "import sys\nprint('epoch 1')\nsys.exit('error: no data' if sys.argv[1:] else 0)"
    )
    printed_by = bench("measure").printed_by
    assert printed_by(program) == "epoch 1\n"
    with pytest.raises(InputError, match=r"peer\.py.*\b1: no data"):
        printed_by(program, 5)


def test_time_to_accuracy_records_nothing_below_the_goal(bench, monkeypatch, tmp_path):
    timing, recorded = bench("time_to_accuracy"), []
    monkeypatch.setattr(timing, "peer_epochs", lambda *_: [(30.0, 0.6), (60.0, 0.5)])
    monkeypatch.setattr(timing, "record", lambda *arguments: recorded.append(arguments))
    monkeypatch.setattr(sys, "argv", ["time_to_accuracy.py", str(tmp_path), "--full"])
    monkeypatch.setattr(timing, "ours_until", lambda *_: (10.0, 0.64))
    with pytest.raises(SystemExit, match=r"0\.6500"):
        timing.main()
    assert recorded == []
    monkeypatch.setattr(timing, "ours_until", lambda *_: (10.0, 0.66))
    timing.main()
    ((_, seconds, *_),) = recorded
    assert [*seconds.values()] == [[10.0], [30.0]]


def test_ablations_table_compares_the_same_images_and_seeds(bench, tmp_path, capsys):
    """Of 10 images the base has 4 correct and the row 2 more, others with each seed."""
    ablations = bench("ablations")
    labels = np.zeros(10, np.int64)
    rows = []
    for name, correct in (("base", 4), ("sgd", 6)):
        for seed in (0, 1):
            probabilities = np.eye(7)[np.where((np.arange(10) + 5 * seed) % 10 < correct, 0, 1)]
            parts = {"validation": probabilities, "public": probabilities}
            truths = {"validation_labels": labels, "public_labels": labels}
            np.savez(ablations.probabilities_path(tmp_path, name, seed), **parts, **truths)
            rows.append((name, seed, 4, 100 + seed, 12.0, "a CPU"))
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ablations.COLUMNS, *rows])
    ablations.print_table(argparse.Namespace(out_dir=tmp_path))
    printed = capsys.readouterr().out
    assert "--seeds 0,1 --epochs 4 \\\n        --rows base,sgd\n" in printed
    base, sgd = printed.splitlines()[-2:]
    assert base.startswith("| `base` |")
    cells = [cell.strip() for cell in sgd.split("|")]
    assert cells[3:6] == ["0 1", "60.00 60.00", "60.00 60.00"]
    # Of 10 public images two are gained by each seed, other ones; of each fold's 10, two.
    spread = 4 * (1 - 2 * 0.2) ** 2 + 6 * (2 * 0.2) ** 2 + 4 * 0.8**2 + 16 * 0.2**2
    half = 100 * 1.959964 * np.sqrt(spread) / 40
    assert cells[6] == f"+20.00 ({20 - half:+.2f} to {20 + half:+.2f})"
    assert cells[7:10] == ["30", "12", "100"]


@pytest.mark.parametrize(
    "path",
    [path for path in (*BENCHMARKS, *STUDIES) if path.name != "measure.py"],
    ids=lambda path: path.name,
)
def test_help_of_every_benchmark_and_study(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(path.parent))
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert not end.value.code
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("bench/reading.py",), "CSV"),
        (("bench/reading.py", "gone.csv"), "gone.csv"),
        (("bench/throughput.py", "0"), "from 1"),
        (("bench/pipeline.py", "3"), ": 3"),
        (("bench/inference.py", ".", "gone.h5"), "gone.h5"),
        (("studies/ablations.py", "table", "."), "results.csv"),
    ],
)
def test_bad_input_is_one_line(arguments, fact, tmp_path):
    script, *others = arguments
    command = [sys.executable, ROOT / script, *others]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert fact in done.stderr
    assert not list(tmp_path.iterdir())
