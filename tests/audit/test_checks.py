import numpy as np
import pytest
from PIL import Image
from planted import write_folder
from support import faces

from ferlab.audit import checks
from ferlab.errors import InputError


def test_blank_and_flat_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 48, 48, 1)).astype(np.uint8)
    images[0] = rng.integers(100, 103, images[0].shape)
    images[1] = 7
    images[1, :20] = rng.integers(0, 255, images[1, :20].shape)  # 28 of 48 lines have one level
    images[2] = 7
    images[2, :18] = rng.integers(8, 255, images[2, :18].shape)
    blank, flat = checks.blank_and_flat(images)
    assert blank.tolist() == [True, False, False, False]
    assert flat.tolist() == [False, False, True, False]


def test_file_sizes_and_modes(tmp_path):
    rows = faces(40, seed=41)
    write_folder(tmp_path / "faces", rows.take(rows.labels < 2))
    angry = tmp_path / "faces" / "angry"
    for name, size, mode in (
        ("large", (480, 480), "L"),
        ("wide", (120, 40), "L"),
        ("colour", (48, 48), "RGB"),
        ("small", (30, 30), "L"),
    ):
        Image.new(mode, size, 99).save(angry / f"{name}.png")
    count = len(list((tmp_path / "faces").rglob("*.png")))
    sizes = checks.file_sizes(str(tmp_path / "faces"))
    odd = {sizes.files[row] for row in np.flatnonzero(sizes.odd)}
    assert odd == {"angry/large.png", "angry/wide.png"}
    small = {sizes.files[row] for row in np.flatnonzero(sizes.small((48, 48, 1)))}
    assert small == {"angry/small.png", "angry/wide.png"}
    assert sizes.modes == {"L": count - 1, "RGB": 1}
    (angry / "text.png").write_text("no image")
    (angry / "other.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"2 files .*angry/other\.jpg.*angry/text\.png"):
        checks.file_sizes(str(tmp_path / "faces"))


def test_file_sizes_of_names_damaged_images_of_all_folders_at_once(tmp_path):
    rows = faces(12, seed=42)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    for folder in ("a", "b"):
        write_folder(tmp_path / folder / "train", rows)
        Image.fromarray(noise).save(tmp_path / "whole.jpg")
        whole = (tmp_path / "whole.jpg").read_bytes()
        test = tmp_path / folder / "test"
        test.mkdir()
        (test / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / folder / "train" / "happy" / "empty.png").write_bytes(b"")
    with pytest.raises(InputError) as raised:
        checks.file_sizes_of([str(tmp_path / "a"), str(tmp_path / "b")])
    names = ("a/test/cut.jpg", "a/train/happy/empty.png", "b/test/cut.jpg")
    assert all(name in str(raised.value) for name in names)
