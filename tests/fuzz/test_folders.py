"""Damaged images and odd folders of them: a result or one line, in little time and memory."""

import contextlib
import functools
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzz import bounds
from fuzz.damage import ODD_NAMES, damaged, sometimes_damaged
from fuzz.test_tables import require_sound
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ferlab import data
from ferlab.audit import rows
from ferlab.data import images

MODES = (
    *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "F"),
)
MODES = (*MODES, "I;16", "I;16B", "La", "RGBa")
OTHER_FORMATS = ("EPS", "PDF", "IM", "SPIDER", "MSP", "BLP", "DDS", "XBM", "ICNS", "PALM")
FOLDERS = (
    *("happy", "sad", "Angry", "joy", "0", "1", "6", "unknown", "train", "test", "val", "Private"),
    *("training_set", "fer_test", "hidden", "unlabelled", ".git", "__MACOSX", "happy "),
)
FILES = (
    *("1.png", "2.PNG", "a.jpg", "1.jpg", "x.heic", "Thumbs.db", ".DS_Store", "noext", "1.png.png"),
    *(
        "n\n.png",
        "é.png",
        "e\u0301.png",
        "\udcff.png",
        "-.png",
        "a.pgm",
        "a.tif",
        "a.webp",
        "a.csv",
    ),
)


@functools.cache
def sound_images() -> tuple[bytes, ...]:
    """A small image in every mode and format that Pillow writes."""
    grey = Image.fromarray((np.arange(64, dtype=np.uint8) * 4).reshape(8, 8))
    made = []
    for mode in MODES:
        for kind in (*images.FORMATS, *OTHER_FORMATS):
            buffer = io.BytesIO()
            with contextlib.suppress(Exception):  # a format that has no such mode, or is read only
                grey.convert(mode).save(buffer, kind)
                made.append(buffer.getvalue())
    assert len(made) > 50
    return tuple(made)


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file that claims any size, its checksums right."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    return content


@st.composite
def claiming(draw) -> bytes:
    """An image whose header claims another size or depth than its pixels have."""
    side = st.sampled_from((0, 1, 8, 9_000, 65_535, 2**31 - 1, 2**32 - 1))
    width, height = draw(side), draw(side)
    pixels = zlib.compress(bytes(draw(st.sampled_from((0, 9, 72, 10**6)))))
    extra = draw(
        st.sampled_from(
            (
                (b"tRNS", b"\0"),
                (b"PLTE", bytes(9)),
                (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))),
                (b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6))),
                (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0"),
                (b"acTL", bytes((255,)) * 8),
            )
        )
    )
    depth = draw(st.sampled_from((1, 2, 4, 8, 16, 3)))
    colour = draw(st.sampled_from((0, 2, 3, 4, 6, 1)))
    forms = (
        lambda: png(width, height, depth, colour, extra, (b"IDAT", pixels)),
        lambda: b"P%d %d %d %d\n" % (draw(st.integers(1, 7)), width, height, depth) + pixels,
        lambda: b"GIF89a" + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + pixels,
        lambda: b"BM" + bytes(12) + struct.pack("<IIIHH", 40, width, height, 1, depth) + pixels,
        lambda: b"qoif" + struct.pack(">II", width, height) + bytes((3, 0)) + pixels,
        lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, height, width, depth, colour),
    )
    return draw(st.sampled_from(forms))()


@st.composite
def any_images(draw) -> bytes:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(claiming())
    content = draw(st.sampled_from(sound_images()))
    return draw(damaged(content)) if kind < 6 else content


@bounds.cases("images")
@given(content=any_images(), shape=st.sampled_from(((8, 8, 1), (5, 7, 3))))
def test_damaged_images(content, shape):
    with bounds.folder() as folder:
        path = folder / "face.png"
        path.write_bytes(content)
        image = bounds.ending(lambda: data.read_image(path, shape))
        assert image is None or (image.shape == shape and image.dtype == np.uint8)
        bounds.ending(lambda: data.image_header(path))


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA", "I;16", "F"])
def test_large_images_are_not_copied_whole(mode, monkeypatch):
    kind = "tiff" if mode == "F" else "png"
    options = {"compression": "tiff_deflate"} if mode == "F" else {}
    with bounds.folder() as folder:
        path = folder / f"face.{kind}"
        Image.new(mode, (2000, 2000)).save(path, **options)
        monkeypatch.setattr(bounds, "MEMORY", 42_000_000)  # two copies of 4 bytes a pixel take 32
        image = bounds.ending(lambda: data.read_image(path, (8, 8, 3)))
        assert image is not None


@st.composite
def trees(draw) -> list[tuple[str, bytes | str]]:
    """(path, content) of up to twelve files; the content is a word for what is no regular file."""
    entries = []
    names = st.sampled_from(FOLDERS[:4]) | st.sampled_from(FOLDERS) | st.sampled_from(ODD_NAMES)
    depth = draw(st.integers(0, 3))
    part = draw(st.sampled_from(("", "", "train", "training_set")))
    for _ in range(draw(st.integers(0, 12))):
        folders = [draw(names) for _ in range(draw(st.integers(0, depth)))]
        name = draw(
            st.sampled_from(FILES[:4]) | st.sampled_from(FILES) | st.sampled_from(ODD_NAMES)
        )
        if draw(st.booleans()):
            name += ".png"
        kind = draw(st.integers(0, 15))
        content: bytes | str = draw(st.sampled_from(sound_images()[:40]))
        if kind == 0:
            content = draw(any_images())
        elif kind == 1:
            content = draw(
                st.sampled_from(("pipe", "folder", "link up", "link to itself", "dead link"))
            )
        elif kind == 2:
            content = draw(sometimes_damaged(b"", chance=1))
        entries.append(("/".join((part, *folders, name)).strip("/"), content))
    return entries


def place(root: Path, name: str, content: bytes | str) -> None:
    """Put one entry into a folder, as far as the file system takes its name."""
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(root) or path == root:
        return
    with contextlib.suppress(OSError, ValueError):
        if os.path.lexists(path):  # a pipe would wait for a reader
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == "pipe":
            os.mkfifo(path)
        elif content == "folder":
            path.mkdir()
        else:
            targets = {"link up": "..", "link to itself": path.name, "dead link": "nowhere"}
            path.symlink_to(targets[content])


@bounds.cases("folders")
@given(
    tree=trees(),
    role=st.sampled_from(("train", "test")),
    class_names=st.sampled_from((None, None, ("happy", "sad"))),
)
def test_odd_folders(tree, role, class_names):
    with bounds.folder() as folder:
        root = folder / "faces"
        root.mkdir()
        for name, content in tree:
            place(root, name, content)
        dataset = bounds.ending(
            lambda: data.read(
                root, role=role, class_names=class_names, image_shape=(8, 8, 1), report=_utf8
            )
        )
        if dataset is not None:
            require_sound(dataset)
            files = data.folder_files(root, role=role, class_names=class_names)
            assert len(files) == len(dataset)
            assert len(set(dataset.ids.tolist())) == len(dataset)
        bounds.ending(lambda: rows.read_rows([str(root)], image_shape=(8, 8, 1)))
        bounds.ending(lambda: data.image_files(root))


def _utf8(note: str) -> None:
    note.encode("utf-8", "surrogateescape")
