"""Packaging a model to ship, and reproducing it."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from sklearn.metrics import recall_score
from support import faces

from ferlab import checkpoints, cli, data, files, inference, pretrained, training
from ferlab.checkpoints import LearnedFrom, TrainingRecord
from ferlab.errors import InputError
from ferlab.evaluation import calibration, metrics
from ferlab.recipes import RECIPES
from ferlab.reports import model_card
from ferlab.training import distillation
from ferlab.training.objectives import Supervised, Teacher
from models import build_model

pytestmark = pytest.mark.usefixtures("few_weights")

RECIPE = RECIPES["dnn-report"].override(epochs=2, batch_size=20, validation=40, shift=0.0)
FILES = {"quick.h5", "quick.json", "quick.md"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder: data, a model trained on them, and `shipped/` with that one packed."""
    path = tmp_path_factory.mktemp("pack")
    rows, test = faces(160, seed=1), faces(60, seed=2)
    data.write_csv(path / "train.csv", rows.images, labels=rows.labels)
    # The test file begins with a copy of a training row, a grey level brighter, and one unlabelled.
    images = test.images.copy()
    images[0] = np.minimum(rows.images[100].astype(int) + 1, 255)
    data.write_csv(path / "test.csv", images, ids=test.ids)
    data.write_submission(path / "truth.csv", test.ids[:59], test.labels[:59])
    train, validation = data.read(path / "train.csv", role="train").split(40)
    training.set_seed(3)
    model = build_model("dnn", (48, 48, 1), 7)
    run_dir = path / "run"
    objective = Supervised(train, RECIPE, seed=3)
    result = training.fit(model, objective, validation, run_dir=run_dir)
    training.publish(result, path).rename(path / "model.h5")
    shutil.rmtree(run_dir)
    return path


@pytest.fixture
def shipped(folder, monkeypatch, command):
    """The folder of shipped models, with `quick` in it."""
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(folder / "shipped"))
    if not (folder / "shipped").exists():
        packed = ("pack", "model.h5", "quick", "train.csv", "--data", "test.csv")
        printed = command(*packed, "--truth", "truth.csv", cwd=folder)
        (folder / "pack.log").write_text(printed)
    return folder / "shipped"


def test_pack_records_facts_measured_on_the_shipped_file(shipped, folder):
    assert {path.name for path in shipped.iterdir()} == FILES
    facts = json.loads((shipped / "quick.json").read_text())
    path = pretrained.resolve("pretrained:quick")
    model = checkpoints.load(path)
    assert facts["sha256"] == files.sha256(path)
    assert facts["bytes"] == path.stat().st_size < 2 * facts["parameters"] + 200_000
    assert facts["recipe"] == RECIPE.as_dict()
    assert (facts["seed"], facts["data"]["rows"], facts["data"]["name"]) == (3, 120, None)
    own = checkpoints.read_record(folder / "model.h5")
    assert facts["data"]["fingerprint"] == own.fingerprint
    np.testing.assert_array_equal(
        checkpoints.read_training_rows(path), checkpoints.read_training_rows(folder / "model.h5")
    )
    validation = data.read(folder / "train.csv", role="train").take(range(40))
    test = data.read(folder / "test.csv", role="test")
    public = data.with_truth(test, folder / "truth.csv").labelled()
    assert len(public) == 59
    changed = 0
    for name, rows in (("validation", validation), ("public", public)):
        scores = facts["scores"][name]
        outputs = inference.predict(model, rows)
        predicted = outputs.argmax(axis=1)
        expected = metrics.accuracy(rows.labels, predicted)
        assert scores["accuracy"] == dataclasses.asdict(expected)
        assert scores["fingerprint"] == rows.fingerprint()
        recalls = recall_score(rows.labels, predicted, average=None, labels=range(7))
        for label, one in enumerate(scores["classes"].values()):
            if one["recall"]:
                assert one["recall"]["value"] == pytest.approx(recalls[label])
        error = calibration.expected_calibration_error(outputs, rows.labels)
        assert scores["calibration_error"]["value"] == pytest.approx(error)
        whole = inference.predict(checkpoints.load(folder / "model.h5"), rows).argmax(axis=1)
        changed += int((whole != predicted).sum())
    assert facts["float16"]["changed_predictions"] == changed
    assert facts["float16"]["rows"] == 99
    assert facts["temperature"] == model.temperature
    assert facts["scores"]["public"]["copies_of_training_rows"] >= 1
    assert facts["scores"]["public"]["accuracy_without_copies"]["n"] < 59


