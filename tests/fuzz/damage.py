"""Damage of bytes, names and values that the fuzz of several formats does."""

import gzip
import io
import warnings
import zipfile
from collections.abc import Callable

from hypothesis import strategies as st

ODD_NAMES = (
    *("", " ", ".", "..", "a/b", "../up", "/absolute", "C:\\x", "a\\b", "-x", "~", "%s", "{}"),
    *("\0", "\n", "\r", "\t", "\x1b[31m", "\ufeff", "\u202e", "\u200b", "é", "e\u0301", "怒り"),
    *("غاضب", "😀", "\udcff", "\ud800", "NaN", "None", "true", "0", "-1", "1e3", "x" * 250),
    *("x" * 5000, "angry", "Happiness ", "SAD", "unlabelled", "train", "Private Test", "val"),
)
NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 255, 256, 65_535, 65_536, 10**5, 10**7, 2**31 - 1, 2**31, 2**53, 2**63),
    *(-(2**63), 2**64, 10**30, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf")),
)

odd_names = st.sampled_from(ODD_NAMES) | st.text(max_size=12)
numbers = st.sampled_from(NUMBERS) | st.integers(-300, 300)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes cut off, left out, repeated, overwritten or put in."""
    if not content:
        return draw(st.binary(max_size=8))
    start = draw(st.integers(0, len(content) - 1))
    length = draw(st.sampled_from((1, 2, 4, 8, 64, 1024)))
    end = min(start + length, len(content))
    new = draw(st.binary(min_size=1, max_size=8) | st.sampled_from((b"\0" * 8, b"\xff" * 8)))
    edits: tuple[Callable[[], bytes], ...] = (
        lambda: content[:start],
        lambda: content[:start] + content[end:],
        lambda: content[:end] + content[start:],
        lambda: content[:start] + new + content[start + len(new) :],
        lambda: content[:start] + new + content[start:],
        lambda: content[:start] + bytes((content[start] ^ (1 << len(new) - 1),)) + content[end:],
        lambda: content + new,
        lambda: new + content,
    )
    return draw(st.sampled_from(edits))()


@st.composite
def sometimes_damaged(draw: st.DrawFn, content: bytes, chance: int = 3) -> bytes:
    """As often as not whole: damaged once in `chance` times, and then up to three times."""
    if draw(st.integers(1, chance)) == chance:
        for _ in range(draw(st.integers(1, 3))):
            content = draw(damaged(content))
    return content


def zipped(members: list[tuple[str, bytes]], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive; names may be repeated."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # a repeated name
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)
