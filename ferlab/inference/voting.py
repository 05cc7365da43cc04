"""A weighted vote of checkpoints, each of which predicts a data set only once.

A member's probabilities are cached under the content of its file, the data's fingerprint and what
was said about it, so another vote over the same members needs no network at all.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ferlab import checkpoints, data, files, inference, pretrained
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError, a_few
from ferlab.inference import engines
from ferlab.labels import UNLABELLED, is_reordering, parse_class_names, require_same_classes

_OPTION = re.compile(r"\s(pixels|classes|architecture)=(\S*)$", re.IGNORECASE)
_COMMENT = re.compile(r"(^|\s)#.*")
CACHE_VERSION = 2  # to be raised when the same member would answer otherwise
SETTLED = 2_000_000_000  # nanoseconds after which a file counts as written
LIST_LIMIT = 2**20  # bytes; a longer file is no list of models


@dataclass(frozen=True)
class Member:
    """A line of `model_list.txt`. where: `model_list.txt:3`, for messages.

    pixels, class_names, architecture: what the line says of how it was trained, as in
    `checkpoints.load`.
    """

    weight: float
    path: Path
    where: str
    pixels: str | None = None
    class_names: tuple[str, ...] | None = None
    architecture: Path | None = None


def read_model_list(path: Path) -> list[Member]:
    """Read `weight path` lines; `#` comments and blank lines are skipped.

    After the path a line may say `pixels=unit`, `classes=angry,happy,...`, in the order of the
    member's outputs, and `architecture=model.json`. A path is looked up beside the list first,
    then in the working folder; `pretrained:NAME` is one that is shipped.
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
        for number, line in enumerate((_COMMENT.sub("", line).strip() for line in lines), start=1)
        if line
    ]
    if not members:
        raise InputError(f"{path}: names no model; expected lines of `weight path`")
    if not any(member.weight for member in members):
        raise InputError(f"{path}: at least one weight must be above 0")
    return members


def members_of(path: Path) -> list[Member]:
    """A checkpoint as a member of weight 1, or the members of a list, which ends in .txt."""
    if path.suffix == ".txt":
        return read_model_list(path)
    checkpoints.read_record(path)  # says what is wrong with a file before anything is asked
    return [Member(1, path, str(path))]


def with_flags(
    members: list[Member], pixels: str | None, class_names: tuple[str, ...] | None
) -> list[Member]:
    """The members, with what the flags say of those whose lines do not."""
    return [
        replace(
            member,
            pixels=member.pixels or pixels,
            class_names=member.class_names or class_names,
        )
        for member in members
    ]


def _member(line: str, folder: Path, where: str) -> Member:
    options: dict[str, str] = {}
    while found := _OPTION.search(line):
        name, value = found[1].lower(), found[2]
        if not value:
            raise InputError(f"{where}: {name}= says nothing. Received: {line}")
        if name in options:
            raise InputError(f"{where}: {name}= must be said once. Received: {line}")
        options[name], line = value, line[: found.start()].rstrip()
    weight_text, *rest = line.split(maxsplit=1)
    try:
        weight = float(weight_text)
    except ValueError:
        weight = math.nan
    if not (0 <= weight < math.inf) or not rest:
        raise InputError(f"{where}: expected `weight path`, the weight 0 or more. Received: {line}")
    try:
        pixels = options.get("pixels")
        if pixels is not None and pixels not in checkpoints.PIXEL_SCALES:
            known = ", ".join(checkpoints.PIXEL_SCALES)
            raise InputError(f"pixels must be one of {known}. Received: {pixels!r}")
        class_names = parse_class_names(options["classes"]) if "classes" in options else None
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    architecture = options.get("architecture")
    return Member(
        weight,
        _found(rest[0], folder, where),
        where,
        pixels,
        class_names,
        _found(architecture, folder, where) if architecture else None,
    )


def _found(name: str, folder: Path, where: str) -> Path:
    if name.startswith(pretrained.PREFIX):
        try:
            return pretrained.resolve(name)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    with contextlib.suppress(OSError):  # a name too long to be one
        for base in (folder, Path()):
            if (base / name).is_file():
                return base / name
    raise InputError(f"{where}: {name[:200]}: no such file")


