"""The report on one model: its numbers are correct, and it warns of training rows."""

import dataclasses
import html.parser
import re

import keras
import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    precision_recall_fscore_support,
)
from support import faces

from ferlab import checkpoints, data, inference, interpretation, plots, training
from ferlab.checkpoints import TrainingRecord
from ferlab.evaluation import calibration
from ferlab.labels import EMOTIONS
from ferlab.recipes import RECIPES
from ferlab.reports import model_report
from ferlab.reports.page import PEOPLE
from models import build_model

USAGES = np.repeat(["Training", "PublicTest", "PrivateTest"], [300, 40, 20])


class _Reader(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text, self.in_cell = [], [], "", False
        self.classes = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.classes.add(dict(attributes).get("class"))
        if tag == "tr":
            self.rows.append([])
        self.in_cell = tag in ("td", "th")
        if self.in_cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data

    def row(self, name):
        (cells,) = (row for row in self.rows if row[0] == name)
        return cells[1:]


def read(path):
    return _Reader(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def timed_briefly(monkeypatch):
    monkeypatch.setattr(model_report, "TIMING", 0.05)


def write_with_usage(path, dataset):
    lines = ["emotion,pixels,Usage"]
    for image, label, usage in zip(dataset.images, dataset.labels, dataset.usage, strict=True):
        lines.append(f"{label},{' '.join(map(str, image.ravel()))},{usage}")
    path.write_text("\n".join(lines))


pytestmark = pytest.mark.usefixtures("few_weights")


@pytest.fixture(scope="module")
def rows():
    return dataclasses.replace(faces(360, seed=2), usage=USAGES)


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    """Data with usages, and `model.h5` that a short training has left."""
    path = tmp_path_factory.mktemp("report")
    write_with_usage(path / "data.csv", rows)
    write_with_usage(path / "private.csv", rows.take(USAGES == "PrivateTest"))
    train, validation = rows.split(20)
    data.write_csv(path / "train.csv", rows.images[:300], labels=rows.labels[:300])
    data.write_csv(path / "seen.csv", train.images, labels=train.labels)
    data.write_csv(path / "bare.csv", rows.images, ids=rows.ids)
    recipe = RECIPES["dnn-report"].override(epochs=5, batch_size=16, validation=20)
    training.set_seed(0)
    model = build_model(recipe.model, train.image_shape, train.num_classes)
    result = training.fit(
        model, training.Supervised(train, recipe), validation, run_dir=path / "run"
    )
    training.publish(result, path / "out").rename(path / "model.h5")
    return path


def test_report_agrees_with_scikit_learn(folder, rows, command):
    printed = command("report", "model.h5", "data.csv", cwd=folder)
    page = read(folder / "model_report.html")
    scored = rows.take(USAGES == "PublicTest")
    checkpoint = checkpoints.load(folder / "model.h5")
    probabilities = inference.predict(checkpoint, scored)
    labels, predicted = scored.labels, probabilities.argmax(axis=1)
    macro = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    for name, expected in {
        "accuracy": accuracy_score(labels, predicted),
        "balanced accuracy (mean recall of the classes)": balanced_accuracy_score(
            labels, predicted
        ),
        "macro precision": macro[0],
        "macro recall": macro[1],
        "macro F1": macro[2],
    }.items():
        value, interval = page.row(name)
        assert value == f"{expected:.2%}"
        low, high = map(float, interval.split(" to "))
        assert low <= 100 * expected <= high
    by_class = precision_recall_fscore_support(
        labels, predicted, labels=range(7), zero_division=np.nan
    )
    for name, precision, recall, f1, count in zip(EMOTIONS, *by_class, strict=True):
        images, _, *shown = next(row[1:] for row in page.rows if row[0] == name)
        assert int(images) == count
        for cell, expected in zip(shown, (recall, precision, f1), strict=True):
            start = "\N{EN DASH}" if np.isnan(expected) else f"{expected:.1%} ("
            assert cell.startswith(start)
    scaled = calibration.with_temperature(probabilities, checkpoint.temperature)
    for name, kind in (
        ("expected calibration error (15 bins)", probabilities),
        ("expected calibration error, temperature-scaled", scaled),
    ):
        error = calibration.expected_calibration_error(kind, labels)
        assert page.row(name)[0] == f"{error:.4f}"
    loss = calibration.negative_log_likelihood(probabilities, labels)
    assert page.row("cross-entropy loss (nats)")[0] == f"{loss:.4f}"
    assert f"accuracy {100 * accuracy_score(labels, predicted):.2f}% (n=40" in printed
    assert "40 labelled rows of data.csv (PublicTest)" in page.text


def test_report_shows_history_cost_and_settings(folder, command):
    command("report", "model.h5", "data.csv", "--out", "full.html", "--batch-size", 8, cwd=folder)
    page = read(folder / "full.html")
    history = checkpoints.read_record(folder / "model.h5").history
    assert page.row("epochs") == ["5"]
    assert page.row("validation accuracy") == [
        f"{history['val_accuracy'][-1]:.4f} after the last epoch"
    ]
    assert page.row("parameters")[0].startswith("74,407")
    assert page.row("multiply-adds") == ["74,352 per image"]
    assert re.fullmatch(r"[\d.e-]+ ms .*", page.row("time per image, in batches of 8")[0])
    assert page.row("recipe: batch_size") == ["16"]
    assert page.row("seed") == ["0"]
    assert page.row("keras") == [keras.__version__, keras.__version__]
    assert "python -m ferlab report model.h5 data.csv --out full.html --batch-size 8" in page.text
    assert page.tags.count("img") == 6
    assert all(line in page.text for line in PEOPLE)


def test_report_leaves_out_training_rows(folder, command):
    printed = command("report", "model.h5", "train.csv", "--out", "train.html", cwd=folder)
    assert "280 of 300 rows left out" in printed
    assert "(n=20," in printed
    assert "warning" not in printed
    page = read(folder / "train.html")
    assert "280 of 300 rows left out" in page.text
    assert "warning" not in page.classes


def test_report_on_training_rows_carries_a_warning(folder, command):
    printed = command("report", "model.h5", "seen.csv", "--out", "seen.html", cwd=folder)
    assert "(n=280," in printed
    assert f"warning: {model_report.WARNING}" in printed
    page = read(folder / "seen.html")
    assert model_report.WARNING in page.text
    assert "warning" in page.classes


def test_report_on_the_final_rows_requires_their_usage(folder, command):
    arguments = ("report", "model.h5", "data.csv", "--out", "final.html")
    printed = command(*arguments, "--usage", "PrivateTest", cwd=folder)
    assert "(n=20," in printed
    assert "(PrivateTest)" in read(folder / "final.html").text


def test_report_on_the_test_part_of_a_folder_and_of_an_archive(folder, rows, command):
    from PIL import Image

    tiny = rows.take(range(30))
    for part, chosen in (("train", range(20)), ("test", range(20, 30))):
        for row in chosen:
            place = folder / "images" / part / EMOTIONS[tiny.labels[row]] / f"{row}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tiny.images[row, :, :, 0]).save(place)
    data.write_npz(folder / "both.npz", train=rows.take(range(50)), test=rows.take(range(300, 312)))
    for source, n in (("images", 10), ("both.npz", 12)):
        arguments = ("report", "model.h5", source, "--out", "part.html", "--usage", "test")
        if source == "both.npz":  # these have usages of their own
            arguments = (*arguments[:-1], "PublicTest")
            assert "usage must be one of Training" in command(*arguments, cwd=folder, code=2)
            without = dataclasses.replace(rows.take(range(300, 312)), usage=None)
            data.write_npz(folder / source, train=rows.take(range(50)), test=without)
            arguments = (*arguments[:-1], "test")
        assert f"(n={n}," in command(*arguments, cwd=folder)


def test_report_shows_the_most_confident_mistakes(folder, rows, command, monkeypatch):
    passed = {}
    drawn = plots.image_grid_figure

    def recorded(images, captions, **options):
        passed.update(images=images, captions=captions)
        return drawn(images, captions, **options)

    monkeypatch.setattr(plots, "image_grid_figure", recorded)
    command("report", "model.h5", "data.csv", "--out", "mistakes.html", cwd=folder)
    checkpoint = checkpoints.load(folder / "model.h5")
    scored = rows.take(USAGES == "PublicTest")
    probabilities = calibration.with_temperature(
        inference.predict(checkpoint, scored), checkpoint.temperature
    )
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != scored.labels)
    most_confident = wrong[confidences[wrong].argmax()]
    assert passed["captions"][0] == (
        f"{EMOTIONS[predicted[most_confident]]} {confidences[most_confident]:.1%}\n"
        f"true: {EMOTIONS[scored.labels[most_confident]]}\nid {300 + most_confident}"
    )
    np.testing.assert_array_equal(passed["images"][0], scored.images[most_confident])
    assert len(passed["captions"]) == min(24, len(wrong))


def test_report_explains_correct_and_wrong_predictions_in_the_models_size(
    folder, rows, command, monkeypatch
):
    passed = {}
    explained, drawn = interpretation.saliency, plots.saliency_figure

    def recorded(checkpoint, dataset, methods, **options):
        passed.update(dataset=dataset, methods=methods)
        return explained(checkpoint, dataset, methods, **options)

    def recorded_figure(images, captions, maps, title, **options):
        passed.update(captions=captions, maps=maps)
        return drawn(images, captions, maps, title, **options)

    monkeypatch.setattr(interpretation, "saliency", recorded)
    monkeypatch.setattr(plots, "saliency_figure", recorded_figure)
    training.set_seed(1)
    model = build_model("cnn", (24, 24, 1), 7)
    record = TrainingRecord(class_names=EMOTIONS, image_shape=(24, 24, 1), pixels="raw")
    checkpoints.save(model, folder / "small.h5", record)
    data.write_csv(folder / "large.csv", rows.images, labels=rows.labels)
    command("report", "small.h5", "large.csv", cwd=folder)
    shown = passed["dataset"]
    assert shown.image_shape == (24, 24, 1)
    assert passed["methods"] == ["gradient", "layercam"]
    assert passed["maps"]["LayerCAM"].shape == (len(shown), 24, 24)
    predicted = inference.predict(checkpoints.load(folder / "small.h5"), shown).argmax(axis=1)
    correct = predicted == shown.labels
    assert 0 < correct.sum() < len(shown)
    for caption, row, predicted_class, true in zip(
        passed["captions"], shown.ids, predicted, shown.labels, strict=True
    ):
        verdict = "correct" if predicted_class == true else f"predicted {EMOTIONS[predicted_class]}"
        assert caption == f"{EMOTIONS[true]}, {verdict}\nid {row}"
    assert len(set(shown.labels[~correct])) == (~correct).sum() == 3


def test_report_on_a_foreign_model_without_wrong_predictions(folder, command):
    """It records nothing, and every row is of the class that it always predicts."""
    images = keras.Input((48, 48, 1))
    flat = keras.layers.Flatten()(images)
    answer = keras.layers.Dense(7, activation="softmax", kernel_initializer="zeros")
    model = keras.Model(images, answer(flat))
    answer.bias.assign(np.eye(7)[3])
    model.save(folder / "foreign.keras")
    happy = faces(40, seed=9)
    happy = happy.take(happy.labels == 3)
    data.write_csv(folder / "happy.csv", happy.images, labels=happy.labels)
    printed = command("report", "foreign.keras", "happy.csv", "--pixels", "raw", cwd=folder)
    assert "accuracy 100.00%" in printed
    page = read(folder / "foreign_report.html")
    assert "None: every row is predicted correctly." in page.text
    assert "no training history" in page.text
    assert page.row("pixels")[0].startswith("raw (assumed")
    assert page.row("angry") == ["0", "0", *["\N{EN DASH}"] * 3]
    assert page.row("macro F1")[0] == "100.00%"


def test_report_never_interprets_names_as_html(folder, command):
    names = ("<script>alert(1)</script>", '"><img src=x>', "$x_{", "&amp;", "e", "f", "g")
    drawn = dataclasses.replace(faces(30, seed=4), class_names=names)
    data.write_npz(folder / "hostile.npz", train=drawn)
    model = build_model("dnn", (48, 48, 1), 7)
    record = TrainingRecord(
        pixels="raw",
        class_names=names,
        recipe={"<script>": "<script>"},
        versions={"<img src=x>": "<b>"},
        history={"loss": [1.0], "accuracy": [0.5]},
    )
    checkpoints.save(model, folder / "a<b>$.h5", record)
    command("report", "a<b>$.h5", "hostile.npz", "--out", "hostile.html", cwd=folder)
    page = read(folder / "hostile.html")
    assert not {"script", "b"} & set(page.tags)
    assert page.tags.count("img") == 6
    assert names[0] in page.text
    assert page.row("recipe: <script>") == ["<script>"]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("gone.h5", "data.csv"), "gone.h5: no such file"),
        (("model.h5", "gone.csv"), r"gone\.csv: "),
        (("model.h5", "bare.csv"), r"bare\.csv: .*--truth"),
        (("model.h5", "private.csv"), r"private\.csv: .*--usage"),
        (("model.h5", "data.csv", "--usage", "x"), "Received: '?x"),
        (("model.h5", "train.csv", "--usage", "PrivateTest"), r"train\.csv: .*usage"),
        (("model.h5", "data.csv", "--out", "x.pdf"), "--out must end in .html"),
        (("model.h5", "data.csv", "--out", "data.csv/x.html"), "cannot be written"),
        (("model.h5", "data.csv", "--truth", "x.html", "--out", "x.html"), "is an input"),
        (("model.h5", "data.csv", "--class-names", "a,b"), r"model\.h5: .*a, b|model\.h5"),
        (("two.h5", "data.csv"), r"two\.h5: .* 2 outputs.* 7 classes"),
    ],
)
def test_report_on_bad_input(folder, command, arguments, rule):
    checkpoints.save(build_model("dnn", (48, 48, 1), 2), folder / "two.h5", TrainingRecord())
    (folder / "x.html").write_text("id,label\n")
    before = sorted(folder.rglob("*"))
    error = command("report", *arguments, cwd=folder, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(rule, error)
    assert sorted(folder.rglob("*")) == before
