"""Fixtures that several tests use."""

import os
from pathlib import Path

import pytest
from support import SHARED, faces

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


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
