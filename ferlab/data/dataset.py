"""`Dataset`: faces with their labels, and how rows are set apart for validation."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np

from ferlab.errors import InputError
from ferlab.labels import UNLABELLED, require_same_classes

TRAINING_USAGES = ("training", "train")
SCORING_USAGES = ("privatetest", "private", "test", "testing")  # never selected on


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Faces that cannot be changed in place.

    images: uint8 (n, height, width, channels), grey levels 0 to 255
    labels: int64 (n,), indices into `class_names`, -1 for no label
    ids: str (n,), what names a row in a submission
    usage: str (n,) such as 'Training' or 'PublicTest', or None where the source has none
    source: the path as the user typed it, for messages

    Raises InputError for arrays that do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...]
    usage: np.ndarray | None = None
    source: str = "data"

    def __post_init__(self) -> None:
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise self._error("class names must be different names", self.class_names)
        if self.images.dtype != np.uint8:
            raise self._error("images must be uint8, 0 to 255", self.images.dtype)
        if self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise self._error("images must be (n, height, width, channels)", self.images.shape)
        if self.labels.dtype != np.int64:
            raise self._error("labels must be int64", self.labels.dtype)
        for name in ("labels", "ids", "usage"):
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != (len(self),):
                raise self._error(f"{name} must be {len(self):,}, one an image", column.shape)
            if name != "labels" and column.dtype.kind != "U":
                raise self._error(f"{name} must be text", column.dtype)
        outside = (self.labels < UNLABELLED) | (self.labels >= self.num_classes)
        if outside.any():
            rule = f"labels must be 0 to {self.num_classes - 1}, or {UNLABELLED} for none"
            raise self._error(rule, self.labels[outside][0])
        for name in ("images", "labels", "ids", "usage"):
            if getattr(self, name) is not None:
                frozen = getattr(self, name).view()  # the caller's own array stays writeable
                frozen.flags.writeable = False
                object.__setattr__(self, name, frozen)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_labelled(self) -> bool:
        """Whether every row has a label."""
        return bool((self.labels != UNLABELLED).all())

    @property
    def has_labels(self) -> bool:
        """Whether any row has a label."""
        return bool((self.labels != UNLABELLED).any())

    @property
    def is_grouped(self) -> bool:
        """Whether the training rows come class by class, as folders give them.

        The first or last rows are then no sample of the data, so `split` draws one instead.
        """
        labels = self.labels[self.training_rows()]
        changes = np.count_nonzero(labels[1:] != labels[:-1])
        return 0 < changes == len(np.unique(labels)) - 1

    def take(self, rows: np.ndarray | Sequence[int]) -> Self:
        """The rows that an index array or a boolean mask chooses, in that order."""
        rows = np.asarray(rows)
        rows = rows if rows.dtype == bool else rows.astype(np.intp)  # an empty list is float
        return dataclasses.replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            ids=self.ids[rows],
            usage=None if self.usage is None else self.usage[rows],
        )

    def split(self, validation: int | float | str, seed: int = 0) -> tuple[Self, Self]:
        """(training, validation), both labelled and in the order of the rows.

        validation: a count takes the first rows and a fraction the last, as Keras does; a name
        takes the rows of that usage, and those of usage 'Training' train. Where there is a usage,
        a count or a fraction is taken of the training rows alone. Rows that come class by class
        (`is_grouped`) are sampled instead, stratified, with `seed`.

        Raises InputError for a split that leaves a side empty, a count above half of the rows, a
        usage kept for the final score, and rows without a label.
        """
        rows = self.training_rows()
        if isinstance(validation, str):
            chosen = self._rows_of_usage(validation)
        else:
            count = self._validation_count(validation, len(rows))
            if self.is_grouped:
                chosen = _stratified_sample(rows, self.labels[rows], count, seed)
            else:
                chosen = rows[:count] if isinstance(validation, int) else rows[-count:]
            rows = np.setdiff1d(rows, chosen)
        self._require_labels(np.union1d(rows, chosen))
        return self.take(rows), self.take(chosen)

    def without_labels(self, share: float, seed: int) -> Self:
        """The same rows, a share of each class's labels taken away at random.

        So that what is learned from unlabelled images can be compared with the truth. Every class
        keeps a label. Raises InputError for a share that is not from 0 to below 1.
        """
        if not 0 <= share < 1:
            raise self._error("the share of labels to remove must be from 0 to below 1", share)
        generator = np.random.default_rng(seed)
        labels = self.labels.copy()
        for label in range(self.num_classes):
            rows = generator.permutation(np.flatnonzero(self.labels == label))
            labels[rows[: min(round(share * len(rows)), max(len(rows) - 1, 0))]] = UNLABELLED
        return dataclasses.replace(self, labels=labels)

    def labelled(self) -> Self:
        """The rows that have a label."""
        return self.take(self.labels != UNLABELLED)

    def of_usage(self, usage: str | None) -> Self:
        """The rows of a usage; None for the training rows. Raises InputError if there are none."""
        if usage is None:
            rows = self.training_rows()
        elif self.usage is None:
            raise self._error("has no usage to choose rows by", usage)
        else:
            rows = np.flatnonzero(_folded(self.usage) == usage.strip().lower())
        if not len(rows):
            raise self._error(f"usage must be one of {_known(self.usage)}", usage or "Training")
        return self.take(rows)

    def fingerprint(self) -> str:
        """SHA-256 over images, labels and class names, in hexadecimal."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()

    def in_order_of(self, class_names: Sequence[str]) -> Self:
        """The same rows with labels that count the same classes in another order."""
        places = [tuple(class_names).index(name) for name in self.class_names]
        numbers = np.array([*places, UNLABELLED], dtype=np.int64)  # -1 takes the last
        return dataclasses.replace(
            self, labels=numbers[self.labels], class_names=tuple(class_names)
        )

    def row_digests(self) -> np.ndarray:
        """uint64 (n,): what tells one image from another, byte for byte (BLAKE2b of its pixels)."""
        shape = repr(self.image_shape).encode()
        digests = b"".join(
            hashlib.blake2b(image.tobytes(), digest_size=8, key=shape).digest()
            for image in self.images
        )
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)

    def _error(self, rule: str, received: object) -> InputError:
        return InputError(f"{self.source}: {rule}. Received: {received}")

    def training_rows(self) -> np.ndarray:
        """Indices of the rows of usage 'Training' or 'train'; all rows where there is no usage."""
        if self.usage is None:
            return np.arange(len(self))
        return np.flatnonzero(np.isin(_folded(self.usage), TRAINING_USAGES))

    def _rows_of_usage(self, usage: str) -> np.ndarray:
        if usage.strip().lower() in SCORING_USAGES:
            raise self._error("rows kept for the final score cannot be validated on", usage)
        if self.usage is None:
            raise self._error("has no usage to choose validation rows by", usage)
        rows = np.flatnonzero(_folded(self.usage) == usage.strip().lower())
        known = _known(self.usage)
        if usage.strip().lower() in TRAINING_USAGES or not len(rows):
            raise self._error(f"validation must be a usage beside training, of {known}", usage)
        if not len(self.training_rows()):
            raise self._error("no rows with usage Training to train on", known)
        return rows

    def _validation_count(self, validation: int | float, rows: int) -> int:
        if rows < 2:
            usages = "" if self.usage is None else f" of usage {_known(self.usage)}"
            raise self._error(
                "needs two or more training rows", f"{rows} of {len(self):,} rows{usages}"
            )
        if isinstance(validation, int):
            if not validation > 0:
                raise self._error("validation must be a count above 0", validation)
            if validation > rows / 2:
                raise InputError(
                    f"{self.source}: {validation:,} validation rows are more than half of its "
                    f"{rows:,}; a training may take a fraction, --validation 0.1"
                )
            return validation
        if not 0 < validation < 1:
            raise self._error("validation must be a fraction between 0 and 1", validation)
        count = rows - int(rows * (1 - validation))  # as Keras rounds
        return max(1, min(count, rows - 1))

    def _require_labels(self, rows: np.ndarray) -> None:
        missing = rows[self.labels[rows] == UNLABELLED]
        if len(missing):
            raise InputError(
                f"{self.source}: {len(missing):,} of {len(rows):,} rows have no label, the first "
                f"is row {missing[0] + 1:,} (id {self.ids[missing[0]]}); training needs labels"
            )


