"""Text tables: the records of a CSV file in any encoding, with any delimiter, packed or not."""

import contextlib
import csv
import dataclasses
import gzip
import io
import itertools
import re
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ferlab import files
from ferlab.data import usages
from ferlab.errors import InputError, a_few

MAX_LINE = 1 << 25  # bytes; a longer line is not an image and would fill the memory
MAX_FIELDS = 1 << 22
_LONG = 1 << 16  # bytes; shorter lines have fewer fields than the limit
_ALWAYS_UNPACKED = 1 << 26  # bytes of text
_MAX_RATIO = 100  # text of pixels packs 3 to 60 times smaller; a bomb, a thousand times
_PACKED = {"a gzip archive": "gzip", "a zip archive": "zip"}
_SUFFIXES = (".csv", ".tsv", ".txt")  # of tables in an archive, the more likely ones first

_NAMES = {  # of columns, without spaces and punctuation
    "label": ("label", "labels", "emotion", "emotions", "class", "target"),
    "pixels": ("feature", "features", "pixels"),
    "id": ("id",),
    "usage": ("usage", "split"),
}
_THING = "(?:row|image|img|file|pic|picture|photo|face|sample|frame|record|item|test|example)"
_OTHER_IDS = tuple(  # of columns that name rows where no column is `id`, the better ones first
    re.compile(name)
    for name in (
        f"{_THING}?(?:ids?|uid|uuid|idx)|ids?{_THING}",
        f"{_THING}?filename|{_THING}name",
        f"{_THING}?(?:file)?path|{_THING}?file",
        f"{_THING}(?:number|no|key)",
        "image|img|picture|photo|pic",
    )
)
_OTHER_USAGES = (  # of columns that say what rows are for, if their values do
    *("set", "subset", "partition", "part", "phase", "fold", "group", "mode", "type", "role"),
    *("dataset", "datasplit", "splitname", "splits", "purpose", "usages", "usagetype", "settype"),
)
_DATA = re.compile(
    r"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?|[\[(]?\d+(?:[\s,;.]+\d+){3,}.*|\S+\.(?:png|jpe?g)"
)


class Columns(NamedTuple):
    """The places of the known columns of a header; None for those that it does not have."""

    names: tuple[str, ...]
    label: int | None
    pixels: int | None
    id: int | None
    usage: int | None

    @property
    def is_named_id(self) -> bool:
        """Whether the ids are in a column `id`, not in one such as `filename`."""
        return self.id is not None and plain_name(self.names[self.id]) == "id"


@dataclasses.dataclass
class Table:
    """A table's header with its line, and (line, fields) of each other record."""

    path: str | Path
    line: int
    header: list[bytes]
    records: Iterator[tuple[int, list[bytes]]]

    def columns(self) -> Columns:
        """Find the known columns in the header. Raises InputError for repeated ones."""
        names = tuple(
            field.decode(errors="replace").strip().strip('"').lower() for field in self.header
        )
        places: dict[str, int | None] = {}
        for kind, known in _NAMES.items():
            matches = [place for place, name in enumerate(names) if plain_name(name) in known]
            if len(matches) > 1:
                repeated = ", ".join(names[place] for place in matches)
                raise InputError(
                    f"{self.path}:{self.line}: expected one {kind} column. Received: {repeated}"
                )
            places[kind] = matches[0] if matches else None
        if places["usage"] is None:
            places["usage"] = self._other_usage(names)
        if places["id"] is None:
            places["id"] = next(
                (
                    place
                    for pattern in _OTHER_IDS
                    for place, name in enumerate(names)
                    if pattern.fullmatch(plain_name(name)) and place not in places.values()
                ),
                None,
            )
        return Columns(names, **places)

    def _other_usage(self, names: tuple[str, ...]) -> int | None:
        """The column such as `set` or `partition` whose first value is what rows are for."""
        others = [place for place, name in enumerate(names) if plain_name(name) in _OTHER_USAGES]
        first = next(self.records, None) if others else None
        if first is None:
            return None
        self.records = itertools.chain([first], self.records)
        for place in others:
            field = first[1][place] if place < len(first[1]) else b""
            if usages.kind(field.strip()[:200].decode(errors="replace")) != "unknown":
                return place
        return None


def open_table(path: str | Path, expected: str) -> Table:
    """The header and the records of a table. Raises InputError for other files, and for no line.

    expected: the known headers, for messages.
    """
    numbered = lines(path)
    first = next((line for line in numbered if not is_blank(line[1])), None)
    if first is None:
        raise InputError(f"{path}: is empty. Known headers: {expected}")
    all_records = records(path, itertools.chain([first], numbered), delimiter(first[1]))
    return Table(path, *next(all_records), all_records)


def unpacked_name(path: str | Path) -> str:
    """The name of a table's file without the suffix of a packed one: train.csv for train.csv.zip.

    >>> unpacked_name("fer/train.csv.gz"), unpacked_name("fer.zip")
    ('train.csv', 'fer.csv')
    """
    path = Path(path)
    if path.suffix.lower() not in (".gz", ".zip"):
        return path.name
    return path.stem if Path(path.stem).suffix else f"{path.stem}.csv"


def plain_name(name: str) -> str:
    """A column's name without capitals, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.lower())


def has_no_header(names: tuple[str, ...]) -> bool:
    """Whether the first line's fields are values: numbers, pixels or names of images."""
    return any(_DATA.fullmatch(name.strip()[:200]) for name in names)


def lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(line number, UTF-8 line) of all lines, including blank ones."""
    with _opened(path) as file, contextlib.closing(_utf8_lines(file)) as texts:
        number = 0
        try:
            for line in texts:
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    if b"\r" in line.rstrip(b"\r\n"):
                        raise InputError(f"{path}: lines must end in LF or CRLF. Received: CR")
                if len(line) >= MAX_LINE:
                    raise InputError(f"{path}:{number}: is longer than {MAX_LINE:,} bytes")
                if b"\0" in line:
                    raise InputError(f"{path}:{number}: contains a NUL byte; the file is damaged")
                yield number, line
        except UnicodeError as error:
            raise InputError(f"{path}:{number + 1}: is not UTF-16 text: {error}") from error


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator["io.BufferedReader[Any]"]:
    """The text of a table, unpacked if it is packed. Raises InputError for other files."""
    kind = files.sniff(path)
    if kind is None:
        with files.open_to_read(path) as file:
            yield file
    elif kind not in _PACKED:
        raise InputError(f"{path}: is {kind}, not a CSV file")
    else:
        with files.open_to_read(path) as file, contextlib.ExitStack() as stack:
            try:
                if _PACKED[kind] == "gzip":
                    text: BinaryIO = stack.enter_context(gzip.GzipFile(fileobj=file))  # type: ignore[assignment]
                else:
                    archive = stack.enter_context(zipfile.ZipFile(file))
                    member = archive.open(_table_in(path, archive))
                    text = stack.enter_context(member)  # type: ignore[assignment]
            except InputError:
                raise
            except Exception as error:  # damaged archives raise many different errors
                raise _not_unpacked(path, error) from error
            unpacked = io.BufferedReader(_Unpacked(path, text, Path(path).stat().st_size))
            if inside := files.kind_of(unpacked.peek(4096)[:4096]):
                raise InputError(f"{path}: is {kind} of {inside}, not of a CSV file")
            yield unpacked


class _Unpacked(io.RawIOBase):
    """The bytes of a packed file, as long as there are not implausibly many."""

    def __init__(self, path: str | Path, packed: BinaryIO, size: int) -> None:
        self._path, self._packed = path, packed
        self._limit = self._left = max(_ALWAYS_UNPACKED, _MAX_RATIO * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            content = self._packed.read(len(buffer))
        except Exception as error:
            raise _not_unpacked(self._path, error) from error
        self._left -= len(content)
        if self._left < 0:
            raise InputError(
                f"{self._path}: unpacks to more than {self._limit:,} bytes, {_MAX_RATIO} times its "
                "size, which no table of images does; unpack it first if you trust it"
            )
        buffer[: len(content)] = content
        return len(content)


def _table_in(path: str | Path, archive: zipfile.ZipFile) -> str:
    """The name of the only table in an archive. Raises InputError for none and for several."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [
        name
        for name in names
        if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")
    ]
    for suffix in _SUFFIXES:
        tables = [name for name in names if name.lower().endswith(suffix)]
        if len(tables) == 1:
            return tables[0]
        if tables:
            raise InputError(
                f"{path}: is a zip archive of {len(tables)} tables; unpack it and pass one of "
                f"them. Received: {a_few(tables)}"
            )
    raise InputError(f"{path}: is a zip archive without a CSV file. Received: {a_few(names)}")


def _not_unpacked(path: str | Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: cannot be unpacked: {reason}")


def _utf8_lines(file: io.BufferedReader) -> Generator[bytes, None, None]:
    """The lines of a UTF-8 or UTF-16 file, at most MAX_LINE long. Raises UnicodeError."""
    if file.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = io.TextIOWrapper(file, encoding="utf-16", newline="\n")
        try:
            while decoded := text.readline(MAX_LINE):
                yield decoded.encode()
        finally:
            text.detach()  # the caller closes the file
    else:
        while line := file.readline(MAX_LINE):
            yield line


def delimiter(header: bytes) -> bytes:
    return max((b",", b";", b"\t"), key=header.count)


def is_blank(line: bytes) -> bool:
    """Whether a line is empty or has only delimiters, as spreadsheets leave behind."""
    return not line.strip(b' \t\r\n,;"')


def records(
    path: str | Path, numbered: Iterator[tuple[int, bytes]], delimiter: bytes
) -> Iterator[tuple[int, list[bytes]]]:
    """(line number, fields) of each record, without blank lines; a quoted field may span lines."""
    for number, line in numbered:
        if is_blank(line):
            continue
        if len(line) > _LONG and line.count(delimiter) >= MAX_FIELDS:
            raise InputError(f"{path}:{number}: has more than {MAX_FIELDS:,} columns")
        if b'"' not in line:
            yield number, line.rstrip(b"\r\n").split(delimiter)
            continue
        # The csv module handles quotes, but requires text.
        record = (text.decode("latin-1") for _, text in itertools.chain([(number, line)], numbered))
        try:
            with _field_size_limit(MAX_LINE):
                fields = next(
                    csv.reader(
                        record, delimiter=delimiter.decode(), skipinitialspace=True, strict=True
                    )
                )
        except csv.Error as error:
            raise InputError(f"{path}:{number}: cannot be split into fields: {error}") from error
        yield number, [field.encode("latin-1") for field in fields]


@contextlib.contextmanager
def _field_size_limit(size: int) -> Iterator[None]:
    previous = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(previous)
