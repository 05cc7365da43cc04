"""`check` finds planted copies and labels, and a cleaned copy lacks these rows and no others."""

import dataclasses
import re

import keras
import numpy as np
import pytest
from PIL import Image
from planted import (
    CHANGES,
    recompressed,
    removed_rows,
    with_images,
    with_labels,
    write_folder,
    write_kaggle,
)
from support import faces, fails, run

from ferlab import data
from ferlab.audit import checks
from ferlab.labels import EMOTIONS


def summary(rows):
    return [(int(row["row"]), row["reason"], row["kept_row"]) for row in rows]


@pytest.fixture(scope="module")
def planted():
    """(training, test): copies of rows 0 to 3 in 60 to 63, of 4 in 64 with another label, of 5 in
    row 5 of test."""
    training, test = faces(90, seed=11), faces(30, seed=12)
    changes = {60 + k: change(training.images[k]) for k, change in enumerate(CHANGES.values())}
    changes |= {64: recompressed(training.images[4]), 70: 0 * training.images[70]}
    training = with_images(training, changes)
    labels = {60 + k: training.labels[k] for k in range(4)}
    labels[64] = (training.labels[4] + 1) % 7
    training = with_labels(training, labels)
    test = with_images(test, {5: recompressed(training.images[5]), 9: test.images[8], 10: 255})
    return training, test


EXPECTED = [  # by default: (row number, reason, row number of the copy that stays)
    (6, "across", "6"),
    (61, "copies", "1"),
    (62, "near", "2"),
    (63, "near", "3"),
    (64, "near", "4"),
    (65, "near", "5"),
    (71, "blank", ""),
]
KEPT = [row for row in range(90) if row + 1 not in {row for row, _, _ in EXPECTED}]


def test_check_reports_and_cleans_a_course_csv(planted, tmp_path, command):
    training, test = planted
    data.write_csv(tmp_path / "train.csv", training.images, labels=training.labels)
    data.write_csv(tmp_path / "test.csv", test.images, ids=test.ids)
    printed = command("check", "train.csv", "test.csv", "--clean", "clean", cwd=tmp_path)
    assert re.search(r"copies: 7 .*2 exact, 4 near, 1 mirrored", printed)
    assert re.search(r"  1 images of train\.csv .*test\.csv", printed)
    assert re.search(r"contradictory .*1 groups", printed)
    assert "blank: 2 images" in printed
    counts = ", ".join(
        f"{name} {(training.labels == label).sum()}" for label, name in enumerate(EMOTIONS)
    )
    assert f"train.csv: 90 images; {counts}" in printed
    assert "test.csv: 30 images; without labels" in printed

    rows = removed_rows(tmp_path / "clean")
    assert summary(rows) == EXPECTED
    assert {row["source"] for row in rows} == {"train.csv"}
    assert [row["kept_source"] for row in rows] == ["test.csv", *["train.csv"] * 5, ""]
    assert [row["label"] for row in rows[:2]] == [EMOTIONS[training.labels[row]] for row in (5, 60)]
    before = (tmp_path / "train.csv").read_bytes().splitlines(keepends=True)
    after = (tmp_path / "clean" / "train.csv").read_bytes()
    assert after == b"".join([before[0], *(before[row + 1] for row in KEPT)])
    same = (tmp_path / "clean" / "test.csv").read_bytes()
    assert same == (tmp_path / "test.csv").read_bytes()

    page = (tmp_path / "data_report.html").read_text()
    for heading in ("Classes", "Examples", "Copies", "Contradictory labels", "Blank images"):
        assert f">{heading}</h2>" in page
    figures = ("classes", "examples", *["copies"] * 3, "contradictory", "blank", "flat")
    assert page.count("<img ") == len(figures)
    assert len(page) < 5e6
    assert re.search(r"<td>across: [^<]*</td><td>1</td>", page)


def test_check_splits_kaggles_csv_and_removes_training_rows_only(planted, tmp_path, command):
    training, test = planted
    usage = np.repeat(["Training", "PublicTest", "PrivateTest"], [90, 15, 15])
    whole = dataclasses.replace(data.concatenate([training, test]), usage=usage)
    order = np.random.default_rng(0).permutation(120)
    write_kaggle(tmp_path / "fer2013.csv", whole.take(order))
    printed = command("check", "fer2013.csv", "--clean", "clean", cwd=tmp_path)
    assert re.search(r"  1 images of fer2013\.csv Training .*fer2013\.csv PublicTest", printed)
    before = (tmp_path / "fer2013.csv").read_bytes().splitlines(keepends=True)
    after = (tmp_path / "clean" / "fer2013.csv").read_bytes().splitlines(keepends=True)
    gone = [int(row["row"]) for row in removed_rows(tmp_path / "clean")]
    assert after == [line for number, line in enumerate(before) if number not in gone]
    assert all(usage[order[row - 1]] == "Training" for row in gone)
    # The first of each group stays, which need not be the original in this order.
    groups = [{5}, {0, 60}, {1, 61}, {2, 62}, {3, 63}, {4, 64}, {70}]
    places = {original: place for place, original in enumerate(order)}
    expected = {5, 70} | {max(group, key=places.get) for group in groups if len(group) == 2}
    assert {int(order[row - 1]) for row in gone} == expected


