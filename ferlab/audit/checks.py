"""Odd images and labels: blank images, contradictory labels, copies between files, file sizes."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ferlab import data
from ferlab.audit import distribution_shift, duplicates
from ferlab.audit.distribution_shift import Comparison
from ferlab.audit.duplicates import Copies
from ferlab.audit.rows import Rows
from ferlab.data.folders import require_sound
from ferlab.errors import InputError

# In grey levels. In FER-2013 twelve images are constant, two have a standard deviation of 0.6 and
# 4.1 and show nothing; the next, 9.1, is a face in the dark.
BLANK_DEVIATION = 6.0
FLAT_FRACTION = 0.6  # share of pixels of one level; in FER-2013 only signs and texts exceed it
_CHUNK = 1 << 22  # grey levels processed at once
_ODD_SIZE = 4.0  # factor by which a side may differ from the median
_ODD_ASPECT = 2.0  # factor by which width / height may differ from the median


@dataclasses.dataclass(frozen=True)
class Findings:
    """The result of `examine`.

    blank, flat: bool (n,), see `blank_and_flat`
    copies: see `find_copies`; groups: int32 (n,), equal for rows that are copies of each other
    conflicts: the rows of each group of copies with contradictory labels
    comparisons: the training rows compared with each other part
    """

    blank: np.ndarray
    flat: np.ndarray
    copies: Copies
    groups: np.ndarray
    conflicts: list[np.ndarray]
    comparisons: list[Comparison]


def examine(
    rows: Rows, *, similarity: float, report: Callable[[str], None] | None = None
) -> Findings:
    """Run all checks of images and labels, and compare every image with every other.

    similarity: minimum correlation of the pixels of two copies
    report: receives the progress of a long comparison, a line at a time
    """
    blank, flat = blank_and_flat(rows.dataset.images)
    copies = duplicates.find_copies(
        rows.dataset.images,
        rows.dataset.row_digests(),
        np.flatnonzero(~blank),
        similarity=similarity,
        report=report,
    )
    groups = copies.groups(len(rows.dataset))
    return Findings(
        blank=blank,
        flat=flat,
        copies=copies,
        groups=groups,
        conflicts=conflicts(rows, groups),
        comparisons=distribution_shift.compare(rows, ~blank, groups),
    )


def blank_and_flat(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blank, flat), bool (n,) each: almost constant images; others mostly of one grey level.

    images: uint8 (n, height, width, channels)
    """
    blank = np.empty(len(images), dtype=bool)
    flat = np.empty(len(images), dtype=bool)
    step = max(_CHUNK // images[:1].size, 1)
    for start in range(0, len(images), step):
        chunk = slice(start, start + step)
        values = images[chunk].reshape(len(images[chunk]), -1)
        blank[chunk] = values.std(axis=1, dtype=np.float32) < BLANK_DEVIATION
        levels = values + 256 * np.arange(len(values), dtype=np.int64)[:, None]
        counts = np.bincount(levels.ravel(), minlength=256 * len(values)).reshape(-1, 256)
        flat[chunk] = counts.max(axis=1) >= FLAT_FRACTION * values.shape[1]
    return blank, flat & ~blank


def conflicts(rows: Rows, groups: np.ndarray) -> list[np.ndarray]:
    """The rows of each group of copies whose labels contradict each other, largest groups first.

    groups: int (n,), equal for copies. Rows of the final score are ignored.
    """
    usable = np.flatnonzero(rows.not_scoring())
    order = usable[np.argsort(groups[usable], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    contradictory = [
        group
        for group in np.split(order, starts[1:])
        if len(group) > 1 and len(np.unique(rows.dataset.labels[group])) > 1
    ]
    return sorted(contradictory, key=len, reverse=True)


def copies_between(rows: Rows, groups: np.ndarray) -> np.ndarray:
    """int64 (parts, parts): the number of images of part i with a copy in part j.

    The diagonal counts the images of a part except the first of each group.
    groups: int (n,), equal for copies
    """
    count = len(rows.parts)
    present = np.zeros((groups.max() + 1, count), dtype=np.int64)
    np.add.at(present, (groups, rows.part_numbers()), 1)
    table = np.zeros((count, count), dtype=np.int64)
    for one in range(count):
        for other in range(count):
            both = present[(present[:, one] > 0) & (present[:, other] > 0), one]
            table[one, other] = (both - 1).sum() if one == other else both.sum()
    return table


@dataclasses.dataclass(frozen=True)
class FileSizes:
    """Sizes and colour modes of a folder's image files, read from their headers.

    files: paths relative to the folder
    sizes: int64 (n, 2), width and height in pixels
    modes: the number of files of each of Pillow's modes
    odd: bool (n,), whether size or aspect ratio is far from the median
    """

    source: str
    files: list[str]
    sizes: np.ndarray
    modes: Counter[str]
    odd: np.ndarray

    def small(self, image_shape: tuple[int, int, int]) -> np.ndarray:
        """bool (n,): smaller than (height, width, channels), so enlarged when they are read."""
        height, width, _ = image_shape
        return (self.sizes[:, 0] < width) | (self.sizes[:, 1] < height)


def file_sizes_of(sources: Sequence[str]) -> list[FileSizes]:
    """`file_sizes` of several folders. Raises one InputError for the damaged files of all."""
    sizes, errors = [], []
    for source in sources:
        try:
            sizes.append(file_sizes(source))
        except InputError as error:
            errors.append(str(error))
    if errors:
        raise InputError("; ".join(errors))
    return sizes


def file_sizes(source: str) -> FileSizes:
    """The sizes of all image files in a folder. Raises InputError, which names all damaged ones."""
    paths = data.image_files(source)
    if not paths:
        raise InputError(f"{source}: contains no images")
    headers, errors = [], []
    for path in paths:
        try:
            data.read_image(path, (1, 1, 1))
            headers.append(data.image_header(path))
        except InputError as error:
            errors.append(error)
    require_sound(source, errors)
    sizes = np.array([header[:2] for header in headers], dtype=np.int64)
    side = np.sqrt(sizes.prod(axis=1))
    aspect = sizes[:, 0] / sizes[:, 1]
    return FileSizes(
        source=source,
        files=[str(path.relative_to(source)) for path in paths],
        sizes=sizes,
        modes=Counter(header[2] for header in headers),
        odd=_far_from_median(side, _ODD_SIZE) | _far_from_median(aspect, _ODD_ASPECT),
    )


def _far_from_median(values: np.ndarray, factor: float) -> np.ndarray:
    ratio = values / np.median(values)
    return (ratio > factor) | (ratio < 1 / factor)
