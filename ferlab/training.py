"""The only place that compiles and fits a model.

A run folder holds what a training leaves behind: `config.json`, `environment.json`, `history.csv`,
`log.txt` and `last.h5`, the checkpoint of the last finished epoch.
"""

import csv
import datetime
import json
import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import backend, checkpoints, files, metrics
from ferlab.acceleration import accelerate
from ferlab.augmentation import augmentation_layers
from ferlab.backend import keras
from ferlab.batches import Batches, feed
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.recipes import Recipe

EVALUATION_BATCH_SIZE = 256
FIRST_STEPS = (3, 10)  # steps timed for the forecast: the first ones build the graph


@dataclass(frozen=True)
class Result:
    """A finished training. snapshots: the per-epoch checkpoints of the last epochs, in order."""

    model: keras.Model
    metadata: dict
    snapshots: tuple[Path, ...]

    @property
    def history(self) -> dict[str, list[float]]:
        return self.metadata["history"]

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
    run_dir: Path,
    keep_epochs: int = 0,
    previous: Checkpoint | None = None,
    initial_epoch: int = 0,
) -> Result:
    """Train `model` in place by `recipe`, for the epochs from initial_epoch to recipe.epochs.

    Args:
        model: uncompiled, raw grey levels in; or, with `previous`, that checkpoint's model, whose
            optimiser state and history go on.
        keep_epochs: how many of the last epochs leave a checkpoint of their own.

    Raises InputError when the data do not fit, KeyboardInterrupt when stopped: the last finished
    epoch is then in `run_dir / "last.h5"`.
    """
    _require_fit(model, train, validation)
    _require_history(previous, initial_epoch)
    if initial_epoch >= recipe.epochs:
        raise InputError(
            f"the last epoch must be above the first. Received: {initial_epoch} and {recipe.epochs}"
        )
    optimizer = _optimizer(recipe, previous)
    trained = training_model(model, recipe)
    settings = {
        "optimizer": optimizer,
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "jit_compile": backend.jit_compile(),
    }
    trained.compile(**settings)
    model.compile(**settings)  # so that a saved model carries the optimiser's state

    batches = Batches(train.images, train.labels, recipe.batch_size, seed=seed)
    metadata = _metadata(train, recipe, seed, previous)
    with _Log(run_dir / "log.txt") as log:
        config = {key: metadata[key] for key in ("recipe", "seed", "data", "previous")}
        _write_json(
            run_dir / "config.json",
            {**config, "initial_epoch": initial_epoch, "keep_epochs": keep_epochs},
        )
        _write_json(run_dir / "environment.json", metadata["versions"])
        log(
            f"{recipe.name}: {model.name}, {model.count_params():,} parameters, "
            f"{len(train):,} training and {len(validation):,} validation images"
        )
        log(f"device: {backend.describe_device()}")
        recorded = previous.metadata.get("data") if previous else None
        if recorded and recorded["fingerprint"] != metadata["data"]["fingerprint"]:
            log(
                f"note: {previous.path} was trained on other rows; if validation rows were among "
                "them, the accuracy will be too high"
            )
        steps = len(batches) * (recipe.epochs - initial_epoch)
        if previous is None and steps < _steps_to_settle(model):
            log(
                f"note: {steps} steps are too few for the running means of batch normalisation, so "
                "validation will lag behind training: a smaller --batch-size or more --epochs helps"
            )
        keeper = _Keeper(model, metadata, run_dir, first_kept=recipe.epochs - keep_epochs)
        try:
            trained.fit(
                feed(batches),
                validation_data=feed(
                    Batches(validation.images, validation.labels, EVALUATION_BATCH_SIZE)
                ),
                epochs=recipe.epochs,
                initial_epoch=initial_epoch,
                shuffle=False,
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[
                    _EpochRandomness(trained, batches, seed),
                    _Forecast(log, len(batches), recipe.epochs - initial_epoch),
                    keeper,
                ],
            )
        except KeyboardInterrupt:
            log(keeper.what_is_kept())
            raise
        result = Result(model, metadata, tuple(keeper.snapshots))
        correct = round(result.val_accuracy * len(validation))
        log(f"validation accuracy {metrics.proportion(correct, len(validation))}")
    return result


def new_run_dir(run_dir: Path | None, name: str) -> Path:
    """The folder of a run: the given one, or `runs/<time>-<name>`.

    Raises InputError when it cannot be written, or the given one already holds a run.
    """
    if run_dir is None:
        run_dir = Path("runs") / f"{datetime.datetime.now():%Y%m%d-%H%M%S-%f}-{name}"
    if (run_dir / "history.csv").exists():
        raise InputError(f"{run_dir}: already holds a run; choose another --run-dir")
    files.require_writable(run_dir / "log.txt")
    return run_dir


def publish(result: Result, out_dir: Path, *, suffix: str = "") -> Path:
    """Write `[val_acc][suffix].h5`, or `dnn_...` for the DNN, and the per-epoch checkpoints.

    They go to `[val_acc][suffix]/[epoch]_[val_acc].h5`, epochs counted from 0. A name that another
    training has taken gets -2, -3 and so on.
    """
    prefix = "dnn_" if result.metadata["recipe"]["model"] == "dnn" and not suffix else ""
    stem = f"{prefix}{result.val_accuracy:.6f}{suffix}"
    path = _free_name(out_dir, stem, result.metadata)
    checkpoints.save(result.model, path, result.metadata)
    for snapshot in result.snapshots:
        target = path.with_suffix("") / snapshot.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(snapshot, target)
    if result.snapshots:
        result.snapshots[0].parent.rmdir()
    return path


