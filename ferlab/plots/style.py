"""Shared by all pictures: a colour-blind safe palette, text and its fonts, and PNG files."""

import functools
import io
import re
import unicodedata
import warnings
from collections.abc import Callable
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
_MISSING = re.compile(r"Glyph (\d+)")  # begins Matplotlib's warning
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC")


def plain(text: str, longest: int | None = None) -> str:
    """Text that is not read as a formula: a $ in the name of a file or class is escaped.

    longest: maximum number of characters; the middle of a longer text is left out.
    """
    text = text.encode(errors="backslashreplace").decode()  # a file name that is not UTF-8
    if longest and len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[: longest - 1 - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"
    return text.replace("$", r"\$")


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG file atomically."""
    with files.whole_file(path) as temporary:
        temporary.write_bytes(png(figure))


def png(figure: "Figure", report: Callable[[str], None] = print) -> bytes:
    """The figure as the bytes of a PNG file.

    Characters that Matplotlib's own font lacks, such as those of Chinese class names, are drawn
    with fonts of this machine. report: called with a note on those that no font has, which are
    drawn as boxes.
    """
    content, missing = _drawn(figure)
    families = _families(missing) if missing else ()
    if families:
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            if set(text.get_text()) & set(missing):
                text.set_fontfamily([*text.get_fontfamily(), *families])
        content, missing = _drawn(figure)
    if missing:
        _note(missing, report)
    return content


def _drawn(figure: "Figure") -> tuple[bytes, str]:
    """(the PNG file, the characters that its fonts lack)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(buffer, format="png", dpi=DPI)
    missing = set()
    for warning in caught:
        if match := _MISSING.match(str(warning.message)):
            missing.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return buffer.getvalue(), "".join(sorted(missing))


def _families(characters: str) -> tuple[str, ...]:
    """Families of fonts of this machine that have these characters, as far as there are any."""
    from matplotlib import font_manager

    fonts = {path: _coverage(path, characters) for path in _font_files()}
    missing, families = set(characters), []

    def rank(path: str) -> tuple[int, bool, int]:
        covered, name = fonts[path]
        return len(covered & missing), "Sans" in name, -len(name)

    while fonts and missing:
        path = max(fonts, key=rank)
        covered, name = fonts[path]
        if not covered & missing:
            break
        font_manager.fontManager.addfont(path)
        families.append(name)
        missing -= covered
    return tuple(families)


def _font_files() -> list[str]:
    """The fonts of this machine, also those installed since Matplotlib has listed them."""
    from matplotlib import font_manager

    return sorted(font_manager.findSystemFonts())


@functools.cache
def _coverage(path: str, characters: str) -> tuple[frozenset[str], str]:
    """(which of the characters a font has, its family)."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # damaged, or of a kind that Matplotlib cannot draw
        return frozenset(), ""
    if "LastResort" in font.family_name.replace(" ", ""):  # boxes for all characters
        return frozenset(), ""
    return frozenset(char for char in characters if font.get_char_index(ord(char))), (
        font.family_name
    )


@functools.cache
def _note(missing: str, report: Callable[[str], None]) -> None:
    """Report once which characters are drawn as boxes, and the font that has them."""
    fonts = sorted({_font_for(character) for character in missing})
    report(
        f"note: no font of this machine has {', '.join(missing[:10])}"
        f"{' and others' if len(missing) > 10 else ''}, drawn as boxes; install "
        f"{' and '.join(fonts)}"
    )


def _font_for(character: str) -> str:
    """A free font with this character.

    >>> _font_for("\u751f"), _font_for("\u0939"), _font_for("\U0001f600")
    ('Noto Sans CJK', 'Noto Sans Devanagari', 'Noto Emoji')
    """
    script = unicodedata.name(character, "unknown").split()[0]
    if script.startswith(_CJK):
        return "Noto Sans CJK"
    return f"Noto Sans {script.title()}" if character.isalnum() else "Noto Emoji"
