"""The only place that compiles and fits a model.

A run folder holds what a training leaves behind: `config.json`, `environment.json`, `history.csv`,
`log.txt`, `last.h5`, the checkpoint of the last finished epoch, and in `epochs/` those to be kept.
A training that was stopped, however suddenly, goes on from there when it is begun again.
"""

import csv
import datetime
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import backend, checkpoints, files, inference, optimizers
from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint, TrainingRecord
from ferlab.data import Dataset
from ferlab.data.batches import Batches, feed
from ferlab.errors import InputError, a_few
from ferlab.evaluation import calibration, metrics
from ferlab.recipes import Recipe
from ferlab.training import runs
from ferlab.training.objectives import Supervised

EVALUATION_BATCH_SIZE = 256
LAST_NAME, EPOCHS_NAME = "last.h5", "epochs"
FIRST_STEPS = (3, 10)  # steps timed for the forecast: the first ones build the graph


@dataclass(frozen=True)
class Result:
    """A finished training. No other process gets its `run` until it is published or released.

    snapshots: the per-epoch checkpoints of the last epochs, in order. training_rows: as in
    `checkpoints.save`.
    """

    model: keras.Model
    record: TrainingRecord
    snapshots: tuple[Path, ...]
    training_rows: np.ndarray
    run: runs.Run

    @property
    def history(self) -> dict[str, list[float]]:
        return self.record.history

    @property
    def val_accuracy(self) -> float:
        return self.history["val_accuracy"][-1]


def set_seed(seed: int) -> None:
    """Seed every generator that building and training a model draw from."""
    keras.utils.set_random_seed(seed)


def fit(
    model: keras.Model,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    run_dir: Path | None = None,
    objective: Supervised | None = None,
    keep_epochs: int = 0,
    previous: Checkpoint | None = None,
    origin: Checkpoint | None = None,
    initial_epoch: int = 0,
) -> Result:
    """Train `model` by `recipe`, for the epochs from initial_epoch to recipe.epochs.

    A training with the same settings and data that was stopped goes on. The Result, whose model is
    then the one from `last.h5`, equals that of a training that never stopped; if no epoch is left,
    nothing is trained. Otherwise `model` is trained in place.

    Args:
        model: uncompiled, raw grey levels in; or, with `previous`, that checkpoint's model, whose
            optimiser state and history go on.
        run_dir: see `runs.open_run`.
        objective: what is learned from the rows of `train` and perhaps others; by default the
            labels, less those that the recipe removes.
        keep_epochs: how many of the last epochs leave a checkpoint of their own.
        origin: the checkpoint whose weights `model` has, where neither optimiser nor history go on.

    Raises InputError when the data do not fit, when the training in `run_dir` has other settings or
    another process is at it, and when a loss is no number; KeyboardInterrupt when stopped. The last
    finished epoch is then in `last.h5` of the run folder.
    """
    if objective is None:
        train = train.without_labels(recipe.labels_removed, seed).labelled()
        objective = Supervised(train, recipe)
    _require_fit(model, train, validation)
    if recipe.ema and keras.backend.backend() == "jax":  # which hands its arrays away (Keras 3.15)
        raise InputError("--ema needs the backend tensorflow or torch. Received: jax")
    if any(phase.trainable != "all" or phase.learning_rate for phase in recipe.phases()):
        raise InputError(
            f"{recipe.name}: phases with a learning rate of their own or that train the head alone "
            "cannot be trained yet"
        )
    require_epochs(previous, initial_epoch, recipe)
    record = _record(train, validation, objective, recipe, seed, previous, origin)
    settings = {
        "recipe": record.recipe,
        "seed": seed,
        "learned_from": record.learned_from.as_json(),
        "data": {**record.data, "validation_fingerprint": validation.fingerprint()},
        **checkpoint_settings("resume_from", previous),
        **checkpoint_settings("initialized_from", origin),
        "initial_epoch": initial_epoch,
        "keep_epochs": keep_epochs,
        "backend": keras.backend.backend(),
    }
    run = runs.open_run(settings, run_dir, name=recipe.name, valued=LAST_NAME)
    try:
        return _train(
            run,
            model,
            objective,
            validation,
            recipe,
            record,
            seed=seed,
            keep_epochs=keep_epochs,
            previous=previous,
            origin=origin,
            initial_epoch=initial_epoch,
        )
    except BaseException:
        run.release()
        raise


