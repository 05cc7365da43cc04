"""What a person should know of a data set before training on it: its rows, and what is odd."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ferlab import data
from ferlab.audit import duplicates
from ferlab.audit.duplicates import Copies
from ferlab.data import SCORING_USAGES, Dataset
from ferlab.errors import InputError, a_few
from ferlab.labels import EMOTIONS, UNLABELLED, is_reordering, require_same_classes

# Grey levels. In FER-2013 twelve images are constant, two have 0.6 and 4.1 and show nothing, and
# the next, 9.1, is a face in the dark.
BLANK_DEVIATION = 6.0
FLAT_SHARE = 0.6  # of the pixels; in FER-2013 no face reaches that, but signs and texts do
SAMPLE = 5000  # images of each side that are told apart
_THUMBNAIL = 16  # pixels a side, of what they are told apart by
_CHUNK = 1 << 22  # grey levels looked at together
_ODD_SIZE = 4.0  # times the median side, either way
_ODD_ASPECT = 2.0  # times the median of width by height, either way


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of one file that belong together: all, or those of a usage.

    usage: what tells them from other rows of the file, '' if nothing does
    rows: int64, their places in `Rows.dataset`; places: in their file, counted from 0
    is_trained_on: whether these rows may be removed
    is_for_score: whether their labels decide nothing here
    """

    name: str
    source: str
    role: str
    usage: str
    rows: np.ndarray
    places: np.ndarray
    is_trained_on: bool
    is_for_score: bool


@dataclasses.dataclass(frozen=True)
class Rows:
    """All rows of all sources, in one dataset, and the parts that they form."""

    dataset: Dataset
    parts: list[Part]

    def part_of(self) -> np.ndarray:
        """int64 (n,): the part of each row."""
        part_of = np.empty(len(self.dataset), dtype=np.int64)
        for number, part in enumerate(self.parts):
            part_of[part.rows] = number
        return part_of

    def trained_on(self) -> np.ndarray:
        """bool (n,): labelled rows to train on, the only ones that are ever removed."""
        return self._in([part for part in self.parts if part.is_trained_on]) & self._labelled()

    def judged(self) -> np.ndarray:
        """bool (n,): labelled rows that are not for the final score."""
        return self._in([part for part in self.parts if not part.is_for_score]) & self._labelled()

    def _labelled(self) -> np.ndarray:
        return self.dataset.labels != UNLABELLED

    def elsewhere(self) -> np.ndarray:
        """bool (n,): rows of another source or usage than those to train on."""
        return self._in([part for part in self.parts if not part.is_trained_on])

    def _in(self, parts: list[Part]) -> np.ndarray:
        inside = np.zeros(len(self.dataset), dtype=bool)
        for part in parts:
            inside[part.rows] = True
        return inside


