"""Atomic writes of files and folders, locks, and the actual type of a file."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from io import BufferedReader, FileIO
from pathlib import Path

from ferlab.errors import InputError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_TEMPORARY = ".ferlab-"  # prefix of temporary files
_LEFTOVER = re.compile(rf"{re.escape(_TEMPORARY)}[0-9a-f]{{8}}-[0-9a-f]{{8}}(\..*)?")
_PATIENCE = 2  # seconds to wait for a folder that another process sweeps
RUNS_DIR = Path("runs")  # where runs have their folders
JSON_LIMIT = 64 * 2**20  # bytes
_KINDS = (  # (offset, bytes at the offset, type of file)
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
    (0, b"%!PS", "a PostScript program"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript program"),
    (0, b"\x93NUMPY", "a NumPy .npy file"),
    (0, b"PAR1", "a Parquet file"),
    *((0, bytes((0x80, protocol)), "a Python pickle") for protocol in range(2, 6)),
)
_CONTROL_BYTES = bytes(range(9)) + bytes(range(14, 27))  # text never contains these


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` if the block succeeds.

    The temporary file exists, is empty and has the suffix of `path`. If the block raises, the
    file and the folders created for it are removed, and an existing `path` stays as it was. Links
    are followed. The new file survives a power failure. Raises InputError if the file cannot be
    written or the disk is full.

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "notes.txt")
    >>> with whole_file(path) as temporary:
    ...     _ = temporary.write_text("complete")
    ...     print(path.exists())
    False
    >>> path.read_text()
    'complete'
    >>> folder.cleanup()
    """
    with _new_file_beside(path) as (temporary, target, missing):
        try:
            yield temporary
            # Windows cannot sync a file opened only for reading.
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
            for folder in (target.parent, *(folder.parent for folder in missing)):
                _sync_folder(folder)
        except OSError as error:
            # Errors about other files belong to the caller.
            if error.errno in _DISK_ERRORS or str(error.filename) == str(temporary):
                raise _not_written(path, error) from error
            raise


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[None]:
    """Turn any OSError in the block into an InputError: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def move(source: Path, path: Path) -> None:
    """Replace `path` by a finished file, as `whole_file` does; file systems may differ."""
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
    """Yield a temporary folder beside `path` that becomes `path` if the block succeeds.

    If the block raises, the folder and the parents created for it are removed. Raises InputError if
    `path` exists and is not an empty folder, or cannot be written.
    """
    require_new_folder(path)
    target = Path(os.path.realpath(path))
    missing = [folder for folder in target.parents if not folder.exists()]
    temporary = target.with_name(f"{_temporary_prefix(target.name)}{secrets.token_hex(4)}")
    try:
        with written(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        with _writing_in(target.parent):
            with written(path):
                temporary.mkdir()
            yield temporary
            with written(path):
                if target.exists():
                    target.rmdir()
                temporary.rename(target)
                _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):  # not created, or no longer empty
                folder.rmdir()
        raise


def require_new_folder(path: str | Path) -> None:
    """Raise InputError if `whole_folder(path)` would fail. Leaves nothing behind."""
    target = Path(os.path.realpath(path))
    with written(path):
        if target.exists() and not (target.is_dir() and next(target.iterdir(), None) is None):
            raise InputError(f"{path}: must be a new or an empty folder")
    with contextlib.suppress(_TrialEnds), _new_file_beside(target / "trial"):
        raise _TrialEnds


def sweep(folder: Path, *, is_held: bool = False) -> None:
    """Remove the temporary files and folders that killed processes left in a folder.

    Nothing is removed while a process writes into the folder, nor what another user owns.

    is_held: the caller ensures that no other process writes there, so that the folder is also swept
        on file systems without locks of folders
    """
    with _folder_lock(folder, exclusive=True) as is_locked:
        if not (is_locked or is_held):
            return
        for path in folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):  # another process may sweep too
                if _LEFTOVER.fullmatch(path.name) and _is_own(path.lstat()):
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()


class Lock:
    """A lock file beside what it guards; released when its process ends.

    It is re-entrant within a process. The file is empty, and removed on release.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        # The file itself must not be a link: others could lead it to a file of the user.
        self.path = Path(os.path.realpath(path.parent)) / path.name
        # One FileLock per file and process, so that a process does not lock itself out.
        self._lock = FileLock(self.path, is_singleton=True, thread_local=False, mode=0o666)
        self.is_held = False

    def acquire(self, seconds: float = 0) -> bool:
        """Whether this process holds the lock, after waiting for another one if necessary.

        Raises InputError for a link or anything else that is not a lock file, and OSError if it
        cannot be written.
        """
        from filelock import Timeout

        with contextlib.suppress(FileNotFoundError):
            if kind := _kind_of_lock(self.path.lstat()):
                raise InputError(f"{self.path}: a lock must be an ordinary file. Received: {kind}")
        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        self.is_held = True
        return True

    def release(self) -> None:
        if not self.is_held:
            return
        self.is_held = False
        if self._lock.lock_counter == 1:
            # It fails for another user's file and on Windows, where filelock removes it.
            with contextlib.suppress(OSError):
                if not self.path.lstat().st_size:  # else the user's own file
                    self.path.unlink()  # before the release, so that waiting processes notice
        self._lock.release()


def require_writable(path: str | Path) -> None:
    """Raise InputError if `whole_file(path)` would fail. Leaves nothing behind."""
    with contextlib.suppress(_TrialEnds), _new_file_beside(path):
        raise _TrialEnds