def _train(
    run: runs.Run,
    model: keras.Model,
    objective: Supervised,
    validation: Dataset,
    recipe: Recipe,
    record: TrainingRecord,
    *,
    seed: int,
    keep_epochs: int,
    previous: Checkpoint | None,
    origin: Checkpoint | None,
    initial_epoch: int,
) -> Result:
    """Do in a run folder what is still to be done. `record` is that before the first epoch."""
    files.sweep(run.path / EPOCHS_NAME)
    stopped = _stopped_training(run)
    finished = range(initial_epoch, initial_epoch)
    if stopped:
        model = stopped.model
        epochs = stopped.record.epochs - record.epochs
        finished = range(initial_epoch, initial_epoch + epochs)
        record = stopped.record

    batches = objective.batches(seed)
    steps = len(batches) * (recipe.epochs - initial_epoch)
    saved = stopped or previous
    before = getattr(saved.model, "optimizer", None) if saved else None
    recorded = checkpoints.recorded_recipe(saved.path) if saved else None
    if recorded and recorded.optimizer != recipe.optimizer:
        before = None
    settings = {
        "optimizer": _optimizer(
            model,
            recipe,
            before,
            recorded or recipe,
            begun=len(batches) * (finished.stop - initial_epoch),
            steps=steps,
        ),
        "loss": objective.loss,
        "metrics": ["accuracy"],
        "jit_compile": backend.jit_compile(),
    }
    model.compile(**settings)  # so that a saved model carries the optimiser's state

    rows = _training_rows(objective, previous or origin)
    keeper = _Keeper(
        model, record, rows, run.path, finished, first_kept=recipe.epochs - keep_epochs
    )
    with _Log(run.path / "log.txt") as log:
        if run.goes_on:
            log(
                f"goes on with {run.path}, {finished.stop} of {recipe.epochs} epochs are finished; "
                "to begin anew, delete it"
            )
        if stopped:
            _write_history(run.path, record.history, finished)
        else:
            files.write_json(run.path / "environment.json", record.versions)
            log(
                f"{recipe.name}: {model.name}, {model.count_params():,} parameters, "
                f"{objective} and {len(validation):,} validation images"
            )
            if previous and before is None:
                named = recorded.optimizer if recorded else recipe.optimizer
                reason = f"had {named}" if named != recipe.optimizer else "has no optimiser's state"
                log(f"note: {previous.path} {reason}, so a new optimiser begins")
            for note in _notes(model, recipe, record, previous, steps, objective, validation):
                log(f"note: {note}")
            if recipe.bfloat16 and not backend.has_bfloat16():
                log("note: no fast bfloat16 here, so it computes in float32, which takes longer")
        if finished.stop < recipe.epochs:
            log(f"device: {backend.describe_device()}")
            has_means = before is not None and before.use_ema
            callbacks = [
                _Forecast(
                    log,
                    len(batches),
                    recipe.epochs - finished.stop,
                    _epochs_worth(recipe, finished.stop),
                ),
                *([_AveragedWeights(has_means=has_means)] if recipe.ema else []),
                _Soundness(keeper),
                keeper,
            ]
            try:
                for phase in recipe.phases(finished.stop):
                    batches = objective.batches(seed, phase)
                    trained = objective.training_model(model, phase)
                    trained.compile(**settings)
                    trained.fit(
                        feed(batches),
                        validation_data=feed(
                            objective.validation_batches(validation, EVALUATION_BATCH_SIZE)
                        ),
                        epochs=phase.epochs.stop,
                        initial_epoch=phase.epochs.start,
                        shuffle=False,
                        verbose=1 if sys.stdout.isatty() else 2,
                        callbacks=[_EpochRandomness(trained, batches, seed), *callbacks],
                    )
            except KeyboardInterrupt:
                log(f"stopped: {keeper.what_is_kept()}; the same command goes on")
                raise
        record = keeper.record.replace(temperature=_temperature(model, validation, keeper.record))
        result = Result(model, record, tuple(keeper.snapshots), rows, run)
        correct = round(result.val_accuracy * len(validation))
        log(f"validation accuracy {metrics.proportion(correct, len(validation))}")
    return result


