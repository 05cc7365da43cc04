"""Learning from unlabelled images: which rows may be seen, the rounds, and the control."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import checkpoints, files, inference, training
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset, concatenate
from ferlab.errors import InputError
from ferlab.evaluation import metrics
from ferlab.inference import matching
from ferlab.labels import UNLABELLED
from ferlab.recipes import Recipe, SemiRecipe
from ferlab.training import runs
from ferlab.training.objectives import FixMatch, PseudoLabelled, Supervised
from ferlab.training.pseudo_labels import PseudoLabels, choose, thresholds

FIRST_ROUND = "round-1"  # its folder, in that of the run


@dataclass(frozen=True)
class Rows:
    """What a semi-supervised training may see, and what it may not.

    labelled: the training rows that keep their label. unlabelled: all others, labels -1: those of
    the training file whose label was removed or missing, then those of the test file. truth: int64
    (len(unlabelled),), the removed labels, -1 where nobody knows; never learned from. own: how
    many of the unlabelled rows, the first, are of the training file.
    """

    labelled: Dataset
    unlabelled: Dataset
    truth: np.ndarray
    own: int
    validation: Dataset

    def known(self) -> np.ndarray:
        """Digests of the training file's own unlabelled rows, uint64 (own,)."""
        return self.unlabelled.take(np.arange(self.own)).row_digests()


def split_rows(
    dataset: Dataset,
    test: Dataset,
    recipe: SemiRecipe,
    seed: int,
    report: Callable[[str], None],
) -> Rows:
    """Set validation rows apart, remove labels, and leave out what would leak.

    Labels of the test file are not read, nor its rows of usage 'Training', where it is the training
    file once more. Left out are training rows, labelled or not, that are byte for byte a validation
    or a test row, test rows that are a validation row, and unlabelled rows that are a labelled one.
    `report` is told how many.

    Raises InputError when the two do not fit, or no labelled or no unlabelled row is left.
    """
    if not dataset.has_labels:
        raise InputError(f"{dataset.source}: no row has a label; training needs some that do")
    if test.usage is not None:
        test = test.take(np.setdiff1d(np.arange(len(test)), test.training_rows()))
    of_training = dataset.take(dataset.training_rows())
    without = of_training.take(of_training.labels == UNLABELLED)
    train, validation = dataset.take(dataset.labels != UNLABELLED).split(recipe.validation)
    hidden = train.without_labels(recipe.labels_removed, seed)
    removed = train.take(hidden.labels == UNLABELLED)
    labelled, own = hidden.labelled(), concatenate([removed, without])

    forbidden, tested = validation.row_digests(), test.row_digests()
    copies = {
        "labelled": np.isin(labelled.row_digests(), np.union1d(forbidden, tested)),
        "unlabelled": np.isin(own.row_digests(), np.union1d(forbidden, tested)),
        "test": np.isin(tested, forbidden),
    }
    labelled = labelled.take(~copies["labelled"])
    twice = np.isin(own.row_digests(), labelled.row_digests()) & ~copies["unlabelled"]
    own = own.take(~copies["unlabelled"] & ~twice)
    test = test.take(~copies["test"])
    report(
        f"left out: {copies['labelled'].sum():,} labelled and {copies['unlabelled'].sum():,} "
        f"unlabelled rows of {dataset.source} that are byte for byte a validation or test row, "
        f"{copies['test'].sum():,} of {test.source} that are a validation row, and "
        f"{twice.sum():,} unlabelled rows that are a labelled one"
    )
    rows = Rows(
        labelled=labelled,
        unlabelled=_unlabelled([own, test]),
        truth=np.concatenate([own.labels, np.full(len(test), UNLABELLED)]),
        own=len(own),
        validation=validation,
    )
    for part, what in ((rows.labelled, "labelled"), (rows.unlabelled, "unlabelled")):
        if not len(part):
            raise InputError(
                f"{dataset.source} and {test.source}: no {what} row is left, without those left out"
            )
    return rows