def require_other(path: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise InputError if writing `path` would replace one of the inputs."""
    for source in inputs:
        if source is not None and os.path.realpath(path) == os.path.realpath(source):
            raise InputError(f"{path}: is an input, so it cannot be an output")


def open_to_read(path: str | Path) -> BufferedReader:
    """Open a regular file for reading bytes.

    Raises InputError if it is missing or unreadable, and for pipes and devices: a pipe waits for a
    writer, gives its content only once, and some devices never end.
    """
    try:
        return open(path, "rb", opener=_open_regular)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {_reason(error)}") from error


def open_to_append(path: Path) -> FileIO:
    """Open a regular file, created if necessary, for appending bytes. Raises InputError.

    Unbuffered: on a full disk, closing it must not write.
    """
    try:
        return open(path, "ab", buffering=0, opener=_open_regular)
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error


def sha256(path: str | Path) -> str:
    """The file's digest, in hexadecimal. Raises InputError for one that cannot be read."""
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: dict) -> None:
    """Write a dictionary as JSON, atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON object of at most JSON_LIMIT bytes. Raises InputError for any other content."""
    with open_to_read(path) as file:
        content = file.read(JSON_LIMIT + 1)
    if len(content) > JSON_LIMIT:
        raise InputError(f"{path}: is larger than {JSON_LIMIT:,} bytes, which no file of ferlab is")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be a JSON object. Received: {type(value).__name__}")
    return value


def sniff(path: str | Path) -> str | None:
    """The type of a file by its first bytes, such as 'an HDF5 file'; None for text.

    Raises InputError for a file that cannot be read.
    """
    if Path(path).is_dir():
        return "a folder"
    with open_to_read(path) as file:
        return kind_of(file.read(4096))


def kind_of(head: bytes) -> str | None:
    """The type of a file by its first 4,096 bytes, as `sniff` gives it."""
    if not head:
        return "an empty file"
    for offset, signature, kind in _KINDS:
        if head.startswith(signature, offset):
            return kind
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 text contains NULs
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page (perhaps a failed download)"
    return "binary data" if len(head.translate(None, _CONTROL_BYTES)) < len(head) else None


class _TrialEnds(Exception):
    """Ends the block of `_new_file_beside`, which then cleans up."""


@contextlib.contextmanager
def _new_file_beside(path: str | Path) -> Iterator[tuple[Path, Path, list[Path]]]:
    """Yield (an empty file, the real `path` beside it, the folders created for it).

    Removes the file and the folders if the block raises.
    """
    temporary: Path | None = None
    missing: list[Path] = []
    try:
        try:
            target = Path(os.path.realpath(path))
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if target.exists() and not target.is_file():  # never replace /dev/null
                raise OSError(errno.EINVAL, "Not a regular file")
            if target.exists() and not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            missing = [folder for folder in target.parents if not folder.exists()]
            if missing:
                target.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise _not_written(path, error) from error
        with _writing_in(target.parent):
            try:
                prefix = _temporary_prefix(target.name)
                file = target.with_name(f"{prefix}{secrets.token_hex(4)}{target.suffix}")
                file.touch(exist_ok=False)  # permissions follow the umask, as with open()
                temporary = file
            except (OSError, ValueError) as error:
                raise _not_written(path, error) from error
            yield temporary, target, missing
    except BaseException:
        with contextlib.suppress(OSError):
            if temporary:
                temporary.unlink(missing_ok=True)
        for folder in missing:
            with contextlib.suppress(OSError):  # not created, or no longer empty
                folder.rmdir()
        raise


@contextlib.contextmanager
def _writing_in(folder: Path) -> Iterator[None]:
    """Keep `sweep` from removing the temporary files that this process has in a folder."""
    with _folder_lock(folder, exclusive=False):
        yield


@contextlib.contextmanager
def _folder_lock(folder: Path, *, exclusive: bool) -> Iterator[bool]:
    """Lock a folder: writers share it, a sweeper has it alone. Yields whether it is locked.

    The system releases the lock when its process ends. Not every file system has such locks, and
    Windows has none. A writer goes on without it rather than wait for a process that never ends.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):  # Windows, or a folder that is missing or cannot be read
        yield False
        return
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    end = time.monotonic() + (0 if exclusive else _PATIENCE)
    try:
        while not (is_locked := _try_lock(descriptor, kind)) and time.monotonic() < end:
            time.sleep(0.01)
        yield bool(is_locked)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool | None:
    """Whether the lock is acquired; None where there are no such locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_own(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _kind_of_lock(status: os.stat_result) -> str | None:
    """What something in the place of a lock file is; None for a lock file."""
    if stat.S_ISLNK(status.st_mode) or status.st_nlink > 1:
        return "a link"
    return None if stat.S_ISREG(status.st_mode) else _special_kind(status.st_mode)


def _special_kind(mode: int) -> str:
    for is_kind, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return kind
    return "a device"


def _open_regular(path: str, flags: int) -> int:
    """An opener for `open`, which never waits. Raises OSError for anything but a regular file."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # `open` refuses a folder itself
        return descriptor
    os.close(descriptor)
    raise OSError(
        errno.EINVAL, f"is {_special_kind(mode)}, not a file; write its content to a file first"
    )


def _temporary_prefix(name: str) -> str:
    """Prefix of the temporary files of a file called `name`, of fixed length."""
    return f"{_TEMPORARY}{hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()}-"


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a power failure, if the platform supports it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that can be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not support it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _not_written(path: str | Path, error: OSError | ValueError) -> InputError:
    return InputError(f"{path}: cannot be written: {_reason(error)}")


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
