"""The only module that compiles and fits models.

A run folder holds `config.json`, `environment.json`, `history.csv`, `log.txt`, `last.h5`, the
checkpoint of the last finished epoch, and in `epochs/` snapshots of single epochs. An interrupted
or killed training resumes from there when it is started again.
"""

import contextlib
import dataclasses
import datetime
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import backend, checkpoints, files, inference, optimizers
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint, TrainingRecord
from ferlab.data import Dataset
from ferlab.data.batches import feed
from ferlab.errors import InputError
from ferlab.evaluation import calibration, metrics
from ferlab.recipes import Phase, Recipe
from ferlab.training import distillation, notes, runs
from ferlab.training.callbacks import (
    EPOCHS_NAME,
    LAST_NAME,
    AveragedWeights,
    EpochCheckpoint,
    EpochSeed,
    Forecast,
    StopOnNonFinite,
    last_checkpoint,
    write_history,
)
from ferlab.training.objectives import Objective, Supervised
from models import BACKBONE, HEAD, build_model

EVALUATION_BATCH_SIZE = 256
EXAMPLES = 32  # images that a model and its saved file are asked


@dataclass(frozen=True)
class Start:
    """Where a training starts; by default from new weights.

    resume_from: the checkpoint to continue with weights, optimizer and history. initialized_from:
    the checkpoint to take only the weights from. epoch: number of epochs completed so far.
    """

    resume_from: Checkpoint | None = None
    initialized_from: Checkpoint | None = None
    epoch: int = 0

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.resume_from or self.initialized_from


NEW = Start()


@dataclass(frozen=True)
class Result:
    """A finished training. Its `run` stays locked until it is published or released.

    snapshots: checkpoints of the last epochs, in order. training_rows: as in `checkpoints.save`.
    examples: validation images, uint8 (n, height, width, channels). suffix: of the format that
    holds the model.
    """

    model: keras.Model
    record: TrainingRecord
    snapshots: tuple[Path, ...]
    training_rows: np.ndarray
    run: runs.Run
    examples: np.ndarray
    suffix: str

    @property
    def history(self) -> dict[str, list[float]]:
        return self.record.history

    @property
    def val_accuracy(self) -> float:
        return self.history["val_accuracy"][-1]


def set_seed(seed: int) -> None:
    """Seed the generators that building and training a model use."""
    keras.utils.set_random_seed(seed)


def train(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    teachers: Sequence[Path] = (),
    run_dir: Path | None = None,
    keep_epochs: int = 0,
    report: Callable[[str], None] = print,
) -> Result:
    """Build the recipe's model and train it on labelled images.

    Args:
        train: rows without a label, and rows whose label the recipe removes, are left out.
        teachers: checkpoints, or lists of them, whose probabilities are learned besides the labels.
        run_dir, keep_epochs: as in `fit`.

    Raises InputError as `fit` does, and for images that are too small for the model.
    """
    train = train.without_labels(recipe.labels_removed, seed).labelled()
    teacher = distillation.teacher(teachers, train, recipe, report=report)
    set_seed(seed)
    model = build_model(recipe.model, train.image_shape, train.num_classes)
    objective = Supervised(train, recipe, seed=seed, teacher=teacher)
    return fit(model, objective, validation, run_dir=run_dir, keep_epochs=keep_epochs)


