"""Tables of text to damage: a header and rows, written in many ways."""

from dataclasses import dataclass, field

from fuzz.damage import NUMBERS, ODD_NAMES, gzipped, sometimes_damaged, zipped
from hypothesis import strategies as st

HEADERS = {
    "label": ("label", "emotion", "Emotion", " class "),
    "pixels": ("pixels", "feature", " Pixels"),
    "id": ("id", "ImageId", "filename", "image"),
    "usage": ("Usage", "usage", "set", "split"),
    "other": ("note", "", "x1", "pixel", "emotion_2"),
}
VALUES = {
    "label": ("0", "3", "6", "6.0", "happy", "Anger", "", "-1"),
    "usage": ("Training", "PublicTest", "Private Test", "train", "val", ""),
    "other": ("x", "", "1", "0 0 0"),
}
ODD_FIELDS = (
    *ODD_NAMES,
    *map(str, NUMBERS),
    *('"', '""', "'", 'a"b', "0x10", "1_0", "١٢", "½", "41.", "4.1e1", "+5", "--5", "1e400"),
    *("[1, 2, 3, 4]", "1,2,3,4", "1;2;3;4", "1 2 3", "1 2 3 4 5", "300 1 1 1", "1.5 1 1 1"),
    *("9" * 5000, "1 " * 3000, ",", ";", "a\nb", "1" + "0" * 400, "\x1a", "=1+1", "images/1.png"),
)
DELIMITERS = (",", ";", "\t")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
ODD_ENCODINGS = (*ENCODINGS, "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-7", "cp037")


@dataclass
class Table:
    """A header and rows of equally many fields; kinds: a key of HEADERS for each column."""

    kinds: list[str]
    header: list[str]
    rows: list[list[str]]
    delimiter: str = ","
    line_end: str = "\n"
    quoted: str = "where needed"
    encoding: str = "utf-8"
    extra_lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [self.delimiter.join(map(self._field, line)) for line in (self.header, *self.rows)]
        return self.line_end.join([*lines, *self.extra_lines, ""])

    def content(self) -> bytes:
        errors = "surrogatepass" if "utf" in self.encoding else "replace"
        try:
            return self.text().encode(self.encoding, errors)
        except UnicodeError:  # utf-7 knows no surrogatepass
            return self.text().encode(self.encoding, "replace")

    def _field(self, text: str) -> str:
        needs = any(mark in text for mark in (self.delimiter, '"', "\n", "\r"))
        if self.quoted == "all" or (self.quoted == "where needed" and needs):
            return '"' + text.replace('"', '""') + '"'
        return f'"{text}' if self.quoted == "never closed" else text


def table_of(kinds: list[str], draw: st.DrawFn, rows: int = 4, side: int = 2) -> Table:
    """A sound table with columns of these kinds, in this order, and ids 0.png, 1.png, ..."""
    header = [draw(st.sampled_from(HEADERS[kind])) for kind in kinds]
    return Table(kinds, header, [_row(kinds, row, draw, side) for row in range(rows)])


def _row(kinds: list[str], row: int, draw: st.DrawFn, side: int) -> list[str]:
    pixels = " ".join(str((37 * row + 11 * place) % 256) for place in range(side * side))
    own = {"pixels": pixels, "id": f"{row}.png"}
    return [own.get(kind) or draw(st.sampled_from(VALUES[kind])) for kind in kinds]


@st.composite
def damaged_tables(draw: st.DrawFn, required: tuple[str, ...], optional: tuple[str, ...]) -> bytes:
    """The bytes of a table of the required and some of the optional columns, damaged in up to four
    places of its structure, then in its bytes, packed or not."""
    chosen = [kind for kind in optional if draw(st.booleans())]
    kinds = draw(st.permutations([*required, *chosen]))
    table = table_of(kinds, draw, rows=draw(st.integers(1, 5)), side=draw(st.integers(1, 3)))
    if draw(st.integers(1, 5)) == 1 and "pixels" in kinds:
        _spread_pixels(table)
    for _ in range(draw(st.integers(0, 4))):
        draw(st.sampled_from(EDITS))(table, draw)
    content = draw(sometimes_damaged(table.content()))
    return draw(packed(content))


