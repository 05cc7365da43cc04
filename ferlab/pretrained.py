"""Shipped models: `pretrained:NAME` can be used wherever a script takes a model file.

The folder `pretrained/` contains the model `NAME.h5`, its card `NAME.md` and its facts `NAME.json`.
A model exists if its facts do, and is used only if its file has the recorded SHA-256. The files are
never changed.
"""

import json
import os
import re
from pathlib import Path

from ferlab import files
from ferlab.errors import InputError

PREFIX = "pretrained:"
FOLDER = Path(__file__).parent.parent / "pretrained"
FOLDER_VARIABLE = "FERLAB_PRETRAINED"  # environment variable that names another folder
_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")


def folder() -> Path:
    """The folder of the models, relative to the working folder if it is inside it."""
    path = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def names() -> list[str]:
    """The names of all shipped models, sorted."""
    return sorted(path.stem for path in folder().glob("*.json"))


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
        raise InputError(f"{PREFIX}{name}: no such model. Available: {valid}")
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

    Raises InputError as `require_new_name`, and if a file cannot be written.
    """
    require_new_name(name)
    contents = {
        ".h5": model.read_bytes(),
        ".md": card.encode(),
        ".json": (json.dumps(facts, indent=2) + "\n").encode(),
    }
    written: list[Path] = []
    try:
        for suffix, content in contents.items():
            path = folder() / f"{name}{suffix}"
            with files.whole_file(path) as temporary:
                temporary.write_bytes(content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return written