def concatenate(parts: Sequence[Dataset]) -> Dataset:
    """One dataset of all rows, with the source of the first. Raises InputError for a mismatch."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        require_alike(part, first.class_names, first.image_shape)
    usages = [part.usage for part in parts]
    return dataclasses.replace(
        first,
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        usage=None if any(usage is None for usage in usages) else np.concatenate(usages),
    )


def require_alike(
    dataset: Dataset, class_names: Sequence[str], image_shape: tuple[int, ...]
) -> None:
    """Raise InputError unless a dataset has these classes in this order, and images like these."""
    require_same_classes(dataset.source, dataset.class_names, class_names)
    if dataset.image_shape != tuple(image_shape):
        raise InputError(
            f"{dataset.source}: images must be {describe(image_shape)}. "
            f"Received: {describe(dataset.image_shape)}"
        )


def describe(image_shape: tuple[int, ...]) -> str:
    """(48, 48, 1) -> '48x48x1'."""
    return "x".join(map(str, image_shape))


def _known(usage: np.ndarray) -> str:
    return ", ".join(sorted(set(usage.tolist()) - {""}))


def _folded(usage: np.ndarray) -> np.ndarray:
    return np.strings.lower(np.strings.strip(usage))


def _stratified_sample(rows: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import train_test_split  # slow to import and seldom needed

    classes, sizes = np.unique(labels, return_counts=True)
    possible = sizes.min() > 1 and min(count, len(rows) - count) >= len(classes)
    _, chosen = train_test_split(
        rows, test_size=count, random_state=seed, stratify=labels if possible else None
    )
    return np.sort(chosen)