def test_pack_writes_the_card_of_the_facts(shipped):
    facts = json.loads((shipped / "quick.json").read_text())
    card = (shipped / "quick.md").read_text()
    assert card == model_card.card(facts)
    assert "FER-2013" not in card


def test_reproduce_confirms_the_stated_accuracy(shipped, folder, command):
    again = ("reproduce", "quick", "train.csv", "--out-dir", "again")
    on_public = (*again, "--data", "test.csv", "--truth", "truth.csv")
    printed = command(*on_public, cwd=folder)
    assert "note:" not in printed
    measured, stated = re.findall(r"([\d.]+)% \(n=59", printed.splitlines()[-1])
    assert abs(float(measured) - float(stated)) <= 100 / 59 + 0.01  # what float16 may have changed
    assert printed.endswith("within that interval\n")
    # The finished training is in its run folder, so that it is scored again and not trained again.
    assert "device:" in printed
    second = command(*again, cwd=folder)
    assert "device:" not in second
    assert re.search(r"^validation accuracy .*n=40", second, re.MULTILINE)
    assert len(list((folder / "again").glob("*.h5"))) == 1
    log = (folder / "runs" / "reproduce-quick" / "log.txt").read_text()
    assert "dnn-report: dnn" in log
    facts = json.loads((shipped / "quick.json").read_text())
    (path,) = (folder / "again").glob("*.h5")
    assert checkpoints.read_record(path).recipe == facts["recipe"]
    assert checkpoints.read_record(path).data["fingerprint"] == facts["data"]["fingerprint"]