def notes(checkpoint: Checkpoint, rows: Rows, scored: Dataset | None = None) -> list[str]:
    """What of the rows here a checkpoint, which labels or is gone on with, has known before."""
    seen = checkpoints.read_training_rows(checkpoint.path)
    if seen is None or checkpoint.record.has_unknown_rows:
        return [
            f"{checkpoint.path} does not tell all rows it was trained on; if rows whose labels are "
            "removed here, or validation rows, were among them, all figures flatter"
        ]
    found = {
        "rows whose labels are removed here": np.isin(rows.known(), seen).sum(),
        "validation rows": np.isin(rows.validation.row_digests(), seen).sum(),
        "test rows": 0 if scored is None else np.isin(scored.row_digests(), seen).sum(),
    }
    return [
        f"{checkpoint.path} was trained on {count:,} {what}, so the figures flatter"
        for what, count in found.items()
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

    labelled_by: who gave the pseudo-labels of each round, and these. Of fixmatch, which labels anew
    at every step, what the predictor and the trained model say. steps: of an epoch of the last
    round. termination_condition: in scikit-learn's words, max_iter or no_change; None for fixmatch.
    """

    result: training.Result
    labelled_by: tuple[tuple[str, PseudoLabels], ...]
    steps: int
    termination_condition: str | None

    def rounds(self) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """As `plots.pseudo_labels_figure` draws them."""
        return [
            (who, guesses.labels, guesses.probabilities, guesses.truth)
            for who, guesses in self.labelled_by
        ]


@dataclass(frozen=True)
class Experiment:
    """Rows and a recipe, and what every training of them begins with.

    predictor: what labels the unlabelled rows in the first round. start: gives an uncompiled model,
    and `existing` once more, if that is to be gone on with; called anew for every training.
    run_dir: has a folder for each training; `run` finds it where none is given.
    """

    rows: Rows
    recipe: SemiRecipe
    predictor: Checkpoint
    start: Callable[[], tuple[keras.Model, Checkpoint | None]]
    seed: int
    run_dir: Path | None = None
    keep_epochs: int = 0
    existing: Checkpoint | None = None
    initial_epoch: int = 0
    report: Callable[[str], None] = print

    def settings(self) -> dict:
        """What the outcome follows from, for `runs.open_run`."""
        rows = self.rows
        return {
            "recipe": self.recipe.as_dict(),
            "seed": self.seed,
            "labelled rows": rows.labelled.fingerprint(),
            "unlabelled rows": rows.unlabelled.fingerprint(),
            "validation rows": rows.validation.fingerprint(),
            **training.checkpoint_settings("predictor", self.predictor),
            **training.checkpoint_settings("resume_from", self.existing),
            "initial_epoch": self.initial_epoch,
            "keep_epochs": self.keep_epochs,
            "backend": keras.backend.backend(),
        }

    def require_sound(self) -> None:
        """Raise InputError for what would fail later, before anything is written."""
        predictor, recipe, names = self.predictor, self.recipe, self.rows.labelled.class_names
        matching.columns(predictor, self.rows.labelled)  # by rows that have labels
        thresholds(recipe, names)
        training.require_epochs(self.existing, self.initial_epoch, recipe)
        if recipe.ramp_epochs >= recipe.epochs - self.initial_epoch:
            raise InputError(
                f"--ramp-epochs must be below the {recipe.epochs - self.initial_epoch} epochs to "
                f"train. Received: {recipe.ramp_epochs}"
            )
        if self.origin is not None and predictor.image_shape != self.rows.labelled.image_shape:
            raise InputError(
                f"{predictor.path}: fixmatch begins with a model of images of "
                f"{self.rows.labelled.image_shape}. Received: {predictor.image_shape}"
            )
        if self.origin is not None and predictor.class_names not in (None, names):
            raise InputError(
                f"{predictor.path}: fixmatch begins with a model of the classes "
                f"{', '.join(names)}, in this order. Received: {', '.join(predictor.class_names)}"
            )

    @property
    def origin(self) -> Checkpoint | None:
        """The predictor, where fixmatch begins with its weights."""
        return self.predictor if self.recipe.method == "fixmatch" and not self.existing else None

    def learn(self) -> Outcome:
        """Train by the recipe's method, with a folder in `run_dir` for each round.

        Raises InputError when no row reaches its threshold, and what `training.fit` raises.
        """
        return self._fixmatch() if self.recipe.method == "fixmatch" else self._self_training()

    def learn_control(self, steps: int) -> training.Result:
        """Train on the given labels alone, from the same start, for so many steps an epoch."""
        settings = {
            field.name: getattr(self.recipe, field.name) for field in dataclasses.fields(Recipe)
        }
        recipe = Recipe(**{**settings, "name": f"{self.recipe.name}-control"})
        return self._fit(Supervised(self.rows.labelled, recipe, steps=steps), "control")

    def _fit(self, objective: Supervised, folder: str) -> training.Result:
        training.set_seed(self.seed)
        model, previous = self.start()
        return training.fit(
            model,
            self.rows.labelled,
            self.rows.validation,
            objective.recipe,
            seed=self.seed,
            run_dir=self.run_dir / folder,
            objective=objective,
            keep_epochs=self.keep_epochs,
            previous=previous,
            origin=self.origin,
            initial_epoch=self.initial_epoch,
        )

    def _self_training(self) -> Outcome:
        rows, recipe, report = self.rows, self.recipe, self.report
        predictor, who = self.predictor, self.predictor.path.name
        labelled_by: list[tuple[str, PseudoLabels]] = []
        result, objective, condition = None, None, "max_iter"
        for number in range(1, recipe.rounds + 1):
            folder = FIRST_ROUND if number == 1 else f"round-{number}"
            report(f"round {number} of {recipe.rounds}, pseudo-labels by {who}")
            guesses = self._guesses(predictor, folder)
            if labelled_by and (
                np.array_equal(guesses.labels, labelled_by[-1][1].labels)
                or not guesses.chosen.any()
            ):
                report("no new pseudo-label, so the rounds end here")
                condition = "no_change"
                break
            if not guesses.chosen.any():
                raise InputError(
                    f"{predictor.path}: no row reaches its threshold. "
                    f"Received: a confidence of {guesses.confidence.max():.3f} at most"
                )
            self._keep(guesses, folder)
            labelled_by.append((who, guesses))
            pseudo = rows.unlabelled.take(guesses.chosen)
            objective = PseudoLabelled(
                rows.labelled,
                recipe,
                images=pseudo.images,
                targets=guesses.targets(soft=recipe.soft_labels)[guesses.chosen],
                known=rows.known(),
                labelled_by=who,
                initial_epoch=self.initial_epoch,
            )
            result = self._fit(objective, folder)
            predictor, who = _opened(result), f"the model of round {number}"
        steps = len(objective.batches(self.seed))
        return Outcome(result, tuple(labelled_by), steps, condition)

    def _fixmatch(self) -> Outcome:
        rows = self.rows
        objective = FixMatch(
            rows.labelled,
            self.recipe,
            unlabelled=rows.unlabelled.images,
            thresholds=thresholds(self.recipe, rows.labelled.class_names),
            known=rows.known(),
        )
        name = self.predictor.path.name
        self.report(f"what {name} is sure enough of")
        before = self._guesses(self.predictor, FIRST_ROUND)
        self._keep(before, FIRST_ROUND)
        result = self._fit(objective, FIRST_ROUND)
        self.report("what the trained model is sure enough of")
        after = self._guesses(_opened(result), "after")
        self._keep(after, "after")
        labelled_by = ((name, before), ("the trained model", after))
        return Outcome(result, labelled_by, len(objective.batches(self.seed)), None)

    def _guesses(self, predictor: Checkpoint, folder: str) -> PseudoLabels:
        """What the predictor says, or has said before a stop."""
        path = self.run_dir / folder / "pseudo_labels.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as archive:
                probabilities = archive["probabilities"]
        else:
            probabilities = inference.predict(predictor, self.rows.unlabelled)
        names = self.rows.unlabelled.class_names
        guesses = choose(probabilities, self.recipe, names, truth=self.rows.truth)
        for line in guesses.lines():
            self.report(line)
        return guesses

    def _keep(self, guesses: PseudoLabels, folder: str) -> None:
        """Write them for people, and exactly, so that after a stop none is predicted again."""
        path = self.run_dir / folder / "pseudo_labels.npz"
        with files.whole_file(path.with_suffix(".csv")) as temporary:
            guesses.write_csv(temporary, self.rows.unlabelled.ids)
        with files.whole_file(path) as temporary:
            np.savez(temporary, probabilities=guesses.probabilities)


def run(
    experiment: Experiment,
    *,
    out_dir: Path,
    suffix: str = "",
    with_control: bool = False,
    scored: Dataset | None = None,
) -> tuple[Path, Outcome]:
    """Learn, publish and report: pseudo-labels as a table, accuracies, and the control's.

    The checkpoint is `semi_[val_acc].h5`, or with a suffix `[val_acc][suffix].h5`. An experiment
    that was stopped goes on, as `runs.open_run` finds it.

    scored: further labelled rows, such as a test file's, that the models are compared on.
    """
    report = experiment.report
    experiment.require_sound()
    for checkpoint in filter(None, (experiment.predictor, experiment.existing)):
        for note in notes(checkpoint, experiment.rows, scored):
            report(f"note: {note}")
    settings, name = experiment.settings(), experiment.recipe.name
    with runs.open_run(settings, experiment.run_dir, name=name, valued=FIRST_ROUND) as held:
        experiment = dataclasses.replace(experiment, run_dir=held.path)
        outcome = experiment.learn()
        prefix = "" if suffix else "semi_"
        path = training.publish(outcome.result, out_dir, prefix=prefix, suffix=suffix)
        models: dict[str, training.Result | Checkpoint] = {path.name: outcome.result}
        if with_control:
            report(f"control: the given labels alone, {outcome.steps:,} steps an epoch as well")
            control = experiment.learn_control(outcome.steps)
            control_path = training.publish(control, out_dir, prefix="control_", suffix=suffix)
            models[control_path.name] = control
        held.finish(path)
    models["predictor"] = experiment.predictor
    for part, what in ((experiment.rows.validation, "validation rows"), (scored, "test rows")):
        if part is not None:
            report(f"{what}:")
            for line in comparison(models, part):
                report(f"  {line}")
    if outcome.termination_condition:
        report(f"termination condition: {outcome.termination_condition}")
    return path, outcome


def comparison(models: dict[str, training.Result | Checkpoint], rows: Dataset) -> list[str]:
    """Lines that say how right each model is on labelled rows, and the first less each other."""
    right = {
        name: inference.predict(_opened(model), rows).argmax(axis=1) == rows.labels
        for name, model in models.items()
    }
    (first, firsts), *others = right.items()
    width = max(map(len, right))
    return [
        *(
            f"{name:{width}}  accuracy {metrics.proportion(int(rows.sum()), len(rows))}"
            for name, rows in right.items()
        ),
        *(
            f"{first} less {name}: {metrics.paired_difference(firsts, rows)}"
            for name, rows in others
        ),
    ]


def _opened(model: training.Result | Checkpoint) -> Checkpoint:
    if isinstance(model, Checkpoint):
        return model
    return Checkpoint.in_memory(model.model, model.record)
