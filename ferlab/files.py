"""Files written whole or not at all, and a look at what a file really is."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ferlab.errors import InputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_SCRAP = ".ferlab-"  # what a file's name begins with until it is whole
_KINDS = (  # (offset, the bytes there, what such a file is)
    (0, b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    *(
        (0, start + b"HDF", "an HDF5 file mangled as text (copy it again, in binary mode)")
        for start in (b"\x89", b"\xef\xbf\xbd", b"\xc2\x89", b"?", b"\t")
    ),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "a zip archive"),  # without members
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"%PDF-", "a PDF"),
    (0, b"\x93NUMPY", "a NumPy .npy file"),
    (0, b"PAR1", "a Parquet file"),
    *((0, bytes((0x80, protocol)), "a Python pickle") for protocol in range(2, 6)),
)
_CONTROL_BYTES = bytes(range(9)) + bytes(range(14, 27))  # never part of text


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` if the block succeeds.

    The temporary file exists, is empty and has the suffix of `path`. If the block raises, the
    file and the folders made for it go away and an older `path` stays as it was. A link is
    written through. What is there afterwards is still there after a power cut. Raises InputError
    for a place that cannot be written and for a full disk.
    """
    with _new_file_beside(path) as (temporary, target, missing):
        try:
            yield temporary
            with temporary.open("r+b") as file:  # Windows syncs no file open for reading alone
                os.fsync(file.fileno())
            temporary.replace(target)
            for folder in (target.parent, *(folder.parent for folder in missing)):
                _sync_folder(folder)
        except OSError as error:
            # An error about another file is not ours to explain.
            if error.errno in _NO_ROOM or str(error.filename) == str(temporary):
                raise _not_written(path, error) from error
            raise


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[None]:
    """Say of any OSError in the block, in one line, that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def move(source: Path, path: Path) -> None:
    """Put a finished file in the place of `path`, as `whole_file` does, from any file system."""
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with whole_file(path) as temporary:
                shutil.copyfile(source, temporary)
            source.unlink()
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it becomes `path` if the block succeeds.

    If the block raises, what it wrote and the folders made for it go away. Raises InputError if
    `path` is anything but an empty folder already, and for a place that cannot be written.
    """
    require_new_folder(path)
    target = Path(os.path.realpath(path))
    missing = [folder for folder in target.parents if not folder.exists()]
    temporary = target.with_name(f"{_scrap_prefix(target.name)}{secrets.token_hex(4)}")
    try:
        with written(path):
            temporary.mkdir(parents=True)
        yield temporary
        with written(path):
            if target.exists():
                target.rmdir()
            temporary.rename(target)
            _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):  # never made, or something else has moved in
                folder.rmdir()
        raise


def require_new_folder(path: str | Path) -> None:
    """Raise InputError if `whole_folder(path)` could not be written. Leaves nothing behind."""
    target = Path(os.path.realpath(path))
    with written(path):
        if target.exists() and not (target.is_dir() and next(target.iterdir(), None) is None):
            raise InputError(f"{path}: must be a new or an empty folder")
    with contextlib.suppress(_TrialEnds), _new_file_beside(target / "trial"):
        raise _TrialEnds


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed writers of the file `name` left in a folder; without it, of any file.

    Raises InputError if one cannot be removed. The caller sees to it that no living one is at it.
    """
    pattern = f"{_SCRAP}*" if name is None else f"{_scrap_prefix(name)}*"
    for scrap in folder.glob(pattern):
        try:
            scrap.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{scrap}: cannot be removed: {_reason(error)}") from error


def require_writable(path: str | Path) -> None:
    """Raise InputError if `whole_file(path)` could not be written. Leaves nothing behind."""
    with contextlib.suppress(_TrialEnds), _new_file_beside(path):
        raise _TrialEnds


def require_other(path: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise InputError if writing `path` would replace one of the inputs."""
    for used in inputs:
        if used is not None and os.path.realpath(path) == os.path.realpath(used):
            raise InputError(f"{path}: is read here, so it cannot be written")


def open_to_read(path: str | Path) -> BinaryIO:
    """Open a file for reading bytes. Raises InputError for one that is missing or unreadable."""
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {_reason(error)}") from error


def write_json(path: Path, value: dict) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """What `write_json` wrote. Raises InputError for anything else."""
    with open_to_read(path) as file:
        try:
            value = json.load(file)
        except ValueError as error:
            raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be a JSON object. Received: {type(value).__name__}")
    return value


def sniff(path: str | Path) -> str | None:
    """What a file is by its first bytes: 'an HDF5 file', 'an HTML page ...'; None for text.

    Raises InputError for a file that cannot be read.
    """
    if Path(path).is_dir():
        return "a folder"
    with open_to_read(path) as file:
        head = file.read(4096)
    if not head:
        return "an empty file"
    for offset, signature, kind in _KINDS:
        if head.startswith(signature, offset):
            return kind
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 text is full of NULs
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page (a download that went wrong?)"
    return "binary data" if len(head.translate(None, _CONTROL_BYTES)) < len(head) else None


class _TrialEnds(Exception):
    """Leaves the block of `_new_file_beside` so that it cleans up."""


@contextlib.contextmanager
def _new_file_beside(path: str | Path) -> Iterator[tuple[Path, Path, list[Path]]]:
    """(an empty file, the real `path` beside it, new folders); on failure file and folders go."""
    temporary, missing = None, []
    try:
        try:
            target = Path(os.path.realpath(path))
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if target.exists() and not target.is_file():  # replacing /dev/null would be a disaster
                raise OSError(errno.EINVAL, "Not a regular file")
            if target.exists() and not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            missing = [folder for folder in target.parents if not folder.exists()]
            if missing:
                target.parent.mkdir(parents=True, exist_ok=True)
            scrap = f"{_scrap_prefix(target.name)}{secrets.token_hex(4)}{target.suffix}"
            name = target.with_name(scrap)
            name.touch(exist_ok=False)  # the umask decides on its permissions, as for open()
            temporary = name
        except (OSError, ValueError) as error:
            raise _not_written(path, error) from error
        yield temporary, target, missing
    except BaseException:
        with contextlib.suppress(OSError):
            if temporary:
                temporary.unlink(missing_ok=True)
        for folder in missing:
            with contextlib.suppress(OSError):  # never made, or something else has moved in
                folder.rmdir()
        raise


def _scrap_prefix(name: str) -> str:
    """What the temporary files of a file called `name` begin with, however long that is."""
    return f"{_SCRAP}{hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()}-"


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the platform can."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder to write into, not to look into
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _not_written(path: str | Path, error: OSError | ValueError) -> InputError:
    return InputError(f"{path}: cannot be written: {_reason(error)}")


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
