"""Semi-supervised training: no leakage, unchanged labels, and a control with an equal start."""

import dataclasses

import numpy as np
import pytest
from support import faces

from ferlab import checkpoints, training
from ferlab.checkpoints import TrainingRecord
from ferlab.data import concatenate
from ferlab.errors import InputError
from ferlab.evaluation import held_out
from ferlab.recipes import RECIPES
from ferlab.training import semi_supervised
from ferlab.training.pseudo_labels import select, thresholds
from models import build_model

pytestmark = pytest.mark.usefixtures("few_weights")

RECIPE = RECIPES["semi-report"].override(
    model="dnn", epochs=3, batch_size=32, validation=40, threshold=0.0
)


def split(dataset, test, recipe=RECIPE, seed=0, report=print):
    return semi_supervised.split_rows(dataset, test, recipe, seed, report)


def relabelled(dataset, labels):
    return dataclasses.replace(dataset, labels=np.asarray(labels, dtype=np.int64))


def test_split_rows_removes_half_of_the_labels_of_each_class():
    dataset, test = faces(200), faces(50, seed=1)
    rows = split(dataset, test)
    train = dataset.take(np.arange(40, 200))
    before = np.bincount(train.labels, minlength=7)
    after = np.bincount(rows.labelled.labels, minlength=7)
    assert (abs(after - before / 2) <= 0.5).all()
    assert len(rows.validation) == 40
    assert rows.own == len(rows.unlabelled) - 50 == 160 - len(rows.labelled)
    assert (rows.unlabelled.labels == -1).all()
    assert (rows.truth[rows.own :] == -1).all()  # labels of the test file are never read

    given = dict(zip(dataset.row_digests(), dataset.labels, strict=True))
    for digest, label in zip(rows.labelled.row_digests(), rows.labelled.labels, strict=True):
        assert given[digest] == label
    for digest, label in zip(rows.known(), rows.truth[: rows.own], strict=True):
        assert given[digest] == label


def test_without_labels_depends_on_the_seed_alone():
    dataset = faces(100)
    first, again, other = (dataset.without_labels(0.5, seed).labels for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(dataset.without_labels(0, 1).labels, dataset.labels)
    assert set(dataset.without_labels(0.999, 1).labelled().labels) == set(range(7))
    with pytest.raises(InputError, match="labels to remove"):
        dataset.without_labels(1.0, 0)


def test_split_rows_leaves_out_and_counts_copies_of_validation_and_test_rows():
    dataset, test = faces(200), faces(50, seed=1)
    validation, train = dataset.take(np.arange(40)), dataset.take(np.arange(40, 200))
    plain = split(dataset, test)
    labelled, hidden = plain.labelled, plain.unlabelled.take(np.arange(plain.own))

    def copies_of(rows, count):
        return relabelled(rows.take(np.arange(count)), np.zeros(count))

    lines = []
    rows = split(
        concatenate([validation, train, relabelled(copies_of(labelled, 3), [-1] * 3)]),
        concatenate([test, copies_of(labelled, 5), copies_of(hidden, 7), copies_of(validation, 2)]),
        report=lines.append,
    )
    numbers = [int(word) for word in lines[0].split() if word.isdigit()]
    assert numbers == [5, 7 + 3, 2, 0]  # the three copies of labelled rows are test rows too
    pool, labelled_digests = rows.unlabelled.row_digests(), rows.labelled.row_digests()
    assert not np.isin(
        rows.validation.row_digests(), np.concatenate([pool, labelled_digests])
    ).any()
    assert not np.isin(labelled_digests, pool).any()
    assert not np.isin(labelled_digests, test.row_digests()).any()
    assert rows.own == plain.own - 7
    assert len(rows.unlabelled) == rows.own + 50 + 5 + 7

    lines.clear()
    rows = split(
        concatenate([dataset, relabelled(copies_of(labelled, 3), [-1] * 3)]),
        test,
        report=lines.append,
    )
    assert "and 3 unlabelled rows" in lines[0]
    assert rows.own == plain.own


def test_split_rows_adds_unlabelled_training_rows_but_no_other_usages():
    dataset, test = faces(200), faces(50, seed=1)
    labels = dataset.labels.copy()
    labels[150:] = -1
    usage = np.array(["Training"] * 180 + ["PrivateTest"] * 20)
    mixed = dataclasses.replace(dataset, labels=labels, usage=usage)
    rows = split(mixed, test, RECIPE.override(labels_removed=0.0))
    assert len(rows.labelled) == 110
    assert rows.own == 30
    private = dataset.take(np.arange(180, 200)).row_digests()
    parts = [rows.labelled, rows.unlabelled, rows.validation]
    assert not any(np.isin(private, part.row_digests()).any() for part in parts)


def test_split_rows_of_one_file_with_training_and_test_rows():
    usage = np.array(["Training"] * 150 + ["PublicTest"] * 30 + ["PrivateTest"] * 20)
    dataset = dataclasses.replace(faces(200), usage=usage)
    rows = split(dataset, dataset, RECIPE.override(labels_removed=0.0, validation="PublicTest"))
    assert (len(rows.labelled), len(rows.validation), rows.own) == (150, 30, 0)
    private = dataset.take(np.arange(180, 200)).row_digests()
    np.testing.assert_array_equal(rows.unlabelled.row_digests(), private)


def test_split_rows_requires_unlabelled_rows():
    dataset = faces(100)
    with pytest.raises(InputError, match="no unlabelled row"):
        split(dataset, dataset.take(np.arange(5)), RECIPE.override(labels_removed=0.0))


def test_select_labels_rows_that_reach_the_threshold_of_a_class():
    probabilities = np.array(
        [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.45, 0.35], [0.3, 0.3, 0.4]], "float32"
    )
    recipe = RECIPE.override(threshold=0.55, class_thresholds={"b": 0.4, "c": 0.9})
    names = ("a", "b", "c")
    guesses = select(probabilities, recipe, names, truth=np.array([0, 0, 2, -1]))
    assert guesses.labels.tolist() == [0, -1, 1, -1]
    np.testing.assert_array_equal(guesses.targets(soft=True), probabilities)
    assert guesses.targets(soft=False)[[0, 2]].tolist() == [[1, 0, 0], [0, 1, 0]]
    lines = guesses.lines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["a", "1"],
        ["b", "1"],
        ["c", "0"],
        ["all", "2"],
    ]
    assert "50.00% (n=2" in lines[-1]
    with pytest.raises(InputError, match="a, b, c"):
        thresholds(recipe.override(class_thresholds={"d": 0.1}), names)


