"""What all pictures share: colours that the colour-blind tell apart, text, and the PNG."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito's palette
SERIES = (BLUE, ORANGE, GREEN, PINK, "#E69F00", "#56B4E9", "#000000")
GREY = "#BBBBBB"
DPI = 120


def plain(text: str) -> str:
    """A file or a class may have a $ in its name, where matplotlib would begin a formula."""
    return text.replace("$", r"\$")


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with files.whole_file(path) as temporary:
        temporary.write_bytes(png(figure))


def png(figure: "Figure") -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
