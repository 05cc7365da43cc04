"""What only asks a model or reads data is quick to import."""

import subprocess
import sys

import pytest
from support import ROOT


@pytest.mark.parametrize("module", ["ferlab.data", "ferlab.inference", "ferlab.inference.voting"])
def test_importing_imports_no_keras(module):
    program = f"import sys, {module}; print({{'keras', 'tensorflow'}} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed == "set()\n"
