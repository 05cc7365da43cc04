"""Shared by all pictures: a colour-blind safe palette, text, and PNG files."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito's palette
SERIES = (BLUE, ORANGE, GREEN, PINK, "#E69F00", "#56B4E9", "#000000")
GREY = "#BBBBBB"
DPI = 120
LONGEST_NAME = 20  # characters of a class name at an axis


def plain(text: str, longest: int | None = None) -> str:
    """Text that is not read as a formula: a $ in the name of a file or class is escaped.

    longest: maximum number of characters; the middle of a longer text is left out.
    """
    if longest and len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[: longest - 1 - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"
    return text.replace("$", r"\$")


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG file atomically."""
    with files.whole_file(path) as temporary:
        temporary.write_bytes(png(figure))


def png(figure: "Figure") -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A box is drawn for characters that the font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