def _free_name(out_dir: Path, stem: str, metadata: dict) -> Path:
    number, path = 1, out_dir / f"{stem}.h5"
    while path.exists() and not _same_training(path, metadata):
        number += 1
        path = out_dir / f"{stem}-{number}.h5"
    return path


def _same_training(path: Path, metadata: dict) -> bool:
    try:
        existing = checkpoints.read_metadata(path)
    except InputError:
        return False
    keys = ("recipe", "seed", "data", "previous")
    return all(existing.get(key) == metadata[key] for key in keys) and (
        existing.get("history", {}).get("val_loss") == metadata["history"]["val_loss"]
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


def _require_history(previous: Checkpoint | None, initial_epoch: int) -> None:
    """A checkpoint that tells how many epochs it has had is not to be told otherwise."""
    history = previous.metadata.get("history") if previous else None
    if history and len(history["loss"]) != initial_epoch:
        raise InputError(
            f"{previous.path}: has had {len(history['loss'])} epochs. Received: {initial_epoch}"
        )


def _optimizer(recipe: Recipe, previous: Checkpoint | None) -> keras.optimizers.Optimizer:
    optimizer = getattr(previous.model, "optimizer", None) if previous else None
    if optimizer is None:
        optimizer = keras.optimizers.get(recipe.optimizer)
    optimizer.learning_rate = recipe.learning_rate
    return optimizer


def _steps_to_settle(model: keras.Model) -> float:
    """Steps until the running statistics hold less than 5% of what they began with."""
    momenta = [
        layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    return math.log(0.05) / math.log(max(momenta)) if momenta else 0


def training_model(model: keras.Model, recipe: Recipe) -> keras.Model:
    """The model behind the recipe's random layers, on the model's own variables."""
    images = keras.Input(model.input_shape[1:], name="training_images")
    x = images
    for layer in augmentation_layers(recipe):
        x = layer(x)
    return keras.Model(images, accelerate(model)(x), name=f"{model.name}_training")


def _metadata(train: Dataset, recipe: Recipe, seed: int, previous: Checkpoint | None) -> dict:
    history = previous.metadata.get("history", {}) if previous else {}
    return {
        "class_names": list(train.class_names),
        "image_shape": list(train.image_shape),
        "pixels": "raw",
        "recipe": recipe.as_dict(),
        "seed": seed,
        "history": {name: list(values) for name, values in history.items()},
        "data": {"source": Path(train.source).name, "fingerprint": train.fingerprint()},
        "previous": previous.path.name if previous else None,
        "versions": backend.versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _write_json(path: Path, value: dict) -> None:
    with files.whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


class _Log:
    """Prints a line and keeps it in the run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Log":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        self.file.write(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")
        self.file.flush()


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


class _Forecast(keras.callbacks.Callback):
    """After the first batches, says how long an epoch and the training will take."""

    def __init__(self, log: _Log, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self.log, self.steps_per_epoch, self.epochs = log, steps_per_epoch, epochs
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
        self.log(
            f"an epoch will take about {_duration(seconds)}, "
            f"{self.epochs} epochs about {_duration(seconds * self.epochs)}"
        )
        self.done = True


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class _Keeper(keras.callbacks.Callback):
    """After every epoch: the history, the checkpoint `last.h5`, and a copy of it of late epochs."""

    def __init__(self, model: keras.Model, metadata: dict, run_dir: Path, first_kept: int) -> None:
        super().__init__()
        self.kept_model, self.metadata, self.run_dir = model, metadata, run_dir
        self.first_kept = first_kept
        self.snapshots: list[Path] = []
        self.finished = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(row["loss"]):
            raise InputError(
                f"epoch {epoch}: the loss is {row['loss']}; a smaller --learning-rate than "
                f"{float(self.kept_model.optimizer.learning_rate):g} may help"
            )
        row["learning_rate"] = float(self.kept_model.optimizer.learning_rate)
        row["seconds"] = round(time.perf_counter() - self.start, 3)
        history = self.metadata["history"]
        for name, value in row.items():
            history.setdefault(name, []).append(value)
        self._append_csv({"epoch": epoch, **row})
        last = self.run_dir / "last.h5"
        checkpoints.save(self.kept_model, last, self.metadata)
        if epoch >= self.first_kept:
            snapshot = self.run_dir / "epochs" / f"{epoch}_{row['val_accuracy']:.6f}.h5"
            with files.whole_file(snapshot) as temporary:
                shutil.copyfile(last, temporary)
            self.snapshots.append(snapshot)
        self.finished += 1

    def _append_csv(self, row: dict) -> None:
        path = self.run_dir / "history.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def what_is_kept(self) -> str:
        if not self.finished:
            return "stopped before an epoch was finished: nothing is kept"
        return f"stopped: the {self.finished} finished epochs are in {self.run_dir / 'last.h5'}"
