import errno
import io
import os
import stat
import zipfile

import numpy as np
import pytest

from ferlab.errors import InputError
from ferlab.files import open_to_read, require_writable, sniff, whole_file


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
