"""Trained models that are shipped: `pretrained:NAME` leads to one wherever a model file is taken.

The folder `pretrained/` holds of each `NAME.h5`, its card `NAME.md` for people, and `NAME.json`,
the facts that the card tells. A name is known once its facts are there, and the file is used only
as long as it is the one that they describe. Such files are never written again.
"""

import json
import os
import re
from pathlib import Path

from ferlab import files
from ferlab.errors import InputError

PREFIX = "pretrained:"
FOLDER = Path(__file__).parent.parent / "pretrained"
FOLDER_VARIABLE = "FERLAB_PRETRAINED"  # the environment's word for another folder
_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")


def folder() -> Path:
    """Where the models are, as seen from the working folder if it is below that."""
    chosen = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER).absolute()
    return chosen.relative_to(Path.cwd()) if chosen.is_relative_to(Path.cwd()) else chosen


def names() -> list[str]:
    return sorted(path.stem for path in folder().glob("*.json"))


def resolve(text: str | Path) -> Path:
    """The file that `pretrained:NAME` means; any other text is itself a path.

    Raises InputError for a name that is not known, and for a file that is not the shipped one.
    """
    if not str(text).startswith(PREFIX):
        return Path(text)
    facts = read_facts(str(text).removeprefix(PREFIX))
    path = folder() / facts["file"]
    if files.sha256(path) != facts["sha256"]:
        raise InputError(
            f"{path}: is not the file that was shipped as {text}: its SHA-256 is not the one in "
            f"{path.with_suffix('.json').name}; fetch it again"
        )
    return path


def read_facts(name: str) -> dict:
    """What is known of a shipped model. Raises InputError for a name that is not known."""
    known = names()
    if name not in known:
        there = ", ".join(known) or f"none in {folder()}"
        raise InputError(f"{PREFIX}{name}: no such model. Known: {there}")
    path = folder() / f"{name}.json"
    facts = files.read_json(path)
    if facts.get("file") != f"{name}.h5" or not isinstance(facts.get("sha256"), str):
        raise InputError(f"{path}: must name the file {name}.h5 and its sha256")
    return facts


def is_shipped(path: Path) -> bool:
    """Whether a file, by whatever path, is one of the folder's models."""
    real = Path(os.path.realpath(path))
    is_in_there = real.parent == Path(os.path.realpath(folder()))
    return is_in_there and real.suffix == ".h5" and real.stem in names()


def spoken(path: Path) -> str | None:
    """`pretrained:NAME` for a shipped model's file; None for any other."""
    return f"{PREFIX}{path.stem}" if is_shipped(path) else None


def require_new_name(name: str) -> None:
    """Raise InputError for what cannot be a model's name, and for one that is taken."""
    if not _NAME.fullmatch(name):
        raise InputError(
            "a model's name must be small letters and digits, with single - _ . between them. "
            f"Received: {name!r}"
        )
    for path in (folder() / f"{name}{suffix}" for suffix in (".h5", ".json", ".md")):
        if path.exists():
            raise InputError(f"{path}: exists already; choose another name or delete it")


def add(name: str, model: Path, facts: dict, card: str) -> list[Path]:
    """Put a model, its card and at last its facts into the folder, all or none; where they are.

    Raises InputError as `require_new_name`, and if they cannot be written.
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