def test_check_cleans_the_parts_of_an_archive(planted, tmp_path, command):
    training, test = planted
    names = ("a", "b", "c", "d", "e", "f", "g")
    training, test = (dataclasses.replace(part, class_names=names) for part in planted)
    data.write_npz(tmp_path / "faces.npz", train=training, test=test)
    printed = command("check", "faces.npz", "--clean", "clean", cwd=tmp_path)
    assert re.search(r"  1 images of faces\.npz train .*faces\.npz test", printed)
    rows = removed_rows(tmp_path / "clean")
    assert summary(rows) == EXPECTED
    assert {row["usage"] for row in rows} == {"train"}
    assert [row["kept_usage"] for row in rows] == ["test", *["train"] * 5, ""]
    assert [row["kept_id"] for row in rows] == ["5", "0", "1", "2", "3", "4", ""]
    cleaned = data.read_parts(tmp_path / "clean" / "faces.npz")
    assert cleaned["train"].fingerprint() == training.take(KEPT).fingerprint()
    assert cleaned["train"].ids.tolist() == training.ids[KEPT].tolist()
    assert cleaned["test"].fingerprint() == test.fingerprint()


def test_check_keeps_the_other_files_of_a_folder(planted, tmp_path, command):
    training, test = planted
    write_folder(tmp_path / "faces", training, "train")
    write_folder(tmp_path / "faces", test, "test")
    command("check", "faces", "--clean", "clean", cwd=tmp_path)
    # Rows are sorted by class, so the first class of a contradictory pair stays.
    names = {row: EMOTIONS[training.labels[row]] for row in range(90)}
    gone = {row for row in range(90) if row not in KEPT} - {64} | {max(4, 64, key=names.get)}
    gone = {tmp_path / "faces" / "train" / names[row] / f"{row:03}.png" for row in gone}
    before = set((tmp_path / "faces").rglob("*.png"))
    after = set((tmp_path / "clean" / "faces").rglob("*.png"))
    assert {file.relative_to(tmp_path / "clean" / "faces") for file in after} == {
        file.relative_to(tmp_path / "faces") for file in before - gone
    }
    assert all(
        file.read_bytes()
        == (tmp_path / "faces" / file.relative_to(tmp_path / "clean" / "faces")).read_bytes()
        for file in after
    )


def test_check_distinguishes_files_of_one_name(planted, tmp_path, command):
    training, test = planted
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    data.write_csv(tmp_path / "a" / "x.csv", training.images, labels=training.labels)
    data.write_csv(tmp_path / "b" / "x.csv", test.images, labels=test.labels)
    printed = command("check", "a/x.csv", "b/x.csv", cwd=tmp_path)
    assert re.search(r"  1 images of a/x\.csv .*b/x\.csv", printed)
    page = (tmp_path / "data_report.html").read_text()
    assert "<td>1: a/x.csv</td><td>90</td><td>90</td>" in page
    assert "<td>2: b/x.csv</td><td>30</td><td>30</td>" in page


def test_check_removes_for_the_given_reasons(planted, tmp_path, command):
    training, _ = planted
    _, flat = checks.blank_and_flat(training.images)
    flat = set((np.flatnonzero(flat) + 1).tolist())
    data.write_csv(tmp_path / "train.csv", training.images, labels=training.labels)
    for reasons, expected in (
        ("copies", {61}),
        ("near", {61, 62, 63, 64, 65}),
        ("conflicts", {5, 65}),
        ("flat", flat),
        ("blank,flat", flat | {71}),
        ("across", set()),
    ):
        name = reasons.replace(",", "_")
        command("check", "train.csv", "--clean", name, "--remove", reasons, cwd=tmp_path)
        assert {int(row["row"]) for row in removed_rows(tmp_path / name)} == expected, reasons


