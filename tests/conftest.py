"""Fixtures that several tests use."""

import sys
from pathlib import Path

import pytest
from support import SHARED, faces


@pytest.fixture(scope="session")
def dataset():
    return faces(300)


@pytest.fixture
def wild() -> Path:
    """Real files of other people; they are no part of the repository."""
    folder = SHARED / "data" / "wild"
    if not folder.is_dir():
        pytest.skip("real files of other people are not here")
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Call `python -m ferlab ...` in this process, which has Keras already; give what it prints."""
    from ferlab.__main__ import main

    def call(*arguments, cwd, code=0):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["ferlab", *map(str, arguments)])
        ended = 0
        try:
            main()
        except SystemExit as end:
            ended = end.code or 0
        printed, error = capsys.readouterr()
        assert ended == code, printed + error
        return printed if code == 0 else error

    return call
