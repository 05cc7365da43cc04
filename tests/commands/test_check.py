"""`check`: what it finds is what was planted, and a cleaned copy lacks that and nothing else."""

import csv
import dataclasses
import io
import re

import keras
import numpy as np
import pytest
from PIL import Image
from support import faces, fails, run

from ferlab import checkpoints, data, inference
from ferlab.audit import checks, cleaning, label_errors
from ferlab.audit import duplicates as near
from ferlab.commands import check
from ferlab.data import Dataset
from ferlab.labels import EMOTIONS


def recompressed(image):
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(buffer, "JPEG")
    return np.asarray(Image.open(buffer))[:, :, None]


def brighter(image):
    return np.clip(image.astype(int) + 2, 0, 255).astype(np.uint8)


def mirrored(image):
    return image[:, ::-1]


CHANGES = {"exact": np.copy, "jpeg": recompressed, "brighter": brighter, "mirrored": mirrored}


def with_images(dataset, changes):
    """The dataset with the image of some rows replaced: {row: image}."""
    images = dataset.images.copy()
    for row, image in changes.items():
        images[row] = image
    return dataclasses.replace(dataset, images=images)


def with_labels(dataset, changes):
    labels = dataset.labels.copy()
    labels[list(changes)] = list(changes.values())
    return dataclasses.replace(dataset, labels=labels)


def found_in(dataset, rows=None, **settings):
    rows = np.arange(len(dataset)) if rows is None else rows
    return near.find_copies(dataset.images, dataset.row_digests(), rows, **settings)


def write_kaggle(path, dataset):
    lines = ["emotion,pixels,Usage"]
    for image, label, usage in zip(dataset.images, dataset.labels, dataset.usage, strict=True):
        lines.append(f"{label},{' '.join(map(str, image.ravel()))},{usage}")
    path.write_text("\r\n".join(lines))


def write_folder(root, dataset, name="", suffix="png"):
    for index, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        folder = root / name / dataset.class_names[label] if label >= 0 else root / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index:03}.{suffix}")


def removed_rows(folder):
    with (folder / "removed.csv").open() as file:
        return list(csv.DictReader(file))


def summary(rows):
    return [(int(row["row"]), row["reason"], row["kept_row"]) for row in rows]


# Near duplicates


def test_planted_copies_are_found_and_nothing_else():
    drawn = faces(300, seed=1)
    assert not len(found_in(drawn))
    planted = {
        100 + place: change(drawn.images[place]) for place, change in enumerate(CHANGES.values())
    }
    copies = found_in(with_images(drawn, planted))
    order = np.argsort(copies.first)
    np.testing.assert_array_equal(copies.first[order], [0, 1, 2, 3])
    np.testing.assert_array_equal(copies.second[order], [100, 101, 102, 103])
    np.testing.assert_array_equal(copies.exact[order], [True, False, False, False])
    np.testing.assert_array_equal(copies.mirrored[order], [False, False, False, True])
    assert (copies.correlation > 0.95).all()
    groups = copies.groups(300)
    assert len(np.unique(groups)) == 296
    np.testing.assert_array_equal(groups[:4], groups[100:104])
    assert len(np.unique(copies.groups(300, exact=True))) == 299