def write_model_list(path: Path, members: Sequence[Member], comments: Sequence[str]) -> None:
    """Write what `read_model_list` reads, whole or not at all; paths relative to the list."""
    lines = [f"# {comment}" for comment in comments]
    for member in members:
        options = {
            "pixels": member.pixels,
            "classes": member.class_names and ",".join(member.class_names),
            "architecture": member.architecture and _beside(path, member.architecture),
        }
        line = f"{member.weight:g} {_beside(path, member.path)}"
        for name, value in options.items():
            if value and re.search(r"\s", value):
                raise InputError(f"{path}: cannot list {name}={value!r}: it must have no spaces")
            line += f" {name}={value}" if value else ""
        if _COMMENT.search(line):
            raise InputError(f"{path}: cannot list {member.path}: ` #` begins a comment")
        lines.append(line)
    with files.whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _beside(path: Path, file: Path) -> str:
    """The file as seen from the folder of `path`, or as it is called wherever one is."""
    return (
        pretrained.spoken(file)
        or Path(os.path.relpath(file.resolve(), path.resolve().parent)).as_posix()
    )


def read_for(
    members: list[Member],
    path: str,
    class_names: tuple[str, ...] | None,
    *,
    role: str = "test",
    truth: str | None = None,
) -> Dataset:
    """Read the data to vote on: class folders in a member's order, images for the largest member.

    truth: a file of labels that the data lacks. Data without any has the members' classes. Raises
    InputError, naming the member's line, for one that tells other classes apart than the others or
    labelled data, or has them in another order without its line saying so.
    """
    records = [_at(member, checkpoints.read_record, member.path) for member in members]
    told = [
        (member, record.class_names)
        for member, record in zip(members, records, strict=True)
        if record.class_names
    ]
    for member, names in told:
        _require_votable(member, names, class_names or told[0][1])
    is_folder = Path(path).is_dir()
    if is_folder and class_names is None and told:
        class_names = told[0][1]
    shapes = [record.image_shape for record in records if record.image_shape]
    dataset = data.read(
        path,
        role=role,
        class_names=inference.data_class_names(
            class_names, is_folder=is_folder, is_the_models=not told
        ),
        image_shape=max(shapes, key=math.prod) if is_folder and shapes else None,
    )
    dataset = data.with_truth(dataset, truth)
    if told:
        member, names = told[0]
        dataset = inference.with_models_classes(dataset, names)
        if not is_reordering(names, dataset.class_names):
            where = f"{path} with {member.where}: {member.path}"
            require_same_classes(where, dataset.class_names, names)
    return dataset


def _require_votable(member: Member, names: tuple[str, ...], others: tuple[str, ...]) -> None:
    if is_reordering(names, others):
        if member.class_names is None:
            raise InputError(
                f"{member.where}: {member.path}: must have its classes in the same order as the "
                f"others ({', '.join(others)}), or its line say classes={','.join(names)}"
            )
        return
    require_same_classes(f"{member.where}: {member.path}", names, others)


