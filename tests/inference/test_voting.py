"""Voting: model lists, weighted votes, and the cache of predictions."""

import io
import os
import re
import time

import numpy as np
import pytest
from support import faces

from ferlab import checkpoints, data
from ferlab.checkpoints import TrainingRecord
from ferlab.errors import InputError
from ferlab.inference import model_list, vote_cache, voting
from ferlab.inference.model_list import Member
from ferlab.labels import EMOTIONS
from models import build_model


def save_dnn(path, seed, class_names=EMOTIONS):
    import keras

    keras.utils.set_random_seed(seed)
    model = build_model("dnn", (48, 48, 1), len(class_names))
    record = TrainingRecord(class_names=tuple(class_names), pixels="raw", image_shape=(48, 48, 1))
    checkpoints.save(model, path, record)
    return path


@pytest.fixture
def folder(tmp_path):
    save_dnn(tmp_path / "a.h5", 0)
    save_dnn(tmp_path / "b.keras", 1)
    test = faces(40, seed=9)
    data.write_csv(tmp_path / "test.csv", test.images, labels=test.labels)
    return tmp_path


def collect(folder, text, **options):
    (folder / "model_list.txt").write_text(text)
    members = model_list.read(folder / "model_list.txt")
    lines = []
    settings = {"batch_size": 16, "report": lines.append}
    dataset = voting.read(members, str(folder / "test.csv"), None).dataset
    probabilities = voting.collect(
        members, dataset, cache_dir=folder / "cache", **{**settings, **options}
    )
    return probabilities, lines


def test_model_list_allows_comments_blank_lines_tabs_and_spaces_in_names(tmp_path):
    (tmp_path / "my model.h5").touch()
    text = "\ufeff# mine\n\n 2 my model.h5  # best\n1.5\tmy model.h5\r\n"
    (tmp_path / "list.txt").write_text(text)
    members = model_list.read(tmp_path / "list.txt")
    assert [(member.weight, member.path.name) for member in members] == [
        (2, "my model.h5"),
        (1.5, "my model.h5"),
    ]
    assert members[1].where.endswith("list.txt:4")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no model"),
        ("# nothing\n", "no model"),
        ("1 a.h5\nmodel.h5\n", ":2: expected `weight path`"),
        ("x a.h5\n", ":1: expected `weight path`"),
        ("-1 a.h5\n", "weight 0 or more"),
        ("nan a.h5\n", "weight 0 or more"),
        ("inf a.h5\n", "weight 0 or more"),
        ("0 a.h5\n", "at least one weight"),
        ("1e308 a.h5\n1e308 a.h5\n", "sum of the weights must be finite"),
        ("1 a.h5\n" + "1.7e308 a.h5\n" * 9, "sum of the weights must be finite"),
        ("1 a.h5\n1e-13 a.h5\n", "share"),
        ("1e300 a.h5\n1 a.h5\n0 a.h5\n", "share"),
        ("1e-320 a.h5\n1e-320 a.h5\n", ":1: a weight must be 0 or at least"),
        ("1 a.h5\n1e-400 a.h5\n", ":2: a weight must be 0 or at least"),
        ("1 a.h5\n1 gone.h5\n", ":2: gone.h5: no such file"),
    ],
)
def test_model_list_on_bad_input(tmp_path, text, rule):
    (tmp_path / "a.h5").touch()
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=rule):
        model_list.read(tmp_path / "list.txt")


