"""What a user can mend, and how it is told: one line on stderr, exit code 2."""

import functools
import os
import sys
from collections.abc import Callable


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
            print(f"error: {_one_line(str(error))}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # the reader of our output went away: `... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)

    return run


def a_few(names: list[str]) -> str:
    """The first three names of a list that may be long."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _one_line(message: str) -> str:
    """A path or a class name may hold a line break, or what a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
