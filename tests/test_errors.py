"""Scripts end in one line and the right exit code, whatever their standard streams are."""

import os
import subprocess
import sys

import pytest
from support import ROOT

SCRIPT = """
import sys
from pathlib import Path
from ferlab.errors import InputError, entry_point

@entry_point
def main():
    {body}

main()
"""
GOOD = "print('x' * 100_000); Path('done').touch()"
BAD = "print('first'); raise InputError('a.csv: is wrong')"
HELP = "from ferlab import cli; cli.parser('x' * 9000).parse_args(['--help'])"
USAGE = "from ferlab import cli; cli.parser('x').parse_args(['--no-such-flag'])"
BUG = "print('first'); raise OSError(22, 'a bug')"


def shell(folder, body, redirection="", **environment):
    """Run a script by a shell; the result of `subprocess.run`."""
    (folder / "script.py").write_text(SCRIPT.format(body=body))
    return subprocess.run(
        ["sh", "-c", f'("$0" script.py {redirection})', sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("body", "redirection", "code"),
    [
        (GOOD, ">&-", 0),
        (GOOD, "2>&-", 0),
        (GOOD, "<&- >&- 2>&-", 0),
        (GOOD, ">/dev/full", 2),
        (GOOD, "2>/dev/full", 0),
        (GOOD, "1</dev/null", 2),
        (BAD, ">&-", 2),
        (BAD, "2>&-", 2),
        (BAD, ">/dev/full", 2),
        (BAD, "2>/dev/full", 2),
        (BAD, ">/dev/full 2>/dev/full", 2),
        (BAD, "1</dev/null 2</dev/null", 2),
        (HELP, ">&-", 0),
        (HELP, ">/dev/full", 2),
        (USAGE, ">/dev/full", 2),
        (USAGE, "2>/dev/full", 2),
        (USAGE, "2>&-", 2),
    ],
)
def test_entry_point_with_closed_and_broken_streams(tmp_path, body, redirection, code):
    ended = shell(tmp_path, body, redirection)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count(b"\n") <= 1
    assert b"Traceback" not in ended.stderr
    assert b"Exception" not in ended.stderr
    if (body, code) == (GOOD, 0):
        assert (tmp_path / "done").exists()


def test_entry_point_ends_quietly_where_the_reader_has_ended(tmp_path):
    ended = shell(tmp_path, GOOD, "; echo $? >code) | true; (:")
    assert (tmp_path / "code").read_text() == "141\n"
    assert ended.stderr == b""


def test_entry_point_names_the_output_that_cannot_be_written(tmp_path):
    ended = shell(tmp_path, GOOD, "1</dev/null")
    assert ended.stderr == b"error: the output cannot be written: Bad file descriptor\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise MemoryError('9 GiB')", b"not enough memory: 9 GiB"),
        ("raise MemoryError", b"not enough memory"),
        ("Path('x' * 300).is_dir()", 300 * b"x" + b": File name too long"),
        ("raise PermissionError(13, 'Permission denied', 'a.csv')", b"a.csv: Permission denied"),
    ],
)
def test_entry_point_ends_in_one_line_where_the_system_refuses(tmp_path, body, message):
    ended = shell(tmp_path, body)
    assert (ended.returncode, ended.stderr) == (2, b"error: " + message + b"\n")


def test_entry_point_shows_the_traceback_of_a_bug(tmp_path):
    ended = shell(tmp_path, BUG)
    assert ended.returncode == 1
    assert b"Traceback" in ended.stderr


def test_entry_point_keeps_the_numbers_of_closed_streams_from_files(tmp_path):
    body = "Path('own').open('wb', buffering=0).write(b'own'); import os; os.write(1, b'printed')"
    assert shell(tmp_path, body, "<&- >&- 2>&-").returncode == 0
    assert (tmp_path / "own").read_bytes() == b"own"


NAMES = ["café", "生氣", "\udcff", "\ud800", "\U0001f600", "\x7f"]  # of files, also not UTF-8


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-8:strict", "cp1252"])
def test_entry_point_prints_any_name_in_any_encoding(tmp_path, encoding):
    body = f"print({NAMES!r}); print(*{NAMES!r}); raise InputError(' '.join({NAMES!r}))"
    ended = shell(tmp_path, body, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: caf")
    assert ended.stderr.count(b"\n") == 1
    assert b"caf" in ended.stdout


def test_entry_point_prints_the_bytes_of_a_file_name(tmp_path):
    ended = shell(tmp_path, r"print('caf\udce9.h5')", PYTHONIOENCODING="utf-8")
    assert (ended.returncode, ended.stdout) == (0, b"caf\xe9.h5\n")
    ended = shell(tmp_path, r"print('caf\xe9 \u751f')", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout) == (0, b"caf\\xe9 \\u751f\n")


def test_entry_point_shortens_a_message_without_end(tmp_path):
    ended = shell(tmp_path, "raise InputError('t.npz: ' + '\\n' * 10**6 + 'end')")
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: t.npz: ")
    assert ended.stderr.endswith(b"end\n")
    assert len(ended.stderr) < 70_000
