"""What several tests use."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from ferlab.data import Dataset
from ferlab.drawn_faces import drawn_faces
from ferlab.labels import EMOTIONS

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def faces(count: int, seed: int = 0) -> Dataset:
    """Drawn faces with labels, so that no test needs a download."""
    images, labels = drawn_faces(count, seed)
    return Dataset(
        images=images,
        labels=labels,
        ids=np.arange(count).astype(str),
        class_names=EMOTIONS,
        source="faces.csv",
    )


def run(script, *arguments, cwd, code=0, **environment):
    """Run a script, `-m ferlab` or a root script, and return what it printed."""
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
    return done.stdout if code == 0 else done.stderr


def fails(script, *arguments, cwd):
    """Run a script on bad input: exit 2, one line, and no file that was not there."""
    before = sorted(cwd.rglob("*"))
    error = run(script, *arguments, cwd=cwd, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(cwd.rglob("*")) == before
    return error