def test_model_list_longer_than_its_limit_is_refused_and_not_cut(tmp_path, monkeypatch):
    (tmp_path / "a.h5").touch()
    line = "1 a.h5\n"
    (tmp_path / "list.txt").write_text(line * 100)
    monkeypatch.setattr(model_list, "SIZE_LIMIT", 100 * len(line))
    assert len(model_list.read(tmp_path / "list.txt")) == 100
    monkeypatch.setattr(model_list, "SIZE_LIMIT", 100 * len(line) - 1)
    with pytest.raises(InputError, match=r"list\.txt: expected a list.*more than 699 bytes"):
        model_list.read(tmp_path / "list.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_model_list_is_read_in_the_encodings_of_editors(tmp_path, encoding):
    (tmp_path / "ä.h5").touch()
    (tmp_path / "list.txt").write_text("2 ä.h5\r\n1 ä.h5\r\n", encoding=encoding)
    assert [member.weight for member in model_list.read(tmp_path / "list.txt")] == [2, 1]


def test_model_list_writes_weights_without_rounding_them(tmp_path):
    (tmp_path / "a.h5").touch()
    weights = [0.1, 1 / 3, 1_234_567, 1e-3, 1_234.567_891_2, 3]
    members = [Member(weight, tmp_path / "a.h5", "") for weight in weights]
    model_list.write(tmp_path / "list.txt", members, [])
    assert [member.weight for member in model_list.read(tmp_path / "list.txt")] == weights
    assert "\n3 a.h5\n" in (tmp_path / "list.txt").read_text()


def test_model_list_reads_and_writes_the_options_of_a_member(tmp_path):
    for name in ("my model.h5", "a model.json"):
        (tmp_path / name).touch()
    (tmp_path / "m.json").touch()
    names = ",".join(sorted(EMOTIONS))
    text = f"2 my model.h5 classes={names} pixels=symmetric\tarchitecture=m.json # best\n"
    (tmp_path / "list.txt").write_text(text)
    (member,) = model_list.read(tmp_path / "list.txt")
    assert member.path.name == "my model.h5"
    assert member.pixels == "symmetric"
    assert member.class_names == tuple(sorted(EMOTIONS))
    assert member.architecture.name == "m.json"
    (tmp_path / "sub").mkdir()
    model_list.write(tmp_path / "sub" / "again.txt", [member], ["a comment"])
    (again,) = model_list.read(tmp_path / "sub" / "again.txt")
    assert again.path.resolve() == member.path.resolve()
    assert (again.weight, again.pixels, again.class_names) == (2, "symmetric", member.class_names)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ("pixels=grey", ":1: pixels .*unit.*grey"),
        ("classes=a", ":1: .*two or more"),
        ("pixels=unit pixels=raw", ":1: pixels= "),
        ("architecture=gone.json", ":1: gone.json: no such file"),
        ("architecture=", ":1: architecture= "),
        ("x" * 5000, "no such file"),
    ],
)
def test_model_list_on_bad_options(tmp_path, options, rule):
    (tmp_path / "a.h5").touch()
    (tmp_path / "list.txt").write_text(f"1 a.h5 {options}\n")
    with pytest.raises(InputError, match=rule):
        model_list.read(tmp_path / "list.txt")


def test_collect_matches_image_sizes_class_orders_and_pixel_scales_of_members(folder):
    """A member made of another one, with its outputs reordered, predicts the same."""
    import keras

    original = checkpoints.load(folder / "a.h5").model
    alphabetical = tuple(sorted(EMOTIONS))
    images = keras.Input((48, 48, 1))
    outputs = original(keras.layers.Rescaling(255.0)(images))
    layer = keras.layers.Dense(7, use_bias=False)
    twisted = keras.Model(images, layer(outputs))
    order = [EMOTIONS.index(name) for name in alphabetical]
    layer.set_weights([np.eye(7)[:, order]])
    twisted.save(folder / "twisted.h5")
    small = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )
    small.save(folder / "small.keras")
    probabilities, _ = collect(
        folder,
        f"1 a.h5\n1 twisted.h5 pixels=unit classes={','.join(alphabetical)}\n1 small.keras\n",
    )
    np.testing.assert_allclose(probabilities[1], probabilities[0], atol=1e-5)
    assert probabilities[2].shape == (40, 7)


def test_cache_depends_on_the_options_of_a_member(folder):
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(folder / "m.h5")
    predictions = [
        collect(folder, f"1 m.h5{options}\n")[0]
        for options in ("", " pixels=raw", f" classes={','.join(sorted(EMOTIONS))}")
    ]
    assert not np.allclose(predictions[0], predictions[1])
    assert not np.allclose(predictions[0], predictions[2])
    np.testing.assert_allclose(predictions[0].sum(), predictions[2].sum())


