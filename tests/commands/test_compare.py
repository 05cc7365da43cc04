"""Several models side by side: each is itself, all are asked about the same rows."""

import csv
import dataclasses
import html.parser
import re

import numpy as np
import pytest
from sklearn.metrics import f1_score
from support import faces

from ferlab import checkpoints, data, files, inference, plots, training
from ferlab.checkpoints import TrainingRecord
from ferlab.commands import compare
from ferlab.evaluation import metrics
from ferlab.labels import EMOTIONS
from models import build_model


def history(*accuracies):
    return {
        "accuracy": [0.5] * len(accuracies),
        "loss": [1.5] * len(accuracies),
        "val_accuracy": list(accuracies),
        "val_loss": [1.25] * len(accuracies),
        "seconds": [30.0] * len(accuracies),
    }


def save(path, seed, *, side=48, seen=None, class_names=EMOTIONS, **record):
    """A network with weights that nobody trained; each seed has its own opinions."""
    training.set_seed(seed)
    model = build_model("dnn", (side, side, 1), len(class_names))
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"pixels": "raw", "class_names": list(class_names), "image_shape": [side, side, 1]}
    rows = None if seen is None else seen.row_digests()
    checkpoints.save(
        model, path, TrainingRecord.from_json({**told, **record}, "test"), training_rows=rows
    )
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
    save(path / "a.h5", 1, seen=rows.take(range(20)), history=history(0.2, 0.4, 0.3), **whole)
    stopped = {"recipe": {**recipe, "validation": 0.1}}
    save(path / "b.h5", 2, seen=rows.take(range(10, 50)), history=history(0.2, 0.25), **stopped)
    return path


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def close(cell, expected):
    return float(cell) == pytest.approx(expected)


def test_without_data_the_table_is_what_the_files_carry(folder, command):
    printed = command("compare", "a.h5", "b.h5", "--out", "carried.html", cwd=folder)
    first, second = table(folder / "carried.csv")
    assert first["model"] == "a.h5"
    assert close(first["val_accuracy"], 0.3)
    assert close(first["best_val_accuracy"], 0.4)
    assert (first["best_epoch"], first["epochs"], first["recipe"]) == ("1", "3", "dnn-report")
    assert close(first["training_seconds"], 90)
    assert (first["parameters"], first["multiply_adds"]) == ("1838599", "1836800")
    assert (second["epochs"], second["epochs_planned"]) == ("2", "3")
    assert "accuracy" not in first
    # 60 of 200 rows; of a fraction nobody knows how many.
    assert str(metrics.proportion(60, 200)) in printed
    assert "b.h5: validation accuracy 25.00%\n" in printed
    page = (folder / "carried.html").read_text(encoding="utf-8")
    assert "2 of 3" in page
    assert "40.00% (epoch 1)" in page
    assert files.sniff(folder / "carried.png") == "a PNG image"


def test_all_are_scored_on_the_rows_that_none_was_trained_on(folder, rows, command):
    arguments = ("compare", "a.h5", "b.h5", "--data", "rows.csv", "--out", "scored.html")
    printed = command(*arguments, cwd=folder)
    assert "50 of 90 rows left out" in printed
    left = rows.take(range(50, 90))
    right, probabilities = [], []
    for name in ("a.h5", "b.h5"):
        probabilities.append(inference.predict(checkpoints.load(folder / name), left))
        right.append(probabilities[-1].argmax(axis=1) == left.labels)
    first, second = table(folder / "scored.csv")
    for cells, correct, guess in zip((first, second), right, probabilities, strict=True):
        assert cells["rows"] == "40"
        expected = metrics.proportion(int(correct.sum()), 40)
        assert close(cells["accuracy"], expected.value)
        assert close(cells["accuracy_low"], expected.low)
        macro = f1_score(left.labels, guess.argmax(axis=1), average="macro", zero_division=0)
        assert close(cells["macro_f1"], macro)
    gain = metrics.paired_difference(right[1], right[0])
    assert gain.value != 0
    assert close(second["accuracy_gain"], gain.value)
    assert close(second["accuracy_gain_low"], gain.low)
    assert close(second["accuracy_gain_high"], gain.high)
    assert first["accuracy_gain"] == ""
    assert f"{gain} against the first" in printed
    assert first["calibration_error_at_temperature"] != ""
    assert second["calibration_error_at_temperature"] == ""
    page = (folder / "scored.html").read_text(encoding="utf-8")
    assert f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" in page


def test_rows_that_all_were_trained_on_are_called_too_good(folder, rows, command):
    seen = rows.take(range(10, 20))
    data.write_csv(folder / "seen.csv", seen.images, labels=seen.labels)
    arguments = ("compare", "a.h5", "b.h5", "--data", "seen.csv", "--out", "good.html")
    assert "warning: measured on rows that a model was trained on" in command(
        *arguments, cwd=folder
    )
    page = (folder / "good.html").read_text(encoding="utf-8")
    assert "Believe none of the scores" in page


def test_models_of_other_image_sizes_are_asked_about_the_same_rows(folder, rows, command):
    small = data.fit_images(rows, (24, 24, 1))
    save(folder / "small.h5", 3, side=24, seen=small.take(range(60)))
    for models in (("a.h5", "small.h5"), ("small.h5", "a.h5")):
        arguments = ("--data", "rows.csv", "--out", "sizes.html")
        assert "60 of 90 rows left out" in command("compare", *models, *arguments, cwd=folder)
        left = rows.take(range(60, 90))
        for cells in table(folder / "sizes.csv"):
            answers = inference.predict(checkpoints.load(folder / cells["path"]), left)
            assert close(cells["accuracy"], (answers.argmax(axis=1) == left.labels).mean())


