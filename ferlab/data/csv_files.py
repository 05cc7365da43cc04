"""CSV files of images: read as a stream of small datasets, written in the course's format."""

import contextlib
import csv
import io
import itertools
import math
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferlab import files
from ferlab.data.dataset import Dataset, describe
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS, UNLABELLED

KNOWN_HEADERS = (
    "`label,feature`, `id,feature`, `emotion,pixels,Usage`, `pixels` or `label,pixel0,pixel1,...`"
)
_NAMES = {
    "label": ("label", "labels", "emotion", "emotions", "class", "target"),
    "pixels": ("feature", "features", "pixels"),
    "id": ("id",),
    "usage": ("usage", "split"),
}
_NUMBERED_PIXEL = re.compile(r"(?:(?:pixel|pix|px|p)[ _-]?)?(\d{1,7})")
_MAX_LINE = 1 << 26  # bytes; a longer line is not an image and would fill the memory
_MAX_NAME = (
    200  # characters of an id or usage; a NumPy array reserves the longest length for every row
)
_GREY_LEVELS = {str(level).encode(): level for level in range(256)}
_CHUNK_BYTES = 1 << 18  # pixel text per chunk; fits into the processor's cache


class _Columns(NamedTuple):
    """The positions of a row's fields."""

    number: int
    pixels: slice
    separator: bytes  # between pixels: a space within one column, a comma for joined columns
    label: int | None
    id: int | None
    usage: int | None


class _Row(NamedTuple):
    line: int
    pixels: bytes
    label: int
    id: str
    usage: str


