"""The examples in docstrings run as they stand."""

import doctest
import importlib

import pytest
from house import name_of
from support import ROOT

MODULES = sorted(
    name_of(path)
    for folder in ("ferlab", "models")
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_module(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted
    assert failed == 0
