"""The house: a room imports only from lower levels, one module trains, and one predicts."""

import ast
from textwrap import dedent

import pytest
from house import FITTING, PREDICTING, functions, imports, imports_of, keras_calls, name_of
from support import ROOT

LEVELS = [
    "errors",
    "labels files backend recipes",
    "optimizers pretrained data models",
    "checkpoints audit",
    "inference",
    "evaluation",
    "training interpretation plots web",
    "reports cli",
    "commands",
    "__main__",
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}
SCRIPTS = sorted(ROOT.glob("*.py"))
MODULES = sorted([*ROOT.glob("ferlab/**/*.py"), *ROOT.glob("models/*.py")])
COMMANDS = sorted(ROOT.glob("ferlab/commands/*.py"))
STUDIES = sorted(ROOT.glob("studies/*.py"))
MAX_FUNCTION, MAX_SCRIPT, MAX_FRONT = 60, 70, 15  # lines
MAX_PARAMETERS = 8


def room_of(module):
    """The room a module lives in; None for what is not ours."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0] if package == "ferlab" else package
    return name if name in LEVEL_OF else None


def wrong_arrows(module, imported):
    """The imports of a module from another room that is not on a lower level."""
    room = room_of(module)
    targets = ((name, room_of(name)) for name in imported)
    return [
        name
        for name, target in targets
        if target not in (None, room) and LEVEL_OF[target] >= LEVEL_OF[room]
    ]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_down(path):
    name = name_of(path)
    if name == "ferlab":
        assert not [module for module in imports_of(path) if room_of(module)]
    else:
        assert room_of(name), f"{path} is in no room of the table"
        assert not wrong_arrows(name, imports_of(path))


@pytest.mark.parametrize(
    ("module", "statement", "is_wrong"),
    [
        ("ferlab.data.sources", "import ferlab.training.fit", True),
        ("ferlab.data.sources", "from ferlab import training", True),
        ("ferlab.data.sources", "def read():\n    from ferlab.training import fit", True),
        ("ferlab.data.sources", "from ..training import fit", True),
        ("ferlab.data.sources", "import models", True),  # sideways
        ("ferlab.plots.scores", "from ferlab.interpretation import network", True),  # sideways
        ("ferlab.data.sources", "from . import csv_files", False),
        ("ferlab.data.sources", "from ferlab.errors import InputError", False),
        ("ferlab.data.sources", "import numpy.training", False),
        ("ferlab.training.fit", "from ferlab import data, inference", False),
    ],
)
def test_arrows_are_told_apart(module, statement, is_wrong):
    imported = list(imports(statement, module.rpartition(".")[0]))
    assert bool(wrong_arrows(module, imported)) is is_wrong


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS, *STUDIES], ids=name_of)
def test_scripts_benchmarks_and_studies_are_not_imported(path):
    outside = {*(script.stem for script in SCRIPTS), "bench", "studies"}
    assert not outside & {module.partition(".")[0] for module in imports_of(path)}


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_commands_import_no_other(path):
    assert not [module for module in imports_of(path) if module.startswith("ferlab.commands")]


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS, *STUDIES], ids=name_of)
def test_keras_is_fitted_and_asked_in_one_place_each(path):
    source, name = path.read_text(), name_of(path)
    if name != "ferlab.training.fit":
        assert not keras_calls(source, FITTING, name.rpartition(".")[0])
    if name != "ferlab.inference.predict":
        assert not keras_calls(source, PREDICTING, name.rpartition(".")[0])


KERAS_SNIPPETS = [
    "def run(model):\n    model.fit(images)",
    "def run(model: keras.Model):\n    return model.predict(images)",
    "def run(checkpoint):\n    checkpoint.model.compile('adam')",
    "import keras\nkeras.Sequential([]).fit(images)",
    "import keras\nmodel = keras.Sequential([])\nmodel.fit(images)",
    "from keras import Model\nModel.fit(model, images)",
    "from models import build_model\nbuild_model('cnn', (48, 48, 1), 7).fit(images)",
    "import copy\ncopy.copy(network).fit(images)",
    "from typing import Any\ndef run(model: Any):\n    model.fit(images)",
    "from ferlab import checkpoints\ncheckpoints.load(path).model.predict(images)",
    "model = opened = load(path)\nopened.predict_on_batch(images)",
    "def run(model):\n    step = model.train_on_batch\n    step(images)",
    "for model in members:\n    model.predict(images)",
    "from sklearn.svm import SVC\nmodel = SVC()\ndef run(model):\n    model.fit(images)",
    "from sklearn.svm import SVC\nmodel = SVC() if small else network\nmodel.fit(images)",
    "from ferlab.training.fit import network\nnetwork.fit(images)",
]
OTHER_SNIPPETS = [
    "import re\nWORD = re.compile('[a-z]+')",
    "import torch\nfast = torch.compile(network)",
    "from ferlab import training\ntraining.fit(model, dataset)",
    "from ferlab.training import fit\nfit(model, dataset)",
    "from ferlab import inference\nprobabilities = inference.predict(checkpoint, dataset)",
    "from sklearn.svm import SVC\nlabels = SVC().fit(x, y).predict(x)",
    "import sklearn.svm\ndef run(x):\n    head = sklearn.svm.SVC()\n    head.fit(x)",
    "from sklearn.svm import SVC\ndef run(head: SVC):\n    return head.predict(x)",
    "from sklearn.svm import SVC\ndef run(head: 'SVC'):\n    return head.predict(x)",
    """
    from sklearn.decomposition import PCA
    class Projection:
        def __init__(self):
            self.pca = PCA(2)
        def fit(self, x):
            self.pca.fit(x)
    """,
]


@pytest.mark.parametrize("snippet", KERAS_SNIPPETS)
def test_keras_calls_are_found(snippet):
    assert keras_calls(snippet, FITTING | PREDICTING)


@pytest.mark.parametrize("snippet", OTHER_SNIPPETS)
def test_keras_calls_of_other_libraries_are_not_found(snippet):
    assert not keras_calls(dedent(snippet), FITTING | PREDICTING)


def test_functions_are_measured():
    source = "@decorated\ndef short():\n    pass\n\n\nasync def longer():\n    a()\n    b()\n"
    assert list(functions(source)) == [("short", 2), ("longer", 3)]


def test_tensorflow_is_known_to_few():
    importers = {
        name_of(path)
        for path in [*MODULES, *SCRIPTS]
        if any(module.partition(".")[0] == "tensorflow" for module in imports_of(path))
    }
    assert importers <= {
        "ferlab.training.acceleration",
        "ferlab.data.batches",
        "ferlab.interpretation.autodiff",
    }


def test_root_holds_the_reports_scripts_alone():
    report = "csv_to_npz train retrain test dnn_train dnn_test semi_train semi_retrain plot_model "
    report += "gradient_ascent test_by_vote"
    assert {path.stem for path in SCRIPTS} <= set(report.split())


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS, *STUDIES], ids=name_of)
def test_modules_have_docstrings(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS, *STUDIES], ids=name_of)
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]
        parameters = [name for name in names if name not in ("self", "cls")]
        assert len(parameters) <= MAX_PARAMETERS, node.name
        assert node.end_lineno - node.lineno < MAX_FUNCTION, node.name


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_are_short(path):
    limit = MAX_FRONT if path.name.startswith("dnn_") else MAX_SCRIPT
    assert len(path.read_text().splitlines()) <= limit
