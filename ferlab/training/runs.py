"""The folder of a run: created or resumed, and locked while a process uses it.

    run = runs.open_run(settings, run_dir, name="cnn-report", resume_file="last.h5")
    ...                  # write to run.path; after a kill, the same settings resume it
    run.finish(path)     # the next run with these settings gets a new folder

Nothing else writes into a run folder. `config.json` holds its settings, `result.json` marks it as
finished, and `.lock` is held during the run and released when the process ends.
"""

import contextlib
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ferlab import files
from ferlab.checkpoints.record import FORMER_SOURCE_NAMES
from ferlab.errors import InputError
from ferlab.recipes import current_names

RUNS_DIR = files.RUNS_DIR
CONFIG_NAME = "config.json"
MARK_NAME = "result.json"
LOCK_NAME = ".lock"
PUBLISHING_LOCK_NAME = ".ferlab.lock"  # in the folder of published files
PUBLISHING_TIMEOUT = 600  # seconds; publishing takes a few
QUICK = {CONFIG_NAME, "environment.json", "log.txt", "history.csv"}  # without training results
FORMER_NAMES = {  # names of settings in the folders of ferlab 0.1
    "objective": "learned_from",
    "previous": "resume_from",
    "origin": "initialized_from",
    "existing": "resume_from",
}
NOT_COMPARED = "source"  # a file may be renamed


class Run:
    """A folder that is locked by this process.

    is_resumed: whether a run with the same settings was in the folder.
    """

    def __init__(self, path: Path, lock: files.Lock, created: list[Path]) -> None:
        """created: the folders created for the run, innermost first."""
        self.path, self.is_resumed = path, False
        self._lock, self._created = lock, created

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is InputError:
            self.discard()
        self.release()

    def discard(self) -> None:
        """Release the folder, and remove the settings if a new run has written nothing else."""
        if not self.is_resumed and _names(self.path) == {CONFIG_NAME}:
            (self.path / CONFIG_NAME).unlink()
        self.release()

    def finish(self, published: Path) -> None:
        """Mark the run as finished, with the path of its published result, and release it."""
        files.write_json(self.path / MARK_NAME, {"checkpoint": str(published.resolve())})
        self.release()

    def release(self) -> None:
        """Unlock the folder. Folders created for it are removed if they are empty."""
        self._lock.release()
        for folder in self._created:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def open_run(settings: dict, run_dir: Path | None, *, name: str, resume_file: str) -> Run:
    """Resume the run with these settings, or begin one.

    Args:
        settings: everything that determines the result, for JSON; `source` is not compared.
        run_dir: the folder; it may hold a finished run. By default the newest unfinished run with
            these settings in `runs/` that is not in use, or a new `runs/<time>-<name>`.
        resume_file: its presence means that the run can be resumed, so that it must have settings.

    A `run_dir` without training results, only settings and logs, is reused even if its settings
    differ.

    Raises InputError for a `run_dir` with a run of other settings, with the first difference, and
    for one that is in use by another process or cannot be written.
    """
    settings = json.loads(json.dumps(settings))  # as read from a file: lists instead of tuples
    if run_dir is None:
        return _find(settings, name) or _new(settings, name)
    run = hold(run_dir)
    try:
        config = run.path / CONFIG_NAME
        if (run.path / resume_file).exists() or config.exists():
            recorded = files.read_json(config)
            if _names(run.path) - QUICK:
                require_same_settings(run.path, recorded, settings)
            run.is_resumed = not any(_differences(recorded, settings))
        _begin(run, settings)
    except BaseException:
        run.release()
        raise
    return run


def hold(folder: Path) -> Run:
    """Create and lock a folder. Raises InputError if another process has locked it."""
    run = _hold(folder)
    if run is None:
        raise InputError(f"{folder}: is in use by another process; choose another folder")
    return run


