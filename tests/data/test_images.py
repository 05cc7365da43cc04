"""Image formats and depths: only decoders of this process, and no grey level is clipped."""

import io
import re
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image
from support import ROOT

from ferlab import data
from ferlab.data import images
from ferlab.errors import InputError

RAMP = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (16, 1))  # 0 to 248
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\n"
DOS_EPS = b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + len(POSTSCRIPT).to_bytes(4, "little")
FOREIGN = {  # content that Pillow has a decoder for which must not be asked
    "PostScript": POSTSCRIPT,
    "PostScript with a DOS header": DOS_EPS + bytes(18) + POSTSCRIPT,
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "EMF": b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "FLI": bytes(4) + b"\x11\xaf" + bytes(122),
}


def test_formats_start_no_program():
    Image.init()
    programs = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC", "PDF"}
    assert not programs & set(images.FORMATS)
    assert set(images.FORMATS) <= set(Image.OPEN) | {"AVIF", "MPO"}  # some builds; of JPEG


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".eps"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_read_image_asks_no_other_decoder(tmp_path, monkeypatch, kind, suffix):
    def never(*args, **kwargs):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    path = tmp_path / f"face{suffix}"
    path.write_bytes(FOREIGN[kind])
    for read in (lambda: data.read_image(path, (8, 8, 1)), lambda: data.image_header(path)):
        with pytest.raises(InputError, match="is not an image"):
            read()


def test_images_are_opened_in_one_place():
    opening = re.compile(r"\bImage\.open\(|imread\(|load_img\(|PIL\.Image\.open")
    rooms = ("ferlab", "models", "studies", "bench")
    files = [*ROOT.glob("*.py"), *(file for room in rooms for file in (ROOT / room).rglob("*.py"))]
    calls = {
        file.relative_to(ROOT).as_posix(): len(opening.findall(file.read_text())) for file in files
    }
    assert {file: count for file, count in calls.items() if count} == {"ferlab/data/images.py": 1}


@pytest.mark.parametrize(
    "suffix", [".pgm", ".ppm", ".pnm", ".jp2", ".avif", ".tga", ".webp", ".PGM", ".dib", ".qoi"]
)
def test_read_folder_reads_every_suffix_of_a_known_format(tmp_path, suffix):
    for name in ("mad", "sad"):
        (tmp_path / name).mkdir()
        Image.fromarray(RAMP).convert("RGB").save(tmp_path / name / f"1{suffix}")
    dataset = data.read(tmp_path, role="train", image_shape=(16, 32, 1))
    assert dataset.ids.tolist() == ["mad/1", "sad/1"]
    assert np.corrcoef(dataset.images[0].ravel(), RAMP.ravel())[0, 1] > 0.99


