"""NumPy `.npz` archives: ours, and the common layouts of others. Nothing is ever unpickled."""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.data.dataset import Dataset, describe
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS, UNLABELLED, require_same_classes

_LAYOUTS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("{}_x", "{}_y"))
_LAYOUTS_OF_ONE_PART = (("images", "labels"), ("x", "y"))


def read_npz(
    path: str | Path,
    *,
    role: str,
    class_names: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """Read what an archive holds for a role, 'train' or 'test'.

    Keys, in any case: `train_images`, `train_labels`, `train_ids`, `train_usage`, `class_names`
    and the same for `test`; x_train, y_train; images, labels; x, y. Images are grey levels 0 to
    255 as (n, height, width[, channels]) or flat squares; labels are integers or one-hot.

    class_names and image_shape: what the archive must hold, if given.
    Raises InputError for whatever is otherwise or damaged.
    """
    arrays = _load(path, role)
    names = tuple(class_names or EMOTIONS)
    if "class_names" in arrays:
        stored = tuple(_texts(path, "class_names", arrays["class_names"]).tolist())
        require_same_classes(str(path), stored, class_names or stored)
        names = stored
    images = _images(path, arrays["images"])
    if image_shape and images.shape[1:] != tuple(image_shape):
        raise _unlike(path, f"images must be {describe(image_shape)}", describe(images.shape[1:]))
    labels, ids, usage = (arrays.get(name) for name in ("labels", "ids", "usage"))
    return Dataset(
        images=images,
        labels=(
            np.full(len(images), UNLABELLED, dtype=np.int64)
            if labels is None
            else _labels(path, labels, len(names))
        ),
        ids=np.arange(len(images)).astype(np.str_) if ids is None else _texts(path, "ids", ids),
        class_names=names,
        usage=None if usage is None else _texts(path, "usage", usage),
        source=str(path),
    )


def npz_roles(path: str | Path) -> list[str]:
    """For which roles an archive holds images: 'train', 'test' or both. Raises InputError."""
    with _opened(path) as archive:
        keys = {key.lower() for key in archive.files}
    parts = [
        role
        for role in ("train", "test")
        if any(images.format(role) in keys for images, _ in _LAYOUTS)
    ]
    return parts or ["train"]


def write_part(archive: zipfile.ZipFile, part: str, chunks: Sequence[Dataset]) -> None:
    """Append the arrays of one part, 'train' or 'test', without joining the pixels in memory."""
    first, rows = chunks[0], sum(map(len, chunks))
    with archive.open(f"{part}_images.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(
            member,
            {"descr": "|u1", "fortran_order": False, "shape": (rows, *first.image_shape)},
        )
        for chunk in chunks:
            member.write(np.ascontiguousarray(chunk.images))
    write_array(archive, f"{part}_labels", np.concatenate([chunk.labels for chunk in chunks]))
    write_array(archive, f"{part}_ids", np.concatenate([chunk.ids for chunk in chunks]))
    if first.usage is not None:
        write_array(archive, f"{part}_usage", np.concatenate([chunk.usage for chunk in chunks]))


def write_array(archive: zipfile.ZipFile, key: str, array: np.ndarray) -> None:
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _load(path: str | Path, role: str) -> dict[str, np.ndarray]:
    """The arrays for a role, by our own names: images, labels, ids, usage, class_names."""
    with _opened(path) as archive:
        keys = {key.lower(): key for key in archive.files}
        wanted = _wanted_keys(path, list(keys), role)
        return {
            name: _array(path, archive, keys[key]) for name, key in wanted.items() if key in keys
        }


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[np.lib.npyio.NpzFile]:
    kind = files.sniff(path) or "text"
    if kind != "a zip archive":
        raise InputError(f"{path}: is {kind}, not an .npz archive")
    with files.open_to_read(path) as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:  # damage shows in many ways, and all mean the same
            raise _damaged(path, "archive", error) from error
        with archive:
            yield archive


def _wanted_keys(path: str | Path, keys: list[str], role: str) -> dict[str, str]:
    """Where the arrays of a role lie, by our own names."""
    layouts = {"": _LAYOUTS_OF_ONE_PART, "train": _LAYOUTS, "test": _LAYOUTS}
    parts = {}
    for part, known in layouts.items():
        for images, labels in known:
            if images.format(part) in keys:
                parts.setdefault(part, (images.format(part), labels.format(part)))
    part = role if role in parts else ""
    if part not in parts and role == "test" and len(parts) == 1:
        part = next(iter(parts))
    if part not in parts:
        raise _unlike(
            path,
            f"has no images to {role} on; known keys are {role}_images and {role}_labels, "
            f"x_{role} and y_{role}, images and labels, x and y",
            ", ".join(repr(key)[1:-1] for key in keys) or "no arrays",
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
        array = archive[key]
    except MemoryError as error:
        raise InputError(f"{path}: {key} does not fit into memory: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and "allow_pickle" in str(error):
            raise InputError(
                f"{path}: {key} holds Python objects that would have to be unpickled; that is "
                "refused, because a pickle can run code"
            ) from error
        raise _damaged(path, key, error) from error
    if not isinstance(array, np.ndarray):  # another kind of file in the zip
        raise InputError(f"{path}: {key} is not a NumPy array")
    return array


def _images(path: str | Path, array: np.ndarray) -> np.ndarray:
    """uint8 (n, height, width, channels)."""
    if array.dtype.kind not in "iuf":
        raise _unlike(path, "images must be grey levels from 0 to 255", array.dtype)
    with np.errstate(invalid="ignore"):  # NaN is told below
        images = array.astype(np.uint8, copy=False)
    if images.size and (
        (array.dtype.kind == "f" and array.max() <= 1) or not np.array_equal(images, array)
    ):
        received = f"{array.dtype} from {array.min()} to {array.max()}"
        raise _unlike(path, "images must be raw grey levels, whole numbers 0 to 255", received)
    if images.ndim == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), side, side)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        rule = "images must be (n, height, width), (n, height, width, 1 or 3) or flat squares"
        raise _unlike(path, rule, array.shape)
    if not images.size:
        raise InputError(f"{path}: holds no images")
    return images


def _labels(path: str | Path, array: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (n,)."""
    if array.dtype.kind not in "iufb":
        raise _unlike(path, "labels must be integers or one-hot rows", array.dtype)
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int64)
    if not np.array_equal(labels, array):
        raise _unlike(path, "labels must be whole numbers", array.dtype)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        one_hot = labels.shape[1] == num_classes and np.isin(labels, (0, 1)).all()
        if not one_hot or (labels.sum(axis=1) != 1).any():
            rule = f"labels of two dimensions must be one-hot over {num_classes} classes"
            raise _unlike(path, rule, array.shape)
        labels = labels.argmax(axis=1)
    return labels


def _texts(path: str | Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "Uiu" or array.ndim != 1:
        raise _unlike(path, f"{name} must be a list of texts", f"{array.dtype} {array.shape}")
    return array.astype(np.str_)


def _unlike(path: str | Path, rule: str, received: object) -> InputError:
    return InputError(f"{path}: {rule}. Received: {received}")


def _damaged(path: str | Path, what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: {what} is damaged: {reason}")
