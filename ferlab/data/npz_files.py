"""NumPy `.npz` archives in ferlab's layout and other common ones. Nothing is ever unpickled."""

import contextlib
import io
import math
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.data.dataset import ROLES, Dataset, Role, describe
from ferlab.errors import InputError, a_few, did_you_mean
from ferlab.labels import EMOTIONS, UNLABELLED, class_index, require_same_classes

# Keys of images and labels; {} is the part, train or test.
_LAYOUTS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("{}_x", "{}_y"))
LARGEST_RATIO = 100  # of an array to its compressed bytes; faces are compressed to a half
SMALL = 2**24  # bytes; a smaller array may have any ratio, such as one of zeros
_LAYOUTS_OF_ONE_PART = (("images", "labels"), ("x", "y"))


def read_npz(
    path: str | Path,
    *,
    role: str,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """Read the training or test part of an archive.

    Keys, in upper or lower case: `train_images`, `train_labels`, `train_ids`, `train_usage`, the
    same for `test`, and `class_names`; or x_train, y_train; images, labels; x, y. Images are (n,
    height, width), (n, height, width, channels) or flat squares of 0 to 255; labels are integers,
    names of classes or one-hot.

    class_names, image_shape: those that the archive must have, if given
    Raises InputError for any other content and for a damaged file.
    """
    arrays = _load(path, role)
    names = tuple(class_names or EMOTIONS)
    if "class_names" in arrays:
        stored = tuple(_texts(path, "class_names", arrays["class_names"]).tolist())
        require_same_classes(str(path), stored, class_names or stored)
        names = stored
    images = _images(path, arrays["images"])
    if image_shape and images.shape[1:] != tuple(image_shape):
        raise _invalid(path, f"images must be {describe(image_shape)}", describe(images.shape[1:]))
    labels, ids, usage = (arrays.get(name) for name in ("labels", "ids", "usage"))
    count = len(images)
    return Dataset(
        images=images,
        labels=(
            np.full(count, UNLABELLED, dtype=np.int64)
            if labels is None
            else _labels(path, labels, count, names)
        ),
        ids=_numbers(count) if ids is None else _texts(path, "ids", ids, count),
        class_names=names,
        usage=None if usage is None else _texts(path, "usage", usage, count),
        source=str(path),
    )


def npz_roles(path: str | Path) -> list[Role]:
    """The roles for which an archive contains images. Raises InputError."""
    with _opened(path) as archive:
        keys = {key.lower() for key in archive.files}
    roles: list[Role] = [
        role for role in ROLES if any(images.format(role) in keys for images, _ in _LAYOUTS)
    ]
    return roles or ["train"]


def read_array(path: str | Path, key: str) -> np.ndarray:
    """One array of an archive. Raises InputError."""
    with _opened(path) as archive:
        if key not in archive.files:
            raise InputError(f"{path}: contains no {key}")
        return _array(path, archive, key)


def write_part(archive: zipfile.ZipFile, part: Role, chunks: Sequence[Dataset]) -> None:
    """Append the arrays of one part, without concatenating the pixels in memory."""
    first, rows = chunks[0], sum(map(len, chunks))
    with archive.open(f"{part}_images.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(
            member,
            {"descr": "|u1", "fortran_order": False, "shape": (rows, *first.image_shape)},
        )
        for chunk in chunks:
            member.write(np.ascontiguousarray(chunk.images).data)
    write_array(archive, f"{part}_labels", np.concatenate([chunk.labels for chunk in chunks]))
    write_array(archive, f"{part}_ids", np.concatenate([chunk.ids for chunk in chunks]))
    if first.usage is not None:
        usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
        write_array(archive, f"{part}_usage", np.concatenate(usages))


def write_array(archive: zipfile.ZipFile, key: str, array: np.ndarray) -> None:
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _load(path: str | Path, role: str) -> dict[str, np.ndarray]:
    """The arrays for a role, by name: images, labels, ids, usage, class_names."""
    with _opened(path) as archive:
        keys = {key.lower(): key for key in archive.files}
        return {
            name: _array(path, archive, keys[key])
            for name, key in _keys_for(path, list(keys), role).items()
            if key in keys
        }


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[np.lib.npyio.NpzFile]:
    kind = files.sniff(path) or "text"
    if kind != "a zip archive":
        raise InputError(f"{path}: is {kind}, not an .npz archive")
    with files.open_to_read(path) as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:  # damaged archives raise many different errors
            raise _damaged(path, "archive", error) from error
        with archive:
            yield archive


def _keys_for(path: str | Path, keys: list[str], role: str) -> dict[str, str]:
    """The keys of a role's arrays, by name; some may be missing."""
    layouts = {"": _LAYOUTS_OF_ONE_PART, "train": _LAYOUTS, "test": _LAYOUTS}
    parts: dict[str, tuple[str, str]] = {}
    for part, known in layouts.items():
        for images, labels in known:
            if images.format(part) in keys:
                parts.setdefault(part, (images.format(part), labels.format(part)))
    part = role if role in parts else ""
    if part not in parts and role == "test" and len(parts) == 1:
        part = next(iter(parts))
    if part not in parts:
        raise _invalid(
            path,
            f"contains no {role} images; known keys are {role}_images and {role}_labels, "
            f"x_{role} and y_{role}, images and labels, x and y",
            a_few([repr(key)[1:-1] for key in keys]) or "no arrays",
        )
    images, labels = parts[part]
    prefix = f"{part}_" if part else ""
    return {
        "images": images,
        "labels": labels,
        "ids": f"{prefix}ids",
        "usage": f"{prefix}usage",
        "class_names": "class_names",
    }


def _array(path: str | Path, archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        if claim := _untrue_claim(archive.zip, key):
            raise InputError(f"{path}: {key} is damaged: {claim}")
        array = archive[key]
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: {key} does not fit into memory: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and "allow_pickle" in str(error):
            raise InputError(
                f"{path}: {key} contains Python objects, which are not unpickled because a pickle "
                "can run code"
            ) from error
        raise _damaged(path, key, error) from error
    if not isinstance(array, np.ndarray):  # another type of file in the zip
        raise InputError(f"{path}: {key} is not a NumPy array")
    return array


def _untrue_claim(archive: zipfile.ZipFile | None, key: str) -> str | None:
    """What an array claims to be without holding it; None for an array that can be read.

    NumPy allocates the memory that the header of an array asks for before it reads the array.
    """
    assert archive is not None  # while it is open
    name = key if key in archive.namelist() else f"{key}.npy"
    member = archive.getinfo(name)
    with archive.open(member) as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return None  # another type of file
        read_header = {
            1: np.lib.format.read_array_header_1_0,
            2: np.lib.format.read_array_header_2_0,
        }[file.read(2)[0]]
        shape, _, dtype = read_header(file)
        held = member.file_size - file.tell()
    elements = math.prod(shape)
    if min(shape, default=0) < 0 or (elements and not (dtype.itemsize or dtype.hasobject)):
        return f"its shape is {shape} of {dtype}"
    if elements * dtype.itemsize > held and not dtype.hasobject:
        return f"it claims {elements * dtype.itemsize:,} bytes and has {held:,}"
    size = archive.fp.seek(0, io.SEEK_END) if archive.fp else 0
    limit = max(SMALL, LARGEST_RATIO * min(member.compress_size, size))
    if member.file_size > limit:
        return f"it unpacks to {member.file_size:,} bytes from {member.compress_size:,}"
    return None


def _numbers(count: int) -> np.ndarray:
    """'0', '1' and so on, in no more memory than these need."""
    return np.arange(count).astype(f"<U{len(str(count))}")


def _images(path: str | Path, array: np.ndarray) -> np.ndarray:
    """uint8 (n, height, width, channels)."""
    if array.dtype.kind not in "iuf":
        raise _invalid(path, "images must be grey levels from 0 to 255", array.dtype)
    with np.errstate(invalid="ignore"):  # NaN is refused below
        images = array.astype(np.uint8, copy=False)
    if images.size and (
        (array.dtype.kind == "f" and array.max() <= 1) or not np.array_equal(images, array)
    ):
        received = f"{array.dtype} from {array.min()} to {array.max()}"
        raise _invalid(path, "images must be raw grey levels, integers from 0 to 255", received)
    if images.ndim == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), side, side)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        rule = "images must be (n, height, width), (n, height, width, 1 or 3) or flat squares"
        raise _invalid(path, rule, array.shape)
    if not images.size:
        raise InputError(f"{path}: contains no images")
    return images