def collect(
    members: list[Member],
    dataset: Dataset,
    *,
    batch_size: int,
    tta: str = "none",
    cache_dir: Path,
    engine: str = "keras",
    report: Callable[[str], None],
) -> np.ndarray:
    """Ask every member, or the cache: float32 (members, n, num_classes); tta as in `predict`.

    `report` is told a line a member. Raises InputError, naming the member's line, for one that
    cannot be opened or asked.
    """
    engines.require_engine(engine)
    files.require_writable(cache_dir / "vote.npy")
    unlabelled = np.full_like(dataset.labels, UNLABELLED)  # on which no answer hangs
    fingerprint = replace(dataset, labels=unlabelled).fingerprint()
    digests = _Digests(cache_dir / "files.json")
    _note_silent(members, dataset, report)
    inference.note_classes(dataset, report)
    checkpoint = None
    keys: list[str] = []
    ballots: dict[str, np.ndarray] = {}
    for number, member in enumerate(members, start=1):
        _require_datas_classes(member, dataset)
        key = _key(member, digests, fingerprint, dataset.class_names, tta, engine)
        name = f"{number}/{len(members)}  {member.path}"
        if key not in ballots:
            cached = cache_dir / f"{key}.npy"
            found = _read_ballot(cached, len(dataset))
            if found is None:
                report(f"{name}  predicts")
                checkpoint = _at(member, _load, member).on_network_of(checkpoint)
                found = _at(member, _predict, member, checkpoint, dataset, batch_size, tta, engine)
                with files.whole_file(cached) as temporary, temporary.open("wb") as file:
                    np.save(file, found, allow_pickle=False)
            else:
                report(f"{name}  from the cache")
            ballots[key] = found
        if ballots[key].shape != next(iter(ballots.values())).shape:
            raise InputError(f"{member.where}: {member.path} has another number of classes")
        keys.append(key)
    digests.save()
    return np.stack([ballots[key] for key in keys])


def _require_datas_classes(member: Member, dataset: Dataset) -> None:
    """Raise InputError for a member that is said to tell other classes apart than the data's."""
    names = member.class_names
    if names is not None and not is_reordering(names, dataset.class_names):
        require_same_classes(f"{member.where}: {member.path}", dataset.class_names, names)


def _note_silent(members: list[Member], dataset: Dataset, report: Callable[[str], None]) -> None:
    """Report which members' classes are taken on trust."""
    silent = [
        str(member.path)
        for member in members
        if member.class_names is None and not checkpoints.read_record(member.path).class_names
    ]
    if silent:
        report(
            f"note: these do not tell their classes, taken as {', '.join(dataset.class_names)}: "
            f"{a_few(silent)}; classes= on a line says otherwise, and `python -m ferlab inspect` "
            "finds out"
        )


def _load(member: Member) -> Checkpoint:
    return checkpoints.load(
        member.path,
        pixels=member.pixels,
        class_names=member.class_names,
        architecture=member.architecture,
    )


def _predict(
    member: Member, checkpoint: Checkpoint, dataset: Dataset, batch_size: int, tta: str, engine: str
) -> np.ndarray:
    return inference.predict(
        checkpoint,
        dataset,
        batch_size=batch_size,
        tta=tta,
        engine=engine,
        may_reorder=member.class_names is not None,
    )


def _key(
    member: Member,
    digests: "_Digests",
    fingerprint: str,
    class_names: tuple[str, ...],
    tta: str,
    engine: str,
) -> str:
    """The name in the cache: a digest of all that the answer depends on."""
    architecture = member.architecture or _at(member, checkpoints.architecture_of, member.path)
    files_told = [member.path, *([architecture] if architecture else [])]
    parts = [
        CACHE_VERSION,
        *map(digests.of, files_told),
        fingerprint,
        class_names,
        member.class_names,
        member.pixels,
        *([] if tta == "none" else [tta]),
        *([] if engine == "keras" else [engine]),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _at(member: Member, work: Callable, *args: object):
    """Do a member's work; an InputError then tells its line in the list."""
    try:
        return work(*args)
    except InputError as error:
        raise InputError(f"{member.where}: {error}") from error


class _Digests:
    """SHA-256 of files, remembered while their size and time of change stay the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):  # there is none, or not what this class wrote
            known = {}
        self.known = known if isinstance(known, dict) else {}
        self.is_changed = False

    def of(self, path: Path) -> str:
        stat = path.stat()
        name, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        remembered = self.known.get(name)
        if isinstance(remembered, dict) and remembered.get("state") == state:
            return str(remembered.get("digest"))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # A file that has just been written may be written again within the clock's step.
        if time.time_ns() - stat.st_mtime_ns > SETTLED:
            self.known[name] = {"state": state, "digest": digest}
            self.is_changed = True
        return digest

    def save(self) -> None:
        if self.is_changed:
            with files.whole_file(self.path) as temporary:
                temporary.write_text(json.dumps(self.known))


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