def csv_chunks(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Iterator[Dataset]:
    """Read a CSV file as consecutive datasets of a few hundred kilobytes, never the whole text.

    class_names: the classes that labels number or name, by default EMOTIONS
    image_shape: required (height, width, channels); by default a grey square with the
        first row's number of pixels

    Without an id column, ids are row numbers from 0. Raises InputError with file and line.
    """
    names = tuple(class_names or EMOTIONS)
    if kind := files.sniff(path):
        raise InputError(f"{path}: is {kind}, not a CSV file")
    lines = _lines(path)
    header = next((line for line in lines if not _is_blank(line[1])), None)
    if header is None:
        raise InputError(f"{path}: is empty. Known headers: {KNOWN_HEADERS}")
    delimiter = _delimiter(header[1])
    records = _records(path, itertools.chain([header], lines), delimiter)
    columns = _columns(path, *next(records))
    rows = _rows(path, records, columns, names)

    first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: has a header and no rows")
    shape = image_shape or _square_shape(path, first, columns.separator)
    for batch in _batches(itertools.chain([first], rows), _CHUNK_BYTES):
        pixels = _parse_pixels(path, batch, math.prod(shape), columns.separator)
        yield Dataset(
            images=pixels.reshape(len(batch), *shape),
            labels=np.array([row.label for row in batch], dtype=np.int64),
            ids=np.array([row.id for row in batch]),
            class_names=names,
            usage=None if columns.usage is None else np.array([row.usage for row in batch]),
            source=str(path),
        )


def write_csv(
    path: str | Path,
    images: np.ndarray,
    *,
    labels: Iterable[int] | None = None,
    ids: Iterable[object] | None = None,
) -> None:
    """Write the course's format: `label,feature`, or `id,feature` without labels.

    images: uint8 (n, side, side) or (n, side, side, 1)
    labels: int (n,), -1 for no label
    ids: by default 0, 1, ...; with both ids and labels, the columns are `id,label,feature`

    Raises InputError for colour images and for a path that cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "train.csv")
    >>> write_csv(path, np.zeros((1, 2, 2), np.uint8), labels=[3])
    >>> path.read_text()
    'label,feature\\n3,0 0 0 0\\n'
    >>> folder.cleanup()
    """
    if images.ndim == 4 and images.shape[3] != 1:
        raise InputError(
            f"{path}: a CSV file stores grey images only. Received: {describe(images.shape[1:])}"
        )
    if ids is None and labels is None:
        ids = range(len(images))
    columns = {
        name: column for name, column in (("id", ids), ("label", labels)) if column is not None
    }
    grey_levels = np.array([level.decode() for level in _GREY_LEVELS], dtype=object)
    features = (" ".join(grey_levels[image.ravel()]) for image in images)
    _write_table(path, (*columns, "feature"), zip(*columns.values(), features, strict=True))


def write_csv_without(path: str | Path, source: str | Path, rows: Collection[int]) -> None:
    """Copy a CSV file with any known header, without the given rows, counted from 0.

    The other lines are copied byte for byte, in UTF-8. Raises InputError.
    """
    consumed: list[bytes] = []

    def lines() -> Iterator[tuple[int, bytes]]:
        for number, line in _lines(source):
            consumed.append(line)
            yield number, line

    remaining = lines()
    header = next(line for line in remaining if not _is_blank(line[1]))
    delimiter = _delimiter(header[1])
    with files.whole_file(path) as temporary, temporary.open("wb") as file:
        records = _records(source, itertools.chain([header], remaining), delimiter)
        for index, _ in enumerate(records, start=-1):
            if index not in rows:  # the header has index -1
                file.writelines(consumed)
            consumed.clear()


def write_submission(
    path: str | Path,
    ids: Iterable[object],
    labels: Iterable[int],
    *,
    probabilities: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Write `id,label`, one line per test image, in the given order.

    ids: (n,); labels: int (n,)
    probabilities: float (n, num_classes); adds a column for each of class_names, to six decimals

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "submission.csv")
    >>> write_submission(path, ids=["a", "b"], labels=np.array([3, 6]))
    >>> path.read_text()
    'id,label\\na,3\\nb,6\\n'
    >>> folder.cleanup()
    """
    rows: Iterable[tuple] = zip(ids, map(int, labels), strict=True)
    if probabilities is None:
        _write_table(path, ("id", "label"), rows)
        return
    decimals = ([f"{value:.6f}" for value in row] for row in probabilities)
    rows = ((*row, *values) for row, values in zip(rows, decimals, strict=True))
    _write_table(path, ("id", "label", *class_names), rows)


def _write_table(path: str | Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with (
        files.whole_file(path) as temporary,
        # An id may be a file name that is not UTF-8.
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(line number, UTF-8 line) of all lines, including blank ones."""
    with files.open_to_read(path) as file, contextlib.closing(_utf8_lines(file)) as lines:
        number = 0
        try:
            for line in lines:
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    if b"\r" in line.rstrip(b"\r\n"):
                        raise InputError(f"{path}: lines must end in LF or CRLF. Received: CR")
                if len(line) >= _MAX_LINE:
                    raise InputError(f"{path}:{number}: is longer than {_MAX_LINE:,} bytes")
                if b"\0" in line:
                    raise InputError(f"{path}:{number}: contains a NUL byte; the file is damaged")
                yield number, line
        except UnicodeError as error:
            raise InputError(f"{path}:{number + 1}: is not UTF-16 text: {error}") from error


def _utf8_lines(file: io.BufferedReader) -> Generator[bytes, None, None]:
    """The lines of a UTF-8 or UTF-16 file, at most _MAX_LINE long. Raises UnicodeError."""
    if file.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = io.TextIOWrapper(file, encoding="utf-16", newline="\n")
        try:
            while decoded := text.readline(_MAX_LINE):
                yield decoded.encode()
        finally:
            text.detach()  # the caller closes the file
    else:
        while line := file.readline(_MAX_LINE):
            yield line


def _delimiter(header: bytes) -> bytes:
    return max((b",", b";", b"\t"), key=header.count)


def _is_blank(line: bytes) -> bool:
    """Whether a line is empty or has only delimiters, as spreadsheets leave behind."""
    return not line.strip(b' \t\r\n,;"')


def _records(
    path: str | Path, lines: Iterator[tuple[int, bytes]], delimiter: bytes
) -> Iterator[tuple[int, list[bytes]]]:
    """(line number, fields) of each record, without blank lines; a quoted field may span lines."""
    for number, line in lines:
        if _is_blank(line):
            continue
        if b'"' not in line:
            yield number, line.rstrip(b"\r\n").split(delimiter)
            continue
        # The csv module handles quotes, but requires text.
        record = (text.decode("latin-1") for _, text in itertools.chain([(number, line)], lines))
        try:
            with _field_size_limit(_MAX_LINE):
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


def _columns(path: str | Path, line: int, fields: list[bytes]) -> _Columns:
    """Find the columns in a header. Raises InputError without pixels and for repeated columns."""
    names = [field.decode(errors="replace").strip().strip('"').lower() for field in fields]
    columns: dict[str, int | None] = {}
    for kind, known in _NAMES.items():
        places = [place for place, name in enumerate(names) if name in known]
        if len(places) > 1:
            repeated = ", ".join(names[place] for place in places)
            raise InputError(f"{path}:{line}: expected one {kind} column. Received: {repeated}")
        columns[kind] = places[0] if places else None

    pixels = columns.pop("pixels")
    if pixels is not None:
        return _Columns(len(names), slice(pixels, pixels + 1), b" ", **columns)
    matches = [(place, _NUMBERED_PIXEL.fullmatch(name)) for place, name in enumerate(names)]
    numbered = [(place, int(match[1])) for place, match in matches if match]
    if len(numbered) > 3:
        start, first = numbered[0]
        if numbered != [(start + step, first + step) for step in range(len(numbered))]:
            raise InputError(f"{path}:{line}: the pixel columns must be consecutive and in order")
        return _Columns(len(names), slice(start, start + len(numbered)), b",", **columns)

    header = ", ".join(names)
    header = header if len(header) <= 60 else header[:60] + "..."
    if columns["label"] is not None and columns["id"] is not None:
        problem = "has labels but no pixels; is it a submission?"
    elif re.fullmatch(r"[\d\s.,-]*", header.rstrip(".")):
        problem = "has no header."
    else:
        problem = "has no pixel column."
    raise InputError(
        f"{path}:{line}: {problem} Known headers: {KNOWN_HEADERS}. Received: {header!r}"
    )


def _rows(
    path: str | Path,
    records: Iterator[tuple[int, list[bytes]]],
    columns: _Columns,
    class_names: tuple[str, ...],
) -> Iterator[_Row]:
    known = _known_labels(class_names)
    for index, (line, fields) in enumerate(records):
        if len(fields) != columns.number:
            raise InputError(
                f"{path}:{line}: expected {columns.number} columns, found {len(fields)}"
            )
        label, usage, row_id = UNLABELLED, "", str(index)
        if columns.label is not None:
            text = fields[columns.label].strip()
            if text in known:
                label = known[text]
            else:
                label = _parse_label(f"{path}:{line}", text, known, class_names)
        if columns.id is not None:
            row_id = _name(f"{path}:{line}: id", fields[columns.id])
        if columns.usage is not None:
            usage = _name(f"{path}:{line}: usage", fields[columns.usage])
        pixels = columns.separator.join(fields[columns.pixels]).strip()
        yield _Row(line, pixels, label, row_id, usage)


def _known_labels(class_names: tuple[str, ...]) -> dict[bytes, int]:
    known = {name.encode(errors="surrogateescape"): i for i, name in enumerate(class_names)}
    if not any(name.isdecimal() for name in class_names):  # else '1' is a name
        known |= {str(i).encode(): i for i in range(len(class_names))}
    return known | {b"": UNLABELLED, str(UNLABELLED).encode(): UNLABELLED}


def _parse_label(
    where: str, text: bytes, known: dict[bytes, int], class_names: tuple[str, ...]
) -> int:
    """Parse '3.0', as pandas writes columns with missing values. Raises InputError for others."""
    with contextlib.suppress(ValueError):
        number = float(text)
        if number.is_integer() and str(int(number)).encode() in known:
            return known[str(int(number)).encode()]
    raise InputError(
        f"{where}: label is {_quoted(text)}, expected 0 to {len(class_names) - 1} "
        f"or one of {', '.join(class_names)}"
    )


def _name(where: str, field: bytes) -> str:
    try:
        name = field.strip().decode()
    except UnicodeDecodeError:
        raise InputError(f"{where} is not UTF-8 text: {_quoted(field)}") from None
    if len(name) > _MAX_NAME:
        raise InputError(f"{where} is longer than {_MAX_NAME} characters")
    return name


def _quoted(field: bytes) -> str:
    """A field for a message: shortened, control characters escaped."""
    text = field.decode(errors="replace")
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _square_shape(path: str | Path, row: _Row, separator: bytes) -> tuple[int, int, int]:
    count = len(_cells(row.pixels, separator))
    side = math.isqrt(count)
    if not count or side * side != count:
        raise InputError(f"{path}:{row.line}: expected a square image, found {count} pixels")
    return side, side, 1


def _batches(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    """Lists of rows with about `size` bytes of pixel text."""
    batch: list[_Row] = []
    batch_size = 0
    for row in rows:
        batch.append(row)
        batch_size += len(row.pixels)
        if batch_size >= size:
            yield batch
            batch, batch_size = [], 0
    if batch:
        yield batch


def _parse_pixels(path: str | Path, rows: list[_Row], count: int, separator: bytes) -> np.ndarray:
    """uint8 (len(rows), count). Raises InputError for the first row with invalid pixels."""
    pixels = _parse_tidy_pixels([row.pixels for row in rows], count, separator)
    if pixels is None:  # unusual or wrong: parse number by number
        pixels = np.empty((len(rows), count), dtype=np.uint8)
        for row, values in zip(rows, pixels, strict=True):
            values[:] = _parse_row(f"{path}:{row.line}", row.pixels, count, separator)
    return pixels


def _parse_tidy_pixels(texts: list[bytes], count: int, separator: bytes) -> np.ndarray | None:
    """Parse numbers of up to three digits with single separators: uint8 (len(texts), count).

    None for any other text. Vectorized over all bytes: the number that ends at a byte is its digit
    plus ten times the digit before it plus a hundred times the digit before that.
    """
    padded = np.frombuffer(3 * separator + separator.join(texts) + separator, dtype=np.uint8)
    digits = padded - np.uint8(ord("0"))
    is_digit = digits < 10
    digits *= is_digit.view(np.uint8)
    body = slice(3, -1)
    is_end = is_digit[body] & ~is_digit[4:]
    ends = np.flatnonzero(is_end)
    last_bytes = np.cumsum([len(text) + 1 for text in texts]) - 2
    numbers = len(texts) * count
    separators = np.count_nonzero(padded == ord(separator)) - 3
    if not (
        len(ends) == numbers == separators == len(padded) - 3 - np.count_nonzero(is_digit)
        and np.array_equal(ends[count - 1 :: count], last_bytes)
    ):
        return None
    before, twice_before = slice(2, -2), slice(1, -3)
    three_digits = is_digit[twice_before] & is_digit[before] & is_digit[body]
    hundreds = digits[twice_before] * three_digits.view(np.uint8)
    if (three_digits & is_digit[:-4]).any() or (hundreds > 2).any():
        return None
    hundreds *= np.uint8(100)
    values = digits[before] * np.uint8(10)
    values += digits[body]
    values += hundreds
    if (values < hundreds).any():  # 256 to 299 wrapped around
        return None
    return values.take(ends).reshape(len(texts), count)


def _cells(text: bytes, separator: bytes) -> list[bytes]:
    return text.split() if separator == b" " else [cell.strip() for cell in text.split(separator)]


def _parse_row(where: str, text: bytes, count: int, separator: bytes) -> list[int]:
    cells = _cells(text, separator)
    levels = []
    for number, cell in enumerate(cells, start=1):
        level = _GREY_LEVELS.get(cell)
        levels.append(_parse_level(f"{where}: pixel {number}", cell) if level is None else level)
    if len(cells) != count:
        raise InputError(f"{where}: expected {count} pixels, found {len(cells)}")
    return levels


def _parse_level(where: str, cell: bytes) -> int:
    """A grey level, possibly with leading zeros. Raises InputError for anything else."""
    if not cell.removeprefix(b"-").isdigit():
        raise InputError(f"{where} is {_quoted(cell)}, expected a whole number from 0 to 255")
    level = _GREY_LEVELS.get(cell.lstrip(b"0") or b"0")
    if level is None:
        raise InputError(f"{where} is {_quoted(cell)[1:-1]}, expected 0 to 255")
    return level
