"""What every case of the fuzz must end in, and within which time and memory."""

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from ferlab import errors
from ferlab.errors import InputError

resource = pytest.importorskip("resource", reason="Windows cannot limit a process's memory")

Result = TypeVar("Result")
SECONDS = 10  # of processor time, whatever else the machine does meanwhile
WAITING_SECONDS = 120  # for what waits and computes nothing, such as reading a pipe
MEMORY = 2**30  # bytes
SHARES = {  # of the cases of a profile in conftest.py
    "tables": 0.23,
    "spellings": 0.05,
    "truth": 0.10,
    "archives": 0.20,
    "lists": 0.10,
    "images": 0.10,
    "folders": 0.10,
    "configurations": 0.07,
    "hdf5": 0.05,
}
_STATM = Path("/proc/self/statm")


def cases(kind: str) -> settings:
    """Decorator: run a test on its share of the cases."""
    return settings(max_examples=round(SHARES[kind] * settings().max_examples))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for the files of one case."""
    with tempfile.TemporaryDirectory(prefix="ferlab-fuzz-") as name:
        yield Path(name)


def ending(read: Callable[[], Result]) -> Result | None:
    """What `read` returns, or None where it refuses by an InputError of one line.

    Fails for any other exception, and beyond the limits of time and memory.
    """
    try:
        with _limited_time(), _limited_memory():
            return read()
    except InputError as error:
        message = errors._one_line(str(error))
        assert message.strip()
        assert len(message) <= errors.MESSAGE_LIMIT
        return None
    except _Overrun as overrun:
        raise AssertionError(f"takes more than {SECONDS} s, or waits") from overrun


class _Overrun(BaseException):
    """Not an Exception, which readers of damaged files turn into an InputError."""


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Overrun

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
        (signal.SIGALRM, signal.ITIMER_REAL, WAITING_SECONDS),
    )
    previous = [signal.signal(number, end) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, previous, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Let an allocation beyond MEMORY more than now raise MemoryError, on Linux."""
    if not _STATM.exists():
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