def test_check_never_removes_rows_without_labels_or_of_later_files(planted, tmp_path, command):
    training, test = planted
    labels = training.labels.copy()
    labels[60:64] = -1
    data.write_csv(tmp_path / "a.csv", training.images, labels=labels)
    write_csv = dataclasses.replace(test, labels=np.zeros(30, np.int64))
    data.write_csv(tmp_path / "b.csv", write_csv.images, labels=write_csv.labels)
    command("check", "a.csv", "b.csv", "--clean", "clean", cwd=tmp_path)
    rows = removed_rows(tmp_path / "clean")
    assert {(row["source"], row["row"]) for row in rows} == {
        ("a.csv", "6"),
        ("a.csv", "65"),
        ("a.csv", "71"),
    }


def with_visible_classes(dataset, seed, wrong):
    """(faces whose first line of pixels shows the class, rows with a wrong label)."""
    images, labels = dataset.images.copy(), dataset.labels.copy()
    images[:, 0] = 0
    for row, label in enumerate(labels):
        images[row, 0, 6 * label : 6 * label + 6] = 255
    rows = np.random.default_rng(seed).choice(len(labels), wrong, replace=False)
    labels[rows] = (labels[rows] + 1) % 7
    return dataclasses.replace(dataset, images=images, labels=labels), rows


def test_check_finds_planted_wrong_labels_with_a_model(tmp_path, command):
    rows, wrong = with_visible_classes(faces(300, seed=21), 0, 12)
    data.write_csv(tmp_path / "train.csv", rows.images, labels=rows.labels)
    images = keras.Input((48, 48, 1))
    line = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 47), (0, 6)))(images))
    keras.utils.set_random_seed(0)
    model = keras.Model(images, keras.layers.Dense(2, activation="softmax")(line))
    model.save(tmp_path / "other.keras")  # its features are useful for other classes too
    printed = command(
        *("check", "train.csv", "--model", "other.keras", "--clean", "clean"),
        *("--remove", "wrong", "--out", "page.html"),
        cwd=tmp_path,
    )
    assert re.search(r"note: .*9\d\.\d+%", printed)
    assert re.search(r"note: other\.keras: .*unknown", printed)
    removed = {int(row["row"]) - 1 for row in removed_rows(tmp_path / "clean")}
    assert set(wrong.tolist()) <= removed
    assert len(removed) <= 14
    page = (tmp_path / "page.html").read_text()
    assert ">Likely wrong labels</h2>" in page
    assert "arXiv:1911.00068" in page


def test_check_shows_no_label_issues_of_a_model_that_has_learned_nothing(tmp_path, command):
    rows = faces(60, seed=22)
    labels = np.random.default_rng(0).integers(0, 7, 60)
    data.write_csv(tmp_path / "train.csv", rows.images, labels=labels)
    images = keras.Input((48, 48, 1))
    line = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 47), (0, 40)))(images))
    keras.Model(images, keras.layers.Dense(7)(line)).save(tmp_path / "m.keras")
    printed = command("check", "train.csv", "--model", "m.keras", cwd=tmp_path)
    assert "likely wrong labels: 0" in printed
    assert "no better than" in printed


def test_check_compares_files(tmp_path, command):
    first, second = faces(150, seed=31), faces(150, seed=32)
    darker = dataclasses.replace(second, images=(second.images * 0.8).astype(np.uint8))
    few = second.take(np.flatnonzero(second.labels < 2))
    for name, part in zip("abcde", (first, second, darker, few, first), strict=True):
        data.write_csv(tmp_path / f"{name}.csv", part.images, labels=part.labels)
    printed = command("check", *(f"{name}.csv" for name in "abcde"), cwd=tmp_path)
    auc = dict(re.findall(r"a.csv and (\w).csv: .*AUC ([\d.]+)", printed))
    assert float(auc["b"]) < 0.6 < 0.7 < float(auc["c"])
    assert 0.4 < float(auc["e"]) < 0.6  # the same images: copies are in one fold
    shares = np.bincount(first.labels, minlength=7) / 150
    others = np.bincount(few.labels, minlength=7) / len(few)
    largest = f"{100 * abs(shares - others).max():.1f} points"
    assert largest in next(line for line in printed.splitlines() if "a.csv and d.csv" in line)


def test_check_reports_file_sizes(tmp_path, command):
    rows = faces(40, seed=41)
    write_folder(tmp_path / "faces", rows.take(rows.labels < 2))
    angry = tmp_path / "faces" / "angry"
    for name, size in {"large": (480, 480), "wide": (120, 40), "small": (30, 30)}.items():
        Image.new("L", size, 99).save(angry / f"{name}.png")
    count = len(list((tmp_path / "faces").rglob("*.png")))
    printed = command("check", "faces", cwd=tmp_path)
    assert f"{count} files of 30x30 to 480x480, median 48x48; 2 of odd size" in printed
    (angry / "text.png").write_text("no image")
    error = command("check", "faces", "--out", "b.html", cwd=tmp_path, code=2)
    assert "faces/angry/text.png" in error
    assert not (tmp_path / "b.html").exists()


