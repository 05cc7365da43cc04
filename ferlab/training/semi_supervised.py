"""Semi-supervised training: the rows to learn from, the rounds, and a supervised control."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import checkpoints, files, inference, training
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset, concatenate, npz_files
from ferlab.errors import InputError
from ferlab.evaluation import metrics
from ferlab.inference import matching
from ferlab.labels import UNLABELLED, are_same
from ferlab.recipes import Recipe, SemiRecipe
from ferlab.training import runs
from ferlab.training.fit import checkpoint_settings, require_epochs
from ferlab.training.pseudo_labels import PseudoLabels, select, thresholds
from models import build_model

FIRST_ROUND = "round-1"  # its folder in the run folder
PSEUDO_LABELS_NAME = "pseudo_labels.npz"


@dataclass(frozen=True)
class Rows:
    """The rows of a semi-supervised training.

    labelled: training rows with their labels. unlabelled: all other rows, with labels -1: first the
    rows of the training file with a removed or missing label, then the rows of the test file.
    truth: the removed labels, int64 (len(unlabelled),), -1 where unknown; never learned from.
    own: number of unlabelled rows from the training file.
    """

    labelled: Dataset
    unlabelled: Dataset
    truth: np.ndarray
    own: int
    validation: Dataset

    def known(self) -> np.ndarray:
        """Digests of the unlabelled rows of the training file, uint64 (own,)."""
        return self.unlabelled.take(np.arange(self.own)).row_digests()


def split_rows(
    dataset: Dataset,
    test: Dataset,
    recipe: SemiRecipe,
    seed: int,
    report: Callable[[str], None],
) -> Rows:
    """Split off the validation rows, remove labels, and leave out rows that would leak.

    Three kinds of duplicates are left out, and `report` is called with their numbers: training rows
    that equal a validation or test row, test rows that equal a validation row, and unlabelled rows
    that equal a labelled one, each byte for byte. Labels of the test file are ignored, and so are
    its rows of usage 'Training', since the same file may serve as both.

    Raises InputError if the files do not match, or if no labelled or no unlabelled row remains.
    """
    if not dataset.has_labels:
        raise InputError(f"{dataset.source}: training requires labelled rows, and none has a label")
    if test.usage is not None:
        test = test.take(np.setdiff1d(np.arange(len(test)), test.training_rows()))
    of_usage = dataset.take(dataset.training_rows())
    without = of_usage.take(of_usage.labels == UNLABELLED)
    train, validation = dataset.take(dataset.labels != UNLABELLED).split(recipe.validation)
    hidden = train.without_labels(recipe.labels_removed, seed)
    removed = train.take(hidden.labels == UNLABELLED)
    labelled, own = hidden.labelled(), concatenate([removed, without])

    held_out, tested = validation.row_digests(), test.row_digests()
    copies = {
        "labelled": np.isin(labelled.row_digests(), np.union1d(held_out, tested)),
        "unlabelled": np.isin(own.row_digests(), np.union1d(held_out, tested)),
        "test": np.isin(tested, held_out),
    }
    labelled = labelled.take(~copies["labelled"])
    repeated = np.isin(own.row_digests(), labelled.row_digests()) & ~copies["unlabelled"]
    own = own.take(~copies["unlabelled"] & ~repeated)
    test = test.take(~copies["test"])
    report(
        f"left out: {copies['labelled'].sum():,} labelled and {copies['unlabelled'].sum():,} "
        f"unlabelled rows of {dataset.source} that equal a validation or test row, "
        f"{copies['test'].sum():,} of {test.source} that equal a validation row, and "
        f"{repeated.sum():,} unlabelled rows that equal a labelled one"
    )
    rows = Rows(
        labelled=labelled,
        unlabelled=_unlabelled([own, test]),
        truth=np.concatenate([own.labels, np.full(len(test), UNLABELLED)]),
        own=len(own),
        validation=validation,
    )
    for part, kind in ((rows.labelled, "labelled"), (rows.unlabelled, "unlabelled")):
        if not len(part):
            raise InputError(f"{dataset.source} and {test.source}: no {kind} row remains")
    return rows


def notes(checkpoint: Checkpoint, rows: Rows, scored: Dataset | None = None) -> list[str]:
    """Warnings if this checkpoint was trained on rows that must be unseen here."""
    known = checkpoints.read_training_rows(checkpoint.path)
    if known is None or checkpoint.record.has_unknown_rows:
        return [
            f"the training rows of {checkpoint.path} are not all known; if rows whose labels are "
            "removed here, or validation rows, were among them, these accuracies are optimistic"
        ]
    counts = {
        "rows whose labels are removed here": np.isin(rows.known(), known).sum(),
        "validation rows": np.isin(rows.validation.row_digests(), known).sum(),
        "test rows": 0 if scored is None else np.isin(scored.row_digests(), known).sum(),
    }
    return [
        f"{checkpoint.path} was trained on {count:,} {rows_of}, so these accuracies are optimistic"
        for rows_of, count in counts.items()
        if count
    ]


def _unlabelled(parts: list[Dataset]) -> Dataset:
    hidden = [
        dataclasses.replace(part, labels=np.full(len(part), UNLABELLED), usage=None)
        for part in parts
    ]
    return concatenate(hidden)


@dataclass(frozen=True)
class Outcome:
    """A finished semi-supervised training.

    labelled_by: for each round the name of the predictor and its pseudo-labels; for fixmatch, which
    updates pseudo-labels at every step, the predictions of the predictor and of the trained model.
    steps: steps per epoch in the last round. termination_condition: as in scikit-learn, max_iter or
    no_change; None for fixmatch.
    """

    result: training.Result
    labelled_by: tuple[tuple[str, PseudoLabels], ...]
    steps: int
    termination_condition: str | None

    def rounds(self) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """The rounds, as arguments of `plots.pseudo_labels_figure`."""
        return [
            (name, predicted.labels, predicted.probabilities, predicted.truth)
            for name, predicted in self.labelled_by
        ]


@dataclass(frozen=True)
class Experiment:
    """Rows, a recipe, and the checkpoints that the trainings start from.

    predictor: labels the unlabelled rows of the first round; fixmatch starts from its weights.
    resume_from: the checkpoint to train further, if any, after initial_epoch epochs.
    """

    rows: Rows
    recipe: SemiRecipe
    predictor: Checkpoint
    seed: int
    resume_from: Checkpoint | None = None
    initial_epoch: int = 0
    keep_epochs: int = 0

    @property
    def is_fixmatch(self) -> bool:
        return self.recipe.method == "fixmatch"

    def settings(self) -> dict:
        """Everything that determines the result, for `runs.open_run`."""
        rows = self.rows
        return {
            "recipe": self.recipe.as_dict(),
            "seed": self.seed,
            "labelled rows": rows.labelled.fingerprint(),
            "unlabelled rows": rows.unlabelled.fingerprint(),
            "validation rows": rows.validation.fingerprint(),
            **checkpoint_settings("predictor", self.predictor),
            **checkpoint_settings("resume_from", self.resume_from),
            "initial_epoch": self.initial_epoch,
            "keep_epochs": self.keep_epochs,
            "backend": keras.backend.backend(),
        }

    def new_start(self) -> tuple[keras.Model, training.Start]:
        """An uncompiled model with initial weights, for one training."""
        training.set_seed(self.seed)
        train = self.rows.labelled
        if self.resume_from:
            resume_from = self.resume_from.reload()
            start = training.Start(resume_from=resume_from, epoch=self.initial_epoch)
            return resume_from.raw_pixel_model(), start
        if self.is_fixmatch:
            predictor = self.predictor.reload()
            return predictor.raw_pixel_model(), training.Start(initialized_from=predictor)
        return build_model(self.recipe.model, train.image_shape, train.num_classes), training.NEW

    def train(self, objective: training.Objective, run_dir: Path) -> training.Result:
        model, start = self.new_start()
        return training.fit(
            model,
            objective,
            self.rows.validation,
            start=start,
            run_dir=run_dir,
            keep_epochs=self.keep_epochs,
        )


def require_valid(experiment: Experiment) -> None:
    """Raise InputError for settings that would fail later, before anything is written."""
    recipe, predictor = experiment.recipe, experiment.predictor
    train = experiment.rows.labelled
    names, epochs = train.class_names, recipe.epochs - experiment.initial_epoch
    matching.columns(predictor, train)  # raises InputError for other classes
    thresholds(recipe, names)
    start = training.Start(resume_from=experiment.resume_from, epoch=experiment.initial_epoch)
    require_epochs(start, recipe)
    if recipe.ramp_epochs >= epochs:
        raise InputError(
            f"--ramp-epochs must be below the {epochs} epochs to train. "
            f"Received: {recipe.ramp_epochs}"
        )
    if not experiment.is_fixmatch or experiment.resume_from:
        return
    if predictor.image_shape != train.image_shape:
        raise InputError(
            f"{predictor.path}: fixmatch requires a model for images of {train.image_shape}. "
            f"Received: {predictor.image_shape}"
        )
    if predictor.class_names is not None and not are_same(predictor.class_names, names):
        raise InputError(
            f"{predictor.path}: fixmatch requires a model with the classes {', '.join(names)}, in "
            f"this order. Received: {', '.join(predictor.class_names)}"
        )


def self_train(
    experiment: Experiment, run_dir: Path, *, report: Callable[[str], None] = print
) -> Outcome:
    """Train in rounds on the pseudo-labels of the predictor, then of the previous round's model.

    Each round has a folder in run_dir. Raises InputError if no row reaches its threshold, and as
    `training.fit` does.
    """
    rows, recipe = experiment.rows, experiment.recipe
    predictor, name = experiment.predictor, experiment.predictor.path.name
    labelled_by: list[tuple[str, PseudoLabels]] = []
    result, objective, condition = None, None, "max_iter"
    for number in range(1, recipe.rounds + 1):
        folder = run_dir / (FIRST_ROUND if number == 1 else f"round-{number}")
        report(f"round {number} of {recipe.rounds}, pseudo-labels by {name}")
        predicted = _predictions(experiment, predictor, folder, report)
        is_confident = predicted.is_confident
        if labelled_by and (
            np.array_equal(predicted.labels, labelled_by[-1][1].labels) or not is_confident.any()
        ):
            report("no new pseudo-label, so this was the last round")
            condition = "no_change"
            break
        if not is_confident.any():
            raise InputError(
                f"{predictor.path}: no row reaches its threshold. "
                f"Received: a maximum confidence of {predicted.confidence.max():.3f}"
            )
        _save(predicted, folder, rows.unlabelled.ids)
        labelled_by.append((name, predicted))
        objective = training.PseudoLabelled(
            rows.labelled,
            recipe,
            seed=experiment.seed,
            images=rows.unlabelled.images[is_confident],
            targets=predicted.targets(soft=recipe.soft_labels)[is_confident],
            known=rows.known(),
            labelled_by=name,
            initial_epoch=experiment.initial_epoch,
        )
        result = experiment.train(objective, folder)
        predictor = Checkpoint.in_memory(result.model, result.record)
        name = f"the model of round {number}"
    return Outcome(result, tuple(labelled_by), objective.steps_per_epoch, condition)


def fixmatch(
    experiment: Experiment, run_dir: Path, *, report: Callable[[str], None] = print
) -> Outcome:
    """Train by FixMatch. Raises InputError as `training.fit` does."""
    rows, predictor = experiment.rows, experiment.predictor
    objective = training.FixMatch(
        rows.labelled,
        experiment.recipe,
        seed=experiment.seed,
        unlabelled=rows.unlabelled.images,
        thresholds=thresholds(experiment.recipe, rows.labelled.class_names),
        known=rows.known(),
    )
    report(f"confident predictions of {predictor.path.name}")
    before = _predictions(experiment, predictor, run_dir / FIRST_ROUND, report)
    _save(before, run_dir / FIRST_ROUND, rows.unlabelled.ids)
    result = experiment.train(objective, run_dir / FIRST_ROUND)
    report("confident predictions of the trained model")
    trained = Checkpoint.in_memory(result.model, result.record)
    after = _predictions(experiment, trained, run_dir / "after", report)
    _save(after, run_dir / "after", rows.unlabelled.ids)
    labelled_by = ((predictor.path.name, before), ("the trained model", after))
    return Outcome(result, labelled_by, objective.steps_per_epoch, None)


def train_control(experiment: Experiment, steps: int, run_dir: Path) -> training.Result:
    """Train only on the labels, from the same start, for as many steps per epoch."""
    recipe = experiment.recipe
    settings = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Recipe)}
    supervised = Recipe(**{**settings, "name": f"{recipe.name}-control"})
    train, seed = experiment.rows.labelled, experiment.seed
    objective = training.Supervised(train, supervised, seed=seed, steps=steps)
    return experiment.train(objective, run_dir / "control")


def _predictions(
    experiment: Experiment,
    predictor: Checkpoint,
    folder: Path,
    report: Callable[[str], None],
) -> PseudoLabels:
    """The predictor's predictions, or those saved by an interrupted run."""
    path, unlabelled = folder / PSEUDO_LABELS_NAME, experiment.rows.unlabelled
    if path.exists():
        probabilities = npz_files.read_array(path, "probabilities")
        if probabilities.shape != (len(unlabelled), unlabelled.num_classes):
            raise InputError(f"{path}: has other rows than this run; delete it to predict them")
    else:
        probabilities = inference.predict(predictor, unlabelled)
    truth = experiment.rows.truth
    predicted = select(probabilities, experiment.recipe, unlabelled.class_names, truth=truth)
    for line in predicted.lines():
        report(line)
    return predicted