def test_recipe_thresholds_must_be_probabilities():
    for settings in ({"threshold": 1.1}, {"class_thresholds": {"happy": float("nan")}}):
        with pytest.raises(
            InputError, match=r"--(class-)?thresholds? must be a number from 0 to 1\."
        ):
            RECIPE.override(**settings)


def test_recipe_refuses_settings_of_the_other_method():
    with pytest.raises(InputError, match="for self-training"):
        RECIPES["fixmatch"].override(rounds=2)
    with pytest.raises(InputError, match="for fixmatch"):
        RECIPE.override(unlabelled_ratio=3)


@pytest.fixture
def predictor(tmp_path):
    """A network at its start, with the rows it claims to be trained on."""
    training.set_seed(5)
    model = build_model("dnn", (48, 48, 1), 7)
    path = tmp_path / "predictor.h5"
    checkpoints.save(
        model, path, TrainingRecord(class_names=tuple(faces(1).class_names), pixels="raw")
    )
    return checkpoints.load(path)


def experiment(predictor, recipe=RECIPE, **options):
    rows = split(faces(200), faces(50, seed=1), recipe)
    return semi_supervised.Experiment(rows, recipe, predictor, seed=0, **options)


FIXMATCH = RECIPES["fixmatch"].override(
    model="dnn", epochs=3, batch_size=16, validation=40, threshold=0.2
)


