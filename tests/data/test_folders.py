"""Folders of images in every mode and arrangement."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ferlab import data
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS

RAMP = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (48, 1))


def draw(root, *names, level=99):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 7), level).save(path)
    return root


def read(root, role="train", **options):
    return data.read(root, role=role, **options)


def test_read_folder_sorts_class_folders(tmp_path):
    draw(tmp_path, "sad/2.png", "sad/1.jpg", "mad/x.gif", level=200)
    draw(tmp_path, "glad/deep/er/1.PNG", "glad/1.bmp", "glad/b.webp", "mad/a.tiff")
    dataset = read(tmp_path)
    assert dataset.class_names == ("glad", "mad", "sad")
    assert " ".join(dataset.ids) == "glad/1 glad/b glad/deep/er/1 mad/a mad/x sad/1 sad/2"
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert dataset.image_shape == (48, 48, 1)
    assert np.round(dataset.images.mean(axis=(1, 2, 3))).tolist() == [99] * 4 + [200] * 3
    assert dataset.usage is None
    assert dataset.is_grouped
    assert read(tmp_path, image_shape=(6, 8, 3)).image_shape == (6, 8, 3)


def test_read_folder_uses_the_given_classes_and_their_order(tmp_path):
    draw(tmp_path, "sad/1.png", "mad/1.png")
    dataset = read(tmp_path, class_names=("sad", "glad", "mad"))
    assert dataset.class_names == ("sad", "glad", "mad")
    assert dataset.labels.tolist() == [2, 0]
    with pytest.raises(InputError, match=r"mad: .*sad, glad"):
        read(tmp_path, "test", class_names=("sad", "glad"))


def test_read_folder_ignores_hidden_files(tmp_path):
    draw(tmp_path, "mad/1.png", "sad/1.png", "stray.png")
    draw(tmp_path, ".hidden/1.png", "__MACOSX/mad/1.png", "mad/.thumbs/1.png", "sad/._1.png")
    for name in (
        "mad/.DS_Store",
        "mad/Thumbs.db",
        "mad/readme.txt",
        "sad/desktop.ini",
        "labels.csv",
    ):
        (tmp_path / name).write_text("no image")
    (tmp_path / "sad" / "circle").symlink_to(tmp_path)
    assert read(tmp_path).ids.tolist() == ["mad/1", "sad/1"]


def test_read_folder_keeps_the_suffix_in_an_id_where_files_differ_in_nothing_else(tmp_path):
    draw(tmp_path, "mad/1.png", "mad/1.jpg", "sad/1.png")
    assert read(tmp_path).ids.tolist() == ["mad/1.jpg", "mad/1.png", "sad/1.png"]


def test_read_folder_selects_the_folder_by_role(tmp_path):
    draw(tmp_path, "train/mad/1.png", "train/sad/1.png", "val/sad/1.png", "Test/sad/7.png")
    train = read(tmp_path)
    assert train.ids.tolist() == ["train/mad/1", "train/sad/1", "val/sad/1"]
    assert train.usage.tolist() == ["train", "train", "val"]
    assert train.labels.tolist() == [0, 1, 1]
    assert [len(part) for part in train.split("val")] == [2, 1]
    test = read(tmp_path, "test")
    assert test.ids.tolist() == ["sad/7"]
    assert test.usage.tolist() == ["Test"]
    assert test.class_names == ("mad", "sad")  # of the training folders
    assert test.labels.tolist() == [1]
    with pytest.raises(InputError, match="final score"):
        train.split("test")


def test_read_folder_names_an_unknown_class_of_a_test_folder(tmp_path):
    draw(tmp_path, "train/mad/1.png", "train/sad/1.png", "val/smug/1.png", "test/coy/1.png")
    draw(tmp_path, "test/mad/1.png")
    for role, name in (("train", "smug"), ("test", "coy")):
        with pytest.raises(InputError, match=f"{name}: .*mad, sad"):
            read(tmp_path, role)


@pytest.mark.parametrize("folder", [".", "test"])
def test_read_folder_gives_no_labels_without_class_folders(tmp_path, folder):
    draw(tmp_path / folder, "b.png", "a.jpg")
    dataset = read(tmp_path, "test")
    assert dataset.ids.tolist() == ["a", "b"]
    assert dataset.labels.tolist() == [-1, -1]
    assert dataset.class_names == EMOTIONS
    assert read(tmp_path, "test", class_names=("x", "y")).class_names == ("x", "y")


@pytest.mark.parametrize(
    ("names", "role", "message"),
    [
        (["a.png", "b.png"], "train", "a folder for each of two or more classes.* no folders"),
        (["mad/1.png"], "train", "a folder for each of two or more classes.* Received: mad"),
        (["train/1.png"], "train", "a folder for each of two or more classes"),
        (["train/a/1.png", "train/b/1.png", "val/1.png"], "train", "val: .*"),
        (["test/mad/1.png"], "train", "has no folder named train. Received: test"),
        (["train/a/1.png"], "test", "expected one folder named test.* Received: train"),
        (["mad/1.png", "sad/1.txt.png/"], "train", "sad: .*"),
        (["no/"], "test", "contains no images"),
        (["val/mad/1.png", "val/sad/1.png"], "train", "has no folder named train. Received: val"),
        (["mad/1.png", "Mad/1.png", "sad/1.png"], "train", "Mad and mad are folders of one class"),
        ([], "train", "a folder for each of two or more classes"),
        ([], "test", "no images"),
    ],
)
def test_read_folder_refuses_other_arrangements(tmp_path, names, role, message):
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir(parents=True)
        else:
            draw(tmp_path, name)
    with pytest.raises(InputError, match=message):
        read(tmp_path, role)


GREY = Image.fromarray(RAMP)
COLOUR = Image.merge("RGB", [GREY] * 3)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # rotated by 90 degrees
MODES = {
    "grey": (GREY, ".png", {}),
    "colour": (COLOUR, ".png", {}),
    "palette": (COLOUR.quantize(256), ".png", {}),
    "alpha": (COLOUR.convert("RGBA"), ".png", {}),
    "grey and alpha": (GREY.convert("LA"), ".png", {}),
    "CMYK": (COLOUR.convert("CMYK"), ".jpg", {"quality": 100}),
    "16 bits": (Image.fromarray(RAMP.astype(np.uint16) * 257), ".png", {}),
    "16 bits, TIFF": (Image.fromarray(RAMP.astype(np.uint16) * 257), ".tif", {}),
    "32 bits": (Image.fromarray(RAMP.astype(np.int32)), ".tif", {}),
    "floats": (Image.fromarray(RAMP.astype(np.float32)), ".tif", {}),
    "animation": (
        COLOUR.quantize(256),
        ".gif",
        {"save_all": True, "append_images": [Image.new("P", (48, 48))]},
    ),
    "turned": (
        GREY.transpose(Image.Transpose.ROTATE_90),
        ".jpg",
        {"exif": TURNED, "quality": 100},
    ),
    "another format than its name": (COLOUR, ".jpg", {"format": "PNG"}),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_read_image_reads_every_colour_mode(tmp_path, mode, channels):
    image, suffix, options = MODES[mode]
    path = tmp_path / f"face{suffix}"
    image.save(path, **options)
    pixels = data.read_image(path, (48, 48, channels))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (48, 48, channels))
    assert np.abs(pixels.astype(int) - RAMP[..., None]).max() <= 2


def test_read_image_puts_transparent_images_on_white(tmp_path):
    clear = np.dstack([RAMP, np.full_like(RAMP, 255)])
    clear[:24, :, 1] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    pixels = data.read_image(tmp_path / "clear.png", (48, 48, 1))[..., 0]
    assert (pixels[:24] == 255).all()
    np.testing.assert_array_equal(pixels[24:], RAMP[24:])

    Image.fromarray(RAMP > 127).save(tmp_path / "bits.png")
    pixels = data.read_image(tmp_path / "bits.png", (48, 48, 1))[..., 0]
    np.testing.assert_array_equal(pixels, np.where(RAMP > 127, 255, 0))

    palette = Image.new("RGB", (4, 4), "red").quantize(4)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    assert (data.read_image(tmp_path / "palette.png", (4, 4, 3)) == 255).all()


def test_read_image_converts_to_luminance(tmp_path):
    Image.new("RGB", (4, 4), (0, 255, 0)).save(tmp_path / "green.png")
    assert (data.read_image(tmp_path / "green.png", (4, 4, 1)) == 150).all()  # 0.587 of 255


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_read_image_averages_when_shrinking(tmp_path, suffix):
    board = np.indices((960, 960)).sum(axis=0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / f"board{suffix}", quality=100)
    pixels = data.read_image(tmp_path / f"board{suffix}", (48, 48, 1))
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def png(width, height):
    """A PNG with a size in its header and no pixels."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "png")
    content = bytearray(file.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"hello", "text"),
        (b"\x89PNG\r\n\x1a\n garbage", "Truncated"),
        (png(48, 48)[:-20], "truncated|Truncated"),
        (png(12_000, 12_000), "decompression bomb"),
        (png(60_000, 60_000), "decompression bomb"),
    ],
)
def test_read_image_refuses_other_files(tmp_path, content, message):
    draw(tmp_path, "mad/0.png", "sad/0.png")
    (tmp_path / "sad" / "1.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"sad/1\.jpg: is not an image: .*({message})"):
        read(tmp_path)


def test_read_image_refuses_a_broken_link(tmp_path):
    draw(tmp_path, "mad/0.png")
    (tmp_path / "mad" / "1.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"1\.png: cannot be read: No such file"):
        read(tmp_path, "test")


def test_write_npz_packs_folders(tmp_path):
    draw(tmp_path / "faces", "train/mad/1.png", "train/sad/1.png", "test/1.png")
    data.write_npz(tmp_path / "faces.npz", train=tmp_path / "faces", test=tmp_path / "faces")
    for role in ("train", "test"):
        packed, unpacked = read(tmp_path / "faces.npz", role), read(tmp_path / "faces", role)
        assert packed.fingerprint() == unpacked.fingerprint()
        assert packed.usage.tolist() == unpacked.usage.tolist()


@pytest.mark.parametrize(
    ("folder", "role", "rows", "class_names"),
    [
        (
            "anime_emotions",
            "train",
            88,
            ("angry", "happy", "neutral", "sad", "scared", "surprised", "worried"),
        ),
        ("cartoon_emotions", "train", 184, ("Unknown", "angry", "happy", "sad", "surprised")),
        ("onepiece", "train", 287, ("luffy", "sanji", "zoro")),
        ("onepiece", "test", 30, ("luffy", "sanji", "zoro")),
        ("photos", "test", 5, EMOTIONS),
    ],
)
def test_read_folder_reads_real_folders(wild, folder, role, rows, class_names):
    dataset = read(wild / "images" / folder, role)
    assert len(dataset) == rows
    assert dataset.class_names == class_names
    assert dataset.is_labelled == (folder != "photos")
    assert (dataset.images.std(axis=(1, 2, 3)) > 5).all()  # none is blank


WORDS = {  # the name of each folder, and its place among the seven emotions
    "capitals": ("Angry", "DISGUST", "Fear", "Happy", "Sad", "Surprise", "Neutral"),
    "nouns": ("anger", "Disgust", "fear", "Happiness", "sadness", "surprise", "neutrality"),
    "adjectives": ("angry", "disgusted", "fearful", "joyful", "sad", "surprised", "neutral"),
    "others": ("Anger", "disgust", "scared", "joy", "sad", "suprise", "neutral"),
    "numbers": ("0", "1", "2", "3", "4", "5", "6"),
    "numbers and words": (
        "0_angry",
        "1_disgust",
        "2.fear",
        "3 happy",
        "4-sad",
        "05 surprise",
        "6_neutral",
    ),
}


@pytest.mark.parametrize("role", ["train", "test"])
@pytest.mark.parametrize("words", WORDS)
def test_read_folder_matches_class_folders_in_other_words(tmp_path, words, role):
    draw(tmp_path, *(f"{name}/1.png" for name in WORDS[words]))
    alphabetical = tuple(sorted(EMOTIONS))
    for names in (EMOTIONS,) if words == "numbers" else (EMOTIONS, alphabetical, WORDS[words]):
        dataset = read(tmp_path, role, class_names=names)
        assert dataset.class_names == names
        expected = {
            name: names[label] if names is WORDS[words] else EMOTIONS[label]
            for label, name in enumerate(WORDS[words])
        }
        for row, label in zip(dataset.ids.tolist(), dataset.labels, strict=True):
            assert names[label] == expected[row.rpartition("/")[0]]


@pytest.mark.parametrize(
    "folders", [("1", "2", "3"), ("0", "1", "7"), ("0", "2", "smug"), ("001", "002"), ("1",)]
)
def test_read_folder_takes_numbers_for_classes_only_from_zero(tmp_path, folders):
    draw(tmp_path, *(f"{folder}/1.png" for folder in folders))
    with pytest.raises(InputError, match="is not one of the classes angry"):
        read(tmp_path, "train", class_names=EMOTIONS)
    dataset = read(tmp_path, "test", class_names=EMOTIONS)
    assert set(dataset.labels) == {-1}
    own = ("1", "2", "3", "0", "7", "001", "002", "smug")
    assert set(read(tmp_path, "test", class_names=own).labels) <= set(range(8))


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["unknown/1.png", "unknown/2.png"], ["unknown/1", "unknown/2"]),
        (["Ann/1.png", "Bob/b/2.png", "0.png"], ["0", "Ann/1", "Bob/b/2"]),
        (["test/unknown/1.png", "train/mad/1.png", "train/sad/1.png"], ["unknown/1"]),
    ],
)
def test_read_folder_gives_no_labels_to_test_images_in_folders_that_are_no_classes(
    tmp_path, names, ids
):
    draw(tmp_path, *names)
    notes = []
    dataset = read(tmp_path, "test", class_names=EMOTIONS, report=notes.append)
    assert dataset.ids.tolist() == ids
    assert set(dataset.labels) == {-1}
    assert len(notes) == 1