def read(
    sources: Sequence[str],
    *,
    class_names: tuple[str, ...] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Rows:
    """All rows of all sources: of an archive or a folder both what is to train and to test on.

    The first source that has labelled rows to train on is trained on, the others are compared with
    it. Images are brought to, or must have, the shape of the first. Raises InputError for sources
    of different classes or image shapes.
    """
    for source in sources:
        if list(sources).count(source) > 1:
            raise InputError(f"{source}: is given twice")
    names = [Path(source).name for source in sources]
    datasets: list[Dataset] = []
    parts: list[Part] = []
    start, trained_source = 0, None
    for source, name in zip(sources, names, strict=True):
        first = datasets[0] if datasets else None
        found = data.read_parts(
            source,
            class_names=class_names or _names_to_read_with(first, source),
            image_shape=first.image_shape if first else image_shape,
        )
        for role, dataset in found.items():
            if first:
                dataset = _alike(dataset, first)
            can_train = role == "train" and dataset.has_labels
            if trained_source is None and can_train and len(dataset.training_rows()):
                trained_source = source
            parts += _parts(
                name if name and names.count(name) == 1 else source,
                dataset,
                usage=role if len(found) > 1 else "",
                role=role,
                start=start,
                may_train=can_train and source == trained_source,
            )
            datasets.append(dataset)
            start += len(dataset)
    usages = [part.usage for part in datasets]
    if any(usage is not None for usage in usages):  # rows without get an empty one
        datasets = [
            dataclasses.replace(part, usage=np.full(len(part), "")) if part.usage is None else part
            for part in datasets
        ]
    return Rows(data.concatenate(datasets), parts)


def _names_to_read_with(first: Dataset | None, source: str) -> tuple[str, ...] | None:
    """A table's numbers keep their own meaning where a folder has the seven in another order."""
    if first is None:
        return None
    if is_reordering(first.class_names, EMOTIONS) and not Path(source).is_dir():
        return None
    return None if Path(source).suffix.lower() == ".npz" else first.class_names


def _alike(dataset: Dataset, first: Dataset) -> Dataset:
    if dataset.image_shape != first.image_shape:
        shapes = ("x".join(map(str, shape)) for shape in (first.image_shape, dataset.image_shape))
        raise InputError(
            f"{dataset.source}: images must be as those of {first.source}, {next(shapes)}. "
            f"Received: {next(shapes)}"
        )
    if is_reordering(dataset.class_names, first.class_names):
        return dataset.in_order_of(first.class_names)
    if dataset.class_names != first.class_names and (dataset.labels == UNLABELLED).all():
        return dataclasses.replace(dataset, class_names=first.class_names)
    require_same_classes(
        f"{first.source} and {dataset.source}", dataset.class_names, first.class_names
    )
    return dataset


def _parts(
    name: str, dataset: Dataset, *, usage: str, role: str, start: int, may_train: bool
) -> list[Part]:
    """usage: of all rows, where the dataset tells none."""
    usages = {usage: np.arange(len(dataset))}
    if dataset.usage is not None:
        usages = {
            usage: np.flatnonzero(dataset.usage == usage)
            for usage in dict.fromkeys(dataset.usage.tolist())
        }
    training = np.isin(np.arange(len(dataset)), dataset.training_rows())
    return [
        Part(
            name=f"{name} {usage}".strip(),
            source=dataset.source,
            role=role,
            usage=usage,
            rows=start + places,
            places=places,
            is_trained_on=may_train and bool(training[places].all()),
            is_for_score=role == "test" or usage.strip().lower() in SCORING_USAGES,
        )
        for usage, places in usages.items()
    ]


def blank_and_flat(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool (n,) each: almost constant images; others that are mostly one grey level.

    images: uint8 (n, height, width, channels)
    """
    blank = np.empty(len(images), dtype=bool)
    flat = np.empty(len(images), dtype=bool)
    step = max(_CHUNK // images[:1].size, 1)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        values = images[part].reshape(len(images[part]), -1)
        blank[part] = values.std(axis=1, dtype=np.float32) < BLANK_DEVIATION
        levels = values + 256 * np.arange(len(values), dtype=np.int64)[:, None]
        counts = np.bincount(levels.ravel(), minlength=256 * len(values)).reshape(-1, 256)
        flat[part] = counts.max(axis=1) >= FLAT_SHARE * values.shape[1]
    return blank, flat & ~blank


def conflicts(rows: Rows, groups: np.ndarray) -> list[np.ndarray]:
    """The rows of each group of copies whose labels contradict each other, largest groups first.

    Labels kept for the final score are not looked at.
    """
    judged = np.flatnonzero(rows.judged())
    order = judged[np.argsort(groups[judged], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    found = [
        group
        for group in np.split(order, starts[1:])
        if len(group) > 1 and len(np.unique(rows.dataset.labels[group])) > 1
    ]
    return sorted(found, key=len, reverse=True)


def copies_between(rows: Rows, groups: np.ndarray) -> np.ndarray:
    """int64 (parts, parts): how many images of a row's part have a copy in the column's.

    Within a part: how many are there beyond the first of each group.
    """
    part_of, count = rows.part_of(), len(rows.parts)
    present = np.zeros((groups.max() + 1, count), dtype=np.int64)
    np.add.at(present, (groups, part_of), 1)
    table = np.zeros((count, count), dtype=np.int64)
    for one in range(count):
        for other in range(count):
            both = present[(present[:, one] > 0) & (present[:, other] > 0), one]
            table[one, other] = (both - 1).sum() if one == other else both.sum()
    return table


@dataclasses.dataclass(frozen=True)
class FileSizes:
    """What the headers of a folder's image files say.

    files: relative to the folder; sizes: int64 (n, 2), width and height, pixels; modes: how many
    files have each of Pillow's modes
    odd: bool (n,), far from the median size or shape
    """

    source: str
    files: list[str]
    sizes: np.ndarray
    modes: Counter
    odd: np.ndarray

    def small(self, image_shape: tuple[int, int, int]) -> np.ndarray:
        """bool (n,): smaller than (height, width, channels), so enlarged when they are read."""
        height, width, _ = image_shape
        return (self.sizes[:, 0] < width) | (self.sizes[:, 1] < height)


def file_sizes(source: str) -> FileSizes:
    """Look at the headers of all image files in a folder. Raises InputError for other files."""
    paths = data.image_files(source)
    headers = [data.image_header(path) for path in paths]
    bad = [str(path) for path, header in zip(paths, headers, strict=True) if header is None]
    if bad:
        verb = "file is not an image" if len(bad) == 1 else "files are not images"
        raise InputError(f"{source}: {len(bad):,} {verb}: {a_few(bad)}")
    if not paths:
        raise InputError(f"{source}: holds no images")
    sizes = np.array([header[:2] for header in headers], dtype=np.int64)
    side = np.sqrt(sizes.prod(axis=1))
    aspect = sizes[:, 0] / sizes[:, 1]
    return FileSizes(
        source=source,
        files=[str(path.relative_to(source)) for path in paths],
        sizes=sizes,
        modes=Counter(header[2] for header in headers),
        odd=_far(side, _ODD_SIZE) | _far(aspect, _ODD_ASPECT),
    )


def _far(values: np.ndarray, times: float) -> np.ndarray:
    ratio = values / np.median(values)
    return (ratio > times) | (ratio < 1 / times)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far two parts differ.

    shares: float64 (num_classes,) each, of the labelled rows; None where there are none
    brightness, contrast: (mean of first, of second, difference, low and high of its 95% interval,
        Cohen's d), of each image's mean and standard deviation, in grey levels
    auc: (value, low, high of its 95% interval, n): how well a classifier tells which of the two an
        image is from; 0.5 where they are alike; None for fewer than 20 images a side
    """

    first: str
    second: str
    first_shares: np.ndarray | None
    second_shares: np.ndarray | None
    brightness: tuple[float, ...]
    contrast: tuple[float, ...]
    auc: tuple[float, float, float, int] | None


def compare(rows: Rows, usable: np.ndarray, groups: np.ndarray) -> list[Comparison]:
    """Compare the first part that is trained on, else the first, with each other part.

    usable: bool (n,), rows to look at: leave out blank ones; groups: int (n,), equal for copies
    """
    reference = next((part for part in rows.parts if part.is_trained_on), rows.parts[0])
    return [
        _compare(rows.dataset, reference, other, usable, groups)
        for other in rows.parts
        if other is not reference and usable[other.rows].any() and usable[reference.rows].any()
    ]


def _compare(
    dataset: Dataset, first: Part, second: Part, usable: np.ndarray, groups: np.ndarray
) -> Comparison:
    sides = [part.rows[usable[part.rows]] for part in (first, second)]
    generator = np.random.default_rng(0)
    sides = [
        np.sort(generator.choice(side, min(SAMPLE, len(side)), replace=False)) for side in sides
    ]
    images = [dataset.images[side] for side in sides]
    levels = [image.reshape(len(image), -1) for image in images]
    return Comparison(
        first=first.name,
        second=second.name,
        first_shares=_shares(dataset, first),
        second_shares=_shares(dataset, second),
        brightness=_difference(*(side.mean(axis=1, dtype=np.float32) for side in levels)),
        contrast=_difference(*(side.std(axis=1, dtype=np.float32) for side in levels)),
        auc=_two_sample_auc(*images, groups[np.concatenate(sides)])
        if min(len(np.unique(groups[side])) for side in sides) >= 20
        else None,
    )


def _shares(dataset: Dataset, part: Part) -> np.ndarray | None:
    labels = dataset.labels[part.rows]
    labels = labels[labels != UNLABELLED]
    return np.bincount(labels, minlength=dataset.num_classes) / len(labels) if len(labels) else None


def _difference(first: np.ndarray, second: np.ndarray) -> tuple[float, ...]:
    means = float(first.mean()), float(second.mean())
    difference = means[1] - means[0]
    variances = [side.var(ddof=1) if len(side) > 1 else 0.0 for side in (first, second)]
    half = 1.959964 * np.sqrt(variances[0] / len(first) + variances[1] / len(second))
    pooled = max(np.sqrt(sum(variances) / 2), 1e-6)
    return (*means, difference, difference - half, difference + half, difference / pooled)


def _two_sample_auc(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray
) -> tuple[float, float, float, int]:
    """A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545).

    Cross-validated logistic regression on thumbnails and their squares, copies always in one fold:
    one learned from the other side would be taken for that. The interval is Hanley and McNeil's
    (1982).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    small = duplicates.thumbnails(np.concatenate([first, second]), _THUMBNAIL) / 127.5 - 1
    features = small.reshape(len(small), -1)
    side = np.repeat([0, 1], [len(first), len(second)])
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200)),
        np.concatenate([features, features**2], axis=1),
        side,
        groups=groups,
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        method="decision_function",
    )
    auc = float(roc_auc_score(side, scores))
    above, square = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (len(second) - 1) * (above - auc**2) + (len(first) - 1) * (square - auc**2)
    half = 1.959964 * np.sqrt(max(variance, 0) / (len(first) * len(second)))
    return auc, max(auc - half, 0.0), min(auc + half, 1.0), len(side)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is odd about the rows; copies are groups of rows with the same number."""

    blank: np.ndarray
    flat: np.ndarray
    copies: Copies
    groups: np.ndarray
    conflicts: list[np.ndarray]
    comparisons: list[Comparison]


def examine(
    rows: Rows, *, similarity: float, report: Callable[[str], None] | None = None
) -> Findings:
    """Look at every image, and compare each with each."""
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
        blank, flat, copies, groups, conflicts(rows, groups), compare(rows, ~blank, groups)
    )