@contextlib.contextmanager
def publishing_into(folder: Path) -> Iterator[None]:
    """Publish into a folder while other processes wait for their turn.

    Raises InputError for a folder that cannot be written, and one in use for PUBLISHING_TIMEOUT.
    """
    with files.written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = files.Lock(folder / PUBLISHING_LOCK_NAME)
        is_held = lock.acquire(PUBLISHING_TIMEOUT)
    if not is_held:
        raise InputError(f"{lock.path}: is held by another process; choose another --out-dir")
    try:
        yield
    finally:
        lock.release()


def require_same_settings(where: Path, recorded: dict, current: dict) -> None:
    """Raise InputError with the first setting that differs from the recorded one."""
    for difference in _differences(recorded, current):
        raise InputError(f"{where}: can be resumed only with its own settings: {difference}")


def _hold(folder: Path) -> Run | None:
    """None if another process has locked it. Raises InputError if it cannot be written."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = files.Lock(folder / LOCK_NAME)
    run = Run(folder, lock, missing)
    try:
        with files.written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            is_held = lock.acquire()
    except InputError:
        run.release()
        raise
    return run if is_held else None


def _begin(run: Run, settings: dict) -> None:
    files.sweep(run.path, is_held=True)
    if not run.is_resumed:
        files.write_json(run.path / CONFIG_NAME, settings)


def _find(settings: dict, name: str) -> Run | None:
    folders = [path for path in RUNS_DIR.glob("*") if path.is_dir()]
    for folder in sorted(folders, key=lambda path: path.name, reverse=True):
        if not _can_resume(folder, settings, name):
            continue
        run = _hold(folder)
        if run and _can_resume(folder, settings, name):  # another process may have finished it
            run.is_resumed = (folder / CONFIG_NAME).exists()
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


def _can_resume(folder: Path, settings: dict, name: str) -> bool:
    """Whether it has an unfinished run with these settings, or one killed before it wrote any."""
    if (folder / MARK_NAME).exists():
        return False
    try:
        return not any(_differences(files.read_json(folder / CONFIG_NAME), settings))
    except InputError:  # without readable settings
        return folder.name.endswith(f"-{name}") and not _names(folder)


def _names(folder: Path) -> set[str]:
    """The names of its entries, except hidden ones; none if it no longer exists."""
    with contextlib.suppress(FileNotFoundError):
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return set()


def _differences(recorded: dict, current: dict) -> Iterator[str]:
    recorded, current = _flat(_with_current_names(recorded)), _flat(current)
    for name in current | recorded:
        if name not in recorded and not current[name]:
            continue  # a setting of a later version, switched off
        if recorded.get(name) != current.get(name):
            yield f"{name} {recorded.get(name)}. Received: {current.get(name)}"


def _with_current_names(settings: dict) -> dict:
    """Recorded settings under the names of this version."""
    renamed = {}
    for name, value in settings.items():
        role, _, property_ = name.partition("_")  # previous, previous_sha256, previous_pixels
        if role in FORMER_NAMES:
            name = FORMER_NAMES[role] + (property_ and f"_{property_}")
        renamed[name] = value
    learned_from = renamed.get("learned_from")
    if isinstance(learned_from, dict):
        renamed["learned_from"] = {
            FORMER_SOURCE_NAMES.get(name, name): value for name, value in learned_from.items()
        }
    return renamed


def _flat(settings: dict) -> dict:
    """Every compared setting, under its name in messages: `recipe's epochs`."""
    flat = {}
    for name, value in current_names(settings).items():
        if isinstance(value, dict):
            flat |= {f"{name}'s {key}": inner for key, inner in _flat(value).items()}
        elif name != NOT_COMPARED:
            flat[name] = value
    return flat


class Log:
    """Print lines, and append them with the time to a file of the run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self.file = files.open_to_append(self.path)
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        with files.written(self.path):
            time = f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
            self.file.write(f"{time}  {line}\n".encode(errors="backslashreplace"))
