"""Fixtures that several tests use."""

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