def test_model_list_refuses_to_write_paths_that_it_cannot_read(tmp_path):
    for name in ("a#1.h5", "b #2.h5", "my model.json"):
        (tmp_path / name).touch()
    where = tmp_path / "list.txt"
    model_list.write(where, [Member(1, tmp_path / "a#1.h5", "")], [])
    assert model_list.read(where)[0].path.name == "a#1.h5"
    for member in (
        Member(1, tmp_path / "b #2.h5", ""),
        Member(1, tmp_path / "a#1.h5", "", architecture=tmp_path / "my model.json"),
    ):
        with pytest.raises(InputError, match="cannot list"):
            model_list.write(where, [member], [])


def test_combine_of_soft_and_hard_votes():
    sure, unsure, other = [0.1, 0.9, 0.0], [0.6, 0.4, 0.0], [0.5, 0.0, 0.5]
    probabilities = np.array([[sure], [unsure], [other]])
    soft = voting.combine(probabilities, [1, 1, 1], "soft")
    np.testing.assert_allclose(soft, [[0.4, 1.3 / 3, 0.5 / 3]])
    hard = voting.combine(probabilities, [1, 1, 1], "hard")
    np.testing.assert_allclose(hard, [[2 / 3, 1 / 3, 0]])  # other's own tie goes to class 0
    assert voting.combine(probabilities, [3, 1, 1], "hard").argmax() == 1


@pytest.mark.parametrize("voting_kind", ["soft", "hard"])
@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1, 1e307])
def test_combine_depends_on_the_shares_of_the_weights_only(voting_kind, scale):
    probabilities = np.float32([[[0.8, 0.2]], [[0.1, 0.9]], [[0.4, 0.6]]])
    expected = voting.combine(probabilities, [5, 3, 1], voting_kind)
    weights = [5 * scale, 3 * scale, scale]
    np.testing.assert_array_equal(voting.combine(probabilities, weights, voting_kind), expected)


@pytest.mark.parametrize(
    "weights", [[1e308, 1e308], [np.nan, 1], [np.inf, 1], [-1, 2], [0, 0], [1, 1e-13]]
)
def test_combine_refuses_weights_without_shares(weights):
    with pytest.raises(InputError, match="weight"):
        voting.combine(np.float32([[[0.8, 0.2]], [[0.1, 0.9]]]), weights, "soft")


def test_combine_breaks_ties_by_the_smaller_label():
    probabilities = np.float32([[[0.2, 0.1, 0.7]], [[0.1, 0.7, 0.2]], [[0.7, 0.2, 0.1]]])
    for voting_kind in ("soft", "hard"):
        assert voting.combine(probabilities, [1, 1, 1], voting_kind).argmax() == 0
    pair = np.float32([[[0.1, 0.2, 0.7]], [[0.1, 0.7, 0.2]]])
    assert voting.combine(pair, [2, 2], "soft").argmax() == 1
    assert voting.combine(pair, [2, 2], "hard").argmax() == 1
    split = np.float32([[[1, 0]], [[0, 1]], [[0, 1]]])
    assert voting.combine(split, [0.3, 0.1, 0.2], "hard").argmax() == 0


def test_cache_avoids_repeated_predictions(folder, monkeypatch):
    first, lines = collect(folder, "1 a.h5\n2 b.keras\n1 a.h5\n")
    assert [line.split()[-1] for line in lines] == ["predicts", "predicts"]
    np.testing.assert_array_equal(first[0], first[2])
    monkeypatch.setattr(
        voting.inference, "predict", lambda *_, **__: pytest.fail("predicted again")
    )
    second, lines = collect(folder, "3 a.h5\n1 b.keras\n")
    assert all(line.endswith("from the cache") for line in lines)
    np.testing.assert_array_equal(first[:2], second)


