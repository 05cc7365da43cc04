"""What several tests use."""

import contextlib
import functools
import io
import os
import random
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ferlab.data import Dataset
from ferlab.data.drawn_faces import drawn_faces
from ferlab.labels import EMOTIONS

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
SHOWN = (UserWarning, RuntimeWarning, FutureWarning)


def faces(count: int, seed: int = 0, size: int = 48) -> Dataset:
    """Drawn faces with labels, so that no test needs a download."""
    images, labels = drawn_faces(count, seed, size)
    return Dataset(
        images=images,
        labels=labels,
        ids=np.arange(count).astype(str),
        class_names=EMOTIONS,
        source="faces.csv",
    )


def small_networks(patch: pytest.MonkeyPatch) -> None:
    """Give the registered architectures few layers, filters and units, to train in a moment."""
    import models  # loads Keras
    from models.resnet import resnet

    for name, settings in {
        "cnn": {"BLOCK_FILTERS": (4, 8), "CONVOLUTIONS_PER_BLOCK": 1, "DENSE_UNITS": (16,)},
        "dnn": {"DENSE_UNITS": (32, 16)},
    }.items():
        for setting, value in settings.items():
            patch.setattr(sys.modules[f"models.{name}"], setting, value)
    tiny = functools.partial(resnet, stem_filters=16, stage_filters=(16,), stage_blocks=(1,))
    patch.setitem(models.MODELS, "resnet", tiny)


def covering_sample(cases: list[dict], seed: str) -> set[int]:
    """The rows of some cases in which every value of every parameter occurs."""
    order = list(range(len(cases)))
    random.Random(seed).shuffle(order)
    covered, sampled = set(), set()
    for row in order:
        values = {(name, id(value)) for name, value in cases[row].items()}  # some have no hash
        if not values <= covered:
            covered |= values
            sampled.add(row)
    return sampled


def run(script, *arguments, cwd, code=0, **environment):
    """Run a script, `-m ferlab` or a root script; what it printed, of bad input (2) the error."""
    command = script.split() if script.startswith("-m") else [str(ROOT / script)]
    inherited = {**os.environ, "PYTHONPATH": str(ROOT)}
    inherited.pop("TF_CPP_MIN_LOG_LEVEL", None)  # importing JAX sets it
    done = subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**inherited, **environment},
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code == 2 else done.stdout


def call(script, *arguments, cwd, code=0):
    """As `run`, but in this process, which has Keras already."""
    from ferlab.__main__ import main

    argv = ["ferlab" if script == "-m ferlab" else script, *map(str, arguments)]
    out, error = io.StringIO(), io.StringIO()
    ended = 0
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            if script == "-m ferlab":
                main()
            else:
                runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            ended = end.code or 0
    assert ended == code, out.getvalue() + error.getvalue()
    if code != 2:
        return out.getvalue()
    # Those that Python would show, after the one line.
    shown = [str(each.message) for each in warned if issubclass(each.category, SHOWN)]
    return error.getvalue() + "".join(f"{warning}\n" for warning in shown)


def fails(script, *arguments, cwd, by=call):
    """Bad input: exit 2, one line, and no file that was not there. by: `run` for a new process."""
    before = sorted(cwd.rglob("*"))
    error = by(script, *arguments, cwd=cwd, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(cwd.rglob("*")) == before
    return error
