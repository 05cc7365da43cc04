"""Keras callbacks: reproducible epochs, checkpoints, a time forecast, a stop on nan."""

import csv
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ferlab import checkpoints, files
from ferlab.backend import keras
from ferlab.checkpoints import TrainingRecord
from ferlab.errors import InputError

LAST_STEM, EPOCHS_NAME = "last", "epochs"  # in the run folder
LAST_NAME = f"{LAST_STEM}.h5"  # or .keras, for a model that .h5 cannot hold
FIRST_STEPS = (3, 10)  # steps timed for the forecast: the first ones build the graph


class EpochSeed(keras.callbacks.Callback):
    """Seed every epoch only by the training seed and the epoch's number.

    A resumed training then shuffles and augments like an uninterrupted one.
    """

    def __init__(self, model: keras.Model, batches: keras.utils.PyDataset, seed: int) -> None:
        """model: with the augmentation layers. batches: have a method `shuffle(epoch)`."""
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


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Evaluate and save the EMA weights after each epoch, and continue with the raw weights.

    Between epochs the model has the EMA weights and the optimizer has the raw ones. At the end of
    a `fit`, Keras would overwrite the raw ones, which the next phase needs.
    """

    def __init__(self, *, is_averaged: bool) -> None:
        """is_averaged: whether the model has EMA weights already, from a checkpoint."""
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = is_averaged

    def _finalize_ema_values(self) -> None:
        variables = self.model.trainable_variables
        self.averages = [keras.ops.convert_to_numpy(variable) for variable in variables]

    def on_train_end(self, logs: dict | None = None) -> None:
        for variable, average in zip(self.model.trainable_variables, self.averages, strict=True):
            variable.assign(average)  # Keras has overwritten them with the raw weights


class Forecast(keras.callbacks.Callback):
    """Report after the first steps how long an epoch and the training will take."""

    def __init__(
        self, report: Callable[[str], None], steps_per_epoch: int, epochs: int, first_epochs: float
    ) -> None:
        """first_epochs: the time of all epochs, as a multiple of the first one's."""
        super().__init__()
        self.report, self.steps_per_epoch = report, steps_per_epoch
        self.epochs, self.first_epochs = epochs, first_epochs
        first, last = FIRST_STEPS
        is_long = steps_per_epoch > last
        self.first, self.last = (first, last) if is_long else (0, steps_per_epoch - 1)
        self.is_done = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.is_done:
            return
        if batch == self.first:
            self.start = time.perf_counter()
        if batch == self.last and self.last > self.first:
            step = (time.perf_counter() - self.start) / (self.last - self.first)
            self._report_times(step * self.steps_per_epoch)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch_start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.is_done:  # an epoch of a single step
            self._report_times(time.perf_counter() - self.epoch_start)

    def _report_times(self, seconds: float) -> None:
        _leave_progress_bar()
        is_longer = self.first_epochs > self.epochs
        later = " (the first ones train and validate on smaller images)" if is_longer else ""
        self.report(
            f"an epoch will take about {duration(seconds)}, "
            f"{self.epochs} epoch{'s' if self.epochs > 1 else ''} about "
            f"{duration(seconds * self.first_epochs)}{later}"
        )
        self.is_done = True


class EpochCheckpoint(keras.callbacks.Callback):
    """After each epoch write `history.csv`, `last.h5` and, for the last epochs, a snapshot.

    `last.h5` is written last: a training killed before that resumes at the previous epoch.
    suffix: `.h5`, or `.keras` for a model that `.h5` cannot hold.
    """

    def __init__(
        self,
        model: keras.Model,
        record: TrainingRecord,
        training_rows: np.ndarray,
        run_dir: Path,
        finished: range,
        first_kept: int,
        suffix: str,
    ) -> None:
        """model: without the augmentation. finished: epochs of this run that are in the record.

        first_kept: the first epoch that has a checkpoint of its own.
        """
        super().__init__()
        self.saved_model, self.record, self.run_dir = model, record, run_dir
        self.training_rows, self.suffix = training_rows, suffix
        self.finished, self.first_kept = finished, first_kept
        accuracies = record.history.get("val_accuracy", [])
        paths = [
            self._snapshot(epoch, accuracies[epoch - finished.stop])
            for epoch in finished
            if epoch >= first_kept
        ]
        self.snapshots = [path for path in paths if path.exists()]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(self.saved_model.optimizer.learning_rate)
        row["seconds"] = round(time.perf_counter() - self.start, 3)
        self.record = self.record.with_epoch(row)
        epochs = range(self.finished.start, epoch + 1)
        write_history(self.run_dir, self.record.history, epochs)
        if epoch >= self.first_kept:
            snapshot = self._snapshot(epoch, row["val_accuracy"])
            self._save(snapshot)
            self.snapshots.append(snapshot)
        self._save(self.last)
        self.finished = epochs

    def _save(self, path: Path) -> None:
        checkpoints.save(self.saved_model, path, self.record, training_rows=self.training_rows)

    def _snapshot(self, epoch: int, val_accuracy: float) -> Path:
        name = snapshot_name(epoch, val_accuracy, self.suffix)
        return self.run_dir / EPOCHS_NAME / name

    @property
    def last(self) -> Path:
        """The checkpoint of the last finished epoch."""
        return self.run_dir / f"{LAST_STEM}{self.suffix}"

    @property
    def progress(self) -> str:
        """The saved epochs, in words."""
        if not self.finished:
            return "no epoch is finished, so nothing is saved"
        epochs = len(self.finished)
        what = f"{epochs} finished epochs are" if epochs > 1 else "finished epoch is"
        return f"the {what} in {self.last}"


class StopOnNonFinite(keras.callbacks.Callback):
    """Stop a training whose loss, metrics or weights are nan or infinite, before saving them."""

    def __init__(self, checkpoint: EpochCheckpoint) -> None:
        super().__init__()
        self.checkpoint, self.saved_model = checkpoint, checkpoint.saved_model

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch + 1  # counted from 1, as in the progress bar

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = (logs or {})["loss"]  # the mean over the epoch so far, which stays non-finite
        if not math.isfinite(loss):
            self._stop(f"epoch {self.epoch}, step {batch + 1}: the loss is {loss}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                self._stop(f"epoch {self.epoch}: the {name} is {value}")
        # The last update may have made the weights non-finite after the loss was computed.
        for variable in (*self.saved_model.variables, *self.saved_model.optimizer.variables):
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                self._stop(f"epoch {self.epoch}: {variable.path} is not finite")

    def _stop(self, reason: str) -> None:
        _leave_progress_bar()
        raise InputError(
            f"{reason} at learning rate {float(self.saved_model.optimizer.learning_rate):g}; "
            f"a smaller --learning-rate may help; {self.checkpoint.progress}"
        )


def _leave_progress_bar() -> None:
    if sys.stdout.isatty():
        print()  # the progress bar is on this line


def write_history(run_dir: Path, history: dict[str, list[float]], epochs: range) -> None:
    """Write `history.csv`, one row per epoch. epochs: the last ones of the history."""
    length = len(history["loss"])  # shorter columns are from an earlier training
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


def snapshot_name(epoch: int, val_accuracy: float, suffix: str = ".h5") -> str:
    """The file name of an epoch's checkpoint."""
    return f"{epoch}_{val_accuracy:.6f}{suffix}"


def last_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint of the last finished epoch of a run; None if there is none."""
    paths = (run_dir / f"{LAST_STEM}{suffix}" for suffix in checkpoints.SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def duration(seconds: float) -> str:
    """'45 s', '12 min' or '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