@pytest.mark.parametrize("recipe", [RECIPE, FIXMATCH], ids=lambda recipe: recipe.name)
def test_run_trains_and_compares_with_a_control(tmp_path, predictor, recipe):
    lines = []
    trial = experiment(predictor, recipe)
    scored = faces(50, seed=1)
    path = semi_supervised.run(
        trial,
        out_dir=tmp_path,
        run_dir=tmp_path / "run",
        with_control=True,
        scored=scored,
        report=lines.append,
    )

    loaded = checkpoints.load(path, with_optimizer=True)
    (control_path,) = tmp_path.glob("control_*.h5")
    control = checkpoints.load(control_path, with_optimizer=True)
    steps = int(loaded.model.optimizer.iterations)
    assert path.name == f"semi_{loaded.record.history['val_accuracy'][-1]:.6f}.h5"
    assert steps == int(control.model.optimizer.iterations) > 0
    pool = len(trial.rows.labelled) + (len(trial.rows.unlabelled) if recipe is RECIPE else 0)
    assert steps == 3 * -(-pool // recipe.batch_size)
    assert checkpoints.recorded_recipe(path) == recipe
    assert checkpoints.recorded_recipe(control_path).name == f"{recipe.name}-control"

    # The rows whose labels were removed may decide nothing later; the test file's may.
    training_rows = checkpoints.read_training_rows(path)
    assert np.isin(trial.rows.known(), training_rows).all()
    assert not np.isin(scored.row_digests(), training_rows).any()
    assert not np.isin(trial.rows.known(), checkpoints.read_training_rows(control_path)).any()

    text = "\n".join(lines)
    assert f"{path.name} - {control_path.name}: " in text
    assert text.count(" - predictor: ") == 2
    table = (tmp_path / "run" / "round-1" / "pseudo_labels.csv").read_text().splitlines()
    assert table[0] == "id,label,confidence,truth"
    assert len(table) == 1 + len(trial.rows.unlabelled)


def test_fixmatch_starts_from_the_predictors_weights(tmp_path, predictor):
    trial = experiment(predictor, FIXMATCH)
    model, start = trial.new_start()
    assert start.initialized_from.path == predictor.path
    images = faces(5).images
    np.testing.assert_array_equal(np.asarray(model(images)), np.asarray(predictor.model(images)))
    semi_supervised.require_valid(trial)
    names = tuple(reversed(predictor.class_names))
    other = dataclasses.replace(predictor, class_names=names, record=TrainingRecord())
    with pytest.raises(InputError, match="fixmatch requires a model with the classes"):
        semi_supervised.require_valid(dataclasses.replace(trial, predictor=other))
    recipe = dataclasses.replace(trial, predictor=other, recipe=RECIPE)
    semi_supervised.require_valid(recipe)  # self-training reorders its predictions


def test_fixmatch_records_the_predictors_training_rows_too(tmp_path, predictor):
    far = faces(5, seed=77).row_digests()
    path = tmp_path / "told.h5"
    checkpoints.save(predictor.model, path, predictor.record, training_rows=far)
    trial = experiment(checkpoints.load(path), FIXMATCH)
    trained = semi_supervised.run(
        trial, out_dir=tmp_path, run_dir=tmp_path / "run", with_control=True
    )
    for published in (trained, *tmp_path.glob("control_*.h5")):
        assert np.isin(far, checkpoints.read_training_rows(published)).all()
        assert checkpoints.read_record(published).initialized_from == "told.h5"
        assert not checkpoints.read_record(published).has_unknown_rows

    notes = []
    held_out.tuning_rows(faces(50, seed=1), [trained], report=notes.append)
    assert "unlabelled images" in notes[0]
    unknown = experiment(predictor, FIXMATCH.override(epochs=1))
    path = semi_supervised.run(unknown, out_dir=tmp_path, run_dir=tmp_path / "unknown")
    assert checkpoints.read_record(path).has_unknown_rows


@pytest.mark.parametrize("classes", [3, 7, 10])
def test_run_refuses_a_predictor_with_other_classes_and_writes_nothing(tmp_path, classes):
    path, names = tmp_path / "other.h5", [f"class {number}" for number in range(classes)]
    model = build_model("dnn", (48, 48, 1), classes)
    checkpoints.save(model, path, TrainingRecord(class_names=tuple(names), pixels="raw"))
    before = sorted(tmp_path.rglob("*"))
    for recipe in (RECIPE, FIXMATCH):
        with pytest.raises(InputError, match="must have the same classes"):
            semi_supervised.run(
                experiment(checkpoints.load(path), recipe),
                out_dir=tmp_path,
                run_dir=tmp_path / "run",
            )
    assert sorted(tmp_path.rglob("*")) == before


def test_run_with_impossible_settings_leaves_no_file(tmp_path, predictor):
    before = sorted(tmp_path.rglob("*"))
    for settings, options, rule in (
        ({"threshold": 1.0}, {}, "no row reaches its threshold"),
        ({"class_thresholds": {"glad": 0.1}}, {}, "name classes"),
        ({"ramp_epochs": 2}, {"initial_epoch": 1}, "below the 2 epochs to train"),
        ({}, {"initial_epoch": 3}, "last epoch must be above"),
    ):
        trial = experiment(predictor, RECIPE.override(**settings), **options)
        with pytest.raises(InputError, match=rule):
            semi_supervised.run(trial, out_dir=tmp_path, run_dir=tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before


def test_self_training_labels_each_round_by_the_last_model_until_nothing_changes(
    tmp_path, predictor, monkeypatch
):
    trial = experiment(predictor, RECIPE.override(rounds=3, epochs=1))
    outcome = semi_supervised.self_train(trial, tmp_path / "run")
    names = [name for name, _ in outcome.labelled_by]
    assert names[:2] == ["predictor.h5", "the model of round 1"]
    first = checkpoints.load(tmp_path / "run" / "round-1" / "last.h5")
    of_first = np.asarray(first.model(trial.rows.unlabelled.images))
    np.testing.assert_allclose(outcome.labelled_by[1][1].probabilities, of_first, atol=1e-5)
    assert outcome.termination_condition in ("max_iter", "no_change")

    strict = experiment(predictor, RECIPE.override(threshold=1.0))
    with pytest.raises(InputError, match="no row reaches its threshold"):
        semi_supervised.self_train(strict, tmp_path / "strict")
    unmoved = RECIPE.override(rounds=3, epochs=1, learning_rate=1e-12, shift=0.0)
    monkeypatch.setattr(semi_supervised, "build_model", lambda *_: predictor.reload().model)
    outcome = semi_supervised.self_train(experiment(predictor, unmoved), tmp_path / "unmoved")
    assert outcome.termination_condition == "no_change"
    assert len(outcome.labelled_by) == 1


def test_notes_count_rows_that_the_predictor_was_trained_on(tmp_path, predictor):
    trial = experiment(predictor)
    assert "optimistic" in semi_supervised.notes(predictor, trial.rows)[0]

    test = faces(50, seed=1)

    def notes_for(rows):
        path = tmp_path / "told.h5"
        checkpoints.save(predictor.model, path, predictor.record, training_rows=rows)
        with_rows = dataclasses.replace(predictor, path=path)
        return semi_supervised.notes(with_rows, trial.rows, scored=test)

    assert notes_for(trial.rows.labelled.row_digests()) == []
    assert "was trained on 3 rows whose labels" in notes_for(trial.rows.known()[:3])[0]
    assert "2 validation rows" in notes_for(trial.rows.validation.row_digests()[:2])[0]
    assert "4 test rows" in notes_for(test.row_digests()[:4])[0]


def test_comparison_is_paired(predictor):
    rows = faces(60)
    exact = predictor.model.predict(rows.images, verbose=0).argmax(axis=1)
    labels = exact.copy()
    labels[:15] = (labels[:15] + 1) % 7
    scored = relabelled(rows, labels)
    lines = semi_supervised.comparison({"a.h5": predictor, "b.h5": predictor}, scored)
    assert lines[0].startswith("a.h5  accuracy 75.00% (n=60")
    assert lines[2].startswith("a.h5 - b.h5: +0.00 points (n=60")


def test_recorded_recipe_of_a_semi_supervised_checkpoint(tmp_path, predictor):
    recipe = RECIPE.override(class_thresholds={"happy": 0.9})
    path = tmp_path / "semi.h5"
    checkpoints.save(predictor.model, path, TrainingRecord(recipe=recipe.as_dict()))
    assert checkpoints.recorded_recipe(path) == recipe


@pytest.mark.parametrize(
    "recipe",
    [RECIPE.override(soft_labels=True, ramp_epochs=2, rounds=2), FIXMATCH.override(shift=0.1)],
    ids=lambda recipe: recipe.name,
)
def test_run_resumes_in_the_interrupted_round_or_control(tmp_path, predictor, recipe, monkeypatch):
    def work(name, **options):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        trial = experiment(predictor, recipe)
        return semi_supervised.run(trial, out_dir=tmp_path / name, with_control=True)

    def stopped_in(folder):
        save = checkpoints.save

        def save_or_stop(model, path, record, **options):
            if path.parent.name == folder and len(record.history["loss"]) == 2:
                raise KeyboardInterrupt
            save(model, path, record, **options)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", save_or_stop)
            with pytest.raises(KeyboardInterrupt):
                work("stopped")

    straight = work("straight")
    last = "round-1" if recipe.method == "fixmatch" else "round-2"
    for folder in dict.fromkeys(("round-1", last, "control")):
        stopped_in(folder)
    again = work("stopped")
    assert again.name == straight.name
    assert len(list((tmp_path / "stopped" / "runs").iterdir())) == 1
    for one in (tmp_path / "straight").glob("*.h5"):
        other = tmp_path / "stopped" / one.name
        opened = [checkpoints.load(path, with_optimizer=True) for path in (one, other)]
        for pair in zip(*[one.model.variables for one in opened], strict=True):
            np.testing.assert_array_equal(*map(np.asarray, pair))
        for pair in zip(*[one.model.optimizer.variables for one in opened], strict=True):
            np.testing.assert_array_equal(*map(np.asarray, pair))
