"""CSV files of images: read as a stream of small datasets, written in the course's format."""

import csv
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferlab import files
from ferlab.data import tables
from ferlab.data.dataset import Dataset, describe
from ferlab.errors import InputError, a_few, did_you_mean
from ferlab.labels import EMOTIONS, UNLABELLED, class_index

KNOWN_HEADERS = (
    "`label,feature`, `id,feature`, `emotion,pixels,Usage`, `pixels` or `label,pixel0,pixel1,...`"
)
_NUMBERED_PIXEL = re.compile(r"(?:(?:pixel|pix|px|p)[ _-]?)?(\d{1,7})")
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?", re.IGNORECASE)
# Characters of an id or usage; a NumPy array reserves the longest length for every row.
_MAX_NAME = 200
_MAX_FILE_NAME = 1000
_GREY_LEVELS = {str(level).encode(): level for level in range(256)}
_DECIMALS = {b"%d%s" % (level, end): level for level in range(256) for end in (b".0", b".")}
_AS_SPACES = bytes.maketrans(b",;[](){}|'\"", b" " * 11)  # lists and tuples as text
_ARRAY = re.compile(rb"[a-z_.]{1,20}\(")  # array([1, 2], dtype=uint8)
_MOST_TO_NAME = 1 << 20  # pixels of an image that is not square
_LONG = 1 << 20  # bytes of pixel text that are not split without counting
_CHUNK_BYTES = 1 << 18  # pixel text per chunk; fits into the processor's cache


class _Columns(NamedTuple):
    """The positions of a row's fields."""

    number: int
    pixels: slice
    separator: bytes  # between pixels: a space within one column, a comma for joined columns
    label: int | None
    id: int | None
    usage: int | None
    is_named_id: bool  # whether the column is `id`, not one such as `filename`

    def ignored(self, table: tables.Table) -> list[str]:
        """The names of the columns that are not read, without those of a pandas index."""
        read = {self.label, self.id, self.usage, *range(*self.pixels.indices(self.number))}
        names = [name.decode(errors="replace").strip() for name in table.header]
        return [
            name
            for place, name in enumerate(names)
            if place not in read and name and not name.lower().startswith("unnamed")
        ]


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
    report: Callable[[str], None] = print,
) -> Iterator[Dataset]:
    """Read a CSV file as consecutive datasets of a few hundred kilobytes, never the whole text.

    class_names: the classes that labels number or name, by default EMOTIONS
    image_shape: required (height, width, channels); by default a grey square with the
        first row's number of pixels
    report: called with a note on columns that are ignored where no column has the ids

    Without an id column, ids are row numbers from 0. Raises InputError with file and line.
    """
    names = tuple(class_names or EMOTIONS)
    table = tables.open_table(path, KNOWN_HEADERS)
    columns = _columns(table)
    if columns.id is None and (ignored := columns.ignored(table)):
        report(f"note: {path}: rows are numbered from 0; ignored columns: {a_few(ignored)}")
    rows = _rows(path, table.records, columns, names)

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


def require_header(path: str | Path) -> None:
    """Raise InputError for a file without a header that `csv_chunks` reads."""
    _columns(tables.open_table(path, KNOWN_HEADERS))


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
        for number, line in tables.lines(source):
            consumed.append(line)
            yield number, line

    remaining = lines()
    header = next(line for line in remaining if not tables.is_blank(line[1]))
    delimiter = tables.delimiter(header[1])
    with files.whole_file(path) as temporary, temporary.open("wb") as file:
        records = tables.records(source, itertools.chain([header], remaining), delimiter)
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


def _columns(table: tables.Table) -> _Columns:
    """Find the columns in a header. Raises InputError without pixels and for repeated columns."""
    columns, where = table.columns(), f"{table.path}:{table.line}"
    names, others = columns.names, (columns.label, columns.id, columns.usage, columns.is_named_id)
    if columns.pixels is not None:
        pixels = slice(columns.pixels, columns.pixels + 1)
        return _Columns(len(names), pixels, b" ", *others)
    matches = [(place, _NUMBERED_PIXEL.fullmatch(name)) for place, name in enumerate(names)]
    numbered = [(place, int(match[1])) for place, match in matches if match]
    start, first = numbered[0] if numbered else (0, 0)
    is_in_order = numbered == [(start + step, first + step) for step in range(len(numbered))]
    if len(numbered) > 3 and is_in_order:
        return _Columns(len(names), slice(start, start + len(numbered)), b",", *others)

    header = ", ".join(names)
    header = header if len(header) <= 60 else header[:60] + "..."
    if tables.has_no_header(names):
        problem = "has no header; add a first line that names the columns."
    elif len(numbered) > 3:
        raise InputError(f"{where}: the pixel columns must be consecutive and in order")
    elif columns.label is not None and columns.id is not None:
        problem = "has labels but no pixels; is it a submission?"
    else:
        problem = "has no pixel column."
    raise InputError(f"{where}: {problem} Known headers: {KNOWN_HEADERS}. Received: {header!r}")


