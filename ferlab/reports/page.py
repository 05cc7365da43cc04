"""One HTML page that holds everything it shows, pictures included, and loads and runs nothing.

page = Page("Data report")
page.heading("Classes")
page.paragraph("7 classes, 28,709 images.")
page.table(("class", "images"), [("angry", "3,995")])
page.figure(plots.class_counts_figure(...), "Images of each class")
page.save(Path("data_report.html"))
"""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import files, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Whatever text a data set brings along, the browser runs none of it and asks no other machine.
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


class Page:
    """A page under construction. Text is shown as it is: nothing in it is taken for HTML."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._headings: list[str] = []
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Begin a section, which the menu at the top leads to."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="s{len(self._headings)}">{html.escape(text)}</h2>')

    def paragraph(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def note(self, text: str) -> None:
        """What a reader should know before believing the rest."""
        self._parts.append(f'<p class="note">{html.escape(text)}</p>')

    def warning(self, text: str) -> None:
        """What takes the worth out of the numbers."""
        self._parts.append(f'<p class="warning">{html.escape(text)}</p>')

    def code(self, text: str) -> None:
        """Lines to paste, or settings, as they are."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def list(self, items: Iterable[str]) -> None:
        rows = "".join(f"<li>{html.escape(item)}</li>" for item in items)
        self._parts.append(f"<ul>{rows}</ul>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """The first column is text, the others are numbers, aligned at the right."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def facts(self, rows: Iterable[tuple[str, object]]) -> None:
        """Names and what they are, both text."""
        body = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>'
            for name, value in rows
        )
        self._parts.append(f'<table class="facts"><tbody>{body}</tbody></table>')

    def figure(self, figure: "Figure", caption: str) -> None:
        """A picture; the caption also tells those who cannot see it what it shows."""
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
        """Write the page, whole or not at all."""
        with files.whole_file(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