def test_reproduce_reports_differences_and_fails(shipped, folder, command):
    facts = json.loads((shipped / "quick.json").read_text())
    facts["versions"] |= {"device": "a GPU of old"}
    del facts["versions"]["bfloat16"]
    facts["scores"]["validation"]["accuracy"] |= {"value": 0.99, "low": 0.98, "high": 1.0}
    other = folder / "other"
    other.mkdir()
    shutil.copy(shipped / "quick.h5", other / "quick.h5")
    (other / "quick.json").write_text(json.dumps(facts))
    rows = faces(160, seed=7)
    data.write_csv(folder / "unlike.csv", rows.images, labels=rows.labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(pretrained.FOLDER_VARIABLE, str(other))
        arguments = ("reproduce", "pretrained:quick", "unlike.csv", "--run-dir", "unlike")
        printed = command(*arguments, "--out-dir", "unlike", cwd=folder, code=1)
    assert "NOT within that interval" in printed
    assert "unlike.csv has other rows than quick was trained on" in printed
    assert "unlike.csv has other rows than quick was scored on" in printed
    assert "device was a GPU of old and is" in printed
    assert "bfloat16 was unknown and is" in printed


def test_pack_and_reproduce_a_model_with_a_shipped_teacher(shipped, folder, command):
    train, validation = data.read(folder / "train.csv", role="train").split(40)
    path = pretrained.resolve("pretrained:quick")
    teacher = distillation.teacher([path], train, RECIPE, report=print)
    assert teacher.names == ("pretrained:quick",)
    without_flip = distillation.teacher(
        [path], train, RECIPE.override(horizontal_flip=False), report=print
    )
    for candidate, tta in ((teacher, "flip"), (without_flip, "none")):
        expected = inference.predict(checkpoints.load(path), train, tta=tta)
        np.testing.assert_allclose(candidate.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(teacher.rows, np.unique(train.row_digests()))
    training.set_seed(3)
    result = training.fit(
        build_model("dnn", (48, 48, 1), 7),
        Supervised(train, RECIPE, seed=3, teacher=teacher),
        validation,
        run_dir=folder / "taught",
    )
    training.publish(result, folder).rename(folder / "taught.h5")
    with pytest.MonkeyPatch.context() as patch:
        other = folder / "with-taught"
        shutil.copytree(shipped, other)
        patch.setenv(pretrained.FOLDER_VARIABLE, str(other))
        command("pack", "taught.h5", "taught", "train.csv", cwd=folder)
        facts = pretrained.read_facts("taught")
        assert facts["teachers"] == {"quick": pretrained.read_facts("quick")["sha256"]}
        assert facts["command"].endswith(" --teacher pretrained:quick")
        command("reproduce", "taught", "train.csv", "--out-dir", "taught-again", cwd=folder)
    (again,) = (folder / "taught-again").glob("*.h5")
    first, second = (checkpoints.load(path).model for path in (folder / "taught.h5", again))
    assert all(map(np.array_equal, first.get_weights(), second.get_weights()))


def test_fit_notes_a_teacher_trained_on_validation_rows(folder, tmp_path, capsys):
    everything = data.read(folder / "train.csv", role="train")
    train, validation = everything.take(range(40, 160)), everything.take(range(40))
    probabilities = np.full((120, 7), 1 / 7, "float32")
    for rows, note, unknown in (
        (
            everything.row_digests(),
            "the teacher was trained on 40 of the 40 validation rows",
            False,
        ),
        (None, "training rows of the teacher", True),
        (train.row_digests(), "", False),
    ):
        objective = Supervised(train, RECIPE, teacher=Teacher(("a.h5",), probabilities, rows=rows))
        model = build_model("dnn", (48, 48, 1), 7)
        run_dir = tmp_path / f"{note[:3]}-"
        result = training.fit(model, objective, validation, run_dir=run_dir)
        printed = capsys.readouterr().out
        assert note in printed
        assert ("the teacher" in printed) == bool(note)
        assert result.record.has_unknown_rows is unknown
        result.run.release()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("pack", "model.h5", "quick", "train.csv"), "quick.h5: "),
        (("pack", "model.h5", "../x", "train.csv"), "'../x'"),
        (("pack", "model.h5", "new", "test.csv"), "are more than half"),
        (("pack", "model.h5", "new", "small.csv"), "small.csv: "),
        (("pack", "bare.h5", "new", "train.csv"), "bare.h5: "),
        (("pack", "short.h5", "new", "train.csv"), "2 of its 9 epochs"),
        (("pack", "on.h5", "new", "train.csv"), "before.h5"),
        (("pack", "silent.h5", "new", "train.csv"), "silent.h5: "),
        (("pack", "pupil.h5", "new", "train.csv"), "its teacher list.txt"),
        (("pack", "knowing.h5", "new", "train.csv"), "3 of the 40 validation rows"),
        (("pack", "lost.h5", "new", "train.csv"), "pretrained:gone: "),
        (("pack", "model.h5", "new", "train.csv", "--truth", "truth.csv"), "--truth requires"),
        (
            ("pack", "model.h5", "new", "train.csv", "--data", "private.csv"),
            "final score",
        ),
        (("pack", "model.h5", "new", "train.csv", "--data", "test.csv"), "--truth"),
        (("reproduce", "gone", "train.csv"), "quick"),
        (("reproduce", "quick", "train.csv", "--truth", "truth.csv"), "--truth requires --data"),
        (("reproduce", "quick", "train.csv", "--data", "private.csv"), "for the final score"),
        (("reproduce", "quick", "gone.csv"), "gone.csv"),
        (("reproduce", "quick", "train.csv", "--data", "train.csv"), "train.csv: has no rows"),
    ],
)
def test_pack_and_reproduce_on_bad_input(shipped, folder, command, arguments, rule):
    if not (folder / "bare.h5").exists():
        make_bad_ones(folder)
    before = sorted(folder.rglob("*"))
    error = command(*arguments, cwd=folder, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert rule in error
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ({"seed": -1}, "quick: missing or invalid in its facts: seed;"),
        ({"data": {}, "versions": "x"}, ": data, versions;"),
        ({"scores": {"validation": {}}}, ": scores;"),
        ({"recipe": "fast"}, ": recipe;"),
        ({"recipe": RECIPE.as_dict() | {"learning_rate": float("nan")}}, "nan"),
        ({"image_shape": [48, 48]}, ": image_shape;"),
    ],
)
def test_reproduce_on_invalid_facts(shipped, folder, command, monkeypatch, tmp_path, damage, rule):
    facts = json.loads((shipped / "quick.json").read_text()) | damage
    shutil.copy(shipped / "quick.h5", tmp_path)
    (tmp_path / "quick.json").write_text(json.dumps(facts))
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path))
    error = command("reproduce", "quick", "train.csv", cwd=folder, code=2)
    assert error.count("\n") == 1
    assert rule in error


