"""Publish the checkpoint of a finished training under its final name, `[val_acc].h5`."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ferlab import checkpoints, files
from ferlab.checkpoints import TrainingRecord
from ferlab.errors import InputError, a_few
from ferlab.recipes import from_record
from ferlab.training import runs
from ferlab.training.callbacks import EPOCHS_NAME, LAST_NAME, last_checkpoint
from ferlab.training.fit import Result


def publish(
    result: Result,
    out_dir: Path,
    *,
    prefix: str | None = None,
    suffix: str = "",
    report: Callable[[str], None] | None = None,
) -> Path:
    """Write `[prefix][val_acc][suffix].h5` and the snapshots of single epochs; finish the run.

    Snapshots are `[prefix][val_acc][suffix]/[epoch]_[val_acc].h5`, with epochs counted from 0. If
    another training has the same name, -2, -3 and so on is appended. Without a prefix, a DNN
    trained from scratch gets `dnn_`. A model that `.h5` cannot hold gets `.keras` instead.

    report: called with the path before the run is marked as finished. A process that is killed
        before that has said nothing of its result; the same command then says it without training.

    Raises InputError, and leaves the run unfinished, if the file that it has written does not
    open again or gives other outputs for the examples of the result.
    """
    if prefix is None:
        prefix = "dnn_" if result.record.recipe["model"] == "dnn" and not suffix else ""
    stem = f"{prefix}{result.val_accuracy:.6f}{suffix}"
    with runs.publishing_into(out_dir):
        path = _free_name(out_dir, stem, result)
        files.sweep(out_dir)
        files.sweep(path.with_suffix(""))
        checkpoints.save(
            result.model,
            path,
            result.record,
            training_rows=result.training_rows,
            examples=result.examples,
        )
        for snapshot in result.snapshots:
            if snapshot.exists():
                files.move(snapshot, path.with_suffix("") / snapshot.name)
    epochs = result.run.path / EPOCHS_NAME
    if epochs.exists():
        shutil.rmtree(epochs)  # a killed training on a GPU may have left other files there
    if report:
        report(str(path))
    result.run.finish(path)
    return path


def checkpoint_of(run_dir: Path) -> Path:
    """The published checkpoint of a run, or the one of its last finished epoch.

    Raises InputError for a folder that is not a run folder, or without a finished epoch.
    """
    mark, last = run_dir / runs.MARK_NAME, last_checkpoint(run_dir)
    if mark.exists():
        published = Path(str(files.read_json(mark).get("checkpoint")))
        if published.is_file():  # it may have been moved since
            return published
    if last:
        return last
    if (run_dir / runs.CONFIG_NAME).is_file():
        raise InputError(f"{run_dir}: has no finished epoch")
    inner = sorted(path.name for path in run_dir.glob("*/") if last_checkpoint(path))
    hint = f"; choose one of the runs in it: {a_few(inner)}" if inner else ""
    raise InputError(f"{run_dir}: is not a run folder, as it has no {LAST_NAME}{hint}")


def _free_name(out_dir: Path, stem: str, result: Result) -> Path:
    """A name that no other training has, whatever the suffix: snapshots are in a folder of it."""
    number, name = 1, stem
    while _is_taken(out_dir, name, result.record):
        number += 1
        name = f"{stem}-{number}"
    return out_dir / f"{name}{result.suffix}"


def _is_taken(out_dir: Path, name: str, record: TrainingRecord) -> bool:
    paths = [out_dir / f"{name}{suffix}" for suffix in checkpoints.SUFFIXES]
    return any(path.exists() and not _is_same_training(path, record) for path in paths)


def _is_same_training(path: Path, record: TrainingRecord) -> bool:
    try:
        existing, recipe = checkpoints.read_record(path), checkpoints.recorded_recipe(path)
    except InputError:
        return False
    names = ("seed", "data", "resumed_from")
    return (
        all(getattr(existing, name) == getattr(record, name) for name in names)
        and existing.history.get("val_loss") == record.history["val_loss"]
        and recipe == from_record(record.recipe)
    )