def test_read_folder_takes_one_folder_of_test_images_for_unlabelled(tmp_path):
    draw(tmp_path, "unknown/1.png", "unknown/2.png")
    dataset = read(tmp_path, "test")
    assert (dataset.class_names, set(dataset.labels)) == (EMOTIONS, {-1})


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("training_set", None, "test_set"),
        ("train_data", "val_data", "test_data"),
        ("fer_train", "fer_validation", "fer_test"),
        ("onepiece_train", None, "onepiece_test"),
        ("TRAIN_IMAGES", "dev", "private_test"),
        ("train", "public", "holdout"),
    ],
)
def test_read_folder_recognizes_parts_by_other_names(tmp_path, train, validation, test):
    parts = [part for part in (train, validation, test) if part]
    draw(tmp_path, *(f"{part}/{name}/1.png" for part in parts for name in ("mad", "sad")))
    dataset = read(tmp_path)
    assert dataset.class_names == ("mad", "sad")
    assert len(dataset) == (4 if validation else 2)
    assert len(dataset.training_rows()) == 2
    tested = read(tmp_path, "test")
    assert tested.labels.tolist() == [0, 1]
    assert len(tested.training_rows()) == 0
    assert list(data.read_parts(tmp_path)) == ["train", "test"]


@pytest.mark.parametrize("outer", [("set A", "set B"), ("lernen", "pruefen"), ("KA", "KM", "KR")])
def test_read_folder_refuses_folders_of_emotions_as_classes(tmp_path, outer):
    draw(tmp_path, *(f"{part}/{name}/1.png" for part in outer for name in ("Happy", "sad")))
    with pytest.raises(InputError, match="are parts, not classes"):
        read(tmp_path)


