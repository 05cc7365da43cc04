"""Damaged `.npz` archives: a result or one line, in little time and memory."""

import functools
import io
import pickle
import zipfile

import numpy as np
from fuzz import bounds
from fuzz.damage import NUMBERS, ODD_NAMES, damaged, odd_names, sometimes_damaged, zipped
from fuzz.test_tables import require_sound
from hypothesis import given
from hypothesis import strategies as st

from ferlab import data
from ferlab.audit import rows
from ferlab.data import npz_files
from ferlab.labels import EMOTIONS

DTYPES = (
    *("u1", "i1", "<u2", ">u2", "<i8", ">i8", "<f2", "<f4", "<f8", "<c8", "?", "S3", "U5", "V4"),
    *("M8[s]", "m8[D]", "O", [("a", "u1"), ("b", "<f4")], ("u1", (2,))),
)
DESCRIPTIONS = (
    *(
        "'|O'",
        "'<U1000000000'",
        "'|V0'",
        "'<U0'",
        "'|S0'",
        "'<f16'",
        "'M8[ns]'",
        "'garbage'",
        "None",
    ),
    *("[]", "[('a', '|u1')]", "[('a', '|u1', (1000000, 1000000))]", "'|u1'", "'>i8'", "5", "'|b1'"),
)
SHAPES = (
    *("(4, 2, 2)", "(4,)", "()", "(0,)", "(0, 2, 2)", "(10**12,)", "(10**18, 10**18)", "(-1,)"),
    *("(-4, -2, 2)", "(4.0, 2)", "(4, '2')", "None", "[4, 2, 2]", "(True, 4)", "(4, 0, 2)"),
    *("(1000000000000,)", "(18446744073709551616,)", "(4, 2, 2, 1, 1, 1)", "(1,) * 99"),
    "(" + "1, " * 70 + ")",
)
KEYS = (
    *("images", "labels", "x", "y", "x_train", "y_train", "train_x", "X_TEST", "test_images"),
    *("train_images", "train_labels", "train_ids", "train_usage", "test_ids", "ids", "usage"),
    *("class_names", "arr_0", "weights"),
)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def npy_claiming(description: str, order: str, shape: str, content: bytes, version: int) -> bytes:
    """An array's file with any text as its header."""
    header = f"{{'descr': {description}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + content


@functools.cache
def bomb() -> bytes:
    """The file of an array of 20 MB that packs a thousand times smaller."""
    return npy(np.zeros((1000, 160, 128), np.uint8))


@st.composite
def members(draw) -> list[tuple[str, bytes]]:
    """The arrays of a sound archive, some of them changed, as files."""
    count, side = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shape = draw(
        st.sampled_from(((count, side, side), (count, side, side, 3), (count, side * side)))
    )
    arrays = {
        "images": np.arange(np.prod(shape)).reshape(shape).astype(np.uint8),
        "labels": np.arange(count),
        "ids": np.array([f"row{number}" for number in range(count)]),
        "usage": np.array(["Training"] * count),
        "class_names": np.array(EMOTIONS),
    }
    prefix = draw(st.sampled_from(("", "train_", "test_")))
    named = {
        (key if key == "class_names" else f"{prefix}{key}"): array
        for key, array in arrays.items()
        if key == "images" or draw(st.booleans())
    }
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from(sorted(named)))
        with np.errstate(all="ignore"):
            named[key] = draw(changed_arrays(named[key]))
    files = [(f"{key}.npy", npy(array)) for key, array in named.items()]
    for _ in range(draw(st.integers(0, 2))):
        files = draw(changed_files(files))
    return files


@st.composite
def changed_arrays(draw, array: np.ndarray) -> np.ndarray:
    edit = draw(st.integers(0, 6)) if array.ndim and array.size else 6
    if edit == 0:
        dtype = draw(st.sampled_from(DTYPES))
        try:
            return array.astype(dtype)
        except (ValueError, TypeError, OverflowError):  # words as numbers, say
            return np.zeros(array.shape, dtype)
    if edit == 1:
        shapes = [(-1,), (1, -1), (-1, 1), (*array.shape, 1), (1, *array.shape)]
        return array.reshape(draw(st.sampled_from(shapes)))
    if edit == 2:
        return draw(st.sampled_from((array[:0], array[:1], array[0], array[..., :0], array.T)))
    if edit == 3:
        return np.concatenate([array] * draw(st.sampled_from((2, 100))))
    if edit == 4:
        values = array.astype(object)
        values.flat[draw(st.integers(0, array.size - 1))] = draw(
            st.sampled_from((*NUMBERS, *ODD_NAMES[:40]))
        )
        kinds = ("f8", "O", "U260", "U5")
        try:
            return values.astype(draw(st.sampled_from(kinds)))
        except (ValueError, TypeError, OverflowError):
            return values
    if edit == 5:
        return np.asfortranarray(array)
    texts = draw(st.lists(odd_names, max_size=4))
    return np.array(texts or [""])


@st.composite
def changed_files(draw, files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    place = draw(st.integers(0, len(files) - 1))
    name, content = files[place]
    edit = draw(st.integers(0, 7))
    if edit == 0:
        name = draw(st.sampled_from(KEYS)) + draw(st.sampled_from((".npy", ".npy", "", ".NPY")))
    elif edit == 1:
        name = draw(odd_names)[:60_000]
    elif edit == 2:
        content = draw(damaged(content))
    elif edit == 3:
        header = (st.sampled_from(DESCRIPTIONS), st.sampled_from(("False", "True", "2", "None")))
        content = npy_claiming(
            draw(header[0]),
            draw(header[1]),
            draw(st.sampled_from(SHAPES)),
            draw(st.binary(max_size=40)),
            draw(st.sampled_from((1, 1, 1, 2, 3, 9))),
        )
    elif edit == 4:
        texts = (
            b"",
            b"text",
            b"\x93NUMPY",
            pickle.dumps([1]),
            npy_claiming(*["(" * 500] * 3, b"", 1),
        )
        content = draw(st.sampled_from(texts))
    elif edit == 5:
        content = bomb()
    elif edit == 6:
        return [*files, (name, content)]
    elif len(files) > 1:
        return files[:place] + files[place + 1 :]
    return [*files[:place], (name.replace("\0", "") or "_", content), *files[place + 1 :]]


@st.composite
def archives(draw) -> bytes:
    """An archive of these files, damaged in its bytes as well or not."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    files = draw(members())
    try:
        content = zipped(files, compression=draw(st.sampled_from(methods)))
    except UnicodeError:  # a name with half a character
        content = zipped([("images.npy", content) for _, content in files])
    return draw(sometimes_damaged(content))


@bounds.cases("archives")
@given(
    content=archives(),
    role=st.sampled_from(("train", "test")),
    class_names=st.sampled_from((None, None, EMOTIONS, ("sad", "happy"))),
)
def test_damaged_archives(content, role, class_names):
    with bounds.folder() as folder:
        path = folder / "faces.npz"
        path.write_bytes(content)
        dataset = bounds.ending(lambda: data.read(path, role=role, class_names=class_names))
        if dataset is not None:
            require_sound(dataset)
        bounds.ending(lambda: rows.read_rows([str(path)]))
        bounds.ending(lambda: npz_files.read_array(path, "class_names"))
