"""Cached predictions of the members of a vote, so that none predicts the same data twice.

An entry is named by a digest of everything that the probabilities depend on: the content of the
checkpoint and of its architecture, the images, the class names, the options of the member's line,
the views, the engine, and the versions of ferlab and Keras. The file of an entry is an array in
NumPy's format and a digest of the name and the array. An entry that is damaged, or that cannot be
probabilities of this data, is predicted again.
"""

import hashlib
import io
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ferlab import __version__, checkpoints, files
from ferlab.errors import InputError
from ferlab.inference.model_list import Member

VERSION = 3  # incremented when the same member would predict differently
HEADER_LIMIT = 4096  # bytes of an entry besides the probabilities
DIGEST_SIZE = hashlib.sha256().digest_size
TOLERANCE = 2e-3  # of the sum of a row


def default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ferlab" / "votes"


class VoteCache:
    """The probabilities of members, float32 (n, num_classes), in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder that cannot be written to."""
        files.require_writable(folder / "vote.npy")
        self.folder = folder

    def key(
        self,
        member: Member,
        fingerprint: str,
        class_names: tuple[str, ...],
        *,
        tta: str,
        engine: str,
    ) -> str:
        """The name of a member's entry. fingerprint: fingerprint of the data without labels.

        Raises InputError if the checkpoint or its architecture cannot be read.
        """
        architecture = member.architecture or checkpoints.architecture_of(member.path)
        parts = {
            "version": [VERSION, __version__, version("keras"), os.environ.get("KERAS_BACKEND")],
            "checkpoint": files.sha256(member.path),
            "architecture": architecture and files.sha256(architecture),
            "data": fingerprint,
            "class_names": class_names,
            "stated_class_names": member.class_names,
            "pixels": member.pixels,
            "tta": tta,
            "engine": engine,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """The stored probabilities; None if there are no valid ones of this shape."""
        limit = 4 * shape[0] * shape[1] + HEADER_LIMIT
        try:
            with files.open_to_read(self._path(key)) as file:
                content = file.read(limit + 1)
            array, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
            if len(content) > limit or digest != _digest(key, array):
                return None
            stored = np.load(io.BytesIO(array), allow_pickle=False)
        except (InputError, OSError, ValueError, EOFError):
            return None
        return stored if _are_probabilities(stored, shape) else None

    def put(self, key: str, probabilities: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, probabilities, allow_pickle=False)
        content, path = buffer.getvalue(), self._path(key)
        if path.is_symlink():  # another user may have led it to a file of this one
            path.unlink()
        with files.whole_file(path) as temporary:
            temporary.write_bytes(content + _digest(key, content))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _are_probabilities(array: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether it is float32 of this shape, and every row is a probability for each class."""
    return (
        array.dtype == np.float32
        and array.shape == shape
        and bool(np.isfinite(array).all())
        and bool((array >= 0).all())
        and bool((abs(array.sum(axis=1) - 1) <= TOLERANCE).all())
    )