def test_reproduce_refuses_a_file_that_is_not_the_shipped_one(
    shipped, folder, command, monkeypatch, tmp_path
):
    shutil.copy(shipped / "quick.json", tmp_path)
    (tmp_path / "quick.h5").write_bytes((shipped / "quick.h5").read_bytes() + b"0")
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path))
    error = command("reproduce", "quick", "train.csv", cwd=folder, code=2)
    assert error.count("\n") == 1
    assert "quick.h5" in error
    assert "SHA-256" in error


def make_bad_ones(folder):
    model = checkpoints.load(folder / "model.h5")
    digests, record = checkpoints.read_training_rows(model.path), model.record
    pupil = LearnedFrom(teachers=("list.txt",), teacher_probabilities="f")
    _, validation = data.read(folder / "train.csv", role="train").split(40)
    longer = record.replace(recipe={**record.recipe, "epochs": 9})
    for name, changed, rows in (
        ("bare", TrainingRecord(pixels="raw"), None),
        ("short", longer, digests),
        ("on", record.replace(resumed_from="before.h5"), digests),
        ("silent", record, None),
        ("knowing", record, np.concatenate([digests, validation.row_digests()[:3]])),
        ("lost", record.replace(learned_from=LearnedFrom(teachers=("pretrained:gone",))), digests),
        ("pupil", record.replace(learned_from=pupil), digests),
    ):
        checkpoints.save(model.model, folder / f"{name}.h5", changed, training_rows=rows)
    rows = faces(100, seed=9)
    data.write_csv(folder / "small.csv", rows.images, labels=rows.labels)
    lines = ["emotion,pixels,Usage"]
    for image, label in zip(rows.images[:9], rows.labels[:9], strict=True):
        lines.append(f"{label},{' '.join(map(str, image.ravel()))},PrivateTest")
    (folder / "private.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("name", ["fast", "dnn-report"])
def test_training_command_is_parsed_to_the_same_recipe(name):
    base = RECIPES[name]
    others = {"validation": "PublicTest", "horizontal_flip": False, "ema": 0.9, "epochs": 7}
    recipe = base.override(bfloat16=not base.bfloat16, **others)
    for chosen in (base, recipe):
        words = cli.training_command(chosen, 5, "some/train.csv").split()
        assert words[:3] == ["python", "train.py", "train.csv"]
        parser = cli.parser("", "data", "--seed")
        cli.add_recipe(parser, "cnn-report")
        args = parser.parse_args(words[2:])
        assert (cli.recipe(args), args.seed) == (chosen, 5)
    with pytest.raises(InputError, match="no flag sets the model"):
        cli.training_command(dataclasses.replace(base, model="vgg"), 0, "train.csv")
    assert "--image-size 64 --channels 3" in cli.training_command(
        base, 0, "train.csv", image_shape=(64, 64, 3)
    )
