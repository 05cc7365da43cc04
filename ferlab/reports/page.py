"""A self-contained HTML page: pictures are embedded, no script runs and nothing is loaded.

page = Page("Data report")
page.heading("Classes")
page.paragraph("7 classes, 28,709 images.")
page.table(("class", "images"), [("angry", "3,995")])
page.figure(plots.class_counts_figure(...), "Images of each class")
page.save(Path("data_report.html"))
"""

import base64
import datetime
import html
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import files, plots
from ferlab.evaluation.metrics import Measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDEFINED = "\N{EN DASH}"  # in a table: a value that is unknown or has a denominator of 0
PEOPLE = (
    "For studying how such networks work and fail, on published data, drawings and oneself; a "
    "label is what others saw in a picture, not what somebody feels.",
    "In the EU, inferring emotions of people at work or in education is prohibited (Regulation "
    "2024/1689, Art. 5(1)(f)).",
)
# The browser must not run code contained in the data's texts, nor send requests.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; margin-bottom: 0; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: 0.25rem 0.5rem; border-bottom: 1px solid #ddd; text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.facts th, .facts td { text-align: left; vertical-align: top; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
th, td:first-child { white-space: normal; }
td:first-child { max-width: 24rem; overflow-wrap: break-word; }
th { background: #f4f4f4; }
li, p { overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: 0.9rem; }
.warning { border-left: 0.3rem solid #D55E00; background: #fdf0e6; padding: 0.6rem 0.8rem; }
pre { background: #f4f4f4; padding: 0.6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; white-space: nowrap; }
@media print { nav { display: none; } figure, tr { break-inside: avoid; }
  table { font-size: 0.8rem; } td { white-space: normal; } }
"""


def created(kind: str) -> str:
    """'Report created by ferlab, 2026-11-25 13:00 UTC'."""
    return f"{kind} created by ferlab, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"


def command_line() -> str:
    """The `python -m ferlab` command that is running, to paste into a shell."""
    return shlex.join(["python", "-m", "ferlab", *sys.argv[1:]])


def percent(measure: Measure | None) -> str:
    """'68.6% (67.0 to 70.1)'; a dash for None."""
    if measure is None:
        return UNDEFINED
    return f"{measure.value:.1%} ({100 * measure.low:.1f} to {100 * measure.high:.1f})"


class Page:
    """A page to which parts are added in order. All text is escaped, never interpreted as HTML."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._headings: list[str] = []
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Start a section, which is linked from the menu at the top."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="s{len(self._headings)}">{html.escape(text)}</h2>')

    def paragraph(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def note(self, text: str) -> None:
        """A remark on how to read the numbers."""
        self._parts.append(f'<p class="note">{html.escape(text)}</p>')

    def warning(self, text: str) -> None:
        """A reason why the numbers must not be used."""
        self._parts.append(f'<p class="warning">{html.escape(text)}</p>')

    def code(self, text: str) -> None:
        """Preformatted text, such as a command."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def list(self, items: Iterable[str]) -> None:
        rows = "".join(f"<li>{html.escape(item)}</li>" for item in items)
        self._parts.append(f"<ul>{rows}</ul>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table whose first column is text; the others are numbers, right-aligned."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def facts(self, rows: Iterable[tuple[str, object]]) -> None:
        """A table of names and values, both text."""
        body = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>'
            for name, value in rows
        )
        self._parts.append(f'<table class="facts"><tbody>{body}</tbody></table>')

    def figure(self, figure: "Figure", caption: str) -> None:
        """A picture; the caption is also its alternative text."""
        data = base64.b64encode(plots.png(figure)).decode()
        caption = html.escape(caption)
        self._parts.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def html(self) -> str:
        """The whole page."""
        menu = " ".join(
            f'<a href="#s{number}">{html.escape(text)}</a>'
            for number, text in enumerate(self._headings, start=1)
        )
        title = html.escape(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>"
            f'<p class="note">{html.escape(self.subtitle)}</p><nav>{menu}</nav>\n'
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )

    def save(self, path: Path) -> None:
        """Write the page atomically."""
        with files.whole_file(path) as temporary:
            # A file or class name may be no UTF-8.
            temporary.write_text(self.html(), encoding="utf-8", errors="backslashreplace")
