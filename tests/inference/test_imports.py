"""Modules that read data or predict are quick to import."""

import subprocess
import sys

import pytest
from support import ROOT


@pytest.mark.parametrize("module", ["ferlab.data", "ferlab.inference", "ferlab.inference.voting"])
def test_import_of_data_and_inference_does_not_import_keras(module):
    program = f"import sys, {module}; print({{'keras', 'tensorflow'}} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed == "set()\n"