def test_images_of_a_folder_are_read_in_each_models_size(folder, rows, command):
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
        read = inference.read_for(checkpoint, str(folder / "faces"), role="train")
        answers = inference.predict(checkpoint, read)
        loss = -np.log(answers[np.arange(40), read.labels]).mean()
        assert float(cells["loss"]) == pytest.approx(loss, rel=1e-4)


def test_equal_names_are_told_apart(folder, command):
    for place in ("x/one/m.h5", "y/one/m.h5", "y/two/m.h5"):
        save(folder / place, len(place) + ord(place[0]))
    places = ("x/one/m.h5", "y/one/m.h5", "y/two/m.h5", "a.h5")
    command("compare", *places, "--out", "names.html", cwd=folder)
    names = [cells["model"] for cells in table(folder / "names.csv")]
    assert names == ["x/one/m.h5", "y/one/m.h5", "two/m.h5", "a.h5"]


def test_a_run_stands_for_what_came_of_it(folder, command):
    """Its published checkpoint; once that is moved, that of its last epoch."""
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


def test_names_are_never_taken_for_html_or_formulas(folder, command):
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


def test_the_chart_shows_every_model_and_only_what_is_known():
    share = metrics.proportion(30, 100)
    figure = plots.comparison_figure(
        ["a", "b", "c"],
        {"accuracy": [share, 0.5, None], "macro F1": [0.25, share, share]},
        [[0.1, 0.2], [], [0.3, 0.4, 0.5]],
        [10, 1000, 1000],
        "three",
    )
    measures, *below = (axes for part in figure.subfigs for axes in part.axes)
    assert [text.get_text() for text in measures.get_yticklabels()] == ["a", "b", "c"]
    shown = [container.lines[0].get_xdata().tolist() for container in measures.containers]
    assert shown == [[0.3, 0.5], [0.25, 0.3, 0.3]]
    epochs, cost = below
    assert [line.get_ydata().tolist() for line in epochs.lines] == [[0.1, 0.2], [0.3, 0.4, 0.5]]
    assert [line.get_xdata()[0] for line in cost.lines] == [10, 1000]
    alone = plots.comparison_figure(["a"], {"accuracy": [share]}, [[]], [10], "one")
    assert len(alone.axes) == 1


def test_models_that_share_a_colour_have_other_markers_and_too_many_no_lines():
    names, shares = [f"m{index}" for index in range(13)], [metrics.proportion(30, 100)] * 13
    costs, curves = list(range(1, 14)), [[0.1, 0.2]] * 13
    twelve = plots.comparison_figure(
        names[:12], {"accuracy": shares[:12]}, curves[:12], costs[:12], "twelve"
    )
    _, epochs, _ = (axes for part in twelve.subfigs for axes in part.axes)
    assert len({(line.get_color(), line.get_marker()) for line in epochs.lines}) == 12
    thirteen = plots.comparison_figure(names, {"accuracy": shares}, curves, costs, "thirteen")
    assert len(thirteen.axes) == 1


def test_it_says_when_validation_accuracies_do_not_compare(folder, command):
    for name, fingerprint in (("one", "f"), ("two", "f"), ("three", "g")):
        told = {"history": history(0.3), "data": {"fingerprint": fingerprint}}
        save(folder / f"{name}.h5", 11, **told)
    same = command("compare", "one.h5", "two.h5", "--out", "v.html", cwd=folder)
    assert "compare but roughly" not in same
    assert "compare but roughly; --data" in command(
        "compare", "one.h5", "three.h5", "--out", "v.html", cwd=folder
    )


def test_a_class_more_or_fewer_is_named(folder, command):
    save(folder / "six.h5", 10, class_names=EMOTIONS[:6])
    error = command(
        "compare", "a.h5", "six.h5", "--data", "rows.csv", "--out", "n.html", cwd=folder, code=2
    )
    assert re.search("rows.csv with six.h5: data and model must have the same classes", error)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("a.h5", "gone.h5"), "gone.h5: no such file"),
        (("a.h5", "empty"), "empty: is no run folder: it has no last.h5"),
        (("a.h5", "outer"), "name one of the runs in it: round-1"),
        (("a.h5", "young"), "young: has no finished epoch"),
        (("a.h5", "./a.h5"), "a.h5: is the same checkpoint as a.h5"),
        (("a.h5", "b.h5", "--truth", "t.csv"), "--data, which is missing"),
        (("a.h5", "b.h5", "--data", "bare.csv"), "needs rows with labels"),
        (("a.h5", "b.h5", "--data", "rows.csv", "--usage", "x"), "no usage to choose rows by"),
        (("a.h5", "b.h5", "--out", "x.png"), "--out must end in .html"),
        (("a.h5", "b.h5", "--data", "rows.csv", "--out", "rows.html"), "rows.csv: is read here"),
        (("a.h5", "b.h5", "--out", "rows.csv/x.html"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line(folder, command, arguments, rule):
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


def test_an_interval_is_shown_where_the_rows_are_known():
    checkpoint = dataclasses.make_dataclass("Checkpoint", ["record"])
    for validation, kind in ((100, metrics.Proportion), (0.1, float), ("PublicTest", float)):
        record = TrainingRecord(history=history(0.5), recipe={"validation": validation})
        assert type(compare.Candidate("a", checkpoint(record), 1).val_accuracy) is kind
        known = checkpoint(record.replace(validation_rows=50))
        assert compare.Candidate("a", known, 1).val_accuracy.n == 50
    assert compare.Candidate("a", checkpoint(TrainingRecord()), 1).val_accuracy is None
