"""What several tests use."""

from pathlib import Path

import numpy as np

from ferlab.data import Dataset
from ferlab.drawn_faces import drawn_faces
from ferlab.labels import EMOTIONS

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def faces(count: int, seed: int = 0) -> Dataset:
    """Drawn faces with labels, so that no test needs a download."""
    images, labels = drawn_faces(count, seed)
    return Dataset(
        images=images,
        labels=labels,
        ids=np.arange(count).astype(str),
        class_names=EMOTIONS,
        source="faces.csv",
    )