def _rows(
    path: str | Path,
    records: Iterator[tuple[int, list[bytes]]],
    columns: _Columns,
    class_names: tuple[str, ...],
) -> Iterator[_Row]:
    known = {str(UNLABELLED).encode(): UNLABELLED, b"": UNLABELLED}
    for index, (line, fields) in enumerate(records):
        if columns.number == 1:  # numbers that are not quoted as one field
            fields = [b" ".join(fields)]
        if len(fields) != columns.number:
            raise InputError(
                f"{path}:{line}: expected {columns.number} columns, found {len(fields)}"
            )
        label, usage, row_id = UNLABELLED, "", str(index)
        if columns.label is not None:
            text = fields[columns.label].strip()
            if text not in known:
                known[text] = parse_label(f"{path}:{line}", text, class_names)
            label = known[text]
        if columns.id is not None:
            row_id = parse_id(f"{path}:{line}", fields[columns.id], columns.is_named_id)
        if columns.usage is not None:
            usage = parse_usage(f"{path}:{line}", fields[columns.usage])
        pixels = columns.separator.join(fields[columns.pixels]).strip()
        yield _Row(line, pixels, label, row_id, usage)


def parse_label(where: str, text: bytes, class_names: tuple[str, ...]) -> int:
    """The class of a label's number or name, -1 for '-1.0'. Raises InputError for others."""
    word = text.decode(errors="surrogateescape")
    label = class_index(word, class_names)
    if label is None and _NUMBER.fullmatch(text) and float(text) == UNLABELLED:
        return UNLABELLED
    if label is None:
        raise InputError(
            f"{where}: label is {_quoted(text)}, expected 0 to {len(class_names) - 1} "
            f"or one of {', '.join(class_names)}{did_you_mean(word, class_names)}"
        )
    return label


def parse_id(where: str, field: bytes, is_named_id: bool) -> str:
    """An id, or the file name that stands for one, which may be of any bytes. Raises InputError."""
    if is_named_id:
        return _name(f"{where}: id", field)
    if len(field) > _MAX_FILE_NAME:
        raise InputError(f"{where}: file name is longer than {_MAX_FILE_NAME:,} bytes")
    return field.strip().decode(errors="surrogateescape")


def parse_usage(where: str, field: bytes) -> str:
    """A usage. Raises InputError."""
    return _name(f"{where}: usage", field)


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
    count = _count_cells(row.pixels, separator)
    side = math.isqrt(count)
    if not count or side * side != count:
        if count < _MOST_TO_NAME:
            _parse_row(f"{path}:{row.line}", row.pixels, count, separator)  # its reason is truer
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
    texts = [row.pixels for row in rows]
    pixels = _parse_tidy_pixels(texts, count, separator)
    if pixels is None:
        pixels = _parse_tidy_pixels([_tidied(text, separator) for text in texts], count, separator)
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


def _tidied(text: bytes, separator: bytes) -> bytes:
    """The numbers of an image without brackets, commas and `.0`, as far as that is simple."""
    if separator == b" ":
        text = b" ".join(_cells(text, separator))
    text += separator
    for end in (b".0", b"."):
        text = text.replace(end + separator, separator)
    return text[:-1]


def _cells(text: bytes, separator: bytes) -> list[bytes]:
    """The numbers of an image: one a column, or separated in any way within one column."""
    if separator != b" ":
        return [cell.strip() for cell in text.split(separator)]
    return _plain(text).split()


def _plain(text: bytes) -> bytes:
    """The pixels of one column with nothing but spaces between them."""
    if text[-1:] == b")" and (start := _ARRAY.match(text)):
        text = text[start.end() : -1]
        numbers, _, keyword = text.rpartition(b",")
        text = numbers if b"=" in keyword else text
    return text.translate(_AS_SPACES)


def _count_cells(text: bytes, separator: bytes) -> int:
    """The number of `_cells`, in little memory."""
    if separator != b" ":
        return text.count(separator) + 1
    is_cell = np.frombuffer(b" " + _plain(text), dtype=np.uint8) > ord(" ")
    return int(np.count_nonzero(is_cell[1:] & ~is_cell[:-1]))


def _parse_row(where: str, text: bytes, count: int, separator: bytes) -> list[int]:
    if len(text) > _LONG and _count_cells(text, separator) > 2 * count:
        raise InputError(f"{where}: expected {count} pixels, found more than twice as many")
    cells = _cells(text, separator)
    levels = []
    for number, cell in enumerate(cells, start=1):
        level = _GREY_LEVELS.get(cell, _DECIMALS.get(cell))
        levels.append(_parse_level(f"{where}: pixel {number}", cell) if level is None else level)
    if len(cells) != count:
        raise InputError(f"{where}: expected {count} pixels, found {len(cells)}")
    return levels


def _parse_level(where: str, cell: bytes) -> int:
    """A grey level in any spelling, such as 041 or 4.1e+01. Raises InputError for anything else."""
    if not _NUMBER.fullmatch(cell):
        raise InputError(f"{where} is {_quoted(cell)}, expected a whole number from 0 to 255")
    value = float(cell)
    if not 0 <= value <= 255:
        raise InputError(f"{where} is {_quoted(cell)[1:-1]}, expected 0 to 255")
    if not value.is_integer():
        raise InputError(f"{where} is {_quoted(cell)}, expected a whole number from 0 to 255")
    return int(value)
