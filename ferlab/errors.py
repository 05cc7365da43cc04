"""User errors: one line on stderr, exit code 2."""

import codecs
import contextlib
import difflib
import errno
import functools
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, ParamSpec, TextIO

P = ParamSpec("P")  # the arguments of a script's main
_SYSTEM_ERRORS = (  # what the system refuses; a missing file would be a bug here
    errno.EBADF,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
MESSAGE_LIMIT = 2**16  # characters; a file may have a million class names
_AS_BYTES_OR_ESCAPED = "ferlab.as_bytes_or_escaped"  # name of an error handler of codecs


class InputError(Exception):
    """An error the user can correct. The message gives place and problem: `train.csv:17: ...`."""


def entry_point(main: Callable[P, None]) -> Callable[P, None]:
    """Wrap a script's `main`: an InputError ends in one line and exit 2, Ctrl-C in exit 130.

    So do a lack of memory, and what the system refuses, such as output on a full disk; a closed
    pipe ends in exit 141. Any other exception is a bug and shows its traceback.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _prepare_streams()
        ended = None
        try:
            try:
                main(*args, **kwargs)
            except SystemExit as end:  # of argparse
                ended = end
            sys.stdout.flush()
        except InputError as error:
            _end(2, f"error: {_one_line(str(error))}")
        except KeyboardInterrupt:
            _end(130, "stopped")
        except BrokenPipeError:  # the reader of the output has ended: `... | head`
            _end(141)
        except OSError as error:
            if error.errno not in _SYSTEM_ERRORS:
                raise
            # Files that ferlab writes raise InputError, so this is `train.py ... > log.txt`.
            where = error.filename or "the output cannot be written"
            _end(2, f"error: {_one_line(str(where))}: {error.strerror}")
        except MemoryError as error:
            _end(2, f"error: not enough memory{_one_line(f': {error}' if str(error) else '')}")
        if ended is not None:
            _end(ended.code)

    return run


def _prepare_streams() -> None:
    """Make sure that what is printed never raises because of a character or a closed stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed; else a file opened later, such as a checkpoint, would be here
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor)
            if null != descriptor:
                os.close(null)
    sys.stdout = sys.stdout or _null_stream()
    sys.stderr = sys.stderr or _null_stream()
    codecs.register_error(_AS_BYTES_OR_ESCAPED, _as_bytes_or_escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_AS_BYTES_OR_ESCAPED)


def _null_stream() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode bytes of a file name that are not text as they are, other characters as \\u1234."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return character.encode("ascii", "backslashreplace").decode(), error.start + 1


def _is_broken(stream: TextIO) -> bool:
    """Whether a stream still has text that it cannot write."""
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _end(code: str | int | None, message: str | None = None) -> NoReturn:
    with contextlib.suppress(OSError):  # stderr may be on the full disk too
        if message:
            print(message, file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        if _is_broken(stream):  # Python would try to write the buffer again at exit
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    sys.exit(code)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, if any is similar.

    >>> did_you_mean("bset", ["fast", "best"])
    '; did you mean best?'
    >>> did_you_mean("cnn", ["cnn-report"]), did_you_mean("worst", ["fast"])
    ('; did you mean cnn-report?', '')
    """
    names = {other.casefold(): other for other in known}
    text = name.strip().casefold()
    longer = [other for other in names if len(text) > 2 and other.startswith(text)]
    nearest = longer or difflib.get_close_matches(text, names, n=1)
    return f"; did you mean {names[nearest[0]]}?" if nearest else ""


def a_few(names: list[str]) -> str:
    """The first three names of a list, and the number of the others.

    >>> a_few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _one_line(message: str) -> str:
    """The message with line breaks and control characters of paths and class names escaped.

    The middle of one that is longer than MESSAGE_LIMIT is left out.
    """
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    if len(line) <= MESSAGE_LIMIT:
        return line
    half = MESSAGE_LIMIT // 2 - 3
    return f"{line[:half]} ... {line[-half:]}"
