"""Read an HDF5 file completely, in a process of its own that can be ended.

The HDF5 library may loop for ever or crash on a damaged file. So `guard.surveyed` runs this file as
a program, which reads a request a line and writes an answer a line, both JSON. It imports nothing
of ferlab, so it starts quickly.
"""

import contextlib
import io
import json
import math
import sys
import zipfile

import h5py

DEEPEST = 64  # groups within groups
ATTRIBUTE_LIMIT = 16 * 2**20  # bytes


class Refused(Exception):
    """The file is unfit to be opened; the message says why."""


class Survey:
    """Counts what a file holds, and reads whatever the HDF5 library has to interpret."""

    def __init__(self, byte_limit: int, object_limit: int) -> None:
        self.byte_limit, self.object_limit = byte_limit, object_limit
        self.objects, self.bytes, self.elements = 0, 0, 0
        self.groups: set[int] = set()
        self.arrays: set[int] = set()

    def count(self, number: int) -> None:
        self.objects += number
        if self.objects > self.object_limit:
            raise Refused(f"has more than {self.object_limit:,} groups, arrays and attributes")

    def file(self, file: h5py.File) -> None:
        """Visit every group once, without recursion."""
        waiting = [(file["/"], "", 0)]
        while waiting:
            group, path, depth = waiting.pop()
            address = h5py.h5o.get_info(group.id).addr
            if address in self.groups:
                raise Refused(f"has a group under two names ({path})")
            if depth > DEEPEST:
                raise Refused(f"has groups nested more than {DEEPEST} deep")
            self.groups.add(address)
            self.attributes(group, path)
            self.count(len(group))
            for name in group:
                place = f"{path}/{name}".lstrip("/")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise Refused(f"contains a link ({place}); checkpoints need none")
                entry = group[name]
                if isinstance(entry, h5py.Group):
                    waiting.append((entry, place, depth + 1))
                elif isinstance(entry, h5py.Dataset):
                    self.array(entry, place)

    def attributes(self, entry: h5py.Group | h5py.Dataset, path: str) -> None:
        self.count(h5py.h5a.get_num_attrs(entry.id))
        for name in entry.attrs:
            attribute = h5py.h5a.open(entry.id, name.encode("utf-8", "surrogateescape"))
            size = (
                attribute.get_space().get_simple_extent_npoints() * attribute.get_type().get_size()
            )
            if size > ATTRIBUTE_LIMIT:
                raise Refused(f"has an attribute of {size:,} bytes ({path}.{name})")
            with contextlib.suppress(TypeError, OSError, ValueError):
                # What cannot be read now cannot be read later; whoever needs it will say so.
                entry.attrs[name]

    def array(self, array: h5py.Dataset, path: str) -> None:
        if array.is_virtual or array.external:
            raise Refused(f"{path} is stored in another file")
        address = h5py.h5o.get_info(array.id).addr
        if address in self.arrays:
            return
        self.arrays.add(address)
        self.attributes(array, path)
        elements = math.prod(array.shape or ())
        size = elements * array.id.get_type().get_size()
        self.bytes += size
        self.elements += elements
        if self.bytes > self.byte_limit:
            raise Refused(
                f"its weights unpack to {self.bytes / 2**30:.3g} GiB or more, expected at most "
                f"{self.byte_limit / 2**30:.2g} GiB for a file of this size"
            )
        layout = array.id.get_create_plist().get_layout()
        if array.shape is not None and (layout == h5py.h5d.CHUNKED or array.dtype.hasobject):
            array[()]  # follows an index or a heap


def limit_memory(size: int) -> None:
    """Limit this process to some memory beyond what a file of `size` bytes needs."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = 2 * 2**30 + 4 * size
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def answer(request: dict) -> dict:
    """{elements, bytes, names} of a file, or {refused: the reason}."""
    limit_memory(request["byte_limit"])
    survey = Survey(request["byte_limit"], request["object_limit"])
    try:
        with contextlib.ExitStack() as stack:
            source = request["path"]
            if request["member"]:
                archive = stack.enter_context(zipfile.ZipFile(source))
                source = io.BytesIO(archive.read(request["member"]))
            file = stack.enter_context(h5py.File(source, "r"))
            names = list(file)[:1000]
            survey.file(file)
    except Refused as error:
        return {"refused": str(error)}
    except Exception as error:  # h5py and zipfile raise almost anything for a damaged file
        return {"failed": str(error) or type(error).__name__}
    return {
        "elements": survey.elements,
        "bytes": survey.bytes,
        "names": names,
    }


def main() -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
