"""`model_list.txt`: the members of a vote and their weights, read and written."""

import contextlib
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from ferlab import checkpoints, files, pretrained
from ferlab.errors import InputError, a_few
from ferlab.labels import parse_class_names

_OPTION = re.compile(r"\s(pixels|classes|architecture)=(\S*)$", re.IGNORECASE)
_COMMENT = re.compile(r"(^|\s)#.*")
SIZE_LIMIT = 2**24  # bytes; a larger file is not a list of models
SMALLEST_SHARE = 1e-12  # of a vote; `voting.combine` rounds to it


@dataclass(frozen=True)
class Member:
    """One model of a vote: a line of `model_list.txt`, or a checkpoint by itself.

    where: begins messages, such as `model_list.txt:3`. pixels, class_names, architecture: options
    of the line, as in `checkpoints.load`; None if the line has none.
    """

    weight: float
    path: Path
    where: str
    pixels: str | None = None
    class_names: tuple[str, ...] | None = None
    architecture: Path | None = None


def read(path: Path) -> list[Member]:
    """Read `weight path` lines; `#` comments and blank lines are skipped.

    After the path a line may have `pixels=unit`, `classes=angry,happy,...` in the order of the
    model's outputs, and `architecture=model.json`. Paths are relative to the list, or else to the
    working folder; `pretrained:NAME` is a shipped model. Raises InputError with file and line.
    """
    lines = _lines(path)
    members = [
        _member(line, path.parent, f"{path}:{number}")
        for number, line in enumerate((_COMMENT.sub("", line).strip() for line in lines), start=1)
        if line
    ]
    if not members:
        raise InputError(f"{path}: lists no model; expected lines of `weight path`")
    try:
        require_weights([member.weight for member in members])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return members


def require_weights(weights: Sequence[float]) -> None:
    """Raise InputError for weights that are not the parts of a vote.

    They must be numbers from 0, have a finite sum, and each but 0 must have a share in it that
    counts.

    >>> require_weights([1e308, 1e308])
    Traceback (most recent call last):
    ferlab.errors.InputError: the sum of the weights must be finite. Received: 1e+308, 1e+308
    """
    total = sum(weights)
    if not all(0 <= weight < math.inf for weight in weights) or not total:
        rule = "weights must be 0 or more, and at least one weight above 0"
    elif not math.isfinite(total):
        rule = "the sum of the weights must be finite"
    elif any(0 < weight / total < SMALLEST_SHARE for weight in weights):
        rule = f"a weight must be 0, or have a share of at least {SMALLEST_SHARE:g} of their sum"
    else:
        return
    raise InputError(f"{rule}. Received: {a_few([f'{weight:g}' for weight in weights])}")


def members_of(path: Path) -> list[Member]:
    """A checkpoint as one member of weight 1, or the members of a list (.txt)."""
    if path.suffix == ".txt":
        return read(path)
    checkpoints.read_record(path)  # raises InputError for a file that is not a checkpoint
    return [Member(1, path, str(path))]


def with_defaults(
    members: Sequence[Member], pixels: str | None, class_names: tuple[str, ...] | None
) -> list[Member]:
    """The members with --pixels and --class-names filled in where a line leaves them out."""
    return [
        replace(
            member,
            pixels=member.pixels or pixels,
            class_names=member.class_names or class_names,
        )
        for member in members
    ]


def write(path: Path, members: Sequence[Member], comments: Sequence[str]) -> None:
    """Write a list for `read`, atomically; paths are relative to the list.

    Raises InputError for a member whose path or options a line cannot hold.
    """
    lines = [f"# {comment}" for comment in comments]
    lines += [_line(path, member) for member in members]
    with files.whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lines(path: Path) -> list[str]:
    """The lines of a text file. Raises InputError for any other file."""
    with files.open_to_read(path) as file:
        content = file.read(SIZE_LIMIT + 1)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    rule = f"{path}: expected a list of `weight path` lines"
    if len(content) > SIZE_LIMIT:
        kind = files.sniff(path) or f"a file of more than {SIZE_LIMIT:,} bytes"
        raise InputError(f"{rule}, this is {kind}")
    try:
        return content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        kind = files.sniff(path) or "not UTF-8 text"
        raise InputError(f"{rule}, this is {kind}") from error


def _member(line: str, folder: Path, where: str) -> Member:
    line, options = _split_options(line, where)
    weight_text, *rest = line.split(maxsplit=1)
    try:
        weight = float(weight_text)
    except ValueError:
        weight = math.nan
    if not (0 <= weight < math.inf) or not rest:
        raise InputError(f"{where}: expected `weight path`, the weight 0 or more. Received: {line}")
    if weight < sys.float_info.min and Decimal(weight_text):
        raise InputError(
            f"{where}: a weight must be 0 or at least {sys.float_info.min:.1e}. "
            f"Received: {weight_text}"
        )
    try:
        pixels = options.get("pixels")
        if pixels is not None and pixels not in checkpoints.PIXEL_SCALES:
            scales = ", ".join(checkpoints.PIXEL_SCALES)
            raise InputError(f"pixels must be one of {scales}. Received: {pixels!r}")
        class_names = parse_class_names(options["classes"]) if "classes" in options else None
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    architecture = options.get("architecture")
    return Member(
        weight,
        _existing_path(rest[0], folder, where),
        where,
        pixels,
        class_names,
        _existing_path(architecture, folder, where) if architecture else None,
    )


def _split_options(line: str, where: str) -> tuple[str, dict[str, str]]:
    """(`weight path`, the options after it)."""
    options: dict[str, str] = {}
    while match := _OPTION.search(line):
        name, value = match[1].lower(), match[2]
        if not value:
            raise InputError(f"{where}: {name}= requires a value. Received: {line}")
        if name in options:
            raise InputError(f"{where}: {name}= may occur once. Received: {line}")
        options[name], line = value, line[: match.start()].rstrip()
    return line, options


def _existing_path(name: str, folder: Path, where: str) -> Path:
    if name.startswith(pretrained.PREFIX):
        try:
            return pretrained.resolve(name)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    with contextlib.suppress(OSError):  # such as a name that is too long
        for base in (folder, Path()):
            if (base / name).is_file():
                return base / name
    raise InputError(f"{where}: {name[:200]}: no such file")


def _line(path: Path, member: Member) -> str:
    options = {
        "pixels": member.pixels,
        "classes": member.class_names and ",".join(member.class_names),
        "architecture": member.architecture and _written_path(path, member.architecture),
    }
    weight = repr(float(member.weight)).removesuffix(".0")
    line = f"{weight} {_written_path(path, member.path)}"
    for name, value in options.items():
        if value and re.search(r"\s", value):
            raise InputError(f"{path}: cannot list {name}={value!r}: it must have no spaces")
        line += f" {name}={value}" if value else ""
    if _COMMENT.search(line):
        raise InputError(f"{path}: cannot list {member.path}: ` #` begins a comment")
    if not line.isascii() and line.encode(errors="ignore").decode() != line:
        raise InputError(f"{path}: cannot list {member.path}: its name is not UTF-8")
    return line


def _written_path(path: Path, file: Path) -> str:
    """The file relative to the folder of the list `path`; `pretrained:NAME` for a shipped one."""
    return (
        pretrained.reference(file)
        or Path(os.path.relpath(file.resolve(), path.resolve().parent)).as_posix()
    )