def fit(
    model: keras.Model,
    objective: Objective,
    validation: Dataset,
    *,
    start: Start = NEW,
    run_dir: Path | None = None,
    keep_epochs: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Train a model by the objective's recipe, from `start.epoch` to the recipe's last epoch.

    An interrupted training with the same settings and data is resumed. Its result, with the model
    of `last.h5`, equals that of an uninterrupted one. Otherwise `model` is trained in place.

    Args:
        model: uncompiled, for raw pixels; with a `start`, that checkpoint's model. If it outputs
            scores, their softmax is trained and becomes part of the model.
        objective: the training rows, the recipe, the seed, and what is learned.
        run_dir: see `runs.open_run`.
        keep_epochs: number of last epochs to keep snapshots of.
        callbacks: Keras callbacks, called after ferlab's own.

    Raises InputError for data that does not match the model, for a run folder with other settings
    or in use by another process, and for a loss that is not finite; KeyboardInterrupt when stopped.
    In these cases `last.h5` has the last finished epoch.
    """
    recipe = objective.recipe
    _require_match(model, objective.train, validation)
    with _asking(start.checkpoint):
        objective.set_outputs(inference.kind_of(model, _examples(objective.train)))
    if objective.outputs == "scores":
        model = inference.with_softmax(model)
    if recipe.ema and keras.backend.backend() == "jax":  # it donates its arrays (Keras 3.15)
        raise InputError("--ema requires the backend tensorflow or torch. Received: jax")
    require_epochs(start, recipe)
    record = _new_record(objective, validation, start)
    settings = {
        "recipe": record.recipe,
        "seed": objective.seed,
        "learned_from": record.learned_from.as_json(),
        "data": {**record.data, "validation_fingerprint": validation.fingerprint()},
        **checkpoint_settings("resume_from", start.resume_from),
        **checkpoint_settings("initialized_from", start.initialized_from),
        "initial_epoch": start.epoch,
        "keep_epochs": keep_epochs,
        "backend": keras.backend.backend(),
    }
    run = runs.open_run(settings, run_dir, name=recipe.name, resume_file=LAST_NAME)
    try:
        training = _Training.open(run, model, record, objective, validation, start, keep_epochs)
        return training.run_to_the_end(callbacks)
    except InputError:
        run.discard()
        raise
    except BaseException:
        run.release()
        raise


@dataclass
class _Section:
    """Consecutive phases that share an optimizer and its schedule."""

    phases: list[Phase]

    @property
    def epochs(self) -> range:
        return range(self.phases[0].epochs.start, self.phases[-1].epochs.stop)

    def remaining(self, first_epoch: int) -> list[Phase]:
        """The phases without their finished epochs."""
        return [
            dataclasses.replace(
                phase, epochs=range(max(phase.epochs.start, first_epoch), phase.epochs.stop)
            )
            for phase in self.phases
            if phase.epochs.stop > first_epoch
        ]


def _sections(recipe: Recipe, first_epoch: int) -> list[_Section]:
    phases = recipe.phases(first_epoch)
    grouped = itertools.groupby(phases, lambda phase: (phase.trainable, phase.learning_rate))
    return [_Section(list(group)) for _, group in grouped]


@dataclass
class _Training:
    """A run and its state before the remaining epochs.

    saved: the checkpoint whose optimizer may continue. In a resumed run (is_resumed) it is the last
    one of the run, otherwise the one that the training starts from. saved_state: its optimizer,
    kept here because compiling replaces that of its model. checkpoint: saves the epochs.
    """

    run: runs.Run
    model: keras.Model
    objective: Objective
    validation: Dataset
    start: Start
    saved: Checkpoint | None
    is_resumed: bool
    saved_state: keras.optimizers.Optimizer | None
    checkpoint: EpochCheckpoint

    @classmethod
    def open(
        cls,
        run: runs.Run,
        model: keras.Model,
        record: TrainingRecord,
        objective: Objective,
        validation: Dataset,
        start: Start,
        keep_epochs: int,
    ) -> "_Training":
        """Begin in a run folder, or after the last finished epoch in it."""
        files.sweep(run.path / EPOCHS_NAME, is_held=True)
        last, saved = last_checkpoint(run.path), start.resume_from
        finished = range(start.epoch, start.epoch)
        if last:
            saved = checkpoints.load(last, with_optimizer=True)
            epochs = saved.record.epochs - record.epochs
            model, finished = saved.model, range(start.epoch, start.epoch + epochs)
            record = saved.record.replace(
                recipe=record.recipe,
                validation_rows=record.validation_rows,
                versions=_versions_of_both(saved.record.versions, record.versions),
                optimizer=None,
            )
        rows = _training_rows(objective, start.checkpoint)
        first_kept = objective.recipe.epochs - keep_epochs
        suffix = last.suffix if last else ".h5"
        checkpoint = EpochCheckpoint(model, record, rows, run.path, finished, first_kept, suffix)
        state = getattr(saved.model, "optimizer", None) if saved else None
        is_resumed = last is not None
        return cls(run, model, objective, validation, start, saved, is_resumed, state, checkpoint)

    def run_to_the_end(self, callbacks: Sequence[keras.callbacks.Callback]) -> Result:
        recipe, checkpoint = self.objective.recipe, self.checkpoint
        epoch = checkpoint.finished.stop
        sections = _sections(recipe, self.start.epoch)
        remaining = [section for section in sections if section.epochs.stop > epoch]
        section = (remaining or sections)[0 if remaining else -1]
        # Even if no epoch remains, so that training can be continued from the saved model.
        settings = self.compile(section)
        examples = _examples(self.validation)
        notes_on_file = self.choose_format(examples)
        with runs.Log(self.run.path / "log.txt") as log:
            self.announce(log, section, notes_on_file)
            if remaining:
                log(f"device: {backend.describe_device()}")
            forecast = self.forecast(log)
            for section in remaining:
                if section is not remaining[0]:
                    settings = self.compile(section)
                self.fit_section(section, settings, [forecast], callbacks, log)
            record = checkpoint.record
            record = record.replace(temperature=_temperature(self.model, self.validation, record))
            result = Result(
                self.model,
                record,
                tuple(checkpoint.snapshots),
                checkpoint.training_rows,
                self.run,
                examples,
                checkpoint.suffix,
            )
            correct = round(result.val_accuracy * len(self.validation))
            log(f"validation accuracy {metrics.proportion(correct, len(self.validation))}")
        return result

    def compile(self, section: _Section) -> dict:
        """Compile the model for a section; return the settings, for the training model."""
        earlier = self.start.checkpoint
        was_in_phases = earlier is not None and earlier.record.recipe.get("explicit_phases")
        if self.objective.recipe.explicit_phases or was_in_phases:
            _set_trainable(self.model, section.phases[0].trainable)
        if earlier and not self.model.trainable_variables:
            raise InputError(f"{earlier.path}: has no weights to train, as all layers are frozen")
        settings = {
            "optimizer": self.optimizer(section),
            "loss": self.objective.loss,
            "metrics": ["accuracy"],
            "jit_compile": backend.jit_compile(),
        }
        self.model.compile(**settings)  # so that saved models include the optimizer's state
        return settings

    def saved_optimizer(self, section: _Section) -> keras.optimizers.Optimizer | None:
        """The saved optimizer, if it continues in this section."""
        is_first = section.epochs.start == self.start.epoch
        is_begun = section.epochs.start < self.checkpoint.finished.stop
        if self.saved is None or not (is_begun if self.is_resumed else is_first):
            return None
        recipe, saved = checkpoints.recorded_recipe(self.saved.path), self.saved_state
        if saved is None or (recipe and recipe.optimizer != self.objective.recipe.optimizer):
            return None
        variables = self.model.trainable_variables
        return saved if len(saved._trainable_variables) == len(variables) else None

    def optimizer(self, section: _Section) -> keras.optimizers.Optimizer:
        """A new optimizer, or one with the state of the saved one.

        Raises InputError if only one of the saved optimizer and the recipe has EMA weights.
        """
        recipe, saved = self.objective.recipe, self.saved_optimizer(section)
        if saved is not None and saved.use_ema != bool(recipe.ema):
            raise InputError(
                f"--ema must be {'above 0' if saved.use_ema else '0'}, as in the optimizer of "
                f"{self.saved.path}. Received: {recipe.ema}"
            )
        steps = self.objective.steps_per_epoch
        begun = steps * max(0, self.checkpoint.finished.stop - section.epochs.start)
        earlier = int(saved.iterations) - begun if saved is not None else 0
        rate = section.phases[0].learning_rate or recipe.learning_rate
        if recipe.schedule == "cosine":
            rate = _cosine(rate, recipe.warmup, steps * len(section.epochs), earlier)
        if saved is None:
            optimizer = optimizers.build(recipe, rate, without_muon=[HEAD])
        else:
            saved_recipe = checkpoints.recorded_recipe(self.saved.path) or recipe
            optimizer = optimizers.rebuild(saved, recipe, saved_recipe, rate)
        # No weight decay of biases and normalization, which an optimizer's configuration omits.
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        optimizer.build(self.model.trainable_variables)
        if saved is not None:
            _copy_state(saved, optimizer)
        return optimizer

    def announce(self, log: runs.Log, section: _Section, notes_on_file: list[str]) -> None:
        """Log the model, the data and notes before the first step."""
        recipe, checkpoint = self.objective.recipe, self.checkpoint
        epoch = checkpoint.finished.stop
        if self.run.is_resumed:
            at = f"at epoch {epoch + 1} of" if epoch < recipe.epochs else "after all"
            log(f"resuming {self.run.path} {at} {recipe.epochs}; delete the folder to start over")
        files.write_json(self.run.path / "environment.json", checkpoint.record.versions)
        if self.is_resumed:
            if note := notes.other_machine(self.saved.record.versions, backend.versions()):
                log(f"note: {note}")
            write_history(self.run.path, checkpoint.record.history, checkpoint.finished)
            return
        log(
            f"{recipe.name}: {self.model.name}, {self.model.count_params():,} parameters, "
            f"{self.objective} and {len(self.validation):,} validation images"
        )
        earlier = self.start.resume_from
        own = notes.before_training(
            self.model, self.objective, self.validation, earlier, self.start.epoch
        )
        for note in (*own, *notes_on_file):
            log(f"note: {note}")
        if earlier and self.saved_optimizer(section) is None:
            has_state = self.saved_state is not None
            log(f"note: {notes.new_optimizer(earlier, recipe, has_state)}")

    def choose_format(self, examples: np.ndarray) -> list[str]:
        """Save as `.keras` what `.h5` cannot hold, such as operations of another's model.

        Returns a note on it. Raises InputError for a model that neither format holds.
        """
        checkpoint = self.checkpoint
        if self.is_resumed or self.start.checkpoint is None:  # `.h5` holds ferlab's own models
            return []
        checkpoint.suffix, problem = checkpoints.suffix_for(self.model, checkpoint.record, examples)
        if problem is None:
            return []
        return [f"saving as {checkpoint.suffix}, as .h5 cannot hold this model: {problem}"]

    def forecast(self, log: runs.Log) -> Forecast:
        recipe, epoch = self.objective.recipe, self.checkpoint.finished.stop
        phases = recipe.phases(epoch)
        first = (phases[0].scale or 1) if phases else 1
        first_epochs = sum(len(each.epochs) * ((each.scale or 1) / first) ** 2 for each in phases)
        steps = self.objective.steps_per_epoch
        return Forecast(log, steps, recipe.epochs - epoch, first_epochs)

    def fit_section(
        self,
        section: _Section,
        settings: dict,
        before: Sequence[keras.callbacks.Callback],
        after: Sequence[keras.callbacks.Callback],
        log: runs.Log,
    ) -> None:
        """Fit the remaining epochs of a section. before, after: callbacks, in order."""
        checkpoint, objective = self.checkpoint, self.objective
        saved = self.saved_optimizer(section)
        is_averaged = saved is not None and saved.use_ema
        averaging = [AveragedWeights(is_averaged=is_averaged)] if objective.recipe.ema else []
        own = [*before, *averaging, StopOnNonFinite(checkpoint), checkpoint]
        try:
            for phase in section.remaining(checkpoint.finished.stop):
                batches = objective.batches(phase)
                with _asking(self.start.checkpoint):
                    trained = objective.training_model(self.model, phase)
                    trained.compile(**settings)
                    if not trained.optimizer.built:  # built by the first step, it is traced twice
                        trained.optimizer.build(trained.trainable_variables)
                    trained.fit(
                        feed(batches),
                        validation_data=feed(
                            objective.validation_batches(self.validation, EVALUATION_BATCH_SIZE)
                        ),
                        epochs=phase.epochs.stop,
                        initial_epoch=phase.epochs.start,
                        shuffle=False,
                        verbose=1 if sys.stdout.isatty() else 2,
                        callbacks=[EpochSeed(trained, batches, objective.seed), *own, *after],
                    )
        except KeyboardInterrupt:
            log(f"stopped: {checkpoint.progress}; the same command resumes")
            raise


def require_epochs(start: Start, recipe: Recipe) -> None:
    """Raise InputError unless epochs remain after those of the checkpoint."""
    epochs = start.resume_from.record.epochs if start.resume_from else 0
    if epochs and epochs != start.epoch:
        raise InputError(
            f"{start.resume_from.path}: was trained for {epochs} epochs. Received: {start.epoch}"
        )
    if start.epoch >= recipe.epochs:
        raise InputError(
            f"the last epoch must be above the first. Received: {start.epoch} and {recipe.epochs}"
        )


def checkpoint_settings(role: str, checkpoint: Checkpoint | None) -> dict:
    """The checkpoint settings that determine a run's result, for `runs.open_run`."""
    if checkpoint is None:
        return {role: None}
    return {
        role: checkpoint.path.name,
        f"{role}_sha256": files.sha256(checkpoint.path),
        f"{role}_pixels": checkpoint.pixels,  # which the file may not record
    }


def _asking(checkpoint: Checkpoint | None) -> contextlib.AbstractContextManager:
    """Turn what Keras raises of others' models into an InputError; of ferlab's own it is a bug."""
    is_of_others = checkpoint is not None and checkpoint.record.is_empty
    return checkpoints.asking(checkpoint.path) if is_of_others else contextlib.nullcontext()


def _examples(dataset: Dataset) -> np.ndarray:
    """A few images of a dataset, uint8 (n, height, width, channels)."""
    return dataset.images[:: -(-len(dataset) // EXAMPLES)]


def _require_match(model: keras.Model, train: Dataset, validation: Dataset) -> None:
    for part in (train, validation):
        if part.image_shape != tuple(model.input_shape[1:]):
            raise InputError(
                f"{part.source}: the model takes images of {model.input_shape[1:]}. "
                f"Received: {part.image_shape}"
            )
        if part.num_classes != model.output_shape[-1]:
            raise InputError(
                f"{part.source}: the model has {model.output_shape[-1]} classes. "
                f"Received: {part.num_classes}"
            )
        if not part.is_labelled or not len(part):
            raise InputError(f"{part.source}: training and validation require labelled rows")


def _new_record(objective: Objective, validation: Dataset, start: Start) -> TrainingRecord:
    """The record before the first epoch."""
    train, recipe, resume_from = objective.train, objective.recipe, start.resume_from
    phases: tuple[tuple[int, str], ...] = ((0, recipe.name),)
    if resume_from and resume_from.record.epochs:
        earlier = resume_from.record
        before = earlier.phases or ((0, earlier.recipe.get("name", "before")),)
        phases = (*before, (earlier.epochs, recipe.name))
    return TrainingRecord(
        class_names=train.class_names,
        image_shape=train.image_shape,
        pixels="raw",
        recipe=recipe.as_dict(),
        seed=objective.seed,
        history=resume_from.record.history if resume_from else {},
        phases=phases,
        data={"source": Path(train.source).name, "fingerprint": train.fingerprint()},
        validation_rows=len(validation),
        learned_from=objective.learned_from(),
        resumed_from=resume_from.path.name if resume_from else None,
        initialized_from=start.initialized_from.path.name if start.initialized_from else None,
        has_unknown_rows=_has_unknown_rows(objective, start.checkpoint),
        versions=backend.versions(),
        git_commit=checkpoints.git_commit(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _versions_of_both(recorded: dict[str, str], current: dict[str, str]) -> dict[str, str]:
    """The versions of a resumed run: both values of those that have changed."""
    both = {**current, **recorded}
    for name, now in current.items():
        if both[name] != now and not both[name].endswith(f", later {now}"):
            both[name] += f", later {now}"
    return both


def _has_unknown_rows(objective: Objective, earlier: Checkpoint | None) -> bool:
    if objective.teacher and objective.teacher.rows is None:
        return True
    return earlier is not None and (
        earlier.record.has_unknown_rows or checkpoints.read_training_rows(earlier.path) is None
    )


def _training_rows(objective: Objective, earlier: Checkpoint | None) -> np.ndarray:
    """Digests of all known rows that the model has learned from, uint64 (n,)."""
    rows = np.unique(objective.training_rows())
    known = checkpoints.read_training_rows(earlier.path) if earlier else None
    return rows if known is None else np.union1d(known, rows)


def _temperature(model: keras.Model, validation: Dataset, record: TrainingRecord) -> float:
    """The temperature that calibrates the probabilities on the validation rows."""
    checkpoint = Checkpoint.in_memory(model, record)
    probabilities = inference.predict(checkpoint, validation, batch_size=EVALUATION_BATCH_SIZE)
    return calibration.fit_temperature(probabilities, validation.labels)


def _set_trainable(model: keras.Model, part: str) -> None:
    """Freeze all but a part of a model. Raises InputError if it has no such part."""
    names = {layer.name for layer in model.layers}
    if part == "head" and not names & {BACKBONE, HEAD}:
        raise InputError(f"model {model.name} has no layer {HEAD}, which a phase trains")
    for layer in model.layers:
        is_frozen = layer.name == BACKBONE if BACKBONE in names else layer.name != HEAD
        _set_layer(layer, part == "all" or not is_frozen)


def _set_layer(layer: keras.Layer, trainable: bool) -> None:
    """Freeze or unfreeze a layer and its inner layers, which Keras's setter does not change."""
    layer.trainable = trainable
    for inner in getattr(layer, "layers", ()):
        _set_layer(inner, trainable)


def _cosine(
    rate: float, warmup: float, steps: int, earlier: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Warmup and cosine over the steps of a section. earlier: optimizer steps before it."""
    warmup_steps = 0 if earlier else round(warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else rate,
        warmup_target=rate if warmup_steps else None,
        warmup_steps=warmup_steps,
        decay_steps=earlier + steps - warmup_steps,
    )


def _copy_state(source: keras.optimizers.Optimizer, target: keras.optimizers.Optimizer) -> None:
    states = [
        [variable for variable in optimizer.variables if variable.name != "learning_rate"]
        for optimizer in (target, source)
    ]
    for variable, value in zip(*states, strict=True):
        variable.assign(value)
