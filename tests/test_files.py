import errno
import io
import os
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from ferlab import files
from ferlab.errors import InputError
from ferlab.files import (
    Lock,
    open_to_read,
    require_writable,
    sniff,
    sweep,
    whole_file,
    whole_folder,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_appears_only_when_its_block_ends(tmp_path):
    target = tmp_path / "new" / "folder" / "model.keras"
    with whole_file(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".keras"
        assert temporary.name.startswith(".")
        temporary.write_text("all")
        assert not target.exists()
    assert target.read_text() == "all"
    assert names_in(target.parent) == ["model.keras"]


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), InputError("no")])
def test_whole_file_keeps_the_old_file_after_a_failure(tmp_path, failure):
    target = tmp_path / "model.h5"
    target.write_text("old")

    def fail_halfway(path):
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        fail_halfway(target)
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["model.h5"]

    with pytest.raises(type(failure)):
        fail_halfway(tmp_path / "a" / "b" / "model.h5")
    assert names_in(tmp_path) == ["model.h5"]


def test_whole_file_has_permissions_by_the_umask(tmp_path):
    former = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_whole_file_follows_links(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with whole_file(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return {
        "Not a directory": tmp_path / "file" / "a.h5",
        "Is a directory": tmp_path / "folder",
        "Not a regular file": tmp_path / "pipe",
        "File name too long": tmp_path / ("x" * 300),
        "embedded null byte": tmp_path / "a\0b",
    }


def test_require_writable_and_whole_file_refuse_unwritable_places(tmp_path):
    for reason, path in unwritable(tmp_path).items():
        before = names_in(tmp_path)
        with pytest.raises(InputError, match=f"cannot be written: {reason}"):
            require_writable(path)
        with pytest.raises(InputError, match=f"cannot be written: {reason}"), whole_file(path):
            pytest.fail("the block must not run")
        assert names_in(tmp_path) == before


def test_whole_file_turns_a_full_disk_into_an_input_error(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(InputError, match=r"a\.h5: cannot be written: No space left"),
        whole_file(tmp_path / "a.h5"),
    ):
        raise full
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.h5"):
        (tmp_path / "some other file").read_text()
    assert names_in(tmp_path) == []


def test_require_writable_leaves_nothing_behind(tmp_path):
    require_writable(tmp_path / "a" / "b" / "c.h5")
    (tmp_path / "old.h5").write_text("old")
    require_writable(tmp_path / "old.h5")
    assert names_in(tmp_path) == ["old.h5"]
    assert (tmp_path / "old.h5").read_text() == "old"


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), "b")  # of a fixed date, as tests are named after it
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>", "an HTML page"),
        (b"<html lang='en'>", "an HTML page"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        (zipped(), "a zip archive"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (257 * b"\0" + b"ustar\0", "a tar archive"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"%PDF-1.4", "a PDF"),
        (npy(), "a NumPy .npy file"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"label,feature\n0,1\0 2", "binary data"),
        (b"", "an empty file"),
        (b"label,feature\n0,1 2 3 4\n", None),
        ("label,feature\n".encode("utf-16"), None),
        ("Gefühl,pixels\r\n".encode("latin-1"), None),
    ],
)
def test_sniff_gives_the_type_of_a_file(tmp_path, content, kind):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    sniffed = sniff(path)
    assert sniffed == kind or (kind is not None and sniffed.startswith(kind))