def _save(predicted: PseudoLabels, folder: Path, ids: np.ndarray) -> None:
    """Write a table for the user, and the exact probabilities for a resumed run."""
    path = folder / PSEUDO_LABELS_NAME
    with files.whole_file(path.with_suffix(".csv")) as temporary:
        predicted.write_csv(temporary, ids)
    with files.whole_file(path) as temporary:
        np.savez(temporary, probabilities=predicted.probabilities)


def run(
    experiment: Experiment,
    *,
    out_dir: Path,
    run_dir: Path | None = None,
    suffix: str = "",
    with_control: bool = False,
    scored: Dataset | None = None,
    draw: Callable[[Outcome, Path], None] | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train, publish, and report accuracies, also of a control, and at last the path; return it.

    The checkpoint is `semi_[val_acc].h5`, or with a suffix `[val_acc][suffix].h5`. An interrupted
    run is resumed; see `runs.open_run`.

    scored: additional labelled rows, such as a test file, to compare the models on. draw: called
    with the outcome and the path as soon as the checkpoint is published.
    """
    require_valid(experiment)
    for checkpoint in filter(None, (experiment.predictor, experiment.resume_from)):
        for note in notes(checkpoint, experiment.rows, scored):
            report(f"note: {note}")
    settings, name = experiment.settings(), experiment.recipe.name
    learn = fixmatch if experiment.is_fixmatch else self_train
    with runs.open_run(settings, run_dir, name=name, resume_file=FIRST_ROUND) as held:
        outcome = learn(experiment, held.path, report=report)
        prefix = "" if suffix else "semi_"
        path = training.publish(outcome.result, out_dir, prefix=prefix, suffix=suffix)
        if draw:
            draw(outcome, path)
        models: dict[str, Checkpoint] = {path.name: _trained(outcome.result)}
        if with_control:
            report(f"control: only the labels, also with {outcome.steps:,} steps per epoch")
            control = train_control(experiment, outcome.steps, held.path)
            control_path = training.publish(control, out_dir, prefix="control_", suffix=suffix)
            models[control_path.name] = _trained(control)
        models["predictor"] = experiment.predictor
        for part, rows in (("validation rows", experiment.rows.validation), ("test rows", scored)):
            if rows is not None:
                report(f"{part}:")
                for line in comparison(models, rows):
                    report(f"  {line}")
        if outcome.termination_condition:
            report(f"termination condition: {outcome.termination_condition}")
        report(str(path))
        held.finish(path)  # not before all is said: a finished run is not resumed
    return path


def comparison(models: dict[str, Checkpoint], rows: Dataset) -> list[str]:
    """Lines with each model's accuracy, and the first one's differences from the others."""
    correct = {
        name: inference.predict(model, rows).argmax(axis=1) == rows.labels
        for name, model in models.items()
    }
    (first, first_correct), *others = correct.items()
    width = max(map(len, correct))
    accuracies = [
        f"{name:{width}}  accuracy {metrics.proportion(int(each.sum()), len(each))}"
        for name, each in correct.items()
    ]
    differences = [
        f"{first} - {name}: {metrics.paired_difference(first_correct, each)}"
        for name, each in others
    ]
    return accuracies + differences


def _trained(result: training.Result) -> Checkpoint:
    return Checkpoint.in_memory(result.model, result.record)