@st.composite
def packed(draw: st.DrawFn, content: bytes) -> bytes:
    way = draw(st.sampled_from(("no", "no", "no", "gzip", "zip", "twice", "two", "odd name")))
    if way == "no":
        return content
    if way == "gzip":
        result = gzipped(content)
    elif way == "twice":
        result = gzipped(zipped([("t.csv", content)]))
    elif way == "two":
        result = zipped([("a.csv", content), ("b.csv", content)])
    else:
        name = "t.csv" if way == "zip" else draw(st.sampled_from(("../t.csv", "t.png", "a/", "é")))
        result = zipped([(name, content)])
    return draw(sometimes_damaged(result))


def _spread_pixels(table: Table) -> None:
    """One column for every pixel, as MNIST's tables have them."""
    place = table.kinds.index("pixels")
    count = len(table.rows[0][place].split())
    for line in table.rows:
        line[place : place + 1] = line[place].split()
    table.header[place : place + 1] = [f"pixel{number}" for number in range(count)]
    table.kinds[place : place + 1] = ["other"] * count


def _line(table: Table, draw: st.DrawFn) -> list[str]:
    return draw(st.sampled_from([table.header, *table.rows]))


def _odd_field(table: Table, draw: st.DrawFn) -> None:
    line = _line(table, draw)
    if line:
        text = draw(st.sampled_from(ODD_FIELDS) | st.text(max_size=12))
        line[draw(st.integers(0, len(line) - 1))] = text


def _long_field(table: Table, draw: st.DrawFn) -> None:
    line = _line(table, draw)
    if line:
        text = draw(st.sampled_from(("1 ", "1,", "x", '"', "0\n")))
        line[draw(st.integers(0, len(line) - 1))] = text * draw(st.sampled_from((70_000, 600_000)))


def _other_name(table: Table, draw: st.DrawFn) -> None:
    if table.header:
        names = draw(st.sampled_from([name for names in HEADERS.values() for name in names]))
        table.header[draw(st.integers(0, len(table.header) - 1))] = names


def _odd_number_of_fields(table: Table, draw: st.DrawFn) -> None:
    line = _line(table, draw)
    if line and draw(st.booleans()):
        line.pop(draw(st.integers(0, len(line) - 1)))
    else:
        line += ["1"] * draw(st.sampled_from((1, 2, 300)))


def _column_again(table: Table, draw: st.DrawFn) -> None:
    place = draw(st.integers(0, len(table.kinds)))
    for line in (table.header, *table.rows):
        line.insert(place, line[place] if place < len(line) else "")


def _rows(table: Table, draw: st.DrawFn) -> None:
    table.rows = draw(st.sampled_from(([], table.rows[:1], table.rows * 2, table.rows * 300)))
    table.rows = [list(line) for line in table.rows]


def _header_again(table: Table, draw: st.DrawFn) -> None:
    table.rows.insert(draw(st.integers(0, len(table.rows))), list(table.header))


def _no_header(table: Table, draw: st.DrawFn) -> None:
    if table.rows:
        table.header = table.rows.pop(0)


def _extra_lines(table: Table, draw: st.DrawFn) -> None:
    table.extra_lines += draw(
        st.lists(st.sampled_from(("", ",,,", "#", "\0", '"', " ", "\x1a")), max_size=3)
    )


def _writing(table: Table, draw: st.DrawFn) -> None:
    table.delimiter = draw(st.sampled_from((*DELIMITERS, "|", " ", "::", ",;")))
    table.line_end = draw(st.sampled_from(("\n", "\r\n", "\r", "\n\n", "\x85", "\u2028", "")))
    table.quoted = draw(st.sampled_from(("all", "never", "where needed", "never closed")))


def _encoding(table: Table, draw: st.DrawFn) -> None:
    table.encoding = draw(st.sampled_from(ODD_ENCODINGS))


EDITS = (
    *(_odd_field, _odd_field, _odd_field, _other_name, _odd_number_of_fields, _column_again),
    *(_rows, _header_again, _no_header, _extra_lines, _writing, _encoding, _long_field),
)
