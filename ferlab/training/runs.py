"""The folder of a run: found again or made, in one process at a time, marked once it is published.

    run = runs.open_run(settings, run_dir, name="cnn-report", valued="last.h5")
    ...                  # write into run.path; after a kill the same settings lead here again
    run.finish(path)     # what came of it is published: the next such run gets a new folder

A run folder is one run's own: nothing else writes there. `config.json` holds its settings,
`result.json` is the mark, `.lock` is held as long as the run and dies with the process.
"""

import contextlib
import datetime
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from ferlab import files
from ferlab.checkpoints.record import FORMER_SOURCE_NAMES
from ferlab.errors import InputError
from ferlab.recipes import current_names

RUNS_DIR = Path("runs")
CONFIG_NAME = "config.json"
MARK_NAME = "result.json"
LOCK_NAME = ".lock"
BARE = {CONFIG_NAME, "environment.json", "log.txt", "history.csv"}  # nothing that took long
FORMER_NAMES = {  # of settings, in the folders of ferlab 0.1
    "objective": "learned_from",
    "previous": "resume_from",
    "origin": "initialized_from",
    "existing": "resume_from",
}
NOT_COMPARED = "source"  # the name of a setting that decides nothing: a file may be renamed


class Run:
    """A folder that this process holds.

    goes_on: whether the folder was there with the same settings.
    """

    def __init__(self, path: Path, lock: "_Lock", made: list[Path]) -> None:
        """made: the folders that were made for it, the innermost first."""
        self.path, self.goes_on = path, False
        self._lock, self._made = lock, made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is InputError and not self.goes_on and _names(self.path) == {CONFIG_NAME}:
            (self.path / CONFIG_NAME).unlink()
        self.release()

    def finish(self, published: Path) -> None:
        """Note where the result has been published, and let go of the folder."""
        files.write_json(self.path / MARK_NAME, {"checkpoint": str(published.resolve())})
        self.release()

    def release(self) -> None:
        """Let go of the folder. Folders that were made for it go if nothing was written."""
        self._lock.release()
        for folder in self._made:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()


def open_run(settings: dict, run_dir: Path | None, *, name: str, valued: str) -> Run:
    """The run that goes on, or begins, with these settings.

    Args:
        settings: what the outcome follows from, as JSON; `source` in it is not compared.
        run_dir: without one it is the newest unfinished run of these settings in `runs/` that no
            process is at, else a new `runs/<time>-<name>`. A given one may be finished.
        valued: what the run would go on with, such as `last.h5`, so that it needs settings.

    A given folder in which nothing but settings and logs lie yet is taken over, even if its
    settings are others.

    Raises InputError when the given folder has a run of other settings, which it names, when
    another process is at it, or when it cannot be written.
    """
    settings = json.loads(json.dumps(settings))  # what is read back knows no tuples
    if run_dir is None:
        return _found(settings, name) or _new(settings, name)
    run = hold(run_dir)
    try:
        config = run.path / CONFIG_NAME
        if (run.path / valued).exists() or config.exists():
            recorded = files.read_json(config)
            if _names(run.path) - BARE:
                require_same_settings(run.path, recorded, settings)
            run.goes_on = not any(_differences(recorded, settings))
        _begin(run, settings)
    except BaseException:
        run.release()
        raise
    return run


def hold(folder: Path) -> Run:
    """Keep other processes out of a folder, which is made. Raises InputError if one is there."""
    run = _hold(folder)
    if run is None:
        raise InputError(f"{folder}: another process is at work in it; choose another folder")
    return run


@contextlib.contextmanager
def publishing_into(folder: Path) -> Iterator[None]:
    """One process at a time publishes into a folder; the others wait.

    The lock lies in the system's folder for temporary files, so the user's stays clean.
    """
    with files.written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        place = folder.stat()
        name = f"ferlab-{place.st_dev:x}-{place.st_ino:x}.lock"
        lock = _Lock(Path(tempfile.gettempdir()) / name)
        lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()


def require_same_settings(where: Path, recorded: dict, asked: dict) -> None:
    """Raise InputError naming the first setting that is not as it was recorded."""
    for difference in _differences(recorded, asked):
        raise InputError(f"{where}: goes on only with the settings it began with: {difference}")


