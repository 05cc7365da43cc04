"""A weighted vote of checkpoints, each of which predicts a data set only once.

A member's probabilities are cached under the content of its file, the data's fingerprint and what
was said about it, so another vote over the same members needs no network at all.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import checkpoints, data, files, inference
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.labels import require_same_classes

LIST_LIMIT = 2**20  # bytes; a longer file is no list of models


@dataclass(frozen=True)
class Member:
    """A line of `model_list.txt`. where: `model_list.txt:3`, for messages."""

    weight: float
    path: Path
    where: str


def read_model_list(path: Path) -> list[Member]:
    """Read `weight path` lines; `#` comments and blank lines are skipped.

    A path is looked up beside the list first, then in the working folder.
    """
    try:
        with files.open_to_read(path) as file:
            lines = file.read(LIST_LIMIT).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        found = files.sniff(path) or "not UTF-8 text"
        raise InputError(
            f"{path}: expected a list of `weight path` lines, this is {found}"
        ) from error
    members = [
        _member(line, path.parent, f"{path}:{number}")
        for number, line in enumerate((line.split("#")[0].strip() for line in lines), start=1)
        if line
    ]
    if not members:
        raise InputError(f"{path}: names no model; expected lines of `weight path`")
    if not any(member.weight for member in members):
        raise InputError(f"{path}: at least one weight must be above 0")
    return members


def _member(line: str, folder: Path, where: str) -> Member:
    weight_text, *rest = line.split(maxsplit=1)
    try:
        weight = float(weight_text)
    except ValueError:
        weight = math.nan
    if not (0 <= weight < math.inf) or not rest:
        raise InputError(f"{where}: expected `weight path`, the weight 0 or more. Received: {line}")
    name = rest[0]
    found = next((base / name for base in (folder, Path()) if (base / name).is_file()), None)
    if found is None:
        raise InputError(f"{where}: {name}: no such file")
    return Member(weight, found, where)


def read_for(members: list[Member], path: str, class_names: tuple[str, ...] | None) -> Dataset:
    """Read the data to vote on: class folders in the order, and images of the shape, of a member.

    Raises InputError, naming the member's line, for one that tells other classes apart than the
    others.
    """
    known = [
        (member, own)
        for member in members
        if (own := _at(member, checkpoints.read_metadata, member.path)).get("class_names")
    ]
    for member, own in known:
        require_same_classes(
            f"{member.where}: {member.path}", own["class_names"], known[0][1]["class_names"]
        )
    first = known[0][1] if known else {}
    if class_names is None and Path(path).is_dir():
        class_names = first.get("class_names")
    shape = first.get("image_shape")
    return data.read(
        path,
        role="test",
        class_names=class_names and tuple(class_names),
        image_shape=shape and tuple(shape),
    )


def collect(
    members: list[Member],
    dataset: Dataset,
    *,
    class_names: tuple[str, ...] | None,
    pixels: str | None,
    batch_size: int,
    cache_dir: Path,
    report: Callable[[str], None],
) -> np.ndarray:
    """Ask every member, or the cache: float32 (members, n, num_classes).

    `report` is told a line a member. Raises InputError, naming the member's line, for one that
    cannot be opened or asked.
    """
    files.require_writable(cache_dir / "vote.npy")
    told = json.dumps([dataset.fingerprint(), dataset.class_names, class_names, pixels])
    keys: list[str] = []
    ballots: dict[str, np.ndarray] = {}
    for number, member in enumerate(members, start=1):
        key = hashlib.sha256((_file_digest(member.path) + told).encode()).hexdigest()
        name = f"{number}/{len(members)}  {member.path}"
        if key not in ballots:
            cached = cache_dir / f"{key}.npy"
            found = _read_ballot(cached, len(dataset))
            if found is None:
                report(f"{name}  predicts")
                found = _at(member, _predict, member.path, dataset, class_names, pixels, batch_size)
                with files.whole_file(cached) as temporary, temporary.open("wb") as file:
                    np.save(file, found, allow_pickle=False)
            else:
                report(f"{name}  from the cache")
            ballots[key] = found
        if ballots[key].shape != next(iter(ballots.values())).shape:
            raise InputError(f"{member.where}: {member.path} has another number of classes")
        keys.append(key)
    return np.stack([ballots[key] for key in keys])


def _predict(
    path: Path,
    dataset: Dataset,
    class_names: tuple[str, ...] | None,
    pixels: str | None,
    batch_size: int,
) -> np.ndarray:
    checkpoint = checkpoints.load(path, pixels=pixels, class_names=class_names)
    return inference.predict(checkpoint, dataset, batch_size=batch_size)


def _at(member: Member, work: Callable, *args: object):
    """Do a member's work; an InputError then tells its line in the list."""
    try:
        return work(*args)
    except InputError as error:
        raise InputError(f"{member.where}: {error}") from error


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_ballot(path: Path, rows: int) -> np.ndarray | None:
    """None when it is not there, or not what this module wrote."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == rows else None


def default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ferlab" / "votes"


def combine(probabilities: np.ndarray, weights: list[float], voting: str) -> np.ndarray:
    """float64 (n, num_classes): the shares of the vote. The first largest wins a tie.

    probabilities: (members, n, num_classes). soft: weighted mean of probabilities. hard: weighted
    share of members for which a class is the most probable.
    """
    if voting == "hard":
        classes = probabilities.shape[2]
        probabilities = np.eye(classes)[probabilities.argmax(axis=2)]
    shares = np.average(probabilities.astype("float64"), axis=0, weights=weights)
    return shares.round(12)  # 0.1 + 0.2 and 0.3 are a tie