def test_all_pairs_are_compared_whatever_the_blocks(monkeypatch):
    """Against a plain comparison of all pairs, on noisy chains whose pairs lie about the limit."""
    rng = np.random.default_rng(0)
    drawn = faces(20, seed=2).images.astype(float)
    noisy = np.repeat(drawn, 6, axis=0) + rng.normal(0, 14, (120, 48, 48, 1))
    images = np.clip(noisy, 0, 255).astype(np.uint8)[rng.permutation(120)]
    images[70] = images[3]
    images[90] = images[5, :, ::-1]
    values = images.reshape(120, -1).astype(float)
    values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    flipped = values.reshape(120, 48, 48)[:, :, ::-1].reshape(120, -1)
    best = np.maximum(values @ values.T, values @ flipped.T) / values.shape[1]
    for name, value in {"_ROWS": 16, "_COLUMNS": 32, "_MOST_PAIRS": 8, "_CHUNK": 5000}.items():
        monkeypatch.setattr(near, name, value)
    dataset = Dataset(images, np.zeros(120, np.int64), np.arange(120).astype(str), EMOTIONS)
    for similarity in (0.97, 0.95, 0.9):
        alike = best >= similarity
        expected = np.linalg.matrix_power(alike.astype(float), 64) > 0  # connected at any distance
        copies = found_in(dataset, similarity=similarity)
        groups = copies.groups(120)
        np.testing.assert_array_equal(groups[:, None] == groups, expected)
        assert len(copies) == 120 - len(np.unique(groups))
        assert (copies.first < copies.second).all()
        np.testing.assert_allclose(copies.correlation, best[copies.first, copies.second], atol=1e-5)


def test_rows_that_are_not_asked_about_are_not_compared():
    drawn = faces(50, seed=3)
    blank = with_images(
        drawn, {4: 0 * drawn.images[4], 9: 0 * drawn.images[9], 12: drawn.images[2]}
    )
    is_blank, _ = checks.blank_and_flat(blank.images)
    assert np.flatnonzero(is_blank).tolist() == [4, 9]
    copies = found_in(blank, np.flatnonzero(~is_blank))
    assert (copies.first.tolist(), copies.second.tolist()) == ([2], [12])


def test_blank_is_almost_constant_and_flat_is_mostly_one_level():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 48, 48, 1)).astype(np.uint8)
    images[0] = rng.integers(100, 103, images[0].shape)
    images[1] = 7
    images[1, :20] = rng.integers(0, 255, images[1, :20].shape)  # 28 of 48 lines are of one level
    images[2] = 7
    images[2, :18] = rng.integers(8, 255, images[2, :18].shape)
    blank, flat = checks.blank_and_flat(images)
    assert blank.tolist() == [True, False, False, False]
    assert flat.tolist() == [False, False, True, False]


def test_thumbnails_are_means_of_areas():
    images = faces(3, seed=5).images
    small = near.thumbnails(images, 12)
    expected = images.reshape(3, 12, 4, 12, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(small, expected, rtol=1e-4)
    wide = np.arange(2 * 5 * 7 * 3, dtype=np.uint8).reshape(2, 5, 7, 3)
    np.testing.assert_allclose(
        near.thumbnails(wide, 4).mean(axis=(1, 2)), wide.mean(axis=(1, 2, 3)), rtol=1e-4
    )


# Wrong labels


def test_wrong_labels_come_first():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 800)
    features = rng.normal(size=(800, 10)) + 3 * np.eye(10)[truth]
    planted = rng.choice(800, 40, replace=False)
    labels = truth.copy()
    labels[planted] = (truth[planted] + rng.integers(1, 4, 40)) % 4
    probabilities = label_errors.out_of_sample_probabilities(
        features, labels, np.arange(800), ("a", "b", "c", "d", "e")
    )
    assert (probabilities[:, 4] == 0).all()  # a class without rows
    doubts = label_errors.find(labels, probabilities)
    assert np.isin(doubts.rows[:40], planted).mean() > 0.8  # 0.05 by chance
    assert (doubts.likely[:20] == truth[doubts.rows[:20]]).mean() > 0.9
    assert (np.diff(doubts.given - doubts.confidence) >= 0).all()
    assert (doubts.likely != labels[doubts.rows]).all()


def test_a_rows_copies_do_not_vouch_for_it():
    rng = np.random.default_rng(0)
    groups = np.arange(600) // 2
    labels = rng.integers(0, 3, 300)[groups]
    features = rng.normal(size=(300, 200))[groups]
    probabilities = label_errors.out_of_sample_probabilities(features, labels, groups, EMOTIONS[:3])
    assert (probabilities.argmax(axis=1) == labels).mean() < 0.42  # 0.9 if copies were seen


