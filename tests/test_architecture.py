"""The house: a room imports only from lower levels, and only training.py trains."""

import ast

import pytest
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
OLD = {
    "batches": "data",
    "drawn_faces": "data",
    "data_quality": "audit",
    "near_duplicates": "audit",
    "label_errors": "audit",
    "cleaning": "audit",
    "engines": "inference",
    "test_time_augmentation": "inference",
    "voting": "inference",
    "ensemble_selection": "inference",
    "metrics": "evaluation",
    "calibration": "evaluation",
    "costs": "evaluation",
    "held_out": "evaluation",
    "objectives": "training",
    "augmentation": "training",
    "acceleration": "training",
    "pseudo_labels": "training",
    "semi_supervised": "training",
    "runs": "training",
    "distillation": "training",
    "autodiff": "interpretation",
    "pages": "reports",
    "data_report": "reports",
    "model_cards": "reports",
    "model_facts": "reports",
}
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}
SCRIPTS = sorted(path for path in ROOT.glob("*.py"))
MODULES = sorted([*ROOT.glob("ferlab/**/*.py"), *ROOT.glob("models/*.py")])


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(module):
    """The room a module lives in; None for what is not ours."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0] if package == "ferlab" else package
    name = OLD.get(name, name)
    return name if name in LEVEL_OF else None


def imported(path):
    """Every module of ours that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_down(path):
    room = room_of(name_of(path))
    assert room is not None or name_of(path) == "ferlab", f"{path} is in no room of the table"
    for module in imported(path):
        target = room_of(module)
        if target is None or target == room:
            continue
        assert LEVEL_OF[target] < LEVEL_OF[room], f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_imports_no_other(path):
    scripts = {script.stem for script in SCRIPTS}
    assert not scripts & set(imported(path))


def test_commands_import_no_other():
    for path in ROOT.glob("ferlab/commands/*.py"):
        assert not any(module.startswith("ferlab.commands") for module in imported(path))


def test_only_training_fits_and_only_inference_predicts():
    for path in [*MODULES, *SCRIPTS]:
        calls = {
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func) not in {"re.compile", "training.fit", "inference.predict"}
        }
        if name_of(path) != "ferlab.training.fit":
            assert not calls & {"fit", "compile", "train_on_batch"}, path
        if name_of(path) != "ferlab.inference.predict":
            assert not calls & {"predict", "predict_on_batch"}, path


def test_only_acceleration_and_the_feed_know_tensorflow():
    knowing = {
        name_of(path)
        for path in [*MODULES, *SCRIPTS]
        if any(module.split(".")[0] == "tensorflow" for module in imported(path))
    }
    assert knowing <= {
        "ferlab.training.acceleration",
        "ferlab.data.batches",
        "ferlab.interpretation.autodiff",
    }


def test_the_root_holds_the_reports_scripts_alone():
    report = "csv_to_npz train retrain test dnn_train dnn_test semi_train semi_retrain plot_model "
    report += "gradient_ascent test_by_vote"
    assert {path.stem for path in SCRIPTS} <= set(report.split())


def test_every_module_says_its_purpose():
    for path in [*MODULES, *SCRIPTS]:
        assert ast.get_docstring(ast.parse(path.read_text())), path