@pytest.mark.parametrize("outer", [("set1", "set2"), ("Part A", "Part B"), ("fold_1", "fold_2")])
def test_read_folder_refuses_sets_as_classes(tmp_path, outer):
    draw(tmp_path, *(f"{part}/{name}/1.png" for part in outer for name in ("luffy", "zoro")))
    with pytest.raises(InputError, match="are parts, not classes"):
        read(tmp_path)


def test_read_folder_reads_class_folders_with_folders_inside(tmp_path):
    draw(tmp_path, *(f"{name}/{who}/1.png" for name in ("happy", "sad") for who in ("ann", "bob")))
    assert read(tmp_path).class_names == ("happy", "sad")
    draw(tmp_path / "b", *(f"{who}/{side}/1.png" for who in ("luffy", "zoro") for side in "ab"))
    assert read(tmp_path / "b").class_names == ("luffy", "zoro")


def test_read_folder_names_folders_that_are_no_parts(tmp_path):
    draw(tmp_path, "train/mad/1.png", "train/sad/1.png", "extra/sad/1.png")
    notes = []
    assert len(read(tmp_path, report=notes.append)) == 2
    assert "extra" in notes[0]


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "no_label"])
def test_read_folder_gives_no_label_to_images_in_a_folder_that_says_so(tmp_path, name):
    draw(tmp_path, "mad/1.png", "sad/1.png", f"{name}/1.png", f"{name}/a/2.png")
    dataset = read(tmp_path)
    assert dataset.class_names == ("mad", "sad")
    assert sorted(dataset.labels) == [-1, -1, 0, 1]


@pytest.mark.parametrize("role", ["train", "test"])
def test_read_folder_names_images_beside_class_folders(tmp_path, role):
    draw(tmp_path, "mad/1.png", "sad/1.png", "stray.png", "other.jpg")
    notes = []
    assert len(read(tmp_path, role, report=notes.append)) == 2
    (note,) = notes
    assert "stray.png" in note
    assert "other.jpg" in note