def test_a_class_counts_from_its_own_average_on():
    """Thresholds are those of confident learning: class 1 is never above 0.5, yet it counts."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.6, 0.4], [0.6, 0.4]])
    doubts = label_errors.find(np.array([0, 0, 0, 1, 1]), probabilities)
    assert doubts.rows.tolist() == [2]
    assert doubts.likely.tolist() == [1]


def test_features_are_what_the_last_layer_sees(tmp_path):
    images = keras.Input((48, 48, 1))
    maps = keras.layers.Conv2D(5, 3, name="maps")(keras.layers.Rescaling(1 / 255)(images))
    body = keras.layers.Dense(7)(keras.layers.Flatten()(keras.layers.MaxPooling2D(8)(maps)))
    drawn = faces(6, seed=6)
    checkpoints.save(keras.Model(images, body), tmp_path / "flat.h5", {"pixels": "raw"})
    opened = checkpoints.load(tmp_path / "flat.h5")
    features = inference.features(opened, drawn, batch_size=4)
    assert features.shape == (6, 5 * 5 * 5 + 7)
    kernel, bias = opened.model.layers[-1].get_weights()
    logits = features[:, :125] @ kernel + bias
    expected = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))
    np.testing.assert_allclose(features[:, 125:], expected, rtol=1e-3, atol=1e-4)
    # Without a dense layer, the mean of the map that the last convolution sees; pixels are scaled.
    last = keras.layers.Conv2D(7, 1)(keras.layers.Conv2D(4, 3)(images))
    pooled = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(last))
    keras.Model(images, pooled).save(tmp_path / "map.keras")
    opened = checkpoints.load(tmp_path / "map.keras")
    features = inference.features(opened, drawn)
    first = opened.model.layers[1](drawn.images.astype("float32") / 255)
    np.testing.assert_allclose(
        features[:, :4], keras.ops.convert_to_numpy(first).mean(axis=(1, 2)), rtol=1e-3, atol=1e-4
    )
    answered = inference.predict(opened, drawn)
    np.testing.assert_allclose(np.exp(features[:, 4:]), answered, rtol=1e-3)


# The command


@pytest.fixture(scope="module")
def planted():
    """(training, test): 0 to 3 are copied in 60 to 63; 4 in 64 with another label; test 5 is 5."""
    training, test = faces(90, seed=11), faces(30, seed=12)
    changes = {60 + k: change(training.images[k]) for k, change in enumerate(CHANGES.values())}
    changes |= {64: recompressed(training.images[4]), 70: 0 * training.images[70]}
    training = with_images(training, changes)
    labels = {60 + k: training.labels[k] for k in range(4)}
    labels[64] = (training.labels[4] + 1) % 7
    training = with_labels(training, labels)
    test = with_images(test, {5: recompressed(training.images[5]), 9: test.images[8], 10: 255})
    return training, test


EXPECTED = [  # by default: (row counted from 1, reason, the row that stays)
    (6, "across", "6"),
    (61, "copies", "1"),
    (62, "near", "2"),
    (63, "near", "3"),
    (64, "near", "4"),
    (65, "near", "5"),
    (71, "blank", ""),
]
KEPT = [row for row in range(90) if row + 1 not in {row for row, _, _ in EXPECTED}]


def test_a_course_csv_is_reported_and_cleaned(planted, tmp_path, command):
    training, test = planted
    data.write_csv(tmp_path / "train.csv", training.images, labels=training.labels)
    data.write_csv(tmp_path / "test.csv", test.images, ids=test.ids)
    printed = command("check", "train.csv", "test.csv", "--clean", "clean", cwd=tmp_path)
    assert "copies: 7 beyond the first of each group (2 byte for byte, 4 nearly, 1 mirr" in printed
    assert "  1 images of train.csv have one in test.csv" in printed
    assert "contradictory: 1 groups" in printed
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
    assert (
        page.count("<img ") == 8
    )  # classes, examples, three of copies, contradictory, blank, flat
    assert len(page) < 5e6
    assert "<td>across: a copy of a row of another file, or of another usage</td><td>1</td>" in page


def test_kaggles_csv_is_split_by_usage_and_only_training_rows_go(planted, tmp_path, command):
    training, test = planted
    usage = np.repeat(["Training", "PublicTest", "PrivateTest"], [90, 15, 15])
    whole = dataclasses.replace(data.concatenate([training, test]), usage=usage)
    order = np.random.default_rng(0).permutation(120)
    write_kaggle(tmp_path / "fer2013.csv", whole.take(order))
    printed = command("check", "fer2013.csv", "--clean", "clean", cwd=tmp_path)
    assert "1 images of fer2013.csv Training have one in fer2013.csv PublicTest" in printed
    before = (tmp_path / "fer2013.csv").read_bytes().splitlines(keepends=True)
    after = (tmp_path / "clean" / "fer2013.csv").read_bytes().splitlines(keepends=True)
    gone = [int(row["row"]) for row in removed_rows(tmp_path / "clean")]
    assert after == [line for number, line in enumerate(before) if number not in gone]
    assert all(usage[order[row - 1]] == "Training" for row in gone)
    # The first of a group stays, which here need not be the one that was copied.
    groups = [{5}, {0, 60}, {1, 61}, {2, 62}, {3, 63}, {4, 64}, {70}]
    places = {original: place for place, original in enumerate(order)}
    expected = {5, 70} | {max(group, key=places.get) for group in groups if len(group) == 2}
    assert {int(order[row - 1]) for row in gone} == expected


def test_an_archive_keeps_its_parts(planted, tmp_path, command):
    training, test = planted
    names = ("a", "b", "c", "d", "e", "f", "g")
    training, test = (dataclasses.replace(part, class_names=names) for part in planted)
    data.write_npz(tmp_path / "faces.npz", train=training, test=test)
    printed = command("check", "faces.npz", "--clean", "clean", cwd=tmp_path)
    assert "1 images of faces.npz train have one in faces.npz test" in printed
    rows = removed_rows(tmp_path / "clean")
    assert summary(rows) == EXPECTED
    assert {row["usage"] for row in rows} == {"train"}
    assert [row["kept_usage"] for row in rows] == ["test", *["train"] * 5, ""]
    assert [row["kept_id"] for row in rows] == ["5", "0", "1", "2", "3", "4", ""]
    cleaned = data.read_parts(tmp_path / "clean" / "faces.npz")
    assert cleaned["train"].fingerprint() == training.take(KEPT).fingerprint()
    assert cleaned["train"].ids.tolist() == training.ids[KEPT].tolist()
    assert cleaned["test"].fingerprint() == test.fingerprint()


def test_a_folder_keeps_its_other_files(planted, tmp_path, command):
    training, test = planted
    write_folder(tmp_path / "faces", training, "train")
    write_folder(tmp_path / "faces", test, "test")
    command("check", "faces", "--clean", "clean", cwd=tmp_path)
    # Rows come class by class, so that of a contradictory pair the first class's stays.
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


def test_files_of_one_name_are_told_apart(planted, tmp_path, command):
    training, test = planted
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    data.write_csv(tmp_path / "a" / "x.csv", training.images, labels=training.labels)
    data.write_csv(tmp_path / "b" / "x.csv", test.images, labels=test.labels)
    printed = command("check", "a/x.csv", "b/x.csv", cwd=tmp_path)
    assert "1 images of a/x.csv have one in b/x.csv" in printed
    page = (tmp_path / "data_report.html").read_text()
    assert "<td>1: a/x.csv</td><td>90</td><td>90</td>" in page
    assert "<td>2: b/x.csv</td><td>30</td><td>30</td>" in page


def test_what_is_removed_can_be_chosen(planted, tmp_path, command):
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


def test_rows_without_labels_and_later_files_stay(planted, tmp_path, command):
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


def one_hot_row(dataset, seed, wrong):
    """Faces whose first line of pixels tells the class; some labels are wrong: (dataset, which)."""
    images, labels = dataset.images.copy(), dataset.labels.copy()
    images[:, 0] = 0
    for row, label in enumerate(labels):
        images[row, 0, 6 * label : 6 * label + 6] = 255
    rows = np.random.default_rng(seed).choice(len(labels), wrong, replace=False)
    labels[rows] = (labels[rows] + 1) % 7
    return dataclasses.replace(dataset, images=images, labels=labels), rows


def test_a_model_finds_planted_wrong_labels(tmp_path, command):
    rows, wrong = one_hot_row(faces(300, seed=21), 0, 12)
    data.write_csv(tmp_path / "train.csv", rows.images, labels=rows.labels)
    images = keras.Input((48, 48, 1))
    line = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 47), (0, 6)))(images))
    keras.utils.set_random_seed(0)
    model = keras.Model(images, keras.layers.Dense(2, activation="softmax")(line))
    model.save(tmp_path / "other.keras")  # of two classes: its features serve all the same
    printed = command(
        *("check", "train.csv", "--model", "other.keras", "--clean", "clean"),
        *("--remove", "wrong", "--out", "page.html"),
        cwd=tmp_path,
    )
    assert re.search(r"gives the label that is there to 9\d\.\d+%", printed)
    assert "does not tell which rows it was trained on" in printed
    found = {int(row["row"]) - 1 for row in removed_rows(tmp_path / "clean")}
    assert set(wrong.tolist()) <= found
    assert len(found) <= 14
    page = (tmp_path / "page.html").read_text()
    assert ">Likely wrong labels</h2>" in page
    assert "arXiv:1911.00068" in page


def test_doubts_of_a_model_that_knows_nothing_are_not_shown(tmp_path, command):
    rows = faces(60, seed=22)
    labels = np.random.default_rng(0).integers(0, 7, 60)
    data.write_csv(tmp_path / "train.csv", rows.images, labels=labels)
    images = keras.Input((48, 48, 1))
    line = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 47), (0, 40)))(images))
    keras.Model(images, keras.layers.Dense(7)(line)).save(tmp_path / "m.keras")
    printed = command("check", "train.csv", "--model", "m.keras", cwd=tmp_path)
    assert "likely wrong labels: 0" in printed
    assert "its doubts would mean nothing" in printed


def test_files_that_differ_are_told_from_alike_ones(tmp_path, command):
    first, second = faces(150, seed=31), faces(150, seed=32)
    darker = dataclasses.replace(second, images=(second.images * 0.8).astype(np.uint8))
    few = second.take(np.flatnonzero(second.labels < 2))
    for name, part in zip("abcde", (first, second, darker, few, first), strict=True):
        data.write_csv(tmp_path / f"{name}.csv", part.images, labels=part.labels)
    printed = command("check", *(f"{name}.csv" for name in "abcde"), cwd=tmp_path)
    auc = dict(re.findall(r"a.csv and (\w).csv: .*AUC ([\d.]+)", printed))
    assert float(auc["b"]) < 0.6 < 0.7 < float(auc["c"])
    assert 0.4 < float(auc["e"]) < 0.6  # the same images: a copy learned from tells no side
    shares = np.bincount(first.labels, minlength=7) / 150
    others = np.bincount(few.labels, minlength=7) / len(few)
    largest = f"{100 * abs(shares - others).max():.1f} points at most"
    assert largest in next(line for line in printed.splitlines() if "a.csv and d.csv" in line)
    rows = checks.read([str(tmp_path / "a.csv"), str(tmp_path / "c.csv")])
    (found,) = checks.compare(rows, np.ones(300, dtype=bool), np.arange(300))
    before, after, difference, low, high, effect = found.brightness
    assert before == pytest.approx(first.images.mean(), abs=0.1)
    assert after == pytest.approx(darker.images.mean(), abs=0.1)
    assert difference == pytest.approx(after - before)
    assert low < difference < high < 0
    assert effect < -0.5


def test_odd_sizes_and_modes_of_files(tmp_path, command):
    rows = faces(40, seed=41)
    write_folder(tmp_path / "faces", rows.take(rows.labels < 2))
    angry = tmp_path / "faces" / "angry"
    for name, size, mode in (
        ("large", (480, 480), "L"),
        ("wide", (120, 40), "L"),
        ("colour", (48, 48), "RGB"),
        ("small", (30, 30), "L"),
    ):
        Image.new(mode, size, 99).save(angry / f"{name}.png")
    count = len(list((tmp_path / "faces").rglob("*.png")))
    sizes = checks.file_sizes(str(tmp_path / "faces"))
    odd = {sizes.files[row] for row in np.flatnonzero(sizes.odd)}
    assert odd == {"angry/large.png", "angry/wide.png"}
    small = {sizes.files[row] for row in np.flatnonzero(sizes.small((48, 48, 1)))}
    assert small == {"angry/small.png", "angry/wide.png"}
    assert sizes.modes == {"L": count - 1, "RGB": 1}
    printed = command("check", "faces", cwd=tmp_path)
    assert f"{count} files of 30x30 to 480x480, median 48x48; 2 of odd size" in printed
    (angry / "text.png").write_text("no image")
    (angry / "other.jpg").write_text("no image")
    error = command("check", "faces", "--out", "b.html", cwd=tmp_path, code=2)
    assert "2 files are not images: faces/angry/other.jpg, faces/angry/text.png" in error
    assert not (tmp_path / "b.html").exists()


def test_the_orders_of_a_folder_and_a_table_are_brought_together(tmp_path):
    rows = faces(40, seed=42)
    write_folder(tmp_path / "faces", rows)
    data.write_csv(tmp_path / "more.csv", rows.images, labels=rows.labels)
    read = checks.read([str(tmp_path / "faces"), str(tmp_path / "more.csv")])
    assert read.dataset.class_names == tuple(sorted(EMOTIONS))
    names = [read.dataset.class_names[label] for label in read.dataset.labels[40:]]
    assert names == [EMOTIONS[label] for label in rows.labels]
    groups = found_in(read.dataset).groups(80)
    assert not checks.conflicts(read, groups)
    assert [part.is_trained_on for part in read.parts] == [True, False]


def test_labels_that_are_not_trained_on_decide_nothing(tmp_path, command):
    """Of three pairs with unlike labels, one is across to Test, one to PublicTest."""
    rows = faces(30, seed=43)
    rows = with_images(rows, {20 + k: rows.images[k] for k in range(3)})
    rows = with_labels(rows, {20 + k: (rows.labels[k] + 1) % 7 for k in range(3)})
    usage = np.full(30, "Training", dtype="U10")
    usage[[20, 21]] = "Test", "PublicTest"
    write_kaggle(tmp_path / "a.csv", dataclasses.replace(rows, usage=usage))
    arguments = ("a.csv", "--clean", "clean", "--remove", "conflicts")
    printed = command("check", *arguments, cwd=tmp_path)
    assert "contradictory: 2 groups" in printed
    assert [row["row"] for row in removed_rows(tmp_path / "clean")] == ["3", "23"]


def test_hostile_names_are_text(tmp_path, command):
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
        (("gone.csv",), "gone.csv: cannot be read"),
        (("train.csv", "train.csv"), "train.csv: is given twice"),
        (("train.csv", "small.csv"), "small.csv:2: expected 2304 pixels, found 576"),
        (("train.csv", "two.npz"), "the same classes"),
        (("train.csv", "--out", "train.csv"), "--out must end in .html"),
        (("train.csv", "--out", "train.csv/a.html"), "a.html: cannot be written"),
        (("table.html", "--out", "table.html"), "table.html: is read here"),
        (("train.csv", "--clean", "sub"), "sub: must be a new or an empty folder"),
        (("train.csv", "--clean", "train.csv"), "train.csv: lies in train.csv"),
        (("train.csv", "sub/train.csv", "--clean", "new"), "a name of its own"),
        (("test.csv", "--clean", "new"), "needs labelled rows to train on"),
        (("train.csv", "--remove", "wrong"), "--remove wrong needs --model"),
        (("train.csv", "--remove", "all"), "expected some of blank"),
        (("train.csv", "--similarity", "2"), "expected a number from 0.5 to 1"),
        (("train.csv", "--model", "gone.h5"), "gone.h5: no such file"),
        (("train.csv", "--pixels", "raw"), "--model, which is missing"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(bad, command, arguments, rule):
    before = {path: path.read_bytes() for path in bad.rglob("*") if path.is_file()}
    error = command("check", *arguments, cwd=bad, code=2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert rule in error
    assert {path: path.read_bytes() for path in bad.rglob("*") if path.is_file()} == before
    assert not (bad / "new").exists()


def test_a_cleaned_copy_is_whole_or_not_there(bad, monkeypatch):
    def fail(*arguments):
        raise RuntimeError

    rows = checks.read([str(bad / "train.csv")])
    monkeypatch.setattr(cleaning, "_write_list", fail)
    before = sorted(bad.rglob("*"))
    with pytest.raises(RuntimeError):
        cleaning.write(bad / "deep" / "clean", rows, [], [str(bad / "train.csv")])
    assert sorted(bad.rglob("*")) == before


@pytest.mark.parametrize("images", [np.zeros((3, 48, 48, 1), np.uint8), faces(1).images])
def test_data_with_next_to_nothing_in_it(tmp_path, command, images):
    data.write_csv(tmp_path / "train.csv", images, labels=np.zeros(len(images), np.int64))
    printed = command("check", "train.csv", cwd=tmp_path)
    assert "copies: 0 beyond" in printed


def test_a_csv_with_quotes_and_blank_lines_is_filtered_by_row(tmp_path):
    pixels = " ".join(["7"] * 4)
    text = f'\ufeffid;label;feature\n\n"a\nb";0;"{pixels}"\nc;1;{pixels}\n\n"d";2;{pixels}'
    (tmp_path / "a.csv").write_text(text)
    assert len(data.read(tmp_path / "a.csv", role="train")) == 3
    data.write_csv_without(tmp_path / "b.csv", tmp_path / "a.csv", {0})
    assert (
        tmp_path / "b.csv"
    ).read_text() == f'\nid;label;feature\nc;1;{pixels}\n\n"d";2;{pixels}'[1:]
    data.write_csv_without(tmp_path / "b.csv", tmp_path / "a.csv", {1, 2})
    assert data.read(tmp_path / "b.csv", role="train").ids.tolist() == ["a\nb"]


def test_the_flags_know_what_the_rooms_know():
    """The command names reasons and the threshold itself, so that --help imports nothing heavy."""
    assert set(check.REASONS) == set(cleaning.REASONS)
    assert check.SIMILARITY == near.SIMILARITY


def test_as_a_user_types_it(planted, tmp_path):
    training, _ = planted
    data.write_csv(tmp_path / "train.csv", training.images, labels=training.labels)
    printed = run("-m ferlab", "check", "train.csv", cwd=tmp_path)
    assert printed.splitlines()[-1] == "data_report.html"
    assert "gone.csv" in fails("-m ferlab", "check", "gone.csv", cwd=tmp_path)