def publish(result: Result, out_dir: Path, *, prefix: str | None = None, suffix: str = "") -> Path:
    """Write `[prefix][val_acc][suffix].h5`, and the per-epoch checkpoints.

    They go to `[prefix][val_acc][suffix]/[epoch]_[val_acc].h5`, epochs counted from 0. A name that
    another training has taken gets -2, -3 and so on. The prefix of a DNN without a suffix is
    `dnn_` where none is given. The run is finished with that.
    """
    if prefix is None:
        prefix = "dnn_" if result.record.recipe["model"] == "dnn" and not suffix else ""
    stem = f"{prefix}{result.val_accuracy:.6f}{suffix}"
    with runs.publishing_into(out_dir):
        path = _free_name(out_dir, stem, result.record)
        files.sweep(out_dir, path.name)
        checkpoints.save(result.model, path, result.record, training_rows=result.training_rows)
        for snapshot in result.snapshots:
            if snapshot.exists():
                files.sweep(path.with_suffix(""), snapshot.name)
                files.move(snapshot, path.with_suffix("") / snapshot.name)
    epochs = result.run.path / EPOCHS_NAME
    if epochs.exists():
        shutil.rmtree(epochs)  # a training that was killed on a GPU may have left others there
    result.run.finish(path)
    return path


def checkpoint_of(run_dir: Path) -> Path:
    """What came of a run: its published checkpoint, else that of its last finished epoch.

    Raises InputError for a folder that is no run, or one without a finished epoch.
    """
    mark, last = run_dir / runs.MARK_NAME, run_dir / LAST_NAME
    if mark.exists():
        published = Path(str(files.read_json(mark).get("checkpoint")))
        if published.is_file():  # it may have been moved since
            return published
    if last.is_file():
        return last
    if (run_dir / runs.CONFIG_NAME).is_file():
        raise InputError(f"{run_dir}: has no finished epoch")
    inner = sorted(path.parent.name for path in run_dir.glob(f"*/{LAST_NAME}"))
    hint = f"; name one of the runs in it: {a_few(inner)}" if inner else ""
    raise InputError(f"{run_dir}: is no run folder: it has no {LAST_NAME}{hint}")


def snapshot_name(epoch: int, val_accuracy: float) -> str:
    return f"{epoch}_{val_accuracy:.6f}.h5"


def _free_name(out_dir: Path, stem: str, record: TrainingRecord) -> Path:
    number, path = 1, out_dir / f"{stem}.h5"
    while path.exists() and not _same_training(path, record):
        number += 1
        path = out_dir / f"{stem}-{number}.h5"
    return path


def _same_training(path: Path, record: TrainingRecord) -> bool:
    try:
        existing = checkpoints.read_record(path)
    except InputError:
        return False
    names = ("recipe", "seed", "data", "resumed_from")
    return all(getattr(existing, name) == getattr(record, name) for name in names) and (
        existing.history.get("val_loss") == record.history["val_loss"]
    )


