"""The limits of the fuzz hold, and its cases are all shared out."""

import time

import numpy as np
import pytest
from fuzz import bounds

from ferlab.errors import InputError


def test_shares_are_of_all_cases():
    assert sum(bounds.SHARES.values()) == pytest.approx(1)


def test_refusal_is_an_ending():
    def refuse():
        raise InputError("t.csv: is empty")

    assert bounds.ending(refuse) is None
    assert bounds.ending(lambda: 3) == 3


def test_other_exceptions_fail():
    with pytest.raises(KeyError):
        bounds.ending(lambda: {}["missing"])


@pytest.mark.parametrize(
    ("limit", "step"), [("SECONDS", lambda: None), ("WAITING_SECONDS", lambda: time.sleep(5))]
)
def test_what_takes_too_long_fails_though_readers_catch_exceptions(limit, step, monkeypatch):
    monkeypatch.setattr(bounds, limit, 0.05)

    def read():
        try:
            while True:
                step()
        except Exception as error:
            raise InputError("t.csv: is damaged") from error

    with pytest.raises(AssertionError, match="more than"):
        bounds.ending(read)


def test_what_takes_too_much_memory_fails():
    if not bounds._STATM.exists():
        pytest.skip("only Linux")
    with pytest.raises(MemoryError):
        bounds.ending(lambda: np.empty(2 * bounds.MEMORY, dtype=np.uint8))