def test_open_to_read_and_sniff_refuse_unreadable_paths(tmp_path):
    assert sniff(tmp_path) == "a folder"
    for path in (tmp_path / "missing", tmp_path / "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            sniff(path)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        open_to_read(tmp_path)


def special(folder):
    """Paths that are no files, by their kind."""
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
    return [folder / "fifo", folder / "link", folder / "socket", "/dev/null", "/dev/zero"]


@pytest.mark.parametrize(
    "read", [open_to_read, sniff, files.sha256, files.read_json, files.open_to_append]
)
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, read, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    for path in special(Path()):
        with pytest.raises(InputError, match="cannot be"):
            read(path)


def test_a_pipe_is_refused_before_a_byte_of_it_is_read():
    reader, writer = os.pipe()
    os.write(writer, b"label,feature")
    os.close(writer)
    with pytest.raises(InputError, match="is a pipe"):
        sniff(f"/dev/fd/{reader}")
    assert os.read(reader, 5) == b"label"
    os.close(reader)


def test_read_json_refuses_what_is_too_large_or_too_deep(tmp_path, monkeypatch):
    (tmp_path / "deep.json").write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        files.read_json(tmp_path / "deep.json")
    (tmp_path / "long.json").write_text('{"a": "' + "x" * 100 + '"}')
    monkeypatch.setattr(files, "JSON_LIMIT", 100)
    with pytest.raises(InputError, match="larger than 100 bytes"):
        files.read_json(tmp_path / "long.json")


def place_symbolic_link(path, victim):
    path.symlink_to(victim)


def place_hard_link(path, victim):
    path.hardlink_to(victim)


def place_broken_link(path, victim):
    path.symlink_to(victim.with_name("new"))


def place_folder(path, victim):
    path.mkdir()


def place_pipe(path, victim):
    os.mkfifo(path)


PLACED = [place_symbolic_link, place_hard_link, place_broken_link, place_folder, place_pipe]


@pytest.mark.parametrize("place", PLACED)
def test_lock_refuses_links_and_what_is_no_file(tmp_path, place):
    victim = tmp_path / "victim.h5"
    victim.write_text("weights")
    place(tmp_path / ".lock", victim)
    lock = Lock(tmp_path / ".lock")
    with pytest.raises(InputError, match="a lock must be an ordinary file"):
        lock.acquire()
    lock.release()
    assert victim.read_text() == "weights"
    assert names_in(tmp_path) == [".lock", "victim.h5"]


def test_lock_removes_its_file_on_release_but_none_with_content(tmp_path):
    lock = Lock(tmp_path / "own")
    assert lock.acquire()
    assert names_in(tmp_path) == ["own"]
    lock.release()
    assert names_in(tmp_path) == []
    (tmp_path / "notes").write_text("mine")
    lock = Lock(tmp_path / "notes")
    assert lock.acquire()
    lock.release()
    assert (tmp_path / "notes").read_text() == "mine"


def test_lock_of_a_linked_folder_is_in_the_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    lock = Lock(tmp_path / "link" / ".lock")
    assert lock.acquire()
    assert names_in(tmp_path / "real") == [".lock"]
    lock.release()


LEFTOVERS = (".ferlab-0123abcd-89ab4567", ".ferlab-0123abcd-89ab4567.h5")
OTHERS = (".ferlab-notes.txt", ".ferlab-0123abcd", ".ferlab.lock", "x.ferlab-0123abcd-89ab4567")


def test_sweep_removes_files_and_folders_of_killed_writers_only(tmp_path):
    for name in (*LEFTOVERS, *OTHERS):
        (tmp_path / name).write_text("half")
    (tmp_path / ".ferlab-76543210-89ab4567" / "train").mkdir(parents=True)
    (tmp_path / ".ferlab-76543210-89ab4567" / "train" / "1.png").touch()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").touch()
    (tmp_path / ".ferlab-00000000-00000000").symlink_to("victim")
    sweep(tmp_path)
    assert names_in(tmp_path) == sorted([*OTHERS, "victim"])
    assert names_in(tmp_path / "victim") == ["mine"]
    sweep(tmp_path / "missing")


@pytest.mark.parametrize("write", [whole_file, whole_folder])
def test_sweep_leaves_a_folder_alone_while_a_writer_lives(tmp_path, write):
    (tmp_path / LEFTOVERS[0]).touch()
    with write(tmp_path / "out") as temporary:
        sweep(tmp_path)
        assert temporary.exists()
        assert (tmp_path / LEFTOVERS[0]).exists()
    sweep(tmp_path)
    assert names_in(tmp_path) == ["out"]


def test_sweep_removes_what_a_killed_process_left(tmp_path):
    code = (
        "import os, pathlib, signal\n"
        "from ferlab.files import whole_file, whole_folder\n"
        "with whole_file('a.h5') as file, whole_folder('b') as folder:\n"
        "    file.write_text('half')\n"
        "    (folder / 'c').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert len(names_in(tmp_path)) == 2
    sweep(tmp_path)
    assert names_in(tmp_path) == []


def test_whole_file_does_not_wait_for_ever_for_a_folder_that_another_process_holds(
    tmp_path, monkeypatch
):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("all")
    os.close(descriptor)
    assert names_in(tmp_path) == ["a.txt"]