class _Lock:
    """A file that one process at a time holds, and none when it is dead. Re-entrant within one."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        # Of one file there is one FileLock a process, so its own other run does not shut it out.
        self.lock = FileLock(self.path, is_singleton=True, thread_local=False, mode=0o666)
        self.is_held = False

    def acquire(self, *, wait: bool) -> None:
        """Raises Timeout, an OSError, when another process holds it and there is no waiting."""
        self.lock.acquire(timeout=-1 if wait else 0)
        self.is_held = True

    def release(self) -> None:
        if not self.is_held:
            return
        self.is_held = False
        if self.lock.lock_counter == 1:
            with contextlib.suppress(OSError):  # of another user, or Windows, where filelock does
                self.path.unlink()  # while it is held: who waits for it sees that it is gone
        self.lock.release()


def _hold(folder: Path) -> Run | None:
    """None when another process holds it. Raises InputError when it cannot be written."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = _Lock(folder / LOCK_NAME)
    run = Run(folder, lock, missing)
    try:
        with files.written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(wait=False)
            except Timeout:
                return None
    except InputError:
        run.release()
        raise
    return run


def _begin(run: Run, settings: dict) -> None:
    files.sweep(run.path)
    if not run.goes_on:
        files.write_json(run.path / CONFIG_NAME, settings)


def _found(settings: dict, name: str) -> Run | None:
    folders = [path for path in RUNS_DIR.glob("*") if path.is_dir()]
    for folder in sorted(folders, key=lambda path: path.name, reverse=True):
        if not _may_go_on(folder, settings, name):
            continue
        run = _hold(folder)
        if run and _may_go_on(folder, settings, name):  # another process may have finished it
            run.goes_on = (folder / CONFIG_NAME).exists()
            _begin(run, settings)
            return run
        if run:
            run.release()
    return None


def _new(settings: dict, name: str) -> Run:
    while True:
        run = _hold(RUNS_DIR / f"{datetime.datetime.now():%Y%m%d-%H%M%S-%f}-{name}")
        if run and not (run.path / CONFIG_NAME).exists():
            break
    _begin(run, settings)
    return run


def _may_go_on(folder: Path, settings: dict, name: str) -> bool:
    """Whether it holds an unfinished run of these settings, or one killed before it noted any."""
    if (folder / MARK_NAME).exists():
        return False
    try:
        return not any(_differences(files.read_json(folder / CONFIG_NAME), settings))
    except InputError:  # none, or not ours
        return folder.name.endswith(f"-{name}") and not _names(folder)


def _names(folder: Path) -> set[str]:
    """What lies in it, but for locks and scraps; nothing if it has just gone."""
    with contextlib.suppress(FileNotFoundError):
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return set()


def _differences(recorded: dict, asked: dict) -> Iterator[str]:
    recorded, asked = _flat(_with_current_names(recorded)), _flat(asked)
    for name in asked | recorded:
        if name not in recorded and not asked[name]:
            continue  # a later version's setting, which does nothing as it is asked
        if recorded.get(name) != asked.get(name):
            yield f"{name} {recorded.get(name)}. Received: {asked.get(name)}"


def _with_current_names(settings: dict) -> dict:
    """Recorded settings under the names of this version."""
    renamed = {}
    for name, value in settings.items():
        role, _, property_ = name.partition("_")  # previous, previous_sha256, previous_pixels
        if role in FORMER_NAMES:
            name = FORMER_NAMES[role] + (property_ and f"_{property_}")
        renamed[name] = value
    if "learned_from" in renamed:
        learned_from = renamed["learned_from"].items()
        renamed["learned_from"] = {
            FORMER_SOURCE_NAMES.get(name, name): value for name, value in learned_from
        }
    return renamed


def _flat(settings: dict) -> dict:
    """Every compared setting, under its name for messages: `recipe's epochs`."""
    flat = {}
    for name, value in current_names(settings).items():
        if isinstance(value, dict):
            flat |= {f"{name}'s {key}": inner for key, inner in _flat(value).items()}
        elif name != NOT_COMPARED:
            flat[name] = value
    return flat