def _require_fit(model: keras.Model, train: Dataset, validation: Dataset) -> None:
    for part in (train, validation):
        if part.image_shape != tuple(model.input_shape[1:]):
            raise InputError(
                f"{part.source}: the model takes images of {model.input_shape[1:]}. "
                f"Received: {part.image_shape}"
            )
        if part.num_classes != model.output_shape[-1]:
            raise InputError(
                f"{part.source}: the model tells {model.output_shape[-1]} classes apart. "
                f"Received: {part.num_classes}"
            )
        if not part.is_labelled or not len(part):
            raise InputError(f"{part.source}: training and validation need labelled rows")


def require_epochs(previous: Checkpoint | None, initial_epoch: int, recipe: Recipe) -> None:
    """Raise InputError unless there are epochs to train, after those that `previous` has had."""
    epochs = previous.record.epochs if previous else 0
    if epochs and epochs != initial_epoch:
        raise InputError(f"{previous.path}: has had {epochs} epochs. Received: {initial_epoch}")
    if initial_epoch >= recipe.epochs:
        raise InputError(
            f"the last epoch must be above the first. Received: {initial_epoch} and {recipe.epochs}"
        )


def _stopped_training(run: runs.Run) -> Checkpoint | None:
    """`last.h5` with its optimiser; None where no epoch is finished, so that all begins anew."""
    last = run.path / LAST_NAME
    return checkpoints.load(last, with_optimizer=True) if last.exists() else None


def checkpoint_settings(role: str, checkpoint: Checkpoint | None) -> dict:
    """What an outcome follows from that begins with a checkpoint, for `runs.open_run`."""
    if checkpoint is None:
        return {role: None}
    return {
        role: checkpoint.path.name,
        f"{role}_sha256": files.sha256(checkpoint.path),
        f"{role}_pixels": checkpoint.pixels,  # it may not tell them itself
    }


def _training_rows(objective: Supervised, previous: Checkpoint | None) -> np.ndarray:
    """Digests of the rows the model has seen, as far as a previous training tells."""
    rows = np.unique(objective.seen())
    earlier = checkpoints.read_training_rows(previous.path) if previous else None
    return rows if earlier is None else np.union1d(earlier, rows)


def _temperature(model: keras.Model, validation: Dataset, record: TrainingRecord) -> float:
    """What makes the model's probabilities hold on the validation rows."""
    checkpoint = Checkpoint.in_memory(model, record)
    probabilities = inference.predict(checkpoint, validation, batch_size=EVALUATION_BATCH_SIZE)
    return calibration.fit_temperature(probabilities, validation.labels)


def _epochs_worth(recipe: Recipe, first_epoch: int) -> float:
    """How many times as long as the first epoch all will take, by the pixels they see."""
    first, *_ = phases = recipe.phases(first_epoch)
    return sum(
        len(phase.epochs) * ((phase.scale or 1) / (first.scale or 1)) ** 2 for phase in phases
    )


def _optimizer(
    model: keras.Model,
    recipe: Recipe,
    before: keras.optimizers.Optimizer | None,
    recorded: Recipe,
    *,
    begun: int,
    steps: int,
) -> keras.optimizers.Optimizer:
    """A new optimiser, or one with the state of a saved one.

    Raises InputError where the saved one has no running mean of the weights that the recipe wants,
    or one that it does not want.

    recorded: the recipe that the saved one is of; what has changed since then takes its place.
    begun: the steps of this training that the saved one has had. steps: all those of it.
    """
    if before and before.use_ema != bool(recipe.ema):
        raise InputError(
            f"--ema must be {'above 0' if before.use_ema else '0'}, as the checkpoint's optimiser "
            f"has it. Received: {recipe.ema}"
        )
    start = int(before.iterations) - begun if before else 0
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        warmup = 0 if start else round(recipe.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
            decay_steps=start + steps - warmup,
        )
    if before:
        config = {**before.get_config(), "learning_rate": rate}
        if recipe.weight_decay != recorded.weight_decay:
            decays = config.keys() & {"weight_decay", "adam_weight_decay"}
            config.update(dict.fromkeys(decays, _weight_decay(recipe)))
        if recipe.ema != recorded.ema:
            config["ema_momentum"] = recipe.ema
        optimizer = type(before).from_config(config)
    else:
        optimizer = _new_optimizer(recipe, rate)
    # What scales and shifts is spared; a saved optimiser does not tell that.
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    optimizer.build(model.trainable_variables)
    if before:
        states = [
            [variable for variable in one.variables if variable.name != "learning_rate"]
            for one in (optimizer, before)
        ]
        for variable, value in zip(*states, strict=True):
            variable.assign(value)
    return optimizer


