"""Several models side by side, evaluated on the same rows."""

import csv
import html.parser
import re

import numpy as np
import pytest
from sklearn.metrics import f1_score
from support import faces

from ferlab import checkpoints, data, files, inference, training
from ferlab.checkpoints import TrainingRecord
from ferlab.evaluation import metrics
from ferlab.inference import matching
from ferlab.labels import EMOTIONS
from ferlab.reports import comparison
from models import build_model


def history(*accuracies):
    return {
        "accuracy": [0.5] * len(accuracies),
        "loss": [1.5] * len(accuracies),
        "val_accuracy": list(accuracies),
        "val_loss": [1.25] * len(accuracies),
        "seconds": [30.0] * len(accuracies),
    }


def save(path, seed, *, side=48, trained_on=None, class_names=EMOTIONS, **entries):
    """An untrained network; each seed predicts differently."""
    training.set_seed(seed)
    model = build_model("dnn", (side, side, 1), len(class_names))
    path.parent.mkdir(parents=True, exist_ok=True)
    record = TrainingRecord(
        pixels="raw", class_names=class_names, image_shape=(side, side, 1), **entries
    )
    rows = None if trained_on is None else trained_on.row_digests()
    checkpoints.save(model, path, record, training_rows=rows)
    return path


@pytest.fixture(scope="module")
def rows():
    return faces(90, seed=6)


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("compare")
    data.write_csv(path / "rows.csv", rows.images, labels=rows.labels)
    data.write_csv(path / "bare.csv", rows.images, ids=rows.ids)
    recipe = {"name": "dnn-report", "batch_size": 128, "learning_rate": 0.001, "epochs": 3}
    whole = {"recipe": {**recipe, "validation": 200}, "temperature": 2.0}
    save(path / "a.h5", 1, trained_on=rows.take(range(20)), history=history(0.2, 0.4, 0.3), **whole)
    stopped = {"recipe": {**recipe, "validation": 0.1}}
    save(
        path / "b.h5", 2, trained_on=rows.take(range(10, 50)), history=history(0.2, 0.25), **stopped
    )
    return path


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def close(cell, expected):
    return float(cell) == pytest.approx(expected)


def test_compare_without_data_shows_what_the_files_record(folder, command):
    printed = command("compare", "a.h5", "b.h5", "--out", "recorded.html", cwd=folder)
    first, second = table(folder / "recorded.csv")
    assert first["model"] == "a.h5"
    assert close(first["val_accuracy"], 0.3)
    assert close(first["best_val_accuracy"], 0.4)
    assert (first["best_epoch"], first["epochs"], first["recipe"]) == ("1", "3", "dnn-report")
    assert close(first["training_seconds"], 90)
    assert (first["parameters"], first["multiply_adds"]) == ("1838599", "1836800")
    assert (second["epochs"], second["epochs_planned"]) == ("2", "3")
    assert "accuracy" not in first
    # 60 of 200 rows; the size of a fraction is unknown.
    assert str(metrics.proportion(60, 200)) in printed
    assert "b.h5: validation accuracy 25.00%\n" in printed
    page = (folder / "recorded.html").read_text(encoding="utf-8")
    assert "2 of 3" in page
    assert "40.00% (epoch 1)" in page
    assert files.sniff(folder / "recorded.png") == "a PNG image"


def test_compare_scores_rows_that_no_model_was_trained_on(folder, rows, command):
    arguments = ("compare", "a.h5", "b.h5", "--data", "rows.csv", "--out", "scored.html")
    printed = command(*arguments, cwd=folder)
    assert "50 of 90 rows left out" in printed
    remaining = rows.take(range(50, 90))
    right, probabilities = [], []
    for name in ("a.h5", "b.h5"):
        probabilities.append(inference.predict(checkpoints.load(folder / name), remaining))
        right.append(probabilities[-1].argmax(axis=1) == remaining.labels)
    first, second = table(folder / "scored.csv")
    for cells, correct, predicted in zip((first, second), right, probabilities, strict=True):
        assert cells["rows"] == "40"
        expected = metrics.proportion(int(correct.sum()), 40)
        assert close(cells["accuracy"], expected.value)
        assert close(cells["accuracy_low"], expected.low)
        macro = f1_score(
            remaining.labels, predicted.argmax(axis=1), average="macro", zero_division=0
        )
        assert close(cells["macro_f1"], macro)
    gain = metrics.paired_difference(right[1], right[0])
    assert gain.value != 0
    assert close(second["accuracy_gain"], gain.value)
    assert close(second["accuracy_gain_low"], gain.low)
    assert close(second["accuracy_gain_high"], gain.high)
    assert first["accuracy_gain"] == ""
    assert f"{gain} compared with the first" in printed
    assert first["calibration_error_at_temperature"] != ""
    assert second["calibration_error_at_temperature"] == ""
    page = (folder / "scored.html").read_text(encoding="utf-8")
    assert f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" in page


def test_compare_on_training_rows_carries_a_warning(folder, rows, command):
    trained_on = rows.take(range(10, 20))
    data.write_csv(folder / "seen.csv", trained_on.images, labels=trained_on.labels)
    arguments = ("compare", "a.h5", "b.h5", "--data", "seen.csv", "--out", "good.html")
    assert f"warning: {comparison.WARNING}" in command(*arguments, cwd=folder)
    page = (folder / "good.html").read_text(encoding="utf-8")
    assert f'<p class="warning">{comparison.WARNING}' in page