def test_cache_depends_on_the_engine_and_keras_is_the_default(folder, monkeypatch):
    used_engines = []

    def predict(checkpoint, dataset, *, engine, **_):
        used_engines.append(engine)
        return np.full((len(dataset), 7), 1 / 7, "float32")

    monkeypatch.setattr(voting.inference, "predict", predict)
    monkeypatch.setattr(voting.engines, "require_engine", lambda engine: None)
    for options in ({}, {"engine": "keras"}, {"engine": "openvino"}, {"engine": "openvino"}):
        collect(folder, "1 a.h5\n", **options)
    assert used_engines == ["keras", "openvino"]


def test_cache_depends_on_the_content_of_a_checkpoint(folder):
    first, _ = collect(folder, "1 a.h5\n")
    save_dnn(folder / "a.h5", 7)
    second, lines = collect(folder, "1 a.h5\n")
    assert lines[0].endswith("predicts")
    assert not np.array_equal(first, second)


def test_collect_predicts_with_the_weights_of_each_member_of_one_architecture(folder):
    import keras

    save_dnn(folder / "c.h5", 5)
    together, _ = collect(folder, "1 a.h5\n1 c.h5\n1 b.keras\n")
    for row, name in enumerate(("a.h5", "c.h5", "b.keras")):
        model = keras.models.load_model(folder / name, compile=False)
        dataset = data.read(folder / "test.csv", role="test")
        np.testing.assert_allclose(together[row], np.asarray(model(dataset.images)), atol=1e-6)