def _new_optimizer(
    recipe: Recipe, rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """Keras's own, and Muon, by the recipe."""
    settings = {
        "learning_rate": rate,
        "weight_decay": _weight_decay(recipe),
        "use_ema": bool(recipe.ema),
        "ema_momentum": recipe.ema or 0.99,
    }
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings)
    if recipe.optimizer == "muon":
        return optimizers.Muon(
            adam_weight_decay=settings["weight_decay"],
            exclude_layers=["probabilities"],
            **settings,
        )
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
    return kinds[recipe.optimizer](**settings)


def _weight_decay(recipe: Recipe) -> float | None:
    """As Keras wants it: None is none, but for AdamW, which takes numbers alone."""
    return recipe.weight_decay or (0.0 if recipe.optimizer == "adamw" else None)


def _steps_to_settle(model: keras.Model) -> float:
    """Steps until the running statistics hold less than 5% of what they began with."""
    momenta = [
        layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    return math.log(0.05) / math.log(max(momenta)) if momenta else 0


def _notes(
    model: keras.Model,
    recipe: Recipe,
    record: TrainingRecord,
    previous: Checkpoint | None,
    steps: int,
    objective: Supervised,
    validation: Dataset,
) -> Iterator[str]:
    """What the user should know before the first of so many steps."""
    teacher = objective.teacher
    if teacher and teacher.rows is None:
        yield (
            "not all rows that the teacher was trained on are known; if validation rows were among "
            "them, the accuracy will be too high"
        )
    elif teacher and (known := objective.taught_rows(validation)):
        yield (
            f"the teacher was trained on {known:,} of the {len(validation):,} validation rows, so "
            "the accuracy will be too high"
        )
    taught_by = previous.record.learned_from.teachers if previous else ()
    if taught_by and not teacher:
        names = ", ".join(taught_by)
        yield f"{previous.path} was taught by {names}; from here on it learns from labels alone"
    recorded = previous.record.fingerprint if previous else None
    if recorded and recorded != record.fingerprint:
        yield (
            f"{previous.path} was trained on other rows; if validation rows were among them, the "
            "accuracy will be too high"
        )
    if recipe.no_aug_fraction and recipe.without_augmentation() == recipe:
        yield "--no-aug-fraction changes nothing here: the recipe has no augmentation to leave out"
    elif recipe.no_aug_fraction and all(phase.augment for phase in recipe.phases()):
        fraction = f"--no-aug-fraction {recipe.no_aug_fraction} of {recipe.epochs} epochs"
        yield f"{fraction} is less than half an epoch, so it has no effect"
    if previous is None and steps < _steps_to_settle(model):
        yield (
            f"{steps} steps are too few for the running means of batch normalisation, so "
            "validation will lag behind training: a smaller --batch-size or more --epochs helps"
        )


def _record(
    train: Dataset,
    validation: Dataset,
    objective: Supervised,
    recipe: Recipe,
    seed: int,
    previous: Checkpoint | None,
    origin: Checkpoint | None,
) -> TrainingRecord:
    """The record before the first epoch."""
    before = previous or origin
    teacher = objective.teacher
    return TrainingRecord(
        class_names=train.class_names,
        image_shape=train.image_shape,
        pixels="raw",
        recipe=recipe.as_dict(),
        seed=seed,
        history=previous.record.history if previous else {},
        phases=_phases(previous, recipe),
        data={"source": Path(train.source).name, "fingerprint": train.fingerprint()},
        validation_rows=len(validation),
        learned_from=objective.learned_from(),
        resumed_from=previous.path.name if previous else None,
        initialized_from=origin.path.name if origin else None,
        has_unknown_rows=bool(
            (teacher and teacher.rows is None)
            or (
                before
                and (
                    checkpoints.read_training_rows(before.path) is None
                    or before.record.has_unknown_rows
                )
            )
        ),
        versions=backend.versions(),
        git_commit=checkpoints.git_commit(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _phases(previous: Checkpoint | None, recipe: Recipe) -> tuple[tuple[int, str], ...]:
    """(first epoch in the history, name of the recipe) of each training in the history."""
    if previous is None or not previous.record.epochs:
        return ((0, recipe.name),)
    record = previous.record
    before = record.phases or ((0, record.recipe.get("name", "before")),)
    return (*before, (record.epochs, recipe.name))


def _write_history(run_dir: Path, history: dict[str, list[float]], epochs: range) -> None:
    """Write `history.csv`, a row for each of the epochs, which are the last of the history."""
    length = len(history["loss"])  # another one's column belongs to a training before this
    columns = {name: values for name, values in history.items() if len(values) == length}
    with (
        files.whole_file(run_dir / "history.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *columns])
        for epoch in epochs:
            row = [values[epoch - epochs.stop] for values in columns.values()]
            writer.writerow([epoch, *row])


class _Log:
    """Prints a line and keeps it in the run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Log":
        with files.written(self.path):
            self.file = self.path.open("ab", buffering=0)  # so none is left over on a full disk
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        with files.written(self.path):
            self.file.write(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n".encode())


class _EpochRandomness(keras.callbacks.Callback):
    """What is random in an epoch follows from the seed and the epoch's number alone.

    So a training that goes on later draws what it would have drawn without the break.
    """

    def __init__(self, model: keras.Model, batches: Batches, seed: int) -> None:
        super().__init__()
        self.batches, self.seed = batches, seed
        self.generators = [
            value
            for layer in model._flatten_layers()
            for value in vars(layer).values()
            if isinstance(value, keras.random.SeedGenerator)
        ]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.shuffle(epoch)
        for index, generator in enumerate(self.generators):
            sequence = np.random.SeedSequence((self.seed, epoch, index))
            generator.state.assign(sequence.generate_state(2).astype(generator.state.dtype))


class _AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Between epochs the model has the running mean of its weights, so that is what is saved.

    The optimiser then has the weights themselves, with which the next epoch goes on. At the end of
    a `fit` Keras would overwrite them with the mean; here one stage follows another.
    """

    def __init__(self, *, has_means: bool) -> None:
        """has_means: whether the model has them already, from a checkpoint."""
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = has_means

    def _finalize_ema_values(self) -> None:
        variables = self.model.trainable_variables
        self.means = [keras.ops.convert_to_numpy(variable) for variable in variables]

    def on_train_end(self, logs: dict | None = None) -> None:
        for variable, mean in zip(self.model.trainable_variables, self.means, strict=True):
            variable.assign(mean)  # Keras has put what the optimiser has in their place


class _Forecast(keras.callbacks.Callback):
    """After the first batches, says how long an epoch and the training will take."""

    def __init__(self, log: _Log, steps_per_epoch: int, epochs: int, growth: float) -> None:
        """growth: how many times the first epoch's time all of them will take."""
        super().__init__()
        self.log, self.steps_per_epoch = log, steps_per_epoch
        self.epochs, self.growth = epochs, growth
        first, last = FIRST_STEPS
        self.first, self.last = (
            (first, last) if steps_per_epoch > last else (0, steps_per_epoch - 1)
        )
        self.start: float | None = None
        self.done = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.done:
            return
        if batch == self.first:
            self.start = time.perf_counter()
        if batch == self.last and self.last > self.first:
            step = (time.perf_counter() - self.start) / (self.last - self.first)
            self._say(step * self.steps_per_epoch)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch_start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.done:  # an epoch of a single step
            self._say(time.perf_counter() - self.epoch_start)

    def _say(self, seconds: float) -> None:
        if sys.stdout.isatty():
            print()  # the progress bar holds this line
        grows = " (the first ones see smaller images)" if self.growth > self.epochs else ""
        self.log(
            f"an epoch will take about {duration(seconds)}, "
            f"{self.epochs} epoch{'s' if self.epochs > 1 else ''} about "
            f"{duration(seconds * self.growth)}{grows}"
        )
        self.done = True


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class _Keeper(keras.callbacks.Callback):
    """After every epoch: the history, a checkpoint of its own for a late epoch, and `last.h5`.

    `last.h5` comes last: a training that is killed before it resumes from the epoch before.
    """

    def __init__(
        self,
        model: keras.Model,
        record: TrainingRecord,
        training_rows: np.ndarray,
        run_dir: Path,
        finished: range,
        first_kept: int,
    ) -> None:
        """finished: the epochs of this run that are the last of the history in the record."""
        super().__init__()
        self.kept_model, self.record, self.run_dir = model, record, run_dir
        self.training_rows = training_rows
        self.finished, self.first_kept = finished, first_kept
        paths = [
            self._snapshot(epoch, record.history["val_accuracy"][epoch - finished.stop])
            for epoch in finished
            if epoch >= first_kept
        ]
        self.snapshots = [path for path in paths if path.exists()]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(self.kept_model.optimizer.learning_rate)
        row["seconds"] = round(time.perf_counter() - self.start, 3)
        self.record = self.record.with_epoch(row)
        epochs = range(self.finished.start, epoch + 1)
        _write_history(self.run_dir, self.record.history, epochs)
        if epoch >= self.first_kept:
            snapshot = self._snapshot(epoch, row["val_accuracy"])
            self._save(snapshot)
            self.snapshots.append(snapshot)
        self._save(self.run_dir / LAST_NAME)
        self.finished = epochs

    def _save(self, path: Path) -> None:
        checkpoints.save(self.kept_model, path, self.record, training_rows=self.training_rows)

    def _snapshot(self, epoch: int, val_accuracy: float) -> Path:
        return self.run_dir / EPOCHS_NAME / snapshot_name(epoch, val_accuracy)

    def what_is_kept(self) -> str:
        if not self.finished:
            return "no epoch is finished, so nothing is kept"
        epochs = len(self.finished)
        what = f"{epochs} finished epochs are" if epochs > 1 else "finished epoch is"
        return f"the {what} in {self.run_dir / LAST_NAME}"


class _Soundness(keras.callbacks.Callback):
    """Stops a training that is lost to nan or infinity, before anything of that is saved."""

    def __init__(self, keeper: _Keeper) -> None:
        super().__init__()
        self.keeper, self.kept_model = keeper, keeper.kept_model

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch + 1  # as the progress bar counts

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = logs["loss"]  # the epoch's mean, which no later step mends
        if not math.isfinite(loss):
            self._stop(f"epoch {self.epoch}, step {batch + 1}: the loss is {loss}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        for name, value in logs.items():
            if not math.isfinite(value):
                self._stop(f"epoch {self.epoch}: the {name} is {value}")
        # The last step may have spoilt the weights after its loss was taken.
        for variable in (*self.kept_model.variables, *self.kept_model.optimizer.variables):
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                self._stop(f"epoch {self.epoch}: {variable.path} is not finite")

    def _stop(self, what: str) -> None:
        if sys.stdout.isatty():
            print()  # the progress bar holds this line
        raise InputError(
            f"{what} at learning rate {float(self.kept_model.optimizer.learning_rate):g}; "
            f"a smaller --learning-rate may help; {self.keeper.what_is_kept()}"
        )