def test_compare_scores_models_of_different_image_sizes_on_the_same_rows(folder, rows, command):
    small = data.fit_images(rows, (24, 24, 1))
    save(folder / "small.h5", 3, side=24, trained_on=small.take(range(60)))
    for models in (("a.h5", "small.h5"), ("small.h5", "a.h5")):
        arguments = ("--data", "rows.csv", "--out", "sizes.html")
        assert "60 of 90 rows left out" in command("compare", *models, *arguments, cwd=folder)
        remaining = rows.take(range(60, 90))
        for cells in table(folder / "sizes.csv"):
            predictions = inference.predict(checkpoints.load(folder / cells["path"]), remaining)
            assert close(cells["accuracy"], (predictions.argmax(axis=1) == remaining.labels).mean())


def test_compare_reads_images_of_a_folder_in_each_models_size(folder, rows, command):
    from PIL import Image

    class_names = tuple(sorted(EMOTIONS))
    for row in range(40):
        place = folder / "faces" / EMOTIONS[rows.labels[row]] / f"{row:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rows.images[row, :, :, 0]).resize((100, 100)).save(place)
    save(folder / "tiny.h5", 4, side=16, class_names=class_names)
    save(folder / "large.h5", 5, side=64, class_names=class_names)
    arguments = ("tiny.h5", "large.h5", "--data", "faces", "--out", "folder.html")
    command("compare", *arguments, cwd=folder)
    for cells in table(folder / "folder.csv"):
        checkpoint = checkpoints.load(folder / cells["path"])
        read = matching.read(str(folder / "faces"), [checkpoint], role="train").dataset
        predictions = inference.predict(checkpoint, read)
        loss = -np.log(predictions[np.arange(40), read.labels]).mean()
        assert float(cells["loss"]) == pytest.approx(loss, rel=1e-4)


def test_compare_gives_equal_file_names_distinct_names(folder, command):
    for place in ("x/one/m.h5", "y/one/m.h5", "y/two/m.h5"):
        save(folder / place, len(place) + ord(place[0]))
    places = ("x/one/m.h5", "y/one/m.h5", "y/two/m.h5", "a.h5")
    command("compare", *places, "--out", "names.html", cwd=folder)
    names = [cells["model"] for cells in table(folder / "names.csv")]
    assert names == ["x/one/m.h5", "y/one/m.h5", "two/m.h5", "a.h5"]


def test_compare_reads_the_published_or_the_last_checkpoint_of_a_run(folder, command):
    run = folder / "run"
    save(run / "last.h5", 7, history=history(0.11))
    files.write_json(run / "config.json", {})
    published = save(folder / "published.h5", 8, history=history(0.22))
    files.write_json(run / "result.json", {"checkpoint": str(published)})
    arguments = ("compare", "run", "a.h5", "--out", "run.html")
    command(*arguments, cwd=folder)
    first, _ = table(folder / "run.csv")
    assert (first["model"], first["val_accuracy"]) == ("run", "0.22")
    published.rename(folder / "moved.h5")
    command(*arguments, cwd=folder)
    assert table(folder / "run.csv")[0]["val_accuracy"] == "0.11"


def test_compare_never_interprets_names_as_html_or_formulas(folder, command):
    name = "<script>a$_{.h5"
    save(folder / name, 9)
    command("compare", name, "a.h5", "--data", "rows.csv", "--out", "hostile.html", cwd=folder)
    tags = []
    reader = html.parser.HTMLParser()
    reader.handle_starttag = lambda tag, _: tags.append(tag)
    reader.feed((folder / "hostile.html").read_text(encoding="utf-8"))
    assert "script" not in tags
    assert tags.count("img") == 1
    assert table(folder / "hostile.csv")[0]["model"] == name


def test_compare_notes_validation_accuracies_of_different_rows(folder, command):
    for name, fingerprint in (("one", "f"), ("two", "f"), ("three", "g")):
        metadata = {"history": history(0.3), "data": {"fingerprint": fingerprint}}
        save(folder / f"{name}.h5", 11, **metadata)
    same = command("compare", "one.h5", "two.h5", "--out", "v.html", cwd=folder)
    assert "note:" not in same
    other = command("compare", "one.h5", "three.h5", "--out", "v.html", cwd=folder)
    assert re.search("^note: .*validation accuracies.*--data", other, re.MULTILINE)


def test_compare_error_names_the_model_with_other_classes(folder, command):
    save(folder / "six.h5", 10, class_names=EMOTIONS[:6])
    error = command(
        "compare", "a.h5", "six.h5", "--data", "rows.csv", "--out", "n.html", cwd=folder, code=2
    )
    assert re.search("six.h5: .*neutral|six.h5", error)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("a.h5", "gone.h5"), "gone.h5: no such file"),
        (("a.h5", "empty"), "empty: .*last.h5"),
        (("a.h5", "outer"), "the runs in it: round-1"),
        (("a.h5", "young"), "young: has no finished epoch"),
        (("a.h5", "./a.h5"), "a.h5: is the same checkpoint as a.h5"),
        (("a.h5", "b.h5", "--truth", "bare.csv"), "--truth .*--data"),
        (("a.h5", "b.h5", "--data", "bare.csv"), r"bare\.csv: .*labels"),
        (("a.h5", "b.h5", "--data", "rows.csv", "--usage", "x"), r"rows\.csv: .*usage"),
        (("a.h5", "b.h5", "--out", "x.png"), "--out must end in .html"),
        (("a.h5", "b.h5", "--data", "rows.csv", "--out", "rows.html"), "rows.csv: is an input"),
        (("a.h5", "b.h5", "--out", "rows.csv/x.html"), "cannot be written"),
    ],
)
def test_compare_on_bad_input(folder, command, arguments, rule):
    for name in ("empty", "outer/round-1", "young"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "young" / "config.json", {})
    (folder / "outer/round-1/last.h5").touch()
    before = sorted(folder.rglob("*"))
    error = command("compare", *arguments, cwd=folder, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(rule, error)
    assert sorted(folder.rglob("*")) == before