def _labels(
    path: str | Path, array: np.ndarray, count: int, class_names: tuple[str, ...]
) -> np.ndarray:
    """int64 (count,)."""
    if array.dtype.kind == "U":
        words, places = np.unique(_texts(path, "labels", array, count), return_inverse=True)
        return np.array([_label(path, word, class_names) for word in words.tolist()])[places]
    num_classes = len(class_names)
    if array.dtype.kind not in "iufb":
        raise _invalid(path, "labels must be integers, names or one-hot rows", array.dtype)
    if array.shape[:1] != (count,):  # before they are converted, as there may be billions
        raise _invalid(path, f"labels must be {count:,}, one per image", array.shape)
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int64)
    if not np.array_equal(labels, array):
        raise _invalid(path, "labels must be integers", array.dtype)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        one_hot = labels.shape[1] == num_classes and np.isin(labels, (0, 1)).all()
        if not one_hot or (labels.sum(axis=1) != 1).any():
            rule = f"labels of two dimensions must be one-hot over {num_classes} classes"
            raise _invalid(path, rule, array.shape)
        labels = labels.argmax(axis=1)
    return labels


def _label(path: str | Path, word: str, class_names: tuple[str, ...]) -> int:
    """The class of a name, -1 for none."""
    label = class_index(word, class_names)
    if label is None and word.strip() not in ("", str(UNLABELLED)):
        nearest = did_you_mean(word, class_names)
        raise _invalid(path, f"labels must name {', '.join(class_names)}", f"{word}{nearest}")
    return UNLABELLED if label is None else label


def _texts(path: str | Path, name: str, array: np.ndarray, count: int | None = None) -> np.ndarray:
    """str (n,). count: the n that is required."""
    if array.dtype.kind not in "Uiu" or array.ndim != 1:
        raise _invalid(path, f"{name} must be a list of strings", f"{array.dtype} {array.shape}")
    if count not in (None, len(array)):
        raise _invalid(path, f"{name} must be {count:,}, one per image", array.shape)
    texts = array.astype(np.str_)
    if not texts.size:
        return texts
    points = texts.view(np.uint32)
    # Half characters are what a name that is not UTF-8 is read as; others cannot be written again.
    is_half = (points >= 0xD800) & (points <= 0xDFFF) & ((points < 0xDC80) | (points > 0xDCFF))
    invalid = points[is_half | (points > sys.maxunicode)]
    if len(invalid):
        raise _invalid(path, f"{name} must be text", f"the character number {invalid[0]:#x}")
    return texts


def _invalid(path: str | Path, rule: str, received: object) -> InputError:
    return InputError(f"{path}: {rule}. Received: {received}")


def _damaged(path: str | Path, part: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: {part} is damaged: {reason}")
