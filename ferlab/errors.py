"""User errors: one line on stderr, exit code 2."""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

P = ParamSpec("P")  # the arguments of a script's main


class InputError(Exception):
    """An error the user can correct. The message gives place and problem: `train.csv:17: ...`."""


def entry_point(main: Callable[P, None]) -> Callable[P, None]:
    """Wrap a script's `main`: an InputError ends in one line and exit 2, Ctrl-C in exit 130.

    Any other exception is a bug and shows its traceback.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
            sys.stdout.flush()
        except InputError as error:
            _end(2, f"error: {_one_line(str(error))}")
        except KeyboardInterrupt:
            _end(130, "stopped")
        except BrokenPipeError:  # the reader of the output has ended: `... | head`
            _end(141)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Files that ferlab writes raise InputError, so this is `train.py ... > log.txt`.
            _end(2, f"error: the output cannot be written: {error.strerror}")

    return run


def _end(code: int, message: str | None = None) -> NoReturn:
    with contextlib.suppress(OSError):  # stderr may be on the full disk too
        if message:
            print(message, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try to write the buffer again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def a_few(names: list[str]) -> str:
    """The first three names of a list, and the number of the others.

    >>> a_few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _one_line(message: str) -> str:
    """The message with line breaks and control characters of paths and class names escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