def test_check_ignores_labels_reserved_for_scoring(tmp_path, command):
    """Of three contradictory pairs, one is Training and Test, one Training and PublicTest."""
    rows = faces(30, seed=43)
    rows = with_images(rows, {20 + k: rows.images[k] for k in range(3)})
    rows = with_labels(rows, {20 + k: (rows.labels[k] + 1) % 7 for k in range(3)})
    usage = np.full(30, "Training", dtype="U10")
    usage[[20, 21]] = "Test", "PublicTest"
    write_kaggle(tmp_path / "a.csv", dataclasses.replace(rows, usage=usage))
    arguments = ("a.csv", "--clean", "clean", "--remove", "conflicts")
    printed = command("check", *arguments, cwd=tmp_path)
    assert re.search(r"contradictory .*2 groups", printed)
    assert [row["row"] for row in removed_rows(tmp_path / "clean")] == ["3", "23"]


def test_check_escapes_hostile_names(tmp_path, command):
    hostile = "<script>alert(1)</script>"
    names = tuple(f"{hostile}{number}" for number in range(7))
    rows = dataclasses.replace(faces(24, seed=51), class_names=names)
    rows = dataclasses.replace(rows, ids=np.array([f"<b>{row}</b>" for row in rows.ids]))
    data.write_npz(tmp_path / "<i>.npz", train=rows)
    command("check", "<i>.npz", cwd=tmp_path)
    page = (tmp_path / "data_report.html").read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


@pytest.fixture
def bad(tmp_path):
    rows = faces(12, seed=61)
    data.write_csv(tmp_path / "train.csv", rows.images, labels=rows.labels)
    data.write_csv(tmp_path / "small.csv", rows.images[:, ::2, ::2], labels=rows.labels)
    data.write_csv(tmp_path / "test.csv", rows.images, ids=rows.ids)
    two = dataclasses.replace(rows, class_names=("x", "y"), labels=rows.labels % 2)
    data.write_npz(tmp_path / "two.npz", train=two)
    (tmp_path / "sub").mkdir()
    data.write_csv(tmp_path / "sub" / "train.csv", rows.images, labels=rows.labels)
    data.write_csv(tmp_path / "table.html", rows.images, labels=rows.labels)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("gone.csv",), "gone.csv: no such file or folder"),
        (("train.csv", "train.csv"), "train.csv: is listed twice"),
        (("train.csv", "small.csv"), "small.csv:2: expected 2304 pixels, found 576"),
        (("train.csv", "two.npz"), "the same classes"),
        (("train.csv", "--out", "train.csv"), "--out must end in .html"),
        (("train.csv", "--out", "train.csv/a.html"), "a.html: cannot be written"),
        (("table.html", "--out", "table.html"), "table.html: is an input"),
        (("train.csv", "--clean", "sub"), "sub: must be a new or an empty folder"),
        (("train.csv", "--clean", "train.csv"), "train.csv: is inside"),
        (("train.csv", "sub/train.csv", "--clean", "new"), "train.csv: its copy"),
        (("test.csv", "--clean", "new"), "--clean"),
        (("train.csv", "--remove", "wrong"), "--remove wrong requires --model"),
        (("train.csv", "--remove", "all"), "argument --remove: "),
        (("train.csv", "--similarity", "2"), "argument --similarity: "),
        (("train.csv", "--model", "gone.h5"), "gone.h5: no such file"),
        (("train.csv", "--pixels", "raw"), "--pixels requires --model"),
    ],
)
def test_check_on_bad_input(bad, command, arguments, rule):
    before = {path: path.read_bytes() for path in bad.rglob("*") if path.is_file()}
    error = command("check", *arguments, cwd=bad, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert rule in error
    assert {path: path.read_bytes() for path in bad.rglob("*") if path.is_file()} == before
    assert not (bad / "new").exists()


@pytest.mark.parametrize("images", [np.zeros((3, 48, 48, 1), np.uint8), faces(1).images])
def test_check_reports_tiny_data(tmp_path, command, images):
    data.write_csv(tmp_path / "train.csv", images, labels=np.zeros(len(images), np.int64))
    printed = command("check", "train.csv", cwd=tmp_path)
    assert "copies: 0 " in printed


def test_check_runs_in_a_separate_process(planted, tmp_path):
    training, _ = planted
    data.write_csv(tmp_path / "train.csv", training.images, labels=training.labels)
    printed = run("-m ferlab", "check", "train.csv", cwd=tmp_path)
    assert printed.splitlines()[-1] == "data_report.html"
    assert "gone.csv" in fails("-m ferlab", "check", "gone.csv", cwd=tmp_path)