DEPTHS = {  # file suffix, array of the ramp
    "12 bits in 16": (".png", RAMP.astype(np.uint16) * 16),
    "16 bits": (".png", RAMP.astype(np.uint16) * 257),
    "10 bits in 16": (".png", RAMP.astype(np.uint16) * 4),
    "4 bits in 32": (".tif", (RAMP // 16).astype(np.int32)),
    "tiny floats": (".tif", RAMP.astype(np.float32) * 1e-6),
    "8 bits in 16": (".tif", RAMP.astype(np.uint16)),
    "PGM of 16 bits": (".pgm", RAMP.astype(np.int32) * 257),
    "12 bits in 32": (".tif", RAMP.astype(np.int32) * 16),
    "16 bits in 32": (".tif", RAMP.astype(np.int32) * 257),
    "24 bits": (".tif", RAMP.astype(np.int32) * 65793),
    "floats": (".tif", RAMP.astype(np.float32)),
    "floats to 1": (".tif", RAMP.astype(np.float32) / 255),
    "floats from -1 to 1": (".tif", RAMP.astype(np.float32) / 127.5 - 1),
    "floats of 16 bits": (".tif", RAMP.astype(np.float32) * 257),
    "floats of a vast range": (".tif", (RAMP.astype(np.float32) - 124) * 2e36),
    "floats of any range": (".tif", (RAMP.astype(np.float32) - 100) * 1e6),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", DEPTHS)
def test_read_image_scales_grey_levels_of_any_depth(tmp_path, depth, channels):
    suffix, levels = DEPTHS[depth]
    Image.fromarray(levels).save(tmp_path / f"face{suffix}")
    pixels = data.read_image(tmp_path / f"face{suffix}", (16, 32, channels))
    # A range that ends at 248 of 255 may be stretched.
    assert np.abs(pixels[..., 0].astype(int) - RAMP).max() <= 16
    assert len(np.unique(pixels)) == len(np.unique(levels))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_read_image_refuses_grey_levels_that_are_not_finite(tmp_path, value):
    levels = RAMP.astype(np.float32)
    levels[3, 3] = value
    Image.fromarray(levels).save(tmp_path / "face.tif")
    with pytest.raises(InputError, match="finite"):
        data.read_image(tmp_path / "face.tif", (16, 32, 1))


def test_read_image_refuses_negative_integers(tmp_path):
    Image.fromarray(RAMP.astype(np.int32) - 100).save(tmp_path / "face.tif")
    with pytest.raises(InputError, match="negative"):
        data.read_image(tmp_path / "face.tif", (16, 32, 1))


def test_read_image_keeps_an_image_of_one_level(tmp_path):
    for dtype in (np.uint16, np.int32, np.float32):
        Image.fromarray(np.zeros((8, 8), dtype)).save(tmp_path / "black.tif")
        assert not data.read_image(tmp_path / "black.tif", (8, 8, 1)).any()


@pytest.mark.parametrize("suffix", [".heic", ".HEIC", ".svg", ".raw", ".mp4", ""])
def test_read_folder_names_files_that_it_leaves_out(tmp_path, suffix):
    for name in ("mad", "sad"):
        (tmp_path / name).mkdir()
        Image.fromarray(RAMP).save(tmp_path / name / "1.png")
        (tmp_path / name / f"other{suffix}").write_bytes(b"\0\0\0\x18ftypheic")
        (tmp_path / name / "Thumbs.db").write_bytes(b"clutter")
    notes = []
    assert len(data.read(tmp_path, role="train", report=notes.append)) == 2
    (note,) = notes
    assert "2" in note
    assert f"other{suffix}" in note
    assert "Thumbs" not in note


def test_read_folder_says_why_a_folder_of_unread_files_has_no_images(tmp_path):
    for name in ("mad", "sad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for role in ("train", "test"):
        with pytest.raises(InputError, match=r"\.heic"):
            data.read(tmp_path, role=role)


def damaged(image, kind):
    """The bytes of an image file that is damaged."""
    file = io.BytesIO()
    image.save(file, kind)
    content = file.getvalue()
    return content[: len(content) // 2]


def test_read_folder_names_all_damaged_images_at_once(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8))
    for name in ("mad", "sad"):
        (tmp_path / name).mkdir()
        noise.save(tmp_path / name / "0.png")
        (tmp_path / name / "1.jpg").write_bytes(damaged(noise, "JPEG"))
        (tmp_path / name / "2.png").write_bytes(damaged(noise, "PNG"))
        (tmp_path / name / "3.png").write_bytes(b"")
    with pytest.raises(InputError) as raised:
        data.read(tmp_path, role="train")
    for name in ("mad/1.jpg", "mad/2.png", "mad/3.png", "sad/1.jpg", "sad/2.png", "sad/3.png"):
        assert name in str(raised.value)


def test_read_image_refuses_16_bit_colours_that_would_be_black(tmp_path):
    """Pillow writes no 16-bit colours, so this is a PNG by hand."""

    def png(levels):
        rows = b"".join(b"\0" + row.tobytes() for row in levels.astype(">u2"))
        header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )

    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    path = tmp_path / "face.png"
    path.write_bytes(png(noise * 257))
    np.testing.assert_array_equal(data.read_image(path, (8, 8, 3)), noise)
    path.write_bytes(png(noise * 0))
    assert not data.read_image(path, (8, 8, 3)).any()
    path.write_bytes(png(noise * 16))
    with pytest.raises(InputError, match="12 bits"):
        data.read_image(path, (8, 8, 3))
