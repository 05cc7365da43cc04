"""Shipped models: `pretrained:NAME` can be used wherever a script takes a model file.

The folder `pretrained/` contains the model `NAME.h5`, its card `NAME.md` and its facts `NAME.json`.
A model exists if its facts do, and is used only if its file has the recorded SHA-256. The files are
never changed.
"""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

from ferlab import files
from ferlab.errors import InputError, did_you_mean

PREFIX = "pretrained:"
FOLDER = Path(__file__).parent.parent / "pretrained"
FOLDER_VARIABLE = "FERLAB_PRETRAINED"  # environment variable that names another folder
LOCK_NAME = ".ferlab.lock"
_PENDING = ".ferlab-pack-"  # begins the name of a file with the digests of the files to add
_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")


def folder() -> Path:
    """The folder of the models, relative to the working folder if it is inside it."""
    path = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def names() -> list[str]:
    """The names of all shipped models, sorted."""
    stems = (path.stem for path in folder().glob("*.json"))
    return sorted(stem for stem in stems if _NAME.fullmatch(stem))


def resolve(text: str | Path) -> Path:
    """The file of `pretrained:NAME`; any other text is a path itself.

    Raises InputError for an unknown name, and for a file whose SHA-256 is not the recorded one.
    """
    if not str(text).startswith(PREFIX):
        return Path(text)
    facts = read_facts(str(text).removeprefix(PREFIX))
    path = folder() / facts["file"]
    if files.sha256(path) != facts["sha256"]:
        raise InputError(
            f"{path}: differs from the shipped {text}: its SHA-256 is not the one in "
            f"{path.with_suffix('.json').name}; download it again"
        )
    return path


def read_facts(name: str) -> dict:
    """The facts of a shipped model. Raises InputError for an unknown name."""
    if name not in names():
        valid = ", ".join(names()) or f"none in {folder()}"
        nearest = did_you_mean(name, names())
        raise InputError(f"{PREFIX}{name}: no such model. Available: {valid}{nearest}")
    path = folder() / f"{name}.json"
    facts = files.read_json(path)
    if facts.get("file") != f"{name}.h5" or not isinstance(facts.get("sha256"), str):
        raise InputError(f"{path}: must contain the file {name}.h5 and its sha256")
    return facts


def is_shipped(path: Path) -> bool:
    """Whether a path, through links or not, is the file of a shipped model."""
    real = Path(os.path.realpath(path))
    is_in_folder = real.parent == Path(os.path.realpath(folder()))
    return is_in_folder and real.suffix == ".h5" and real.stem in names()


def reference(path: Path) -> str | None:
    """`pretrained:NAME` for the file of a shipped model; None for any other."""
    return f"{PREFIX}{path.stem}" if is_shipped(path) else None


def require_new_name(name: str) -> None:
    """Raise InputError for an invalid name, and for one that is already in use."""
    if not _NAME.fullmatch(name):
        raise InputError(
            "a model's name must be lower-case letters and digits, with single - _ . between them. "
            f"Received: {name!r}"
        )
    for path in (folder() / f"{name}{suffix}" for suffix in (".h5", ".json", ".md")):
        if path.exists():
            raise InputError(f"{path}: already exists; choose another name or delete it")


def add(name: str, model: Path, facts: dict, card: str) -> list[Path]:
    """Copy a model, its card and finally its facts to the folder, all or none; return their paths.

    What a kill in between leaves is removed by `remove_unfinished`. Raises InputError as
    `require_new_name`, if a file cannot be written, and while another process adds a model.
    """
    contents = {
        ".h5": model.read_bytes(),
        ".md": card.encode(errors="backslashreplace"),
        ".json": (json.dumps(facts, indent=2) + "\n").encode(),
    }
    with files.written(folder()):
        folder().mkdir(parents=True, exist_ok=True)
        lock = files.Lock(folder() / LOCK_NAME)
        is_held = lock.acquire()
    if not is_held:
        raise InputError(f"{folder()}: is in use by another process")
    try:
        _remove_unfinished()
        require_new_name(name)
        pending = folder() / f"{_PENDING}{name}.json"
        digests = {suffix: _sha256(content) for suffix, content in contents.items()}
        files.write_json(pending, digests)
        try:
            for suffix, content in contents.items():
                with files.whole_file(folder() / f"{name}{suffix}") as temporary:
                    temporary.write_bytes(content)
        finally:
            _remove_unfinished()
    finally:
        lock.release()
    return [folder() / f"{name}{suffix}" for suffix in contents]


def remove_unfinished() -> None:
    """Remove the files of models whose facts a killed process has not written."""
    if not _pending():
        return
    lock = files.Lock(folder() / LOCK_NAME)
    with contextlib.suppress(OSError, InputError):  # a folder that this user cannot write
        if lock.acquire():
            try:
                _remove_unfinished()
            finally:
                lock.release()


def _remove_unfinished() -> None:
    """Remove each list of files to add, and these files unless the facts are among them."""
    for pending in _pending():
        name = pending.stem.removeprefix(_PENDING)
        if not (folder() / f"{name}.json").exists():
            digests = files.read_json(pending)
            for path in (folder() / f"{name}{suffix}" for suffix in (".h5", ".md")):
                if path.is_file() and files.sha256(path) == digests.get(path.suffix):
                    path.unlink()
        pending.unlink()


def _pending() -> list[Path]:
    paths = sorted(folder().glob(f"{_PENDING}*.json"))
    return [path for path in paths if _NAME.fullmatch(path.stem.removeprefix(_PENDING))]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