def test_cache_depends_on_content_also_where_size_time_and_inode_are_equal(folder):
    settled = time.time() - 60
    os.utime(folder / "a.h5", (settled, settled))
    before = (folder / "a.h5").stat()
    first, _ = collect(folder, "1 a.h5\n")
    other = save_dnn(folder / "other.h5", 7).read_bytes()
    (folder / "a.h5").write_bytes(other)
    os.utime(folder / "a.h5", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (folder / "a.h5").stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    second, lines = collect(folder, "1 a.h5\n")
    assert lines[0].endswith("predicts")
    assert not np.array_equal(first, second)


def test_cache_stores_nothing_of_a_file_that_was_replaced_meanwhile(folder, monkeypatch):
    def replace_and_predict(checkpoint, dataset, **_):
        save_dnn(folder / "a.h5", 7)
        return np.full((len(dataset), 7), 1 / 7, "float32")

    monkeypatch.setattr(voting.inference, "predict", replace_and_predict)
    collect(folder, "1 a.h5\n")
    assert not list((folder / "cache").glob("*"))


def entry(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def sealed(name, content):
    return content + vote_cache._digest(name, content)


GOOD = np.float32([[0.25, 0.75], [1, 0], [0.5, 0.5]])
CLAIM = entry(GOOD).replace(b"(3, 2)", b"(3000000000, 2)", 1)
TAMPERED = {
    "another shape": sealed("k", entry(GOOD[:, :1])),
    "other rows": sealed("k", entry(GOOD[:2])),
    "another type": sealed("k", entry(GOOD.astype("float64"))),
    "integers": sealed("k", entry(GOOD.astype("int32"))),
    "nan": sealed("k", entry(np.where(GOOD == 1, np.nan, GOOD).astype("float32"))),
    "infinite": sealed("k", entry(np.where(GOOD == 1, np.inf, GOOD).astype("float32"))),
    "negative": sealed("k", entry(GOOD + np.float32([[-0.5, 0.5], [0, 0], [0, 0]]))),
    "other sums": sealed("k", entry(GOOD * np.float32(0.9))),
    "zeros": sealed("k", entry(GOOD * np.float32(0))),
    "texts": sealed("k", entry(np.array(["a", "b"]))),
    "a claim of rows": sealed("k", CLAIM),
    "objects": sealed("k", b"\x80\x04}."),
    "of another entry": sealed("j", entry(GOOD)),
    "a changed bit": sealed("k", entry(GOOD))[:-40] + b"\1" + sealed("k", entry(GOOD))[-39:],
    "cut short": sealed("k", entry(GOOD))[:-1],
    "of an earlier version": entry(GOOD),
    "longer than the data": sealed("k", entry(GOOD)) + bytes(10**6),
    "empty": b"",
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_cache_gives_only_the_probabilities_that_were_stored(tmp_path, kind):
    cache = vote_cache.VoteCache(tmp_path)
    cache.put("k", GOOD)
    np.testing.assert_array_equal(cache.get("k", (3, 2)), GOOD)
    (tmp_path / "k.npy").write_bytes(TAMPERED[kind])
    assert cache.get("k", (3, 2)) is None


def test_cache_replaces_a_link_and_not_the_file_it_leads_to(tmp_path):
    (tmp_path / "mine.h5").write_text("weights")
    cache = vote_cache.VoteCache(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "k.npy").symlink_to(tmp_path / "mine.h5")
    cache.put("k", GOOD)
    np.testing.assert_array_equal(cache.get("k", (3, 2)), GOOD)
    assert (tmp_path / "mine.h5").read_text() == "weights"


def test_cache_passes_over_entries_that_are_not_files(tmp_path):
    cache = vote_cache.VoteCache(tmp_path)
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("folder", "pipe", "missing"):
        assert cache.get(name, (3, 2)) is None


def test_cache_depends_on_the_architecture_of_a_weights_file(folder):
    import json

    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax", name="scores")]
    model = keras.Sequential([keras.Input((48, 48, 1)), *layers])
    model.save_weights(folder / "m.weights.h5")
    (folder / "m.json").write_text(model.to_json())
    first, _ = collect(folder, "1 m.weights.h5\n")
    config = json.loads(model.to_json())
    config["config"]["layers"][-1]["config"]["activation"] = "sigmoid"
    (folder / "m.json").write_text(json.dumps(config))
    second, lines = collect(folder, "1 m.weights.h5\n")
    assert any(line.endswith("predicts") for line in lines)
    assert not np.allclose(first, second)


def test_collect_notes_members_without_class_names(folder):
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    keras.Sequential([keras.Input((48, 48, 1)), *layers]).save(folder / "m.h5")
    _, lines = collect(folder, "1 a.h5\n1 m.h5\n")
    assert re.search(r"note: .*angry, disgust.*: [^,]*m\.h5; .*classes=", lines[0])
    _, lines = collect(folder, f"1 a.h5\n1 m.h5 classes={','.join(EMOTIONS)}\n")
    assert "note: " not in lines[0]


def test_cache_replaces_a_damaged_file(folder):
    first, _ = collect(folder, "1 a.h5\n")
    (entry,) = (folder / "cache").glob("*.npy")
    entry.write_bytes(entry.read_bytes()[:100])
    second, lines = collect(folder, "1 a.h5\n")
    assert lines[0].endswith("predicts")
    np.testing.assert_array_equal(first, second)


def test_cache_is_independent_of_labels(folder):
    _, first = collect(folder, "1 a.h5\n")
    test = faces(40, seed=9)
    data.write_csv(folder / "test.csv", test.images, ids=test.ids)
    _, again = collect(folder, "1 a.h5\n")
    assert first[0].endswith("predicts")
    assert again[0].endswith("from the cache")


def test_collect_refuses_a_member_with_other_classes_and_names_its_line(folder):
    save_dnn(folder / "c.h5", 2, class_names=tuple(sorted(EMOTIONS)))
    with pytest.raises(InputError, match=r"model_list.txt:2: .*c.h5.*same order") as error:
        collect(folder, "1 a.h5\n1 c.h5\n")
    suggestion = str(error.value).rsplit(" ", 1)[1]
    probabilities, _ = collect(folder, f"1 a.h5\n1 c.h5 {suggestion}\n")
    assert probabilities.shape == (2, 40, 7)
    save_dnn(folder / "d.h5", 2, class_names=("a", "b"))
    with pytest.raises(InputError, match=r"model_list.txt:2: .*d.h5.*same classes"):
        collect(folder, "1 a.h5\n1 d.h5\n")


def test_collect_refuses_a_broken_checkpoint_and_names_its_line(folder):
    (folder / "d.h5").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"model_list.txt:1: .*d.h5.*LFS"):
        collect(folder, "1 d.h5\n")
