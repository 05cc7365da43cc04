"""What a user can mend, and how it is told: one line on stderr, exit code 2."""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn


class InputError(Exception):
    """Something the user can mend. The message says where and what: `train.csv:17: ...`."""


def entry_point(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a script's `main`: InputError ends in one line and exit 2, Ctrl-C in exit 130.

    Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
            sys.stdout.flush()
        except InputError as error:
            _end(2, f"error: {_one_line(str(error))}")
        except KeyboardInterrupt:
            _end(130, "stopped")
        except BrokenPipeError:  # the reader of our output went away: `... | head`
            _end(141)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Every file of ours has been named above, so this is `train.py ... > log.txt`.
            _end(2, f"error: the output cannot be written: {error.strerror}")

    return run


def _end(code: int, message: str | None = None) -> NoReturn:
    with contextlib.suppress(OSError):  # stderr may lie on the full disk too
        if message:
            print(message, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # what is left in the buffer has nowhere to go, and Python will try again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def a_few(names: list[str]) -> str:
    """The first three names of a list that may be long."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _one_line(message: str) -> str:
    """A path or a class name may hold a line break, or what a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
