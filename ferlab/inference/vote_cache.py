"""Cached predictions of the members of a vote, so that none predicts the same data twice.

An entry is named by a digest of everything that the probabilities depend on: the checkpoint's
content, the images, the class names, the options of the member's line, the views and the engine.
"""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

from ferlab import checkpoints, files
from ferlab.inference.model_list import Member

VERSION = 2  # incremented when the same member would predict differently
SETTLED = 2_000_000_000  # nanoseconds after which a file counts as written


def default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ferlab" / "votes"


class VoteCache:
    """The probabilities of members, float32 (n, num_classes), in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder that cannot be written to."""
        files.require_writable(folder / "vote.npy")
        self.folder = folder
        self._digests = _Digests(folder / "files.json")

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

        Raises InputError if the checkpoint's architecture cannot be read.
        """
        architecture = member.architecture or checkpoints.architecture_of(member.path)
        paths = [member.path, *([architecture] if architecture else [])]
        parts = [
            VERSION,
            *map(self._digests.of, paths),
            fingerprint,
            class_names,
            member.class_names,
            member.pixels,
            *([] if tta == "none" else [tta]),
            *([] if engine == "keras" else [engine]),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def get(self, key: str, rows: int) -> np.ndarray | None:
        """The stored probabilities; None if there are none for this number of rows."""
        try:
            stored = np.load(self._path(key), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return stored if stored.ndim == 2 and len(stored) == rows else None

    def put(self, key: str, probabilities: np.ndarray) -> None:
        with files.whole_file(self._path(key)) as temporary, temporary.open("wb") as file:
            np.save(file, probabilities, allow_pickle=False)

    def save_digests(self) -> None:
        """Write the digests, so that files are read again only after a change."""
        self._digests.save()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"


class _Digests:
    """SHA-256 of files, cached while their size and modification time stay the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            remembered = json.loads(path.read_text())
        except (OSError, ValueError):  # missing, or not written by this class
            remembered = {}
        self.remembered = remembered if isinstance(remembered, dict) else {}
        self.is_changed = False

    def of(self, path: Path) -> str:
        stat = path.stat()
        name, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = self.remembered.get(name)
        if isinstance(entry, dict) and entry.get("state") == state:
            return str(entry.get("digest"))
        digest = files.sha256(path)
        # A file that has just been written may be written again within the clock's step.
        if time.time_ns() - stat.st_mtime_ns > SETTLED:
            self.remembered[name] = {"state": state, "digest": digest}
            self.is_changed = True
        return digest

    def save(self) -> None:
        if self.is_changed:
            with files.whole_file(self.path) as temporary:
                temporary.write_text(json.dumps(self.remembered))
